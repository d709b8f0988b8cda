"""What do models cost by the list that comes with the package genai-prices?  Its data, as integer rates by UTC day.

Never asks the network: the package's updater is not run, so a release of it is one fixed list.
Never keeps what nobody bounds: the package's own look-ups remember every name they are asked for.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from streams.fold.price import DAY_MS, PICO_PER_USD, Price, Rates, Tariff, Tier

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

MODELS_MAX: Final = 4096  # (provider, model) remembered, as many as prices; looking one up takes up to 0.3 ms
ATTO_PER_1000: Final = 10**15  # USD per 1000 requests, in 10⁻¹⁸ USD per request

# What OpenTelemetry and LiteLLM call providers that the list knows by other names and does not find by these.
PROVIDERS: Final[Mapping[str, str]] = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}
# Go-betweens that say whose a model is in its name: `anthropic/claude-…`.
GATEWAYS: Final = frozenset({"litellm"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE_DAY: Final = (0,)


class PackagedPrices:
    """The packaged list."""

    def __init__(self, providers: "list[Provider]", version: str) -> None:
        self.name = f"genai-prices {version}"
        self._providers = providers
        self._models: dict[tuple[str | None, str], ModelInfo | None] = {}

    def find(self, provider: str | None, model: str, day: int) -> Price | None:
        """Return the price of a model on a day; None when the list has no token price of it."""
        key = (provider, model)
        try:
            info = self._models[key]
        except KeyError:
            info = self._look_up(key)
        return None if info is None else _price(info, day)

    def _look_up(self, key: tuple[str | None, str]) -> "ModelInfo | None":
        found = self._model(*key)
        known = self._models
        if len(known) >= MODELS_MAX:
            del known[next(iter(known))]
        known[key] = found
        return found

    def _model(self, name: str | None, model: str) -> "ModelInfo | None":
        model = model.lower()
        if name is None or name.lower() in GATEWAYS:
            head, slash, tail = model.partition("/")
            provider = self._provider(head) if slash else self._maker(model)
            model = tail if slash else model
        else:
            provider = self._provider(name)
        return None if provider is None else provider.find_model(model, all_providers=self._providers)

    def _provider(self, name: str) -> "Provider | None":
        name = name.lower().strip()
        name = PROVIDERS.get(name, name)
        by_id = (provider for provider in self._providers if provider.id == name)
        by_rule = (p for p in self._providers if p.provider_match is not None and p.provider_match.is_match(name))
        return next(by_id, None) or next(by_rule, None)

    def _maker(self, model: str) -> "Provider | None":
        """Return who makes a model that came without a provider."""
        by_rule = (p for p in self._providers if p.model_match is not None and p.model_match.is_match(model))
        return next(by_rule, None)


def packaged_prices() -> PackagedPrices:
    """Load the list: half a second and 11 MB, which only a process that prices pays."""
    from genai_prices import __version__, data  # noqa: PLC0415  for the reason above

    return PackagedPrices(data.providers, __version__)


def _price(info: "ModelInfo", day: int) -> Price | None:
    """Read the prices of a day; None when they are of something else than tokens, or nobody knows them."""
    begin = _EPOCH + timedelta(milliseconds=day * DAY_MS)
    hours: list[tuple[int, tuple[Tier, ...]]] = []
    for from_ms in _changes_ms(info):
        tiers = _tiers(info.get_prices(begin + timedelta(milliseconds=from_ms)))
        if tiers is None:
            return None
        if not hours or hours[-1][1] != tiers:
            hours.append((from_ms, tiers))
    if len(hours) == 1 and len(hours[0][1]) == 1:
        return hours[0][1][0].rates
    return Tariff(tuple(reversed(hours)))


def _changes_ms(info: "ModelInfo") -> Iterable[int]:
    """Return the moments of a day (ms, UTC) at which a price may change, midnight first."""
    prices = info.prices
    if not isinstance(prices, list):
        return _WHOLE_DAY
    found = {0}
    for each in prices:
        for name in ("start_time", "end_time"):  # what only the constraint by time of day has
            time = getattr(each.constraint, name, None)
            if time is not None:
                moment = datetime.combine(_EPOCH.date(), time, time.tzinfo or UTC).astimezone(UTC)
                found.add((moment - _EPOCH) // timedelta(milliseconds=1) % DAY_MS)
    return sorted(found)


def _tiers(prices: "ModelPrice") -> tuple[Tier, ...] | None:
    """Return the rates by size of the report, or None when neither input nor output has a price in tokens."""
    if prices.input_mtok is None and prices.output_mtok is None:
        return None
    starts = {-1}
    for value in vars(prices).values():
        starts.update(tier.start for tier in getattr(value, "tiers", ()))
    return tuple(Tier(start, _rates(prices, start + 1)) for start in sorted(starts, reverse=True))


def _rates(prices: "ModelPrice", input_tokens: int) -> Rates:
    """Return the rates of a report with so many input tokens; a type without a price of its own is its whole's."""

    def rate(name: str, otherwise: int = 0, scale: int = PICO_PER_USD) -> int:
        value = getattr(prices, name)
        if value is None:
            return otherwise
        if not isinstance(value, Decimal):
            of_tiers = (tier.price for tier in reversed(value.tiers) if input_tokens > tier.start)
            value = next(of_tiers, value.base)
        return int((value * scale).to_integral_value(ROUND_HALF_UP))

    given, made = rate("input_mtok"), rate("output_mtok")
    return Rates(
        input=given,
        output=made,
        cache_read=rate("cache_read_mtok", given),
        cache_write=rate("cache_write_mtok", given),
        reasoning=rate("output_reasoning_mtok", made),
        report=rate("requests_kcount", scale=ATTO_PER_1000),
    )
