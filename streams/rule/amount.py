"""How do people write and read durations, money and shares: text to stored integers, and back.

Never guesses a unit: a bare number is no duration, because nobody can tell seconds from microseconds.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from streams.rule.reading import Unit

SECOND_MS: Final = 1000
DAY_MS: Final = 24 * 60 * 60 * SECOND_MS
DURATION_MS_MAX: Final = 30 * DAY_MS  # nothing here is kept for longer
LIMIT_MAX: Final = 2**63 - 1  # what integers of rows and of every JSON reader can reach
DURATION_SHAPE: Final = "a duration such as 30s, 5m or 1h30m"

_STEPS_MS: Final = {"w": 7 * DAY_MS, "d": DAY_MS, "h": 3_600_000, "m": 60_000, "s": SECOND_MS, "ms": 1}
_DURATION: Final = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in _STEPS_MS))
_MONEY: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?USD")
_PERCENT: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?%")
_NANO_PER_USD: Final = 10**9
_US_PER_MS: Final = 1000
_MILLION: Final = 1_000_000

SHAPES: Final[dict[Unit, str]] = {
    "count": "a number such as 10",
    "tokens": "a number of tokens such as 200000",
    "ratio": "a share such as 0.05 or 5%",
    "us": DURATION_SHAPE,
    "ms": DURATION_SHAPE,
    "nano_usd": "an amount of money such as 5 USD or 0.25 USD",
    "millionths": "a score such as 0.75",
}


def duration_ms(text: object) -> int | None:
    """Read a duration as Prometheus writes it: units from large to small, each at most once; None when it is none."""
    if not isinstance(text, str):
        return None
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    total = sum(int(count) * step for count, step in zip(match.groups(), _STEPS_MS.values(), strict=True) if count)
    return total if total <= DURATION_MS_MAX else None


def duration_text(ms: int) -> str:
    """Write a duration so that `duration_ms` reads it back."""
    parts: list[str] = []
    rest = ms
    for unit, step in _STEPS_MS.items():
        if unit != "w" and rest >= step:
            parts.append(f"{rest // step}{unit}")
            rest %= step
    return "".join(parts) or "0"


def amount(value: object, unit: Unit) -> int | float | None:
    """Read a limit in the unit of what it is compared with; None when it is not written that way."""
    if unit in {"us", "ms"}:
        ms = duration_ms(value)
        return None if ms is None else ms * _US_PER_MS if unit == "us" else ms
    if unit == "nano_usd":
        money = _MONEY.fullmatch(value) if isinstance(value, str) else None
        return None if money is None else int(Decimal(money[1]) * _NANO_PER_USD)
    if unit == "ratio" and isinstance(value, str) and (percent := _PERCENT.fullmatch(value)):
        return float(Decimal(percent[1]) / 100)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -LIMIT_MAX <= value <= LIMIT_MAX:  # which infinity and NaN are not
        return None
    return round(value * _MILLION) if unit == "millionths" else value


def amount_text(value: float | None, unit: Unit) -> str:
    """Write a value for people: 7.3s, 0.25 USD, 12.5%, 1,200."""
    if value is None:
        return "no value"
    if unit in {"us", "ms"}:
        ms = value / _US_PER_MS if unit == "us" else value
        if ms < SECOND_MS:
            return f"{_plain(ms)}ms"
        return f"{_plain(ms / SECOND_MS)}s" if ms < 60 * SECOND_MS else duration_text(round(ms / SECOND_MS) * SECOND_MS)
    if unit == "nano_usd":
        return f"{_plain(value / _NANO_PER_USD)} USD"
    if unit == "millionths":
        return _plain(value / _MILLION)
    return f"{_plain(value * 100)}%" if unit == "ratio" else _plain(value)


def _plain(value: float) -> str:
    """Write a number with at most four significant decimals and no needless zeros; whole numbers in full."""
    if value == int(value) or abs(value) >= 10_000:
        return f"{round(value):,}"
    try:
        return f"{Decimal(f'{value:.4g}'):f}"
    except InvalidOperation:  # pragma: no cover  a finite float always has a decimal form
        return repr(value)
