"""Derived figures: what each makes of integers, at its corners, and that nothing is made of nothing."""

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.gauges import GAUGES, Level
from streams.fold.rollup import LifetimeHistogram, LifetimeRow
from streams.fold.sketch import DURATION_BOUNDS_US
from streams.sink import derived, measured
from streams.sink.derived import DERIVED, HEALTH_WEIGHTS, busiest, health, share, worth
from streams.sink.metric import Metric

DOCS = Path(__file__).parents[2] / "docs" / "gauges.md"
BY_NAME = {metric.name: metric for metric in DERIVED}


def made(name: str, sums: dict[str, int] | None = None, gauges: dict[str, Level] | None = None) -> float | None:
    formula = BY_NAME[name].formula
    assert formula is not None
    return worth(formula, LifetimeRow("agent", ("a",), 0, 0, 0, 0, sums or {}), gauges or {})


def level(value: int, sources: int = 1) -> Level:
    return Level(value, sources, 0, "host")


# ---- of nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", DERIVED, ids=lambda metric: metric.name)
def test_of_nothing_nothing_is_made(metric: Metric) -> None:
    assert made(metric.name) is None


@pytest.mark.parametrize("metric", DERIVED, ids=lambda metric: metric.name)
@given(st.data())
def test_a_figure_is_finite_or_absent_whatever_the_integers_are(metric: Metric, data: st.DataObject) -> None:
    """Also when gauges are zero: a pool without threads has no utilization."""
    assert metric.formula is not None
    row = LifetimeRow("agent", ("a",), 0, 0, 0)
    gauges: dict[str, Level] = {}
    for what, name in metric.formula.inputs:
        number = data.draw(st.sampled_from((0, 1, 7, 10**18)))
        if what == "measure":
            row.sums[name] = number
        elif what in {"gauge", "sources"}:
            gauges[name] = level(number)
        else:
            buckets = [min(number, 5)] + [0] * len(DURATION_BOUNDS_US)
            row.histograms[name] = LifetimeHistogram(number, buckets, number, number)
    value = worth(metric.formula, row, gauges)

    least = -math.inf if metric.name == "agent_filtering_reduction_ratio" else 0  # more may come out than went in
    assert value is None or (math.isfinite(value) and value >= least)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_share_is_the_nearest_float_to_the_exact_one(part: int, one: int, other: int) -> None:
    expected = float(Fraction(part, part + one + other)) if part + one + other else None

    assert expected == share(part, one, other)


# ---- one by one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sums", "expected"),
    [
        ("agent_tool_call_success_ratio", {"tool_calls_success": 3, "tool_calls_validation_error": 1}, 0.75),
        ("agent_tool_call_success_ratio", {"tool_calls_timeout": 4}, 0.0),
        ("agent_tool_call_success_ratio", {"tool_calls_cancelled": 4}, None),
        ("agent_request_success_ratio", {"requests_success": 1, "requests_error": 1, "requests_timeout": 2}, 0.25),
        ("agent_model_call_success_ratio", {"model_calls_success": 9, "model_calls_cancelled": 9}, 1.0),
        ("agent_tokens_per_request", {"input_tokens": 10, "output_tokens": 5, "requests_cancelled": 2}, 7.5),
        ("agent_tokens_per_request", {"input_tokens": 10}, None),
        ("agent_cost_per_request_usd", {"cost_nano_usd": 3 * 10**9, "requests_success": 2}, 1.5),
        ("agent_cost_per_request_usd", {"requests_success": 2}, 0.0),
        ("agent_tokens_per_dollar", {"input_tokens": 1, "output_tokens": 2, "cost_nano_usd": 1}, 3e9),
        ("agent_tokens_per_dollar", {"input_tokens": 1}, None),
        ("agent_prompt_cache_hit_ratio", {"input_tokens": 100, "cache_read_tokens": 60}, 0.6),
        ("agent_task_completion_ratio", {"tasks_completed": 3, "tasks_failed": 1}, 0.75),
        ("agent_cache_hit_ratio", {"cache_hit": 1, "cache_miss": 3, "cache_error": 9}, 0.25),
        ("agent_discovery_hit_ratio", {"discovery_found": 4, "discovery_empty": 1}, 0.8),
        ("agent_filtering_reduction_ratio", {"filtering_input_bytes": 100, "filtering_output_bytes": 35}, 0.65),
        ("agent_filtering_reduction_ratio", {"filtering_input_bytes": 100, "filtering_output_bytes": 150}, -0.5),
        ("agent_skill_reuse_ratio", {"skills_saved": 3, "skills_success": 1, "skills_error": 1}, 2 / 3),
        ("agent_skill_reuse_ratio", {"skills_success": 1}, None),
        ("agent_execution_success_ratio", {"executions_success": 7, "executions_timeout": 1}, 0.875),
    ],
)
def test_ratios_of_counters(name: str, sums: dict[str, int], expected: float | None) -> None:
    assert expected == made(name, sums)


