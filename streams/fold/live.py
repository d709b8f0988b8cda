"""A session's row while events are folded into it: `SessionRow` is its stored form, this is the one that changes.

Never knows a partition, a topic or a rule.  Rows are changed in place: a row is loaded, folded into and packed again,
and whoever fails in between throws the whole partition away.

This file and its neighbours on the path of every event can be compiled (see pyproject.toml); then an attribute is a
field of a C structure and a count is a machine word.  As plain Python they do the same, slower.
"""

from typing import Any

import msgspec

from streams.fold.dedup import MARKS_MAX, Mark
from streams.fold.packing import pack as packed
from streams.fold.session import OVERFLOW, PANES_MAX, TOOLS_MAX, Account, SessionRow, decode, pack
from streams.fold.streamtime import MINUTE_MS
from streams.fold.trail import LiveTrail, live_trail


class LivePane:
    """One minute of a session, by event time; the fields of `session.Pane`."""

    __slots__ = (
        "cost_nano_usd", "errors", "events", "input_tokens", "model_calls", "model_errors", "output_tokens", "packed",
        "request_errors", "requests", "start_ms", "tool_calls", "tool_errors",
    )  # fmt: skip

    def __init__(self, start_ms: int) -> None:
        self.start_ms: int = start_ms
        self.events: int = 0
        self.errors: int = 0
        self.requests: int = 0
        self.request_errors: int = 0
        self.model_calls: int = 0
        self.model_errors: int = 0
        self.tool_calls: int = 0
        self.tool_errors: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.cost_nano_usd: int = 0
        self.packed: Any = None  # as stored, while nothing has changed and a newer minute has begun

    def values(self) -> tuple[int, ...]:
        """Return the fields in the order they are stored in."""
        return (
            self.start_ms, self.events, self.errors, self.requests, self.request_errors, self.model_calls,
            self.model_errors, self.tool_calls, self.tool_errors, self.input_tokens, self.output_tokens,
            self.cost_nano_usd,
        )  # fmt: skip


class LiveTool:
    """What one session did with one tool; the fields of `session.ToolTotals`."""

    __slots__ = ("calls", "duration_us", "errors")

    def __init__(self, calls: int, errors: int, duration_us: int) -> None:
        self.calls: int = calls
        self.errors: int = errors
        self.duration_us: int = duration_us


class LiveCall:
    """A call in flight: its family, the labels its start gave it, and when it started (ms)."""

    __slots__ = ("agent", "family", "name", "provider", "started_ms", "tenant")

    def __init__(
        self, family: int, agent: str, tenant: str | None, name: str | None, provider: str | None, started_ms: int
    ) -> None:
        self.family: int = family
        self.agent: str = agent
        self.tenant: str | None = tenant
        self.name: str | None = name
        self.provider: str | None = provider
        self.started_ms: int = started_ms

    def values(self) -> tuple[int, str, str | None, str | None, str | None, int]:
        """Return the fields in the order they are stored in."""
        return self.family, self.agent, self.tenant, self.name, self.provider, self.started_ms


