"""Both encodings of a request are the same request, and bytes that are none raise ValueError and nothing else."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA
from otlp_made import as_otlp_json

from streams.event.otel import fromjson, fromproto
from streams.event.otel.wire import VALUE_DEPTH_MAX, LogRecord, Point

VALUES = {
    "text": AnyValue(string_value="ü"),
    "yes": AnyValue(bool_value=True),
    "many": AnyValue(int_value=2**62),
    "some": AnyValue(double_value=0.5),
    "list": AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="a"), AnyValue(int_value=1)])),
    "map": AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(int_value=-1))])),
    "none": AnyValue(),
}
PLAIN = {
    "text": "ü", "yes": True, "many": 2**62, "some": 0.5, "list": ["a", 1], "map": {"k": -1}, "none": None,
}  # fmt: skip
PAIRS = [KeyValue(key=key, value=value) for key, value in VALUES.items()]
READERS = (
    fromproto.spans, fromproto.logs, fromproto.points, fromjson.spans, fromjson.logs, fromjson.points,
)  # fmt: skip


def logs() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    of = request.resource_logs.add()
    of.resource.attributes.extend(PAIRS)
    scoped = of.scope_logs.add(scope={"name": "s"})
    body = AnyValue(string_value="words")
    scoped.log_records.add(
        observed_time_unix_nano=7,
        event_name="e",
        body=body,
        trace_id=b"\x01" * 16,
        span_id=b"\x02" * 8,
        attributes=PAIRS,
    )
    return request


def metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    scoped = request.resource_metrics.add().scope_metrics.add(scope={"name": "s"})
    delta = AGGREGATION_TEMPORALITY_DELTA
    scoped.metrics.add(name="a", sum={"aggregation_temporality": delta}).sum.data_points.add(as_int=3, time_unix_nano=9)
    scoped.metrics.add(name="b").gauge.data_points.add(as_double=1.5, start_time_unix_nano=1)
    scoped.metrics.add(name="c").histogram.data_points.add(count=2, attributes=PAIRS)
    return request


def test_log_records_are_the_same_in_both_encodings() -> None:
    (record,) = fromproto.logs(logs().SerializeToString())

    assert LogRecord(7, "e", "words", "01" * 16, "02" * 8, PLAIN, PLAIN, "s") == record
    assert [record] == fromjson.logs(as_otlp_json(MessageToDict(logs())))


def test_points_are_the_same_in_both_encodings() -> None:
    points = fromproto.points(metrics().SerializeToString())
    request: Any = MessageToDict(metrics())
    request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["aggregationTemporality"] = 1

    assert Point("a", "sum", True, 3, 0, 9, {}, {}, "s") == points[0]
    assert Point("b", "gauge", False, 1.5, 1, 0, {}, {}, "s") == points[1]
    assert ("c", "histogram", PLAIN) == (points[2].metric, points[2].kind, points[2].attributes)
    assert points == fromjson.points(as_otlp_json(request))


def test_ids_in_json_are_hex_and_anything_else_is_none() -> None:
    span = {"traceId": "AB" * 16, "spanId": "q6urq6urq6s=", "startTimeUnixNano": "12", "endTimeUnixNano": 13}
    (found,) = fromjson.spans(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())

    assert ("ab" * 16, "", 12, 13) == (found.trace_id, found.span_id, found.start_ns, found.end_ns)


def test_values_inside_values_end_at_a_depth() -> None:
    value = AnyValue(string_value="deep")
    for _ in range(VALUE_DEPTH_MAX + 3):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(attributes=[KeyValue(key="k", value=value)])
    for found in (
        fromproto.spans(request.SerializeToString()),
        fromjson.spans(as_otlp_json(MessageToDict(request))),
    ):
        assert repr(found[0].attributes["k"]).count("[") == VALUE_DEPTH_MAX
        assert "deep" not in repr(found)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"resourceSpans":' * 50_000, b"\xff" * 50, b'{"resourceLogs": [{}'])
@pytest.mark.parametrize("read", READERS)
def test_bytes_that_are_no_request_raise_value_errors(read: Any, body: bytes) -> None:
    if read.__module__.endswith("fromproto") or body.startswith(b"["):
        with pytest.raises(ValueError, match="no "):
            read(body)
    else:
        try_to_read(read, body)


@given(st.binary(max_size=300), st.sampled_from(READERS))
def test_any_bytes_are_read_or_refused(body: bytes, read: Any) -> None:
    try_to_read(read, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.sampled_from(READERS[3:]))
def test_any_json_is_read_or_refused(value: Any, read: Any) -> None:
    try_to_read(read, json.dumps({"resourceSpans": value, "resourceLogs": value, "resourceMetrics": value}).encode())


def try_to_read(read: Any, body: bytes) -> None:
    """Read, or raise ValueError; anything else fails the test."""
    try:
        found = read(body)
    except ValueError:
        return
    assert isinstance(found, list)
