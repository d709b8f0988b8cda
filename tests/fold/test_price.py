"""Prices: what the packaged list itself would say, to the nano-USD; and whose price wins, from when to when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider, StartDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event.model import COST_NANO_USD_MAX, TOKENS_MAX
from streams.fold import price as price_module
from streams.fold.price import DAY_MS, PICO_PER_USD, Override, Overrides, PriceBook, Rates, digest
from streams.fold.pricelist import PackagedPrices, packaged_prices

SHIPPED: Final = packaged_prices()
BOOK: Final = PriceBook(SHIPPED)
TOKEN_KEYS: Final = {
    "input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok", "requests_kcount",
}  # fmt: skip
# What the event says of tokens is all we price: the list also has prices of audio, images, searches, ….
NOT_OURS: Final = ("audio", "image", "video", "1h", "citation", "searches", "hours", "kpages", "mchars", "messages")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def oracle(provider: str, model: str, event_ms: int, **tokens: int) -> Decimal:
    """Ask the package itself, in nano-USD."""
    moment = datetime.fromtimestamp(event_ms / 1000, UTC)
    found = calc_price(Usage(**tokens), model, provider_id=provider, genai_request_timestamp=moment)
    return found.total_price * 10**9


def ours(provider: str | None, model: str, event_ms: int, *tokens: int) -> int | None:
    given, made, read, write, reasoning = (*tokens, 0, 0, 0, 0, 0)[:5]
    return BOOK.price(provider, model, event_ms, given, made, read, write, reasoning)


def test_golden_prices_of_known_models() -> None:
    """Worked by hand from the makers' price pages, in USD per million tokens."""
    november = ms("2025-11-21")

    # gpt-5: 1.25 in, 10 out, 0.125 cached: 900 × 1.25 + 100 × 0.125 + 500 × 10 µUSD
    assert 6_137_500 == ours("openai", "gpt-5", november, 1000, 500, 100, 0, 50)
    # gpt-4o: 2.50 in, 10 out
    assert 3_500_000 == ours("openai", "gpt-4o", november, 1000, 100)
    # claude-sonnet-4-5: 3 in, 15 out, 0.30 read, 3.75 written; past 200,000 input tokens 6 and 22.50
    assert 10_230_000 == ours("anthropic", "claude-sonnet-4-5-20250929", november, 1000, 500, 100)
    assert 600_000_000 == ours("anthropic", "claude-sonnet-4-5", november, 200_000)
    assert 1_200_006_000 == ours("anthropic", "claude-sonnet-4-5", november, 200_001)
    # gemini-2.5-pro: 1.25 in, 10 out
    assert 6_250_000 == ours("gcp.gemini", "gemini-2.5-pro", november, 1000, 500)


def _priced_models() -> list[tuple[Provider, ModelInfo]]:
    """Return the models whose prices are all of token types that an event tells apart."""
    found = []
    for provider in providers:
        for model in provider.models:
            prices = model.prices
            every = [each.prices for each in prices] if isinstance(prices, list) else [prices]
            names = {name for each in every for name in vars(each)}
            if {"input_mtok", "output_mtok"} <= names and not any(part in name for name in names for part in NOT_OURS):
                found.append((provider, model))
    return found


MODELS: Final = _priced_models()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(ms("2023-01-01"), ms("2027-01-01")),
    st.integers(0, 1_000_000),
    st.integers(0, 100_000),
    st.data(),
)
def test_every_model_costs_what_the_package_itself_computes(
    which: tuple[Provider, ModelInfo], event_ms: int, given_tokens: int, made: int, data: st.DataObject
) -> None:
    provider, model = which
    event_ms -= event_ms % 1000
    read = data.draw(st.integers(0, given_tokens))
    write = data.draw(st.integers(0, given_tokens - read))
    reasoning = data.draw(st.integers(0, made))
    try:
        expected = oracle(
            provider.id, model.id, event_ms, input_tokens=given_tokens, output_tokens=made, cache_read_tokens=read,
            cache_write_tokens=write, output_reasoning_tokens=reasoning,
        )  # fmt: skip
    except LookupError:  # an id that its own rules do not match
        assert ours(provider.id, model.id, event_ms, given_tokens) is None
        return
    found = ours(provider.id, model.id, event_ms, given_tokens, made, read, write, reasoning)

    assert found is not None
    assert abs(Decimal(found) - expected) <= Decimal("0.5"), (provider.id, model.id)


def test_enough_models_stand_behind_that() -> None:
    assert len(MODELS) > 1500
    assert {"openai", "anthropic", "google", "aws", "azure", "deepseek", "mistral"} <= {p.id for p, _ in MODELS}


