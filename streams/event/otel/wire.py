"""What an export request holds, whichever encoding it came in: spans, log records, points of metrics.

Never judges any of it, and never fails on what it does not know.
Attributes are plain: text, numbers, truth values, lists and mappings of these; bytes are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

VALUE_DEPTH_MAX: Final = 8  # of values inside values; deeper ones are left out
SERVER: Final = 2  # a span's kind
FAILED: Final = 2  # the code of a span's status

Attributes: TypeAlias = Mapping[str, Any]


class SpanEvent(NamedTuple):
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Attributes


class Span(NamedTuple):
    """One span; ids are lower-case hex, "" for none; `end_ns` 0 for one that still goes on."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    failed: bool
    said: str  # the message of its status
    attributes: Attributes
    events: Sequence[SpanEvent]
    resource: Attributes
    scope: str


class LogRecord(NamedTuple):
    """One log record; `event` is its event's name, "" for none."""

    time_ns: int
    event: str
    body: Any
    trace_id: str
    span_id: str
    attributes: Attributes
    resource: Attributes
    scope: str


class Point(NamedTuple):
    """One data point; `value` of a sum or gauge; `kind` is sum, gauge or another that has no one value."""

    metric: str
    kind: str
    delta: bool
    value: float
    start_ns: int
    time_ns: int
    attributes: Attributes
    resource: Attributes
    scope: str
