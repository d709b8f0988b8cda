"""Durations, money and shares as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule.rows import NOW_MS

from streams.rule.amount import DURATION_MS_MAX, amount, amount_text, duration_ms, duration_text
from streams.rule.reading import Unit


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ms", 1),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("1w", 604_800_000),
        ("90m", 5_400_000),
    ],
)
def test_a_duration_is_written_as_in_prometheus(text: str, ms: int) -> None:
    assert ms == duration_ms(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "5 m",
        "-5m",
        "+5m",
        "1.5h",
        "5M",
        "m",
        "5m5m",
        "30s5m",
        "5min",
        "1y",
        "5w",
        "9" * 13 + "s",
        "٣m",
        30,
        5.0,
        True,
        None,
    ],
)
def test_anything_else_is_no_duration(text: object) -> None:
    assert duration_ms(text) is None


@given(st.integers(0, DURATION_MS_MAX))
def test_a_written_duration_reads_back(ms: int) -> None:
    assert ms == duration_ms(duration_text(ms))


@pytest.mark.parametrize(
    ("value", "unit", "stored"),
    [
        (10, "count", 10),
        (2.5, "count", 2.5),
        (200_000, "tokens", 200_000),
        (0.05, "ratio", 0.05),
        ("5%", "ratio", 0.05),
        ("12.5 %", "ratio", 0.125),
        ("5s", "us", 5_000_000),
        ("10m", "ms", 600_000),
        ("5 USD", "nano_usd", 5_000_000_000),
        ("0.25USD", "nano_usd", 250_000_000),
        ("0.000000001 USD", "nano_usd", 1),
    ],
)
def test_a_limit_is_stored_in_the_unit_of_its_field(value: object, unit: Unit, stored: float) -> None:
    assert stored == amount(value, unit)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (5, "us"),
        (5, "ms"),
        (5, "nano_usd"),
        ("5", "count"),
        ("5s", "count"),
        ("$5", "nano_usd"),
        ("-5 USD", "nano_usd"),
        (True, "count"),
        (float("nan"), "count"),
        (float("inf"), "ratio"),
        (10**400, "count"),
        ("5%", "count"),
        ([], "count"),
    ],
)
def test_a_limit_without_its_unit_or_with_a_foreign_one_is_none(value: object, unit: Unit) -> None:
    assert amount(value, unit) is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "count", "no value"),
        (1_234_567, "count", "1,234,567"),
        (2.5, "count", "2.5"),
        (0.125, "ratio", "12.5%"),
        (1 / 3, "ratio", "33.33%"),
        (0, "ratio", "0%"),
        (1e-9, "ratio", "0.0000001%"),
        (7_300_000, "us", "7.3s"),
        (350_000, "us", "350ms"),
        (1_500, "us", "1.5ms"),
        (754_999, "ms", "12m35s"),
        (59_999, "ms", "60s"),
        (2_500_000_000, "nano_usd", "2.5 USD"),
        (12_345.678, "count", "12,346"),
        (0, "us", "0ms"),
        (NOW_MS, "ms", "11d13h46m40s"),
    ],
)
def test_a_value_is_written_for_people(value: float | None, unit: Unit, text: str) -> None:
    assert text == amount_text(value, unit)


@given(st.floats(-(2.0**63), 2.0**63), st.sampled_from(["count", "tokens", "ratio", "us", "nano_usd"]))
def test_every_value_can_be_written(value: float, unit: Unit) -> None:
    assert amount_text(value, unit)
