"""Which Kafka records is a request of OTLP, and what is answered to it?  Bytes in, bytes out.

Never talks to anybody.  Knows what came before, as far as `streams.event.otel` needs it: one at a time, please.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from streams.event.otel import fromjson, fromproto, logs, points, spans
from streams.event.otel.family import Memory
from streams.event.otel.spans import Translated
from streams.event.otel.strange import Strange
from streams.event.redact import Redactor
from streams.worker.ingest_records import Carried, Signal, pack

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_REASON_CHARS_MAX: Final = 500


class Translator:
    """Turns requests into records; `claude_code` says what counts its tokens: events or metrics."""

    def __init__(self, redactor: Redactor | None, *, claude_code: str = "events") -> None:
        self.strange = Strange()
        self._redactor = redactor
        self._memory = Memory()
        self._by_metrics = claude_code == "metrics"

    def carry(self, signal: Signal, body: bytes, *, as_json: bool) -> Carried:
        """Read a request and make records of it. Raises ValueError when it is none."""
        translated = self._translate(signal, body, fromjson if as_json else fromproto)
        packed = pack(translated.events, self._redactor)
        return Carried(
            packed.records,
            packed.events,
            translated.items,
            translated.rejected,
            translated.reason,
            len(packed.refused),
        )

    def _translate(self, signal: Signal, body: bytes, read: Any) -> Translated:
        if signal is Signal.TRACES:
            return spans.translate(read.spans(body), self._memory, self.strange)
        if signal is Signal.LOGS:
            return logs.translate(read.logs(body), self.strange, tokens=not self._by_metrics)
        return points.translate(read.points(body), self.strange, tokens=self._by_metrics)


def looks_like_json(body: bytes) -> bool:
    """Is this the JSON encoding?  No export request in protobuf begins with a brace."""
    return body[:1] == b"{"


# ---- answers -----------------------------------------------------------------------------------------------------


def _traces(rejected: int, reason: str) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = rejected, reason
    return answer.SerializeToString()


def _logs(rejected: int, reason: str) -> bytes:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records, answer.partial_success.error_message = rejected, reason
    return answer.SerializeToString()


def _metrics(rejected: int, reason: str) -> bytes:
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points, answer.partial_success.error_message = rejected, reason
    return answer.SerializeToString()


_ANSWERS: Final[Mapping[Signal, tuple[Callable[[int, str], bytes], str]]] = {
    Signal.TRACES: (_traces, "rejectedSpans"),
    Signal.LOGS: (_logs, "rejectedLogRecords"),
    Signal.METRICS: (_metrics, "rejectedDataPoints"),
}


def answer(signal: Signal, carried: Carried, *, as_json: bool) -> bytes:
    """Return the body of a success: empty when everything was taken, else what was not and why."""
    if not carried.rejected:
        return b"{}" if as_json else b""
    make, field = _ANSWERS[signal]
    if as_json:
        said = {field: str(carried.rejected), "errorMessage": carried.reason}
        return msgspec.json.encode({"partialSuccess": said})
    return make(carried.rejected, carried.reason)


def failure(code: int, reason: str, *, as_json: bool) -> bytes:
    """Return the body of a failure: a google.rpc.Status, `code` as in gRPC."""
    reason = reason[:_REASON_CHARS_MAX]
    if as_json:
        return msgspec.json.encode({"code": code, "message": reason})
    text = reason.encode()
    # Field 1, a number; field 2, text: the message is small enough to write by hand.
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