def test_utilization_is_over_all_processes() -> None:
    threads = {"threads_busy": level(3, 2), "threads_total": level(12, 2)}
    pool = {"pool_active": level(9), "pool_idle": level(1)}

    assert made("agent_thread_pool_utilization_ratio", gauges=threads) == 0.25
    assert made("agent_connection_pool_utilization_ratio", gauges=pool) == 0.9
    assert made("agent_resource_utilization_ratio", gauges=threads | pool) == 0.9
    assert made("agent_resource_utilization_ratio", gauges=threads) == 0.25
    assert made("agent_resource_utilization_ratio", gauges=pool) == 0.9
    assert made("agent_resource_utilization_ratio", gauges={"threads_busy": level(3)}) is None
    assert busiest(0, 0, 0, 0) is None


def test_batch_efficiency_is_the_mean_of_those_who_say_so() -> None:
    assert made("agent_batch_efficiency_ratio", gauges={"batch_efficiency": level(1_500_000, 2)}) == 0.75
    assert made("agent_processes", gauges={"memory_bytes": level(10**9, 3)}) == 3


def test_durations_have_a_mean_and_extremes() -> None:
    row = LifetimeRow("tool", ("t",), 0, 0, 0)
    row.histograms["tool_duration"] = LifetimeHistogram(3_000_000, [0, 2, 0, 1], 500_000, 2_000_000)
    old = LifetimeRow("tool", ("t",), 0, 0, 0, 0, {}, {"tool_duration": LifetimeHistogram(3_000_000, [0, 2, 0, 1])})
    found: dict[str, list[Any]] = {"new": [], "old": []}
    for each in ("mean", "min", "max"):
        formula = BY_NAME[f"agent_tool_call_duration_{each}_seconds"].formula
        assert formula is not None
        found["new"].append(worth(formula, row, {}))
        found["old"].append(worth(formula, old, {}))

    assert found == {"new": [1.0, 0.5, 2.0], "old": [1.0, None, None]}


def test_scores_and_memory_have_a_mean() -> None:
    row = LifetimeRow("feedback", ("a",), 0, 0, 0)
    row.histograms["satisfaction"] = LifetimeHistogram(1_500_000, [0, 1, 1], 500_000, 1_000_000)
    row.histograms["execution_memory"] = LifetimeHistogram(300, [3], 50, 150)
    names = "agent_user_satisfaction_mean", "agent_execution_memory_mean_bytes", "agent_execution_memory_max_bytes"
    formulas = [BY_NAME[name].formula for name in names]

    assert [0.75, 100, 150] == [worth(formula, row, {}) for formula in formulas if formula is not None]


# ---- health ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, None),
        ({"requests_cancelled": 5, "tool_calls_cancelled": 5}, None),
        ({"requests_success": 5, "model_calls_success": 5, "tool_calls_success": 5}, 1.0),
        ({"requests_error": 5, "model_calls_timeout": 5, "tool_calls_validation_error": 5}, 0.0),
        ({"requests_success": 1}, 1.0),
        ({"requests_success": 1, "tool_calls_error": 9}, 2 / 3),
        ({"requests_success": 1, "model_calls_success": 1, "tool_calls_error": 9}, 3 / 4),
        ({"requests_error": 1, "model_calls_success": 1, "tool_calls_success": 9}, 2 / 4),
        ({"requests_success": 1, "requests_timeout": 1, "tool_calls_success": 1, "tool_calls_timeout": 3}, 5 / 12),
        ({"tool_calls_success": 1, "tool_calls_error": 3}, 1 / 4),
    ],
)
def test_health_at_its_corners(counts: dict[str, int], expected: float | None) -> None:
    found = made("agent_health_score", counts)

    assert expected is None if found is None else found == pytest.approx(expected, abs=1e-15)


COUNTS = st.lists(st.integers(0, 10**9), min_size=10, max_size=10)


@given(COUNTS)
def test_health_lies_between_zero_and_one(counts: list[int]) -> None:
    found = health(*counts)

    assert found is None or 0 <= found <= 1


@given(COUNTS, st.sampled_from((0, 3, 6)))
def test_one_more_success_never_makes_an_agent_less_healthy(counts: list[int], at: int) -> None:
    """Of something that has ended before: a first call of a kind brings its own ratio in."""
    before = health(*counts)
    counts[at] += 1
    after = health(*counts)

    assert sum(HEALTH_WEIGHTS.values()) == 4
    if before is not None and after is not None and counts[at] > 1:
        assert before <= after + 1e-15


# ---- documentation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "table"), [("gauges", measured.reference()), ("derived", derived.reference())])
def test_documentation_says_what_is_exported(name: str, table: str) -> None:
    """WRITE_DOCS=1 writes the tables anew."""
    before, begin, rest = DOCS.read_text("utf-8").partition(f"<!-- {name} -->\n")
    told, end, after = rest.partition(f"<!-- end {name} -->")
    if os.environ.get("WRITE_DOCS"):
        told = table
        DOCS.write_text(before + begin + table + end + after, "utf-8")

    assert end, f"docs/gauges.md has lost its comments around {name}"
    assert table == told


def test_every_gauge_is_documented_or_part_of_what_is() -> None:
    text = DOCS.read_text("utf-8")

    assert all(metric.name in text for metric in (*measured.GAUGES, *DERIVED))
    read = {each.name for metric in DERIVED if metric.formula for each in metric.formula.inputs}
    assert set(GAUGES) <= read | {metric.gauge for metric in measured.GAUGES}
