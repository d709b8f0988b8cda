"""Which numbers does a table show, and how?  One column is a name, a unit and a function of a row.  Pure.

Never rounds what programs read: text is for people, `as_dict` for everybody else.
"""

from collections.abc import Callable, Mapping
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from streams.event.model import CALL_STATUSES, TOOL_STATUSES
from streams.fold.measure import PARTITION_COUNTS
from streams.fold.session import SessionRow
from streams.rule.amount import amount_text
from streams.rule.reading import Unit
from streams.worker.tables import Entry

Value: TypeAlias = int | float | str | None
Row = TypeVar("Row")

SESSION: Final = "session"
NOTHING: Final = "–"
# What a dimension is called when people ask for its table.
PLURALS: Final[Mapping[str, str]] = {
    "tools": "tool",
    "agents": "agent",
    "models": "model",
    "providers": "provider",
    "tenants": "tenant",
    "users": "user",
    "agent-tools": "agent_tool",
    "partitions": "partition",
    "all": "all",
}


class Column(NamedTuple, Generic[Row]):
    """One number of a row, in the unit it is stored in; `now_ms` ends the windows."""

    name: str
    header: str
    value: Callable[[Row, int], Value]
    unit: Unit = "count"

    def text(self, row: Row, now_ms: int) -> str:
        """Write it for people."""
        value = self.value(row, now_ms)
        if value is None:
            return NOTHING
        return value if isinstance(value, str) else amount_text(value, self.unit)

    @property
    def right(self) -> bool:
        """Is it a number, to be aligned right?"""
        return self.name not in {"agent", "state"}


def as_dict(columns: tuple[Column[Row], ...], row: Row, now_ms: int) -> dict[str, Value]:
    """Return a row for programs."""
    return {column.name: column.value(row, now_ms) for column in columns}


# ---- dimensions -------------------------------------------------------------------------------------------------


def _sum(name: str, header: str, *measures: str, unit: Unit = "count") -> Column[Entry]:
    return Column(name, header, lambda entry, _: entry.sum(*measures), unit)


def _ratio(of: tuple[str, ...], to: tuple[str, ...]) -> Column[Entry]:
    def ratio(entry: Entry, _now_ms: int) -> Value:
        calls = entry.sum(*to)
        return entry.sum(*of) / calls if calls else None

    return Column("error_ratio", "errors", ratio, "ratio")


def _quantile(q: float, histogram: str) -> Column[Entry]:
    percent = f"p{q * 100:.0f}"
    return Column(f"{percent}_us", f"{percent} 5m", lambda entry, now_ms: entry.quantile_us(histogram, q, now_ms), "us")


def _in_flight(noun: str) -> Column[Entry]:
    def in_flight(entry: Entry, _now_ms: int) -> Value:
        return entry.sum(f"{noun}_started") - entry.sum(f"{noun}_ended", f"{noun}_abandoned")

    return Column("in_flight", "in flight", in_flight)


def _named(noun: str, statuses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{noun}_{status}" for status in statuses)


_CALLS: Final = _named("tool_calls", TOOL_STATUSES)
_CALL_ERRORS: Final = _named("tool_calls", ("error", "timeout", "validation_error"))
_MODEL_CALLS: Final = _named("model_calls", CALL_STATUSES)
_MODEL_ERRORS: Final = _named("model_calls", ("error", "timeout"))
_REQUESTS: Final = _named("requests", CALL_STATUSES)
_REQUEST_ERRORS: Final = _named("requests", ("error", "timeout"))
_TOKENS: Final = (
    _sum("input_tokens", "tokens in", "input_tokens", unit="tokens"),
    _sum("output_tokens", "tokens out", "output_tokens", unit="tokens"),
    _sum("cost_nano_usd", "cost", "cost_nano_usd", unit="nano_usd"),
)
_TOOL: Final = (
    _sum("calls", "calls", *_CALLS),
    _ratio(_CALL_ERRORS, _CALLS),
    _quantile(0.5, "tool_duration"),
    _quantile(0.95, "tool_duration"),
    _sum("retries", "retries", "tool_retries"),
    _in_flight("tool_calls"),
)
_MODEL: Final = (
    _sum("calls", "calls", *_MODEL_CALLS),
    _ratio(_MODEL_ERRORS, _MODEL_CALLS),
    _quantile(0.5, "model_duration"),
    _quantile(0.95, "model_duration"),
    *_TOKENS,
    _sum("unpriced", "unpriced", "unpriced"),
    _in_flight("model_calls"),
)
_AGENT: Final = (
    _sum("events", "events", "events"),
    _sum("requests", "requests", *_REQUESTS),
    _ratio(_REQUEST_ERRORS, _REQUESTS),
    _quantile(0.95, "request_duration"),
    _sum("model_calls", "model calls", *_MODEL_CALLS),
    _sum("tool_calls", "tool calls", *_CALLS),
    *_TOKENS,
    _in_flight("requests"),
)
_USER: Final = (
    _sum("requests", "requests", "requests"),
    _sum("model_calls", "model calls", "model_calls"),
    _sum("tool_calls", "tool calls", "tool_calls"),
    *_TOKENS,
    _sum("unpriced", "unpriced", "unpriced"),
)
_PARTITION: Final = tuple(_sum(name, name.replace("_", " "), name) for name in PARTITION_COUNTS)
DIMENSION_COLUMNS: Final[Mapping[str, tuple[Column[Entry], ...]]] = {
    "tool": _TOOL,
    "agent_tool": _TOOL,
    "model": _MODEL,
    "provider": _MODEL,
    "agent": _AGENT,
    "tenant": _AGENT,
    "all": _AGENT,
    "partition": _PARTITION,
    "user": _USER,
}


# ---- sessions ---------------------------------------------------------------------------------------------------


def _of(name: str, header: str, unit: Unit = "count", *, field: str | None = None) -> Column[SessionRow]:
    return Column(name, header, lambda row, _: getattr(row, field or name), unit)


def _state(row: SessionRow, _now_ms: int) -> Value:
    return row.end_reason or "ended" if row.ended_ms else "active"


def _seen(row: SessionRow, now_ms: int) -> Value:
    return max(0, now_ms - row.last_ms)


# The most telling first: a narrow terminal shows as many as it has room for.
SESSION_COLUMNS: Final[tuple[Column[SessionRow], ...]] = (
    _of("agent", "agent"),
    Column("state", "state", _state),
    Column("idle_ms", "last seen", _seen, "ms"),
    _of("events", "events"),
    _of("tool_errors", "tool errors"),
    _of("cost_nano_usd", "cost", "nano_usd"),
    _of("tool_calls", "tool calls"),
    _of("input_tokens", "tokens in", "tokens"),
    _of("output_tokens", "tokens out", "tokens"),
    Column("in_flight", "in flight", lambda row, _: len(row.open)),
    _of("requests", "requests"),
    _of("model_calls", "model calls"),
    Column("lasted_ms", "lasted", lambda row, _: row.last_ms - row.started_ms, "ms"),
)
