"""Export requests in OTLP's own JSON, read: ids are hex there, 64-bit numbers are text, enumerations are numbers.

Never raises but ValueError, for bytes that are no such document.  Fields nobody knows are passed over.
Format: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding".
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from streams.event.otel.wire import FAILED, VALUE_DEPTH_MAX, LogRecord, Point, Span, SpanEvent

_ID_CHARS: Final = frozenset("0123456789abcdef")
_DELTA: Final = 1  # of the temporalities
_DIGITS_MAX: Final = 20  # of a 64-bit number


class _Value(Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: "_Values | None" = None
    kvlist_value: "_Pairs | None" = None


class _Values(Struct):
    values: Sequence[_Value] = ()


class _Pair(Struct):
    key: str = ""
    value: _Value | None = None


class _Pairs(Struct):
    values: Sequence[_Pair] = ()


class _Named(Struct):
    name: str = ""


class _Resource(Struct):
    attributes: Sequence[_Pair] = ()


class _Event(Struct, rename="camel"):
    name: str = ""
    time_unix_nano: int | str = 0
    attributes: Sequence[_Pair] = ()


class _Status(Struct):
    code: int = 0
    message: str = ""


class _Span(Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: Sequence[_Pair] = ()
    events: Sequence[_Event] = ()
    status: _Status | None = None


class _Log(Struct, rename="camel"):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    event_name: str = ""
    body: _Value | None = None
    trace_id: str = ""
    span_id: str = ""
    attributes: Sequence[_Pair] = ()


class _DataPoint(Struct, rename="camel"):
    attributes: Sequence[_Pair] = ()
    start_time_unix_nano: int | str = 0
    time_unix_nano: int | str = 0
    as_int: int | str | None = None
    as_double: float | str | None = None


class _Data(Struct, rename="camel"):
    data_points: Sequence[_DataPoint] = ()
    aggregation_temporality: int = 0


class _Metric(Struct, rename="camel"):
    name: str = ""
    gauge: _Data | None = None
    sum: _Data | None = None
    histogram: _Data | None = None
    exponential_histogram: _Data | None = None
    summary: _Data | None = None


class _ScopeSpans(Struct):
    scope: _Named | None = None
    spans: Sequence[_Span] = ()


class _ScopeLogs(Struct, rename="camel"):
    scope: _Named | None = None
    log_records: Sequence[_Log] = ()


class _ScopeMetrics(Struct):
    scope: _Named | None = None
    metrics: Sequence[_Metric] = ()


class _ResourceSpans(Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: Sequence[_ScopeSpans] = ()


class _ResourceLogs(Struct, rename="camel"):
    resource: _Resource | None = None
    scope_logs: Sequence[_ScopeLogs] = ()


class _ResourceMetrics(Struct, rename="camel"):
    resource: _Resource | None = None
    scope_metrics: Sequence[_ScopeMetrics] = ()


class _Traces(Struct, rename="camel"):
    resource_spans: Sequence[_ResourceSpans] = ()


class _Logs(Struct, rename="camel"):
    resource_logs: Sequence[_ResourceLogs] = ()


class _Metrics(Struct, rename="camel"):
    resource_metrics: Sequence[_ResourceMetrics] = ()


_T = TypeVar("_T")
_traces: Final = msgspec.json.Decoder(_Traces)
_logs: Final = msgspec.json.Decoder(_Logs)
_metrics: Final = msgspec.json.Decoder(_Metrics)


def spans(body: bytes) -> list[Span]:
    """Read an export request of traces."""
    return [
        _span(each, resource, _name(scoped.scope))
        for resourced in _decoded(_traces, body).resource_spans
        for resource in (_of(resourced.resource),)
        for scoped in resourced.scope_spans
        for each in scoped.spans
    ]


def logs(body: bytes) -> list[LogRecord]:
    """Read an export request of logs."""
    return [
        _log(each, resource, _name(scoped.scope))
        for resourced in _decoded(_logs, body).resource_logs
        for resource in (_of(resourced.resource),)
        for scoped in resourced.scope_logs
        for each in scoped.log_records
    ]


def points(body: bytes) -> list[Point]:
    """Read an export request of metrics."""
    return [
        point
        for resourced in _decoded(_metrics, body).resource_metrics
        for resource in (_of(resourced.resource),)
        for scoped in resourced.scope_metrics
        for metric in scoped.metrics
        for point in _points(metric, resource, _name(scoped.scope))
    ]


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        place = str(error).rpartition(" - at ")[2] if isinstance(error, msgspec.ValidationError) else ""
        raise ValueError(f"no OTLP in JSON{', at ' + place if place else ''}") from error


def _span(span: _Span, resource: dict[str, Any], scope: str) -> Span:
    status = span.status or _Status()
    return Span(
        _id(span.trace_id, 32),
        _id(span.span_id, 16),
        _id(span.parent_span_id, 16),
        span.name,
        span.kind,
        _whole(span.start_time_unix_nano),
        _whole(span.end_time_unix_nano),
        status.code == FAILED,
        status.message,
        _attributes(span.attributes),
        [SpanEvent(each.name, _whole(each.time_unix_nano), _attributes(each.attributes)) for each in span.events],
        resource,
        scope,
    )


def _log(record: _Log, resource: dict[str, Any], scope: str) -> LogRecord:
    return LogRecord(
        _whole(record.time_unix_nano) or _whole(record.observed_time_unix_nano),
        record.event_name,
        None if record.body is None else _plain(record.body, VALUE_DEPTH_MAX),
        _id(record.trace_id, 32),
        _id(record.span_id, 16),
        _attributes(record.attributes),
        resource,
        scope,
    )


def _points(metric: _Metric, resource: dict[str, Any], scope: str) -> Iterator[Point]:
    for kind in ("sum", "gauge", "histogram", "exponential_histogram", "summary"):
        data: _Data | None = getattr(metric, kind)
        for each in data.data_points if data is not None else ():
            value = _whole(each.as_int) if each.as_int is not None else _number(each.as_double)
            delta = data is not None and data.aggregation_temporality == _DELTA
            times = _whole(each.start_time_unix_nano), _whole(each.time_unix_nano)
            yield Point(metric.name, kind, delta, value, *times, _attributes(each.attributes), resource, scope)


def _name(scope: _Named | None) -> str:
    return scope.name if scope is not None else ""


def _of(resource: _Resource | None) -> dict[str, Any]:
    return {} if resource is None else _attributes(resource.attributes)


def _attributes(pairs: Sequence[_Pair], depth: int = VALUE_DEPTH_MAX) -> dict[str, Any]:
    return {pair.key: None if pair.value is None else _plain(pair.value, depth) for pair in pairs}


def _plain(value: _Value, depth: int) -> Any:
    if not depth:
        return None
    if value.array_value is not None:
        return [_plain(each, depth - 1) for each in value.array_value.values]
    if value.kvlist_value is not None:
        return _attributes(value.kvlist_value.values, depth - 1)
    if value.int_value is not None:
        return _whole(value.int_value)
    if value.double_value is not None:
        return _number(value.double_value)
    return value.string_value if value.string_value is not None else value.bool_value


def _id(text: str, chars: int) -> str:
    """Return an id in lower case; "" for what is none."""
    text = text.lower()
    return text if len(text) == chars and _ID_CHARS.issuperset(text) else ""


def _whole(number: int | str) -> int:
    """Read a 64-bit number; 0 for what is none."""
    if isinstance(number, int):
        return number
    digits = number.removeprefix("-")
    return int(number) if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX else 0


def _number(number: float | str | None) -> float:
    """Read a double, which JSON writes as text when it is no number; 0 for those."""
    return number if isinstance(number, int | float) else 0.0
