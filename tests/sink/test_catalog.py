"""The catalogue: names that follow the conventions, numbers that exist, and every row alive on a real page."""

import re
from itertools import combinations
from typing import Final

import pytest
from pages import full_view, names, own_samples, promtool, render, series, value
from promised import BUCKETS, PROMISED, SEEDS, Promise
from rare import CUSTOMS, EXPECTED

from streams.fold.families import FAMILIES
from streams.fold.gauges import GAUGES
from streams.fold.measure import CIRCUIT_MEASURES, CUSTOM, DIMENSIONS, PARTITION, USER
from streams.sink.catalog import METRICS, OF_DIMENSION
from streams.sink.custom import custom_metrics
from streams.sink.metric import KEYS_MAX, SERIES_MAX, Metric
from streams.sink.processes import OF_NOTIFY, OF_WORKER
from streams.sink.view import View

ALL: Final = (*METRICS, *OF_WORKER[:-1], *OF_NOTIFY)  # the last one is on both pages
UNITS: Final = {"seconds", "bytes", "tokens", "usd"}
# Whoever is behind one of these is a person or a moment, and there is no end of them.
FORBIDDEN_LABELS: Final = {
    "session", "session_id", "user", "user_id", "request", "request_id", "call_id", "id", "trace_id", "source",
    "prompt", "message", "error",
}  # fmt: skip
EVERYDAY: Final = {"all", "agent", "tool", "model", "provider", "tenant", "agent_tool", "partition", "custom"}
# What the target, not the series, is labelled with.
TARGET_LABELS: Final = {"job", "instance", "env", "cluster", "region", "service"}


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    words = metric.name.replace("rate_limit", "").split("_")  # a limiter is no rate

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
    for metric in METRICS:
        held = FAMILIES[metric.dimension.name] if metric.dimension is not None else FAMILIES[CUSTOM.name]
        assert {name for part in metric.parts for name in (*part.plus, *part.minus)} <= set(held.measures)
        assert metric.histogram is None or metric.histogram in held.histograms
        assert (metric.dimension is None) == (metric.origin is not None)
        made_of = metric.parts, metric.histogram, metric.gauge, metric.formula
        assert [bool(each) for each in made_of].count(True) == (metric.dimension is not None)
        assert metric.gauge is None or metric.merge == GAUGES[metric.gauge].merge
        read = [] if metric.formula is None else metric.formula.inputs
        for what, name in read:
            assert name in {"measure": held.measures, "gauge": GAUGES, "sources": GAUGES}.get(what, held.histograms)


def test_every_gauge_is_shown_by_some_metric() -> None:
    shown = {metric.gauge for metric in METRICS if metric.gauge}
    derived = {name for metric in METRICS if metric.formula for what, name in metric.formula.inputs if what == "gauge"}

    assert set(GAUGES) == shown | derived


def test_every_measure_and_histogram_is_shown_by_some_metric() -> None:
    """Sums of what is shown by type or reason are not, nor how many events a row is of, nor what circuits see."""
    everyday = {"agent", "tool", "model", "provider", "tenant", "agent_tool", "all"}  # they hold the same
    for some in (everyday, *({name} for name in DIMENSIONS if name not in everyday | {USER.name})):
        metrics = [metric for metric in METRICS if metric.dimension is not None and metric.dimension.name in some]
        shown = {name for metric in metrics for part in metric.parts for name in (*part.plus, *part.minus)}
        held = {name for each in some for name in FAMILIES[each].measures}

        assert held - shown <= {"events", "errors", "rejected", *CIRCUIT_MEASURES}, some
        histograms = {name for each in some for name in FAMILIES[each].histograms}
        assert histograms == {metric.histogram for metric in metrics if metric.histogram}


def test_what_publishers_can_name_is_bounded() -> None:
    """SERIES_MAX is what KEYS_MAX promises; partitions are the operator's."""
    per_dimension = {name: sum(metric.series_max or 0 for metric in metrics) for name, metrics in OF_DIMENSION.items()}

    assert sum(count for name, count in per_dimension.items() if name != PARTITION.name) < SERIES_MAX
    assert all(metric.dimension is None or metric.dimension.name in KEYS_MAX for metric in METRICS)


