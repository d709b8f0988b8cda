"""A price file says exactly what it means, or everything that is wrong with it."""

from datetime import date

import pytest

from streams.errors import ConfigError
from streams.fold.price import PICO_PER_USD, Override, Rates
from streams.rule.pricefile import ENTRIES_MAX, parse_prices

GOOD = """
prices:
  - {model: house-*, input: "0", output: "0"}
  - model: GPT-5
    provider: Azure*
    from: 2026-01-01
    until: "2026-07-01"
    input: "1.25"
    output: "10"
    cache_read: "0.125"
    cache_write: "1.5625"
    reasoning: "12.000000000001"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_prices(text)
    return str(caught.value).splitlines()[1:]


def test_entries_are_read_in_their_order_and_to_the_last_digit() -> None:
    house, gpt = parse_prices(GOOD)

    assert Override("house-*", None, Rates(0, 0, 0, 0, 0)) == house
    assert ("gpt-5", "azure*") == (gpt.model, gpt.provider)
    assert PICO_PER_USD * 125 // 100 == gpt.rates.input
    assert PICO_PER_USD * 15625 // 10000 == gpt.rates.cache_write
    assert 12 * PICO_PER_USD + 1 == gpt.rates.reasoning
    assert (date(2026, 1, 1) - date(1970, 1, 1)).days == gpt.from_day
    assert (date(2026, 7, 1) - date(1970, 1, 1)).days == gpt.until_day


def test_a_type_without_a_price_costs_what_its_whole_costs() -> None:
    (entry,) = parse_prices('prices: [{model: m, input: "2", output: "8"}]')
    two, eight = 2 * PICO_PER_USD, 8 * PICO_PER_USD

    assert Rates(two, eight, two, two, eight) == entry.rates


def test_every_fault_is_named_at_once_with_place_value_expectation_and_next_step() -> None:
    lines = faults("""
prices:
  - {model: m, input: 2.5}
  - {modle: m, input: "-1", output: "1"}
  - {model: m, from: 2026-02-01, until: 2026-01-01, output: "10001"}
  - {model: m, to: 2026-01-01, from: yesterday, input: "1"}
  - {model: m}
  - 7
""")

    assert 9 <= len(lines)
    assert "price 1, input = 2.5" in lines[0]
    assert 'put it in quotes: input: "2.5"' in lines[0]
    assert any("price 2, modle" in line and "write model" in line for line in lines)
    assert any("price 2, input = '-1'" in line for line in lines)
    assert any("price 3, until" in line and "a day after from" in line for line in lines)
    assert any("price 3, output = '10001'" in line for line in lines)
    assert any("price 4, to" in line and "write until" in line for line in lines)
    assert any("price 4, from = 'yesterday'" in line for line in lines)
    assert any("price 5, input" in line for line in lines)
    assert any("price 6 = 7" in line for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "prices: 1",
        "prices: {m: 1}",
        "prices: [{model: m, input: '1', input: '2'}]",
        "other: []",
        "prices: [{model: m, input: true}]",
        "prices: [{model: m, input: '1', from: 2026-01-01T10:00:00Z}]",
        "prices: [{model: m, input: '1', from: '2026-02-30'}]",
        "prices: [{model: m, input: '1e3'}]",
        "prices: [{model: m, input: .nan}]",
        "prices: [" + "{model: m, input: '1'}, " * (ENTRIES_MAX + 1) + "]",
        "prices: [",
    ],
)
def test_what_is_no_price_file_is_refused(text: str) -> None:
    assert faults(text)


def test_an_empty_list_sets_nothing() -> None:
    assert () == parse_prices("prices: []")
