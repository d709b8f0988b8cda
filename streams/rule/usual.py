"""What is usual for a row?  Limits that are no number but a comparison: with the hour before, or with what was learned.

Never keeps anything itself: `streams.rule.learn` keeps what was learned, of each rule and key.

    2x baseline 1h               twice what the rest of the trailing hour would give in a window as long as the rule's
    mean + 3 sigma               of the last `samples` windows: their mean and standard deviations
    median + 5 mad               their median and 5 × 1.4826 times the median of the distances to it
    ewma + 3 sigma               an average in which newer windows weigh more, and its deviation
    2x ewma, ewma + 3 sigma by hour of day       … one for each hour of the day, UTC

Everything learned is an integer: samples × FIXED (shares × FIXED_SHARE), so that it is the same on every machine.
"""

import re
from math import isqrt
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from streams.rule.amount import duration_ms, duration_text
from streams.rule.reading import Unit

FIXED: Final = 1_000  # of a unit: thousandths of a call, of a µs, of a nano-USD
FIXED_SHARE: Final = 1_000_000  # of a share
SAMPLE_MAX: Final = 2**52  # what is learned saturates here: nine million USD, or 52 days
SAMPLES: Final = 30
SAMPLES_MAX: Final = 120  # a row of them is about a kilobyte
COLD_START: Final = 10
# A median of absolute deviations times this estimates the standard deviation of a normal distribution: 1/Φ⁻¹(3/4).
MAD_SIGMA: Final = 1.4826
HOURS: Final = 24
FACTOR_MAX: Final = 1_000
SHAPE: Final = (
    "a limit, or one such as 2x baseline 1h, mean + 3 sigma, median + 5 mad, 1.5x ewma + 2 sigma by hour of day"
)

Centre: TypeAlias = Literal["baseline", "mean", "median", "ewma"]

_NUMBER: Final = r"[0-9]{1,4}(?:\.[0-9]{1,4})?"
_TEXT: Final = re.compile(
    rf"(?:({_NUMBER}) ?[x×] ?)?(baseline ([0-9a-z]+)|mean|median|ewma)"
    rf"(?: ?([+-]) ?({_NUMBER}) ?(sigma|mad))?( by hour of day)?"
)
_SPREADS: Final = {"baseline": "", "mean": "sigma", "median": "mad", "ewma": "sigma"}


class Usual(Struct, frozen=True):
    """A limit by comparison: factor × centre + spreads × spread, and what it needs before it says anything.

    `floor` is the limit that holds when this one would be stricter (lower, for `above`).
    """

    centre: Centre
    factor: float
    spreads: float
    baseline_ms: int = 0
    hourly: bool = False
    samples: int = SAMPLES
    cold_start: int = COLD_START
    floor: int | float | None = None

    @property
    def learned(self) -> bool:
        """Does it need samples of its own; a baseline is in the panes."""
        return self.centre != "baseline"

    @property
    def text(self) -> str:
        """Write it as it is read."""
        factor = "" if self.factor == 1 else f"{self.factor:g}x "
        centre = f"baseline {duration_text(self.baseline_ms)}" if self.centre == "baseline" else self.centre
        sign = "+" if self.spreads > 0 else "-"
        spread = f" {sign} {abs(self.spreads):g} {_SPREADS[self.centre]}" if self.spreads else ""
        return f"{factor}{centre}{spread}{' by hour of day' if self.hourly else ''}"


def looks_usual(text: object) -> bool:
    """Is this meant to be a comparison rather than a number."""
    return isinstance(text, str) and any(word in text for word in _SPREADS)


def parse_usual(text: str) -> Usual | None:
    """Read a limit by comparison; None when it is none."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    factor, centre, baseline, sign, spreads, spread, hourly = match.groups()
    kind: Centre = "baseline" if baseline else centre  # type: ignore[assignment]  # one of four words
    if spread is not None and spread != _SPREADS[kind]:
        return None
    baseline_ms = duration_ms(baseline) if baseline else 0
    if baseline_ms is None or (baseline and not baseline_ms):
        return None
    if hourly and kind != "ewma":
        return None
    usual = Usual(
        kind,
        float(factor) if factor else 1.0,
        float(spreads or 0) * (-1 if sign == "-" else 1),
        baseline_ms,
        hourly is not None,
    )
    return usual if usual.factor <= FACTOR_MAX and (usual.factor != 1 or usual.spreads) else None


def fixed_of(unit: Unit) -> int:
    """Return what a sample in this unit is multiplied by."""
    return FIXED_SHARE if unit == "ratio" else FIXED


def sample_of(value: float, unit: Unit) -> int:
    """Return a value as it is learned."""
    return max(-SAMPLE_MAX, min(SAMPLE_MAX, round(value * fixed_of(unit))))


# ---- centre and spread -----------------------------------------------------------------------------------------


def mean_sigma(samples: list[int]) -> tuple[int, int]:
    """Return the mean and the standard deviation of these samples themselves, both rounded down."""
    count, total = len(samples), sum(samples)
    squares = sum([sample * sample for sample in samples])
    return total // count, isqrt(count * squares - total * total) // count


def median_mad(samples: list[int]) -> tuple[int, int]:
    """Return the median, and the median of the distances to it."""
    centre = _median(samples)
    return centre, _median([abs(sample - centre) for sample in samples])


def _median(samples: list[int]) -> int:
    ordered, half = sorted(samples), len(samples) // 2
    return ordered[half] if len(samples) % 2 else (ordered[half - 1] + ordered[half]) // 2


def weighted(centre: int, spread: int, sample: int, span: int) -> tuple[int, int]:
    """Let a sample move an exponentially weighted mean and deviation, with weight α = 2 ÷ (span + 1).

    mean ← mean + α d,  variance ← (1 − α)(variance + α d²),  d = sample − mean:  Finch 2009, Incremental calculation
    of weighted mean and variance, section 9.
    """
    distance = sample - centre
    variance = (span - 1) * ((span + 1) * spread * spread + 2 * distance * distance) // (span + 1) ** 2
    return centre + 2 * distance // (span + 1), isqrt(variance)


def limit_of(usual: Usual, centre: float, spread: float, *, above: bool) -> float:
    """Return the limit that a centre and a spread give, no stricter than the floor."""
    sigma = spread * (MAD_SIGMA if usual.centre == "median" else 1.0)
    limit = usual.factor * centre + usual.spreads * sigma
    if usual.floor is None:
        return limit
    return max(limit, usual.floor) if above else min(limit, usual.floor)