def _changes() -> list[tuple[str, str, int]]:
    """Return where the list has a new version of a price: provider, model, first day."""
    return [
        (provider.id, model.id, (each.constraint.start_date.toordinal() - 719_163) * DAY_MS)
        for provider, model in MODELS
        if isinstance(model.prices, list)
        for before, each in pairwise(model.prices)
        if isinstance(each.constraint, StartDateConstraint)
        and vars(before.prices).get("input_mtok") != vars(each.prices).get("input_mtok")
        and not any(hasattr(other.constraint, "start_time") for other in model.prices)
    ]


def test_the_time_of_the_event_decides_which_version_of_a_price_holds() -> None:
    switched = 0
    for provider, model, first_ms in _changes():
        before, after = (ours(provider, model, at, 1_000_000) for at in (first_ms - 1, first_ms))
        if before is None or oracle(provider, model, first_ms, input_tokens=1_000_000) != after:
            continue  # the id leads to another entry of the list
        assert before == oracle(provider, model, first_ms - 1, input_tokens=1_000_000)
        switched += before != after

    assert switched > 20


def test_an_hour_s_price_holds_for_its_hours() -> None:
    """DeepSeek was cheaper from 16:30 to 00:30 UTC."""
    for hour in range(24):
        for minute in (0, 29, 30, 59):
            at = ms(f"2025-03-10T{hour:02}:{minute:02}:00")
            assert ours("deepseek", "deepseek-chat", at, 10_000, 1_000) == oracle(
                "deepseek", "deepseek-chat", at, input_tokens=10_000, output_tokens=1_000
            )
    assert ours("deepseek", "deepseek-chat", ms("2025-03-10T16:29:59"), 10_000) == 2_700_000
    assert ours("deepseek", "deepseek-chat", ms("2025-03-10T16:30:00"), 10_000) == 1_350_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("ollama", "gpt-4o"),  # somebody's own machine: a known name does not make it OpenAI's bill
        (None, "my-own-model"),
        (None, "nobody/gpt-4o"),
        ("google", "gemma-3"),  # listed without a price
    ],
)
def test_what_nobody_knows_has_no_price(provider: str | None, model: str) -> None:
    assert ours(provider, model, ms("2025-11-21"), 1000, 1000) is None