class LiveRow:
    """All that is known of a session; the fields of `SessionRow`, and whether it changed since it was packed last."""

    __slots__ = (
        "abandoned", "agent", "beats", "begun", "cache_read_tokens", "cache_write_tokens", "cost_nano_usd", "cycles",
        "dirty", "end_reason", "ended_ms", "errors", "events", "heartbeats", "incarnation", "input_tokens", "last_ms",
        "late", "ledger", "marks", "model_calls", "model_errors", "model_us", "open", "output_tokens", "panes",
        "reasoning_tokens", "request_errors", "request_us", "requests", "seen_ms", "stamp", "started_ms", "tenant",
        "tool_calls", "tool_errors", "tool_us", "tools", "trail", "unmatched", "unpriced", "user_id",
    )  # fmt: skip

    def __init__(
        self, agent: str, tenant: str | None, user_id: str | None, started_ms: int, last_ms: int, seen_ms: int
    ) -> None:
        self.agent: str = agent
        self.tenant: str | None = tenant
        self.user_id: str | None = user_id
        self.started_ms: int = started_ms
        self.last_ms: int = last_ms
        self.seen_ms: int = seen_ms
        self.incarnation: int = 1
        self.ended_ms: int = 0
        self.end_reason: str | None = None
        self.stamp: int = -1
        self.events: int = 0
        self.late: int = 0
        self.errors: int = 0
        self.requests: int = 0
        self.request_errors: int = 0
        self.model_calls: int = 0
        self.model_errors: int = 0
        self.tool_calls: int = 0
        self.tool_errors: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.cache_read_tokens: int = 0
        self.cache_write_tokens: int = 0
        self.reasoning_tokens: int = 0
        self.cost_nano_usd: int = 0
        self.unpriced: int = 0
        self.heartbeats: int = 0
        self.abandoned: int = 0
        self.unmatched: int = 0
        self.request_us: int = 0
        self.model_us: int = 0
        self.tool_us: int = 0
        self.tools: dict[str, LiveTool] = {}
        self.open: dict[str, LiveCall] = {}
        self.marks: dict[str, Mark] = {}
        self.panes: list[LivePane] = []
        self.ledger: dict[str, Account] = {}
        self.cycles: int = 0
        self.begun: dict[str, tuple[int, int, int]] = {}
        self.trail: LiveTrail | None = None
        self.beats: dict[str, int] = {}
        self.dirty: bool = False

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the order they are stored in."""
        return (
            self.agent, self.tenant, self.user_id, self.started_ms, self.last_ms, self.seen_ms, self.incarnation,
            self.ended_ms, self.end_reason, self.stamp, self.events, self.late, self.errors, self.requests,
            self.request_errors, self.model_calls, self.model_errors, self.tool_calls, self.tool_errors,
            self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens,
            self.reasoning_tokens, self.cost_nano_usd, self.unpriced, self.heartbeats, self.abandoned, self.unmatched,
            self.request_us, self.model_us, self.tool_us,
            {name: (tool.calls, tool.errors, tool.duration_us) for name, tool in self.tools.items()},
            {call_id: call.values() for call_id, call in self.open.items()},
            {source: mark.values() for source, mark in self.marks.items()},
            self._packed_panes(), self.ledger, self.cycles, self.begun,
            None if self.trail is None else self.trail.values(), self.beats,
        )  # fmt: skip

    def _packed_panes(self) -> list[Any]:
        """Return the minutes as stored: all but the newest rarely change, and are packed once."""
        found: list[Any] = []
        last = len(self.panes) - 1
        for at in range(last):
            pane = self.panes[at]
            if pane.packed is None:
                pane.packed = msgspec.Raw(packed(pane.values()))
            found.append(pane.packed)
        if last >= 0:
            found.append(self.panes[last].values())
        return found

    def pack(self) -> bytes:
        """Return the row as stored."""
        return pack(self.values(), self.ended_ms != 0, bool(self.open), self.stamp, self.seen_ms)

    def pane_at(self, event_ms: int) -> LivePane:
        """Return the minute of a moment, opening it when needed; the oldest minute goes when there are too many."""
        start_ms = event_ms - event_ms % MINUTE_MS
        panes = self.panes
        at = len(panes)
        while at > 0:
            known = panes[at - 1]
            if known.start_ms == start_ms:
                known.packed = None
                return known
            if known.start_ms < start_ms:
                break
            at -= 1
        pane = LivePane(start_ms)
        panes.insert(at, pane)
        if len(panes) > PANES_MAX:
            del panes[0]
        return pane

    def tool(self, name: str) -> LiveTool:
        """Return the numbers of one tool, or of the overflow beyond TOOLS_MAX tools."""
        tool = self.tools.get(name)
        if tool is None:
            if len(self.tools) >= TOOLS_MAX:
                name = OVERFLOW
                tool = self.tools.get(name)
            if tool is None:
                tool = self.tools[name] = LiveTool(0, 0, 0)
        return tool

    def mark(self, source: str, seq: int) -> int:
        """Open the mark of a source seen for the first time; returns how many marks were forgotten for it (0 or 1)."""
        self.marks[source] = Mark(seq, 1)
        if len(self.marks) <= MARKS_MAX:
            return 0
        del self.marks[next(iter(self.marks))]
        return 1

    def successor(self, event_ms: int, seen_ms: int) -> "LiveRow":
        """Return the row of the next incarnation of an ended session: new counters, the same marks."""
        row = LiveRow(self.agent, self.tenant, self.user_id, event_ms, event_ms, seen_ms)
        row.incarnation = self.incarnation + 1
        row.stamp = self.stamp
        row.marks = self.marks
        return row


def unpack(stored: bytes) -> LiveRow:
    """Read a stored row; raises msgspec.MsgspecError or ValueError."""
    return live(decode(stored))


def live(row: SessionRow) -> LiveRow:
    """Make a row one that can be folded into."""
    found = LiveRow(row.agent, row.tenant, row.user_id, row.started_ms, row.last_ms, row.seen_ms)
    found.incarnation = row.incarnation
    found.ended_ms = row.ended_ms
    found.end_reason = row.end_reason
    found.stamp = row.stamp
    found.events = row.events
    found.late = row.late
    found.errors = row.errors
    found.requests = row.requests
    found.request_errors = row.request_errors
    found.model_calls = row.model_calls
    found.model_errors = row.model_errors
    found.tool_calls = row.tool_calls
    found.tool_errors = row.tool_errors
    found.input_tokens = row.input_tokens
    found.output_tokens = row.output_tokens
    found.cache_read_tokens = row.cache_read_tokens
    found.cache_write_tokens = row.cache_write_tokens
    found.reasoning_tokens = row.reasoning_tokens
    found.cost_nano_usd = row.cost_nano_usd
    found.unpriced = row.unpriced
    found.heartbeats = row.heartbeats
    found.abandoned = row.abandoned
    found.unmatched = row.unmatched
    found.request_us = row.request_us
    found.model_us = row.model_us
    found.tool_us = row.tool_us
    found.tools = {name: LiveTool(tool.calls, tool.errors, tool.duration_us) for name, tool in row.tools.items()}
    found.open = {call_id: LiveCall(*call) for call_id, call in row.open.items()}
    found.marks = {source: Mark(mark[0], mark[1]) for source, mark in row.marks.items()}
    found.cycles = row.cycles
    found.begun = dict(row.begun)
    found.panes = [_live_pane(pane.start_ms, pane) for pane in row.panes]
    found.ledger = row.ledger
    found.trail = None if row.trail is None else live_trail(row.trail)
    found.beats = dict(row.beats)
    return found


def _live_pane(start_ms: int, pane: Any) -> LivePane:
    found = LivePane(start_ms)
    found.events = pane.events
    found.errors = pane.errors
    found.requests = pane.requests
    found.request_errors = pane.request_errors
    found.model_calls = pane.model_calls
    found.model_errors = pane.model_errors
    found.tool_calls = pane.tool_calls
    found.tool_errors = pane.tool_errors
    found.input_tokens = pane.input_tokens
    found.output_tokens = pane.output_tokens
    found.cost_nano_usd = pane.cost_nano_usd
    return found
