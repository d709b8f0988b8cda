"""OTLP: decoded by the protocol's own classes it has the numbers of the text page, under its generation's names."""

from typing import Any, Final

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from pages import Series, full_view, own_samples, render, series
from through_stages import Stages, event
from viewing import CREATED_MS, row, view_of

from streams.sink.catalog import METRICS
from streams.sink.otlp import POINTS_PER_REQUEST, Source, rejected_points, requests
from streams.sink.semconv import GENERATIONS, UNITS, USAGE, USAGE_REPLACES
from streams.sink.view import View
from streams.worker.otlp import OtlpConfig

NOW_MS: Final = 1_763_724_900_007


def exported(view: View, genai: str = "none") -> list[ExportMetricsServiceRequest]:
    source = Source((("service.name", "tests"),), "1.2.3", genai)
    made = requests(view, {**view.samples(), **own_samples()}, source, now_ms=NOW_MS)
    return [ExportMetricsServiceRequest.FromString(each.body) for each in made if each is not None]


def metrics(view: View, genai: str = "none") -> list[pb.Metric]:
    return [
        metric
        for request in exported(view, genai)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


def labels_of(point: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in point.attributes}


def points_of(metric: pb.Metric) -> Any:
    return getattr(metric, str(metric.WhichOneof("data"))).data_points


def named(found: list[pb.Metric], name: str) -> list[tuple[dict[str, str], Any]]:
    return [(labels_of(point), point) for metric in found if metric.name == name for point in points_of(metric)]


def as_text(found: list[pb.Metric]) -> Series:
    """Return what the text page would say."""
    rows = {metric.family: metric for metric in METRICS}
    said: Series = {}
    for metric in found:
        row_ = rows[metric.name]
        name = row_.name
        for point in points_of(metric):
            labels = labels_of(point)
            if metric.WhichOneof("data") != "histogram":
                kind = point.WhichOneof("value")
                said[name, frozenset(labels.items())] = float(getattr(point, kind))
                continue
            said[f"{name}_count", frozenset(labels.items())] = point.count
            said[f"{name}_sum", frozenset(labels.items())] = point.sum
            bounds = row_.bound_texts
            assert [float(bound) for bound in bounds[:-1]] == list(point.explicit_bounds)
            for at, bound in enumerate(bounds):
                cumulative = sum(point.bucket_counts[: at + 1])
                said[f"{name}_bucket", frozenset({**labels, "le": bound}.items())] = cumulative
    return said


def test_under_our_names_it_has_the_numbers_of_the_text() -> None:
    _, view = full_view()

    assert series(render(view)) == as_text(metrics(view))


def test_kinds_units_and_temporality_are_those_of_the_catalogue() -> None:
    rows = {metric.family: metric for metric in METRICS}
    found = metrics(full_view()[1])

    assert rows.keys() == {metric.name for metric in found}
    for metric in found:
        row_ = rows[metric.name]
        data = metric.WhichOneof("data")
        assert {"counter": "sum", "histogram": "histogram"}.get(row_.kind, "gauge") == data
        assert (row_.help, UNITS[row_.unit]) == (metric.description, metric.unit)
        if data != "gauge":
            assert pb.AGGREGATION_TEMPORALITY_CUMULATIVE == getattr(metric, data).aggregation_temporality
        assert data != "sum" or metric.sum.is_monotonic


def test_every_point_is_of_this_moment_and_a_counter_says_since_when() -> None:
    found = metrics(view_of(row("tool", ("t",), 0, tool_retries=7, tool_calls_started=2)))
    ((_, retries),) = named(found, "agent_tool_retries")
    ((_, flying),) = named(found, "agent_tool_calls_in_flight")

    assert (CREATED_MS * 10**6, NOW_MS * 10**6, 7) == (
        retries.start_time_unix_nano, retries.time_unix_nano, retries.as_int,
    )  # fmt: skip
    assert (0, NOW_MS * 10**6, 2) == (flying.start_time_unix_nano, flying.time_unix_nano, flying.as_int)


def test_a_beginning_that_is_unknown_or_ahead_of_our_clock_makes_no_impossible_point() -> None:
    unknown, ahead = row("tool", ("a",), 0, tool_retries=1), row("tool", ("b",), 1, tool_retries=1)
    unknown.created_ms, ahead.created_ms = -1, NOW_MS + 5
    starts = [point.start_time_unix_nano for _, point in named(metrics(view_of(unknown, ahead)), "agent_tool_retries")]

    assert [0, NOW_MS * 10**6] == starts


def test_numbers_beyond_64_bits_are_written_as_fractions() -> None:
    found = metrics(view_of(row("tool", ("t",), 0, tool_retries=2**63)))
    ((_, point),) = named(found, "agent_tool_retries")

    assert ("as_double", 2.0**63) == (point.WhichOneof("value"), point.as_double)


def test_who_exports_is_on_every_request_and_requests_are_bounded() -> None:
    view = view_of(*(row("agent_tool", ("a", f"t{n:03d}"), n, tool_calls_success=1) for n in range(450)))
    made = exported(view)

    assert len(made) > 1
    for request in made:
        (resource,) = request.resource_metrics
        assert {"service.name": "tests"} == labels_of(resource.resource)
        (scope,) = resource.scope_metrics
        assert ("agent-streams", "1.2.3") == (scope.scope.name, scope.scope.version)
        # 32 groups of at most five series each may still come after the limit is reached
        assert sum(len(points_of(metric)) for metric in scope.metrics) < POINTS_PER_REQUEST + 32 * 5


@pytest.mark.parametrize(("genai", "provider"), [("v1.36", "gen_ai.system"), ("v1.41", "gen_ai.provider.name")])
def test_model_calls_have_the_names_and_attributes_of_their_generation(genai: str, provider: str) -> None:
    _, view = full_view()
    found = metrics(view, genai)
    page = series(render(view))

    durations = named(found, "gen_ai.client.operation.duration")
    assert durations
    for labels, point in durations:
        assert {provider, "gen_ai.operation.name"} == labels.keys()
        assert "chat" == labels["gen_ai.operation.name"]
        name = "agent_provider_call_duration_seconds_sum"
        assert page[name, frozenset({("provider", labels[provider])})] == point.sum
    assert not named(found, "agent_provider_call_duration_seconds")
    assert named(found, "agent_model_call_duration_seconds"), "what the conventions have no attributes for keeps ours"


def test_token_usage_is_a_histogram_of_count_and_sum() -> None:
    _, view = full_view()
    used = {(labels["gen_ai.provider.name"], labels["gen_ai.token.type"]): point
            for labels, point in named(metrics(view, "v1.41"), USAGE)}  # fmt: skip
    page = series(render(view))

    assert used
    for (provider, kind), point in used.items():
        tokens = page["agent_provider_tokens_total", frozenset({("provider", provider), ("type", kind)})]
        assert (tokens, [point.count], []) == (point.sum, list(point.bucket_counts), list(point.explicit_bounds))
    assert used["openai", "input"].count == used["openai", "output"].count >= 2
    assert not named(metrics(view, "v1.41"), USAGE_REPLACES.removesuffix("_total"))


def test_agents_and_tools_have_conventional_names_only_where_they_are_merged() -> None:
    _, view = full_view()
    newest, older = metrics(view, "development"), metrics(view, "v1.41")

    assert {"gen_ai.agent.name": "planner", "gen_ai.tool.name": "search", "gen_ai.operation.name": "execute_tool"} in [
        labels for labels, _ in named(newest, "gen_ai.execute_tool.duration")
    ]
    assert {"gen_ai.agent.name": "planner", "gen_ai.operation.name": "invoke_agent"} in [
        labels for labels, _ in named(newest, "gen_ai.invoke_agent.duration")
    ]
    assert not named(older, "gen_ai.invoke_agent.duration")
    assert named(older, "agent_request_duration_seconds")


def test_every_conventional_name_replaces_a_metric_and_its_labels() -> None:
    rows = {metric.name: metric for metric in METRICS}
    for generation in GENERATIONS.values():
        for ours, theirs in generation.metrics.items() if generation else ():
            assert set(rows[ours].columns) == set(theirs.attributes)
    assert OtlpConfig(endpoint="http://c").genai in GENERATIONS


def test_a_trace_stands_beside_its_duration() -> None:
    stages = Stages()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    fields = {"session_id": "s", "tool": "search", "duration_ms": 30}
    stages.publish([event("tool_end", 1, trace_id=trace, **fields), event("tool_end", 2, trace_id="short", **fields)])
    stages.publish([event("tool_end", 3, trace_id=trace, **fields | {"duration_ms": 90_000})])
    view = View(len(stages.rollups))
    for number, rows in stages.changelog():
        view.feed(number, rows)
    for _ in view.settle():
        pass
    ((_, point),) = named(metrics(view), "agent_tool_call_duration_seconds")

    (exemplar,) = point.exemplars  # the other is no id of OpenTelemetry's
    assert (bytes.fromhex(trace), 90.0, 1_763_724_003_000 * 10**6) == (
        exemplar.trace_id, exemplar.as_double, exemplar.time_unix_nano,
    )  # fmt: skip


def test_what_a_receiver_refused_is_read_from_its_answer() -> None:
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")

    assert (3, "too old") == rejected_points(ExportMetricsServiceResponse(partial_success=partial).SerializeToString())
    assert (0, "") == rejected_points(b"")
    assert (0, "") == rejected_points(b"\xff\xff{}")