@pytest.mark.parametrize(
    ("provider", "model", "same_as"),
    [
        (None, "gpt-4o", ("openai", "gpt-4o")),
        (None, "anthropic/claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("litellm", "openai/gpt-4o", ("openai", "gpt-4o")),
        ("gcp.gen_ai", "gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        (
            "aws.bedrock",
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            ("aws", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ),
        ("x_ai", "grok-4", ("x-ai", "grok-4")),
        ("OpenAI", "GPT-4o", ("openai", "gpt-4o")),
    ],
)
def test_other_names_of_a_provider_lead_to_its_prices(
    provider: str | None, model: str, same_as: tuple[str, str]
) -> None:
    found = ours(provider, model, ms("2025-11-21"), 1000, 1000)

    assert found is not None
    assert found == ours(*same_as, ms("2025-11-21"), 1000, 1000)


# ---- arithmetic --------------------------------------------------------------------------------------------------

RATES: Final = Rates(
    input=3 * PICO_PER_USD,
    output=15 * PICO_PER_USD,
    cache_read=PICO_PER_USD * 3 // 10,
    cache_write=PICO_PER_USD * 15 // 4,
    reasoning=20 * PICO_PER_USD,
)


def book_of(*entries: Override) -> PriceBook:
    return PriceBook(Overrides(entries))


def test_a_report_is_rounded_half_up_to_a_nano_usd() -> None:
    """0.0005 USD per million tokens is half a nano-USD per token."""
    half = book_of(Override("m", None, Rates(PICO_PER_USD // 2000, 0, 0, 0, 0)))
    costs = [half.price(None, "m", 0, tokens, 0, 0, 0, 0) for tokens in range(5)]

    assert [0, 1, 1, 2, 2] == costs


def test_a_part_larger_than_its_whole_never_makes_a_price_negative() -> None:
    """The publisher left the cached tokens out of the input, and the reasoning out of the output."""
    book = book_of(Override("m", None, RATES))

    assert 7 * 3_000 + 10_000 * 300 == book.price(None, "m", 0, 7, 0, 10_000, 0, 0)
    assert 2 * 15_000 + 5 * 20_000 == book.price(None, "m", 0, 0, 2, 0, 0, 5)


def test_no_report_costs_more_than_an_event_may_say() -> None:
    dear = book_of(Override("m", None, Rates(*[price_module.PRICE_USD_MAX * PICO_PER_USD] * 5)))

    assert COST_NANO_USD_MAX == dear.price(None, "m", 0, TOKENS_MAX, TOKENS_MAX, 0, 0, 0)


# ---- a person's own prices ---------------------------------------------------------------------------------------


def test_the_first_entry_that_fits_wins_and_the_list_is_asked_last() -> None:
    mine = Overrides([
        Override("gpt-4o*", "azure*", RATES._replace(input=PICO_PER_USD)),
        Override("gpt-4o", None, RATES._replace(input=2 * PICO_PER_USD)),
        Override("house-[ab]", None, RATES._replace(input=0)),
    ])  # fmt: skip
    book = PriceBook(mine, SHIPPED)
    costs = [
        book.price(provider, model, ms("2025-11-21"), 1_000_000, 0, 0, 0, 0)
        for provider, model in [
            ("azure.ai.openai", "gpt-4o-mini"), ("openai", "GPT-4o"), (None, "house-a"), (None, "house-c"),
            ("openai", "gpt-5"),
        ]
    ]  # fmt: skip

    assert [10**9, 2 * 10**9, 0, None, 1_250_000_000] == costs
    assert (mine.name, SHIPPED.name) == book.names


def test_days_of_an_entry_are_half_open() -> None:
    first = Override("m", None, RATES._replace(input=PICO_PER_USD), until_day=20_000)
    then = Override("m", None, RATES._replace(input=2 * PICO_PER_USD), from_day=20_000, until_day=20_010)
    book = book_of(first, then)
    moments = [20_000 * DAY_MS - 1, 20_000 * DAY_MS, 20_010 * DAY_MS - 1, 20_010 * DAY_MS]

    assert [1000, 2000, 2000, None] == [book.price(None, "m", at, 1, 0, 0, 0, 0) for at in moments]


def test_the_name_of_a_price_file_changes_with_what_it_says() -> None:
    entries = (Override("m", None, RATES),)

    assert digest(entries) == digest(list(entries))
    assert digest(entries) != digest((*entries, *entries))
    assert digest(entries) != digest((entries[0]._replace(until_day=1),))


# ---- memory ------------------------------------------------------------------------------------------------------


def test_names_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forgotten is looked up again, with the same answer."""
    monkeypatch.setattr(price_module, "KNOWN_MAX", 8)
    book = PriceBook(PackagedPrices(list(providers), "test"))
    expected = ours("openai", "gpt-5", ms("2025-11-21"), 1000)
    for number in range(50):
        assert book.price("openai", f"made-up-{number}", 0, 1, 0, 0, 0, 0) is None
        assert expected == book.price("openai", "gpt-5", ms("2025-11-21"), 1000, 0, 0, 0, 0)

    assert len(book._known) <= 8


def test_a_day_is_looked_up_once() -> None:
    asked: list[Any] = []

    class Listing:
        name = "counting"

        def find(self, provider: str | None, model: str, day: int) -> Rates | None:
            asked.append((provider, model, day))
            return RATES if model == "m" else None

    book = PriceBook(Listing())
    for at in (0, 1, DAY_MS - 1, DAY_MS):
        book.price("p", "m", at, 1, 1, 0, 0, 0)
        book.price("p", "unknown", at, 1, 1, 0, 0, 0)

    assert [("p", "m", 0), ("p", "unknown", 0), ("p", "m", 1), ("p", "unknown", 1)] == asked


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5_000)] * 5), max_size=30), st.randoms(use_true_random=False))
def test_costs_add_up_however_reports_are_batched_and_ordered(reports: list[tuple[int, ...]], random: Any) -> None:
    def total(some: list[tuple[int, ...]]) -> int:
        book = PriceBook(SHIPPED)  # a new one remembers nothing
        costs = [book.price("openai", "gpt-5", ms("2025-11-21"), *tokens) for tokens in some]
        return sum(cost for cost in costs if cost is not None)

    shuffled = random.sample(reports, len(reports))
    cut = len(reports) // 3

    assert total(reports) == total(shuffled) == total(shuffled[:cut]) + total(shuffled[cut:])


def test_every_day_of_the_calendar_can_be_asked_for() -> None:
    last_ms = 10**14 - 1  # the largest time an event may have
    moments = [0, last_ms, (ms("2024-02-29") + timedelta(days=1) // timedelta(milliseconds=1))]

    assert all(ours("openai", "gpt-4o", at, 10) is not None for at in moments)
