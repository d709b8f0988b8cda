"""Expressions hold nothing that the catalogue does not have, and count what several exporters show once."""

import promql_parser
import pytest

from streams.sink import promql
from streams.sink.metric import Metric
from streams.sink.processes import OF_EXPORTER, OF_NOTIFY, OF_WORKER
from streams.sink.promql import CATALOGUE, UnknownMetric


def test_a_metric_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownMetric, match="no metric agent_tool_cals_total"):
        promql.select("agent_tool_cals_total", {})


def test_a_label_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownMetric, match="agent_tool_calls_total has no label agent"):
        promql.select("agent_tool_calls_total", {"agent": "planner"})


def test_a_value_that_no_series_has_is_named() -> None:
    with pytest.raises(UnknownMetric, match="agent_tool_calls_total has no status=failed"):
        promql.select("agent_tool_calls_total", {"status": "error|failed"})


def test_buckets_are_those_of_histograms() -> None:
    with pytest.raises(UnknownMetric, match="agent_tool_calls_total is no histogram"):
        promql.select("agent_tool_calls_total", {}, "_bucket")


def test_what_is_no_counter_does_not_grow() -> None:
    with pytest.raises(UnknownMetric, match="agent_sessions_active is no counter"):
        promql.grown("rate", "agent_sessions_active", "5m", {})


def test_several_values_and_variables_are_patterns() -> None:
    asked = promql.select("agent_tool_calls_total", {"tool": "$tool", "status": "error|timeout"})

    assert asked == 'agent_tool_calls_total{tool=~"$tool",status=~"error|timeout"}'


def test_one_value_is_equal() -> None:
    assert 'agent_tool_calls_total{status="error"}' == promql.select("agent_tool_calls_total", {"status": "error"})


def test_what_several_exporters_show_is_taken_once() -> None:
    assert "max without (instance, pod) (rate(agent_events_total[1m]))" == promql.grown(
        "rate", "agent_events_total", "1m", {}
    )


@pytest.mark.parametrize("metric", [*OF_EXPORTER, *OF_WORKER, *OF_NOTIFY], ids=lambda metric: metric.name)
def test_what_a_process_says_of_itself_stays_apart(metric: Metric) -> None:
    assert "without" not in promql.once(metric.name, metric.name)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_metric_can_be_asked_for(name: str) -> None:
    metric = CATALOGUE[name]
    where = dict.fromkeys(metric.columns, "$x")
    expressions = [promql.once(name, promql.select(name, where))]
    if metric.kind == "counter":
        expressions.append(promql.by("sum", metric.columns, promql.grown("rate", name, "5m", where)))
    if metric.kind == "histogram":
        expressions.append(promql.quantile(0.9, metric.columns, promql.grown("rate", name, "5m", where, "_bucket")))

    for expression in expressions:
        assert promql_parser.parse(expression) is not None
