"""Export requests in protobuf, read.  Format: OpenTelemetry Protocol 1.x, opentelemetry.proto.collector.*.v1.

Never raises but ValueError, for bytes that are no such message.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogRecordMessage
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from streams.event.otel.wire import FAILED, VALUE_DEPTH_MAX, Attributes, LogRecord, Point, Span, SpanEvent

_M = TypeVar("_M", bound=Message)


def spans(body: bytes) -> list[Span]:
    """Read an export request of traces."""
    return [
        _span(each, resource, scoped.scope.name)
        for resourced in _parsed(ExportTraceServiceRequest, body).resource_spans
        for resource in (_attributes(resourced.resource.attributes),)
        for scoped in resourced.scope_spans
        for each in scoped.spans
    ]


def logs(body: bytes) -> list[LogRecord]:
    """Read an export request of logs."""
    return [
        _log(each, resource, scoped.scope.name)
        for resourced in _parsed(ExportLogsServiceRequest, body).resource_logs
        for resource in (_attributes(resourced.resource.attributes),)
        for scoped in resourced.scope_logs
        for each in scoped.log_records
    ]


def points(body: bytes) -> list[Point]:
    """Read an export request of metrics."""
    return [
        point
        for resourced in _parsed(ExportMetricsServiceRequest, body).resource_metrics
        for resource in (_attributes(resourced.resource.attributes),)
        for scoped in resourced.scope_metrics
        for metric in scoped.metrics
        for point in _points(metric, resource, scoped.scope.name)
    ]


def _parsed(kind: type[_M], body: bytes) -> _M:
    request = kind()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"no {kind.DESCRIPTOR.name} in protobuf") from error
    return request


def _span(span: SpanMessage, resource: Attributes, scope: str) -> Span:
    return Span(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == FAILED,
        span.status.message,
        _attributes(span.attributes),
        [SpanEvent(each.name, each.time_unix_nano, _attributes(each.attributes)) for each in span.events],
        resource,
        scope,
    )


def _log(record: LogRecordMessage, resource: Attributes, scope: str) -> LogRecord:
    return LogRecord(
        record.time_unix_nano or record.observed_time_unix_nano,
        record.event_name,
        _plain(record.body, VALUE_DEPTH_MAX),
        record.trace_id.hex(),
        record.span_id.hex(),
        _attributes(record.attributes),
        resource,
        scope,
    )


def _points(metric: Metric, resource: Attributes, scope: str) -> Iterable[Point]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data: Any = getattr(metric, kind)
    delta = getattr(data, "aggregation_temporality", 0) == AGGREGATION_TEMPORALITY_DELTA
    for point in data.data_points:
        which = point.WhichOneof("value") if kind in {"sum", "gauge"} else None
        value = getattr(point, which) if which else 0
        start_ns, time_ns = point.start_time_unix_nano, point.time_unix_nano
        yield Point(metric.name, kind, delta, value, start_ns, time_ns, _attributes(point.attributes), resource, scope)


def _attributes(pairs: Iterable[KeyValue], depth: int = VALUE_DEPTH_MAX) -> dict[str, Any]:
    return {pair.key: _plain(pair.value, depth) for pair in pairs}


def _plain(value: AnyValue, depth: int) -> Any:
    which = value.WhichOneof("value")
    if which is None or which == "bytes_value" or not depth:
        return None
    if which == "array_value":
        return [_plain(each, depth - 1) for each in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values, depth - 1)
    return getattr(value, which)
