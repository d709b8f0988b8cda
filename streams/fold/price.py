"""What does one usage report cost, when its publisher named no cost?  Integers from the rate to the sum.

Never asks for the time: the event's own decides which version of a price holds.  Never takes an unknown model for a
free one: what has no price has no cost, and is counted as unpriced.

Rounding: half up, once per report, to whole nano-USD.  A sum of costs is then the same however reports were batched.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Final, NamedTuple, Protocol, TypeAlias

from streams.event.model import COST_NANO_USD_MAX

DAY_MS: Final = 24 * 60 * 60 * 1000
PICO_PER_USD: Final = 10**12
# Tokens times pico-USD per million tokens are 10⁻¹⁸ USD, of which 10⁹ make a nano-USD.
ATTO_PER_NANO: Final = 10**9
_HALF: Final = ATTO_PER_NANO // 2

KNOWN_MAX: Final = 4096  # (provider, model, day) remembered, about 1 MB; real fleets have some hundred
PRICE_USD_MAX: Final = 10_000  # per million tokens; sixteen times the dearest model there is


class Rates(NamedTuple):
    """What tokens of each type cost, in pico-USD per million; `report` is in 10⁻¹⁸ USD per report.

    `input` is for input that no cache touched, `output` for output that is no reasoning.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    report: int = 0


class Tier(NamedTuple):
    """Rates of every token of a report whose input is larger than this."""

    above_tokens: int  # −1: of every report
    rates: Rates


class Tariff(NamedTuple):
    """A day on which the rate hangs on the hour or on the size of the report."""

    hours: tuple[tuple[int, tuple[Tier, ...]], ...]  # from which ms of the day, the latest first; largest tiers first


Price: TypeAlias = Rates | Tariff


class Pricer(Protocol):
    """Whoever can put a price on a usage report."""

    def price(
        self,
        provider: str | None,
        model: str,
        event_ms: int,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
        reasoning_tokens: int,
    ) -> int | None:
        """Return the cost of one report in nano-USD; None when nobody knows it."""


class PriceList(Protocol):
    """Prices by provider, model and UTC day (days since 1970)."""

    @property
    def name(self) -> str:
        """Which list, and in which version: the same name gives the same costs."""

    def find(self, provider: str | None, model: str, day: int) -> Price | None:
        """Return the price of a model on a day; None when the list does not know the model."""


class PriceBook:
    """Price lists in order of precedence, behind a bounded memory of what they said."""

    def __init__(self, *lists: PriceList) -> None:
        self._lists = lists
        self._known: dict[tuple[str | None, str, int], Price | None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The lists, the one asked first first."""
        return tuple(each.name for each in self._lists)

    def price(
        self,
        provider: str | None,
        model: str,
        event_ms: int,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int,
        cache_write_tokens: int,
        reasoning_tokens: int,
    ) -> int | None:
        """Return the cost of one report in nano-USD; None when no list knows the model."""
        key = (provider, model, event_ms // DAY_MS)
        try:
            rates = self._known[key]
        except KeyError:
            rates = self._learn(key)
        if not isinstance(rates, Rates):
            if rates is None:
                return None
            rates = rates_at(rates, event_ms, input_tokens)
        plain, said, read, write, reasoning, report = rates
        fresh = input_tokens - cache_read_tokens - cache_write_tokens
        spoken = output_tokens - reasoning_tokens
        atto = (
            # A part larger than its whole was not counted in by its publisher: then the whole is what is left.
            (fresh if fresh >= 0 else input_tokens) * plain
            + cache_read_tokens * read
            + cache_write_tokens * write
            + (spoken if spoken >= 0 else output_tokens) * said
            + reasoning_tokens * reasoning
            + report
        )
        cost = (atto + _HALF) // ATTO_PER_NANO
        return min(cost, COST_NANO_USD_MAX)

    def _learn(self, key: tuple[str | None, str, int]) -> Price | None:
        provider, model, day = key
        found = next((price for each in self._lists if (price := each.find(provider, model, day)) is not None), None)
        known = self._known
        if len(known) >= KNOWN_MAX:
            del known[next(iter(known))]
        known[key] = found
        return found


def rates_at(tariff: Tariff, event_ms: int, input_tokens: int) -> Rates:
    """Return the rates of one report: of its moment of the day, and of its size.

    Past a limit all tokens of a report take the higher rate, as providers bill it.
    """
    of_day_ms = event_ms % DAY_MS
    for from_ms, tiers in tariff.hours:
        if from_ms <= of_day_ms:
            for above_tokens, rates in tiers:
                if above_tokens < input_tokens:
                    return rates
    raise AssertionError(f"{tariff} begins after midnight or above −1 tokens")


# ---- prices that a person has set ------------------------------------------------------------------------------


class Override(NamedTuple):
    """One entry of a price file; days are half-open, [from_day, until_day)."""

    model: str  # a pattern, in lower case: * any text, ? any character, [ab] one of these
    provider: str | None  # the same; None: whatever it is, or none
    rates: Rates
    from_day: int | None = None
    until_day: int | None = None


class Overrides:
    """A price file; the first entry that fits wins."""

    def __init__(self, entries: Sequence[Override]) -> None:
        self._entries = [(_matcher(entry.model), _provider_matcher(entry.provider), entry) for entry in entries]
        self.name = f"overrides {digest(entries)}"

    def find(self, provider: str | None, model: str, day: int) -> Price | None:
        """Return the price of a model on a day; None when no entry fits."""
        model, provider = model.lower(), (provider or "").lower()
        for is_model, is_provider, entry in self._entries:
            if entry.from_day is not None and day < entry.from_day:
                continue
            if entry.until_day is not None and day >= entry.until_day:
                continue
            if is_model(model) and is_provider(provider):
                return entry.rates
        return None


def digest(entries: Sequence[Override]) -> str:
    """Name a price file by what it says: twelve hexadecimal digits, whatever its comments and its order of keys."""
    return hashlib.sha256(repr([tuple(entry) for entry in entries]).encode()).hexdigest()[:12]


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


def _provider_matcher(pattern: str | None) -> Callable[[str], object]:
    return _always if pattern is None else _matcher(pattern)


def _always(_provider: str) -> bool:
    return True