def test_every_row_is_alive_on_a_page_of_real_stages() -> None:
    """Events of every kind and every mishap go in, and each metric has a series that says more than zero."""
    found = series(render(full_view()[1]))

    silent = {"agent_stream_events_unaccounted", "agent_stream_events_unreconciled"}  # zero is what they promise
    silent |= {"agent_stream_sessions_evicted_total"}  # takes a million sessions
    silent |= {"agent_series_overflow_keys", "agent_alert_transitions_total"}  # tested with the view
    silent |= {"agent_alerts_acknowledged"}  # takes a person; tested with the verdicts
    silent |= {"agent_sources_forgotten_total"}  # tested with the stage
    silent |= {"agent_skill_duration_min_seconds"}  # the shortest took no time
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


def test_the_page_tells_what_sources_said_and_what_follows_from_it() -> None:
    found = series(render(full_view()[1]))

    for name, expected in (
        ("agent_memory_usage_bytes", 4_000),
        ("agent_memory_peak_bytes", 3_000),
        ("agent_connection_pool_active", 6),
        ("agent_cpu_cores", 2.5),
        ("agent_uptime_seconds", 61.5),
        ("agent_context_fullest_ratio", 0.25),
        ("agent_temperature", 0.7),
        ("agent_processes", 2),
        ("agent_batch_efficiency_ratio", 0.5),
        ("agent_thread_pool_utilization_ratio", 0.25),
        ("agent_connection_pool_utilization_ratio", 0.75),
        ("agent_resource_utilization_ratio", 0.75),
        ("agent_request_duration_mean_seconds", 1.2),
        ("agent_request_duration_min_seconds", 0),
        ("agent_request_duration_max_seconds", 1.5),
        ("agent_request_success_ratio", 0.5),
        ("agent_tokens_per_request", 56),
        ("agent_tokens_per_dollar", 280 * 10**9 / 1_234_567),
    ):
        assert expected == value(found, name, agent="planner"), name
    assert 3 == value(found, "agent_tool_queue_depth", tool="search")
    assert 3 == value(found, "agent_tool_use_queue_depth", agent="planner", tool="search")
    assert 0.4 == value(found, "agent_tool_call_success_ratio", tool="search")


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
    """Custom ones are shown when they are declared, and users never."""
    assert {"all", "custom", "user"} == {name for name in DIMENSIONS if not OF_DIMENSION[name]}


@pytest.mark.parametrize("promise", PROMISED, ids=lambda promise: promise.what)
def test_what_was_promised_is_there(promise: Promise) -> None:
    """With the labels that were promised, and on a page of real stages."""
    metric = next((each for each in ALL if each.name == promise.metric), None)

    assert metric is not None
    assert set(promise.labels) <= set(metric.columns)


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_are_the_promised_ones(name: str) -> None:
    metric = next(each for each in METRICS if each.name == name)

    assert f"{BUCKETS[name]} +Inf" == " ".join(metric.bound_texts)


def test_every_metric_of_a_rare_kind_shows_what_its_events_say() -> None:
    """The numbers were added up by hand."""
    page = render(full_view()[1], customs=CUSTOMS)
    found = series(page)
    agents = {"agent_tool_parallel_uses_total"}  # labels of which other events of the page have none

    for name, samples in EXPECTED.items():
        for labels, expected in samples:
            assert pytest.approx(expected) == value(found, name, **labels), (name, labels)
    rare = {
        metric.name
        for metric in METRICS
        if metric.dimension is not None and metric.dimension.name not in EVERYDAY and metric.formula is None
    }
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in EXPECTED} | agents
    assert rare <= shown


def test_declared_metrics_are_shown_under_their_labels_and_only_those() -> None:
    view = full_view()[1]
    page = render(view, customs=CUSTOMS)

    assert ("", "", 0) == promtool(page)
    assert {"agent_custom_orders_total", "agent_custom_basket_value", "agent_custom_stock"} == {
        metric.name for metric in custom_metrics(CUSTOMS)
    }
    assert "agent_custom" not in render(view)
    assert 5 == sum(
        value(series(page), "agent_stream_events_rejected_total", partition=str(number), reason="undeclared")
        for number in range(3)
    )
