"""Where durations fall, and how near a quantile of bins is to the truth."""

import random
from collections.abc import Callable
from math import ceil

import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.sketch import (
    BINS_PER_OCTAVE,
    DURATION_BOUNDS,
    DURATION_BOUNDS_US,
    OCTAVES,
    ZERO_BIN,
    Bounds,
    bin_middle,
    bin_of,
    quantile,
)

QS = (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
ERROR_MAX = 0.0055


def binned(values: list[int]) -> dict[int, int]:
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    return bins


def exact(values: list[int], q: float) -> int:
    """Return the quantile by nearest rank."""
    return sorted(values)[max(ceil(q * len(values)), 1) - 1]


# ---- bins ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2**63))
def test_a_bin_holds_what_is_above_its_lower_edge_and_up_to_its_upper(value: int) -> None:
    """Edges are 64th roots of powers of two, so whole numbers decide it exactly."""
    index = bin_of(value)

    assert 2**index < value**BINS_PER_OCTAVE <= 2 ** (index + 1) or (index == -1 and value == 1)


@pytest.mark.parametrize("power", range(53))
def test_a_power_of_two_ends_its_bin(power: int) -> None:
    assert power * BINS_PER_OCTAVE - 1 == bin_of(2**power)
    assert bin_of(2**power + 1) >= bin_of(2**power)


def test_nothing_has_a_bin_of_its_own() -> None:
    assert ZERO_BIN == bin_of(0)
    assert 0.0 == bin_middle(ZERO_BIN)
    assert bin_of(1) > ZERO_BIN


@given(st.integers(0, 10**12))
def test_the_middle_of_a_bin_is_near_everything_in_it(value: int) -> None:
    assert abs(bin_middle(bin_of(value)) - value) <= ERROR_MAX * value


# ---- quantiles -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_its_error_of_the_exact_one(values: list[int], q: float) -> None:
    truth = exact(values, q)
    found = quantile(binned(values), q)

    assert found is not None
    assert abs(found - truth) <= ERROR_MAX * truth


@pytest.mark.parametrize("q", QS)
@pytest.mark.parametrize("shape", ["lognormal", "uniform", "two humps"])
def test_quantiles_agree_with_ddsketch_and_with_sorting(shape: str, q: float) -> None:
    rng = random.Random(f"{shape}")
    draws: dict[str, Callable[[], float]] = {
        "lognormal": lambda: rng.lognormvariate(11, 1.5),
        "uniform": lambda: rng.uniform(1, 1e7),
        "two humps": lambda: rng.gauss(*rng.choice(((1e4, 1e3), (1e7, 1e5)))),
    }
    values = [max(int(draws[shape]()), 1) for _ in range(20_001)]
    other = DDSketch(relative_accuracy=0.01)
    for value in values:
        other.add(value)

    found = quantile(binned(values), q)

    assert exact(values, q) == pytest.approx(found, rel=0.01)
    # Ours is the nearest rank, theirs the rank below: at most one value apart.
    assert other.get_quantile_value(max(ceil(q * 20_001) - 1, 0) / 20_000) == pytest.approx(found, rel=0.016)


def test_nothing_observed_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None


@given(st.lists(st.integers(0, 10**9), min_size=1), st.lists(st.integers(0, 10**9), min_size=1))
def test_bins_of_parts_add_up_to_the_bins_of_the_whole(some: list[int], more: list[int]) -> None:
    merged = binned(some)
    for index, count in binned(more).items():
        merged[index] = merged.get(index, 0) + count

    assert binned(some + more) == merged


# ---- buckets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(DURATION_BOUNDS_US)))
def test_a_bound_belongs_to_its_own_bucket(place: int) -> None:
    upper = DURATION_BOUNDS_US[place]

    assert place == DURATION_BOUNDS.place(upper)[0]
    assert place == DURATION_BOUNDS.place(upper - 1)[0]
    assert place + 1 == DURATION_BOUNDS.place(upper + 1)[0]


@given(st.integers(0, 10**12), st.lists(st.integers(1, 10**12), min_size=1, max_size=20, unique=True))
def test_a_place_is_the_first_bound_that_is_not_below_and_the_bin(value: int, uppers: list[int]) -> None:
    bounds = Bounds(tuple(sorted(uppers)))

    assert (sum(upper < value for upper in uppers), bin_of(value)) == bounds.place(value)


def test_what_is_larger_than_any_bin_shares_the_last() -> None:
    assert OCTAVES * BINS_PER_OCTAVE - 1 == bin_of(2**OCTAVES)
    assert OCTAVES * BINS_PER_OCTAVE == bin_of(2**OCTAVES + 1) == bin_of(2**80)
