"""Limits by comparison: how they are written, and that centre and spread are those of the textbooks."""

from statistics import fmean, median, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rule.usual import (
    FIXED,
    SAMPLE_MAX,
    Usual,
    limit_of,
    looks_usual,
    mean_sigma,
    median_mad,
    parse_usual,
    sample_of,
    weighted,
)

SAMPLES = st.lists(st.integers(0, SAMPLE_MAX), min_size=1, max_size=120)


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("2x baseline 1h", Usual("baseline", 2.0, 0.0, 3_600_000)),
        ("mean + 3 sigma", Usual("mean", 1.0, 3.0)),
        ("mean - 2.5 sigma", Usual("mean", 1.0, -2.5)),
        ("median + 5 mad", Usual("median", 1.0, 5.0)),
        ("1.5x ewma + 2 sigma by hour of day", Usual("ewma", 1.5, 2.0, hourly=True)),
        ("3x ewma", Usual("ewma", 3.0, 0.0)),
    ],
)
def test_what_is_written_is_read_and_written_again(text: str, usual: Usual) -> None:
    assert usual == parse_usual(text)
    assert text == usual.text
    assert looks_usual(text)


@pytest.mark.parametrize(
    "text",
    [
        "mean", "baseline 1h", "ewma by hour of day", "mean + 3 mad", "median + 3 sigma", "2x baseline",
        "2x baseline 1x", "mean + sigma", "mean + 3 sigma by hour of day", "2x baseline 1h + 3 sigma", "9999x mean",
        "", "3",
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(text: str) -> None:
    assert parse_usual(text) is None


@given(SAMPLES)
def test_mean_and_deviation_are_rounded_down_from_the_exact_ones(samples: list[int]) -> None:
    mean, sigma = mean_sigma(samples)

    assert mean == sum(samples) // len(samples)
    assert sigma == pytest.approx(pstdev(samples), rel=1e-9, abs=1)


@given(SAMPLES)
def test_median_and_distance_are_those_of_the_samples(samples: list[int]) -> None:
    centre, distance = median_mad(samples)

    assert centre == int(median(samples)) or centre == pytest.approx(median(samples), rel=1e-9, abs=1)
    assert distance == pytest.approx(median([abs(sample - centre) for sample in samples]), rel=1e-9, abs=1)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200), st.integers(3, 120))
def test_a_weighted_mean_follows_the_recursion_in_floats(values: list[int], span: int) -> None:
    alpha = 2 / (span + 1)
    samples = [value * FIXED for value in values]
    centre, spread = samples[0], 0
    mean, variance = float(samples[0]), 0.0
    for sample in samples[1:]:
        centre, spread = weighted(centre, spread, sample, span)
        distance = sample - mean
        mean += alpha * distance
        variance = (1 - alpha) * (variance + alpha * distance**2)

    size = max(fmean(samples), 1.0)
    assert centre == pytest.approx(mean, rel=1e-6, abs=len(samples))
    assert spread == pytest.approx(variance**0.5, rel=1e-3, abs=1e-3 * size + len(samples))


def test_a_steady_value_has_no_deviation_and_a_new_level_is_learned() -> None:
    centre, spread = 10 * FIXED, 0
    for _ in range(50):
        centre, spread = weighted(centre, spread, 10 * FIXED, 10)
    assert (centre, spread) == (10 * FIXED, 0)
    for _ in range(200):
        centre, spread = weighted(centre, spread, 50 * FIXED, 10)

    assert centre == pytest.approx(50 * FIXED, abs=10)
    assert spread < FIXED


def test_samples_saturate_instead_of_growing_beyond_what_is_stored() -> None:
    assert sample_of(1e30, "count") == SAMPLE_MAX
    assert sample_of(-1e30, "count") == -SAMPLE_MAX
    assert sample_of(0.25, "ratio") == 250_000
    centre, spread = weighted(-SAMPLE_MAX, 0, SAMPLE_MAX, 3)
    assert max(abs(centre), spread) < 2**63


@pytest.mark.parametrize(
    ("floor", "above", "limit"), [(None, True, 16.0), (20, True, 20), (5, True, 16.0), (5, False, 5)]
)
def test_a_floor_holds_where_the_limit_would_be_stricter(floor: int | None, above: bool, limit: float) -> None:
    assert limit == limit_of(Usual("mean", 1.0, 3.0, floor=floor), 10.0, 2.0, above=above)


def test_a_median_s_spread_is_scaled_to_a_deviation() -> None:
    assert limit_of(Usual("median", 1.0, 2.0), 10.0, 1.0, above=True) == pytest.approx(10 + 2 * 1.4826)
