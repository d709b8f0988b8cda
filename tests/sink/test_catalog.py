"""The catalogue: names that follow the conventions, numbers that exist, and every row alive on a real page."""

import re
from itertools import combinations
from typing import Final

import pytest
from pages import full_view, names, own_samples, promtool, render, series, value

from streams.event.codec import Reason
from streams.fold.measure import DIMENSIONS, HISTOGRAMS, MEASURES, PARTITION, PARTITION_MEASURES
from streams.sink.catalog import METRICS, OF_DIMENSION
from streams.sink.metric import KEYS_MAX, Metric
from streams.sink.processes import OF_WORKER
from streams.sink.view import View

ALL: Final = (*METRICS, *OF_WORKER[:-1])  # the last one is on both pages
UNITS: Final = {"seconds", "bytes", "tokens", "usd"}
# Whoever is behind one of these is a person or a moment, and there is no end of them.
FORBIDDEN_LABELS: Final = {
    "session", "session_id", "user", "user_id", "request", "request_id", "call_id", "id", "trace_id", "source",
    "prompt", "message", "error",
}  # fmt: skip
# What the target, not the series, is labelled with.
TARGET_LABELS: Final = {"job", "instance", "env", "cluster", "region", "service"}
# What the seed documents ask for and the first stages already count; the names are theirs.
SEEDS: Final = {
    "agent_tokens_input_total": "agent_tokens_total",
    "agent_tokens_output_total": "agent_tokens_total",
    "agent_tokens_total": "agent_tokens_total",
    "agent_token_cost_estimate": "agent_cost_usd_total",
    "agent_requests_total": "agent_requests_total",
    "agent_model_invocations_total": "agent_model_calls_total",
    "agent_request_duration": "agent_request_duration_seconds",
    "agent_model_invocation_duration": "agent_model_call_duration_seconds",
    "agent_tool_calls_total": "agent_tool_calls_total",
    "agent_tool_execution_duration": "agent_tool_call_duration_seconds",
    "agent_tool_parallel_executions": "agent_tool_calls_in_flight",
    "agent_tool_timeout_rate": "agent_tool_calls_total",
    "agent_tool_errors": "agent_tool_calls_total",
    "agent_tool_retry_attempts": "agent_tool_retries_total",
    "agent_tool_validation_failures": "agent_tool_calls_total",
    "agent_concurrent_requests": "agent_requests_in_flight",
    "agent_errors_total": "agent_errors_total",
    "agent_circuit_breaker_state": "agent_circuit_breaker_state",
    "crew_requests_total": "agent_requests_total",
    "crew_request_duration_seconds": "agent_request_duration_seconds",
}


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    words = metric.name.split("_")

    assert re.fullmatch(r"agent(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not {"ms", "us", "millis", "kb", "mb", "percent", "rate", "gauge", "counter", "histogram"} & set(words)
    assert metric.family.endswith(f"_{metric.unit}") if metric.unit else not UNITS & {metric.family.split("_")[-1]}
    assert metric.unit in UNITS | {""}
    assert metric.help.endswith(".")
    assert metric.help[0].isupper() or metric.help[0].isdigit()


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_labels_are_few_and_nobody_s_name(metric: Metric) -> None:
    columns = set(metric.columns)

    assert len(columns) == len(metric.columns) <= 3
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", column) for column in columns)
    assert not columns & (FORBIDDEN_LABELS | TARGET_LABELS | {"le"})
    if metric.dimension is not None:
        assert metric.columns == (*metric.dimension.columns, *([metric.own_label] if metric.own_label else []))


def test_no_name_stands_twice_or_hides_in_another() -> None:
    """OpenMetrics gives a family all the names that its kind may append."""
    appended = {
        "counter": ("", "_total", "_created"),
        "histogram": ("", "_count", "_sum", "_bucket", "_created"),
        "summary": ("", "_count", "_sum", "_created"),
        "gauge": ("",),
        "info": ("", "_info"),
    }
    taken = [{metric.family + suffix for suffix in appended[metric.kind]} for metric in ALL]

    assert not [one & other for one, other in combinations(taken, 2) if one & other]


def test_help_says_something_different_of_each() -> None:
    helps = [metric.help for metric in ALL if "tokens" not in metric.name and "usd" not in metric.name]
    doubles = {text for text in helps if helps.count(text) > 1}

    assert doubles <= {metric.help for metric in ALL if metric.name.endswith("unpriced_usage_reports_total")}


def test_every_measure_a_metric_reads_is_one_that_rows_hold() -> None:
    counted = {*PARTITION_MEASURES, "evicted", *(f"rejected_{reason.value}" for reason in Reason)}
    for metric in METRICS:
        known = counted if metric.dimension is PARTITION else set(MEASURES)
        assert {name for part in metric.parts for name in (*part.plus, *part.minus)} <= known
        assert metric.histogram is None or metric.histogram in HISTOGRAMS
        assert (metric.dimension is None) == (metric.origin is not None)
        assert bool(metric.parts) != bool(metric.histogram) or metric.dimension is None


def test_every_measure_and_histogram_is_shown_by_some_metric() -> None:
    """`errors` is the sum of the errors by type, which are shown."""
    shown = {name for metric in METRICS for part in metric.parts for name in (*part.plus, *part.minus)}

    assert {"errors"} == {*MEASURES, *PARTITION_MEASURES} - shown
    assert set(HISTOGRAMS) == {metric.histogram for metric in METRICS if metric.histogram}


def test_what_publishers_can_name_is_bounded() -> None:
    """37,000 series is what KEYS_MAX promises; partitions are the operator's."""
    per_dimension = {name: sum(metric.series_max or 0 for metric in metrics) for name, metrics in OF_DIMENSION.items()}

    assert sum(count for name, count in per_dimension.items() if name != PARTITION.name) < 37_000
    assert all(metric.dimension is None or metric.dimension.name in KEYS_MAX for metric in METRICS)


def test_every_row_is_alive_on_a_page_of_real_stages() -> None:
    """Events of every kind and every mishap go in, and each metric has a series that says more than zero."""
    found = series(render(full_view()[1]))

    silent = {"agent_stream_events_unaccounted", "agent_stream_events_unreconciled"}  # zero is what they promise
    silent |= {"agent_stream_sessions_evicted_total"}  # takes a million sessions
    silent |= {"agent_series_overflow_keys", "agent_alert_transitions_total"}  # tested with the view
    for metric in METRICS:
        name = metric.name + ("_count" if metric.kind == "histogram" else "")
        numbers = [number for (sample, _), number in found.items() if sample == name]
        assert numbers, f"{metric.name} is not on the page"
        assert any(numbers) or metric.name in silent, f"{metric.name} never says anything"


def test_the_page_tells_what_the_events_were() -> None:
    found = series(render(full_view()[1]))

    assert 1 == value(found, "agent_requests_abandoned_total", agent="planner")
    assert 0 == value(found, "agent_requests_in_flight", agent="planner")
    assert 1 == value(found, "agent_tool_calls_unmatched_total", tool="search")
    assert 5 == value(found, "agent_tool_retries_total", tool="search")
    assert 10_000 == value(found, "agent_tool_output_bytes_total", tool="search")
    assert 0.15 == value(found, "agent_tool_call_duration_seconds_sum", tool="search")
    assert 0.001234567 == value(found, "agent_tenant_cost_usd_total", tenant="acme")
    assert 1 == value(found, "agent_tenant_unpriced_usage_reports_total", tenant="acme")
    assert 200 == value(found, "agent_tenant_tokens_total", tenant="acme", type="input")
    assert 120 == value(found, "agent_cache_tokens_total", agent="planner", operation="read")
    assert 6 == value(found, "agent_sessions_active", agent="planner")  # s1 once more, s2, three s3, s4
    assert 7 == value(found, "agent_sessions_started_total", agent="planner")
    assert 1 == value(found, "agent_errors_total", agent="planner", type="network")


def test_the_page_tells_how_far_tokens_and_money_can_be_trusted() -> None:
    found = series(render(full_view()[1]))
    model = {"model": "house-model"}

    # 1,000 at 2 USD per million; 10 and 20 cached at 0.5, which its publisher left out of the input; 33 single ones
    assert 0.002096 == value(found, "agent_model_computed_cost_usd_total", **model)
    assert 0.002096 == value(found, "agent_cost_usd_total", agent="spender")
    assert 1 == value(found, "agent_model_inconsistent_usage_reports_total", **model)
    assert 0 == value(found, "agent_model_unpriced_usage_reports_total", **model)
    assert 3 == value(found, "agent_model_aggregate_usage_reports_total", **model)
    assert 3 == value(found, "agent_aggregates_reconciled_total", agent="spender")
    assert 1 == value(found, "agent_aggregates_without_leaves_total", agent="spender")
    assert 300 + 70 == value(found, "agent_aggregate_gap_tokens_total", agent="spender", direction="over")
    assert 2 == value(found, "agent_aggregate_gap_tokens_total", agent="spender", direction="under")
    assert 1 == value(found, "agent_ledger_calls_forgotten_total", agent="spender")
    assert 1043 == value(found, "agent_tokens_total", agent="spender", type="input")


def test_seed_names_lead_to_exactly_one_metric() -> None:
    carriers = {seed: [metric.name for metric in METRICS if seed in metric.seed_names] for seed in SEEDS}

    assert {seed: [name] for seed, name in SEEDS.items()} == carriers
    assert set(SEEDS) == {seed for metric in METRICS for seed in metric.seed_names}


@pytest.mark.parametrize("view", [View(1), full_view()[1]], ids=["empty", "full"])
def test_promtool_has_nothing_to_say(view: View) -> None:
    assert ("", "", 0) == promtool(render(view))


def test_the_page_has_no_metric_that_the_catalogue_does_not_know() -> None:
    known = {metric.name for metric in METRICS if metric.kind != "histogram"}
    known |= {
        metric.name + suffix
        for metric in METRICS
        if metric.kind == "histogram"
        for suffix in ("_bucket", "_count", "_sum")
    }

    assert names(series(render(full_view()[1]))) <= known
    assert own_samples().keys() <= known


def test_every_dimension_but_the_sum_of_all_is_shown() -> None:
    assert {"all"} == {name for name in DIMENSIONS if not OF_DIMENSION[name]}
