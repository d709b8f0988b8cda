"""Which spans of a request enclose which, and what do they know of one another: session, agent, what counts twice?

Sessions are decided by one request alone, so that an exporter that sends it again names the same: they choose the
partition, and only there a repetition is known.  What encloses what may also be remembered from requests before.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from streams.event.otel import words
from streams.event.otel.roles import Role, is_served, role_of
from streams.event.otel.wire import Span

DEPTH_MAX: Final = 64  # of spans within spans; what is further out is not asked
REMEMBERED_MAX: Final = 20_000  # spans, and traces; about 8 MB
_NOTHING: Final[frozenset[str]] = frozenset()


class Memory:
    """What was seen in requests before, bounded: the oldest is forgotten first."""

    __slots__ = ("_agents", "_around", "_inside")

    def __init__(self) -> None:
        self._around: dict[tuple[str, str], frozenset[str]] = {}
        self._inside: dict[tuple[str, str], frozenset[str]] = {}
        self._agents: dict[str, str] = {}

    def enclose(self, span_id: str, trace_id: str, what: AbstractSet[str]) -> None:
        """Note that this span encloses calls: of a model, or of tools by their names."""
        _remember(self._around, (trace_id, span_id), self.enclosed(span_id, trace_id) | what)

    def enclosed(self, span_id: str, trace_id: str) -> AbstractSet[str]:
        """Return which calls this span encloses."""
        return self._around.get((trace_id, span_id), _NOTHING)

    def hold(self, span_id: str, trace_id: str, what: AbstractSet[str]) -> None:
        """Note that this span is, or is inside, calls of tools that were counted."""
        _remember(self._inside, (trace_id, span_id), frozenset(what))

    def inside(self, span_id: str, trace_id: str) -> AbstractSet[str]:
        """Return which calls that were counted this span is, or is inside."""
        return self._inside.get((trace_id, span_id), _NOTHING)

    def name_agent(self, trace_id: str, agent: str) -> None:
        """Note who works in a trace."""
        _remember(self._agents, trace_id, agent)

    def agent(self, trace_id: str) -> str | None:
        """Return who works in a trace."""
        return self._agents.get(trace_id)


def _remember(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > REMEMBERED_MAX:
        del kept[next(iter(kept))]


class Family:
    """The spans of one request, by their ids."""

    def __init__(self, spans: Sequence[Span], memory: Memory) -> None:
        self._memory = memory
        self._spans = {(span.trace_id, span.span_id): span for span in spans}
        self._roles = {key: role_of(span) for key, span in self._spans.items()}
        self._sessions: dict[str, set[str]] = {}
        for span in spans:
            if named := words.first(span.attributes, words.SESSION):
                self._sessions.setdefault(span.trace_id, set()).add(str(named))
            if agent := words.first(span.attributes, words.AGENT):
                memory.name_agent(span.trace_id, str(agent))
        for span in spans:
            if is_served(span) and _what(span, Role.TOOL) in memory.inside(span.parent_id, span.trace_id):
                self._roles[span.trace_id, span.span_id] = Role.AROUND  # its caller has told of it
        for span in spans:
            self._enclose(span)
        for span in sorted(spans, key=lambda each: each.start_ns):  # what encloses others begins before them
            self._hold(span)

    def role(self, span: Span) -> Role:
        """Tell what a span is: one that encloses another of the same call only encloses."""
        role = self._roles[span.trace_id, span.span_id]
        what = _what(span, role)
        return Role.AROUND if what and what in self._memory.enclosed(span.span_id, span.trace_id) else role

    def is_doubled(self, span: Span) -> bool:
        """Is this a call of a model that a span inside it tells of too?"""
        return self._roles[span.trace_id, span.span_id] is Role.MODEL and self.role(span) is Role.AROUND

    def session(self, span: Span) -> str:
        """Return the session: the span's own, that of what encloses it, the trace's only one, or the trace itself."""
        for each in (span, *self._above(span)):
            if named := words.first(each.attributes, words.SESSION):
                return str(named)
        known = self._sessions.get(span.trace_id, set())
        if len(known) == 1:
            return next(iter(known))
        return str(words.first(span.resource, words.SESSION) or span.trace_id)

    def agent(self, span: Span) -> str:
        """Return who works: the span's own name for it, that of what encloses it, the trace's, or the service."""
        for each in (span, *self._above(span)):
            if named := words.first(each.attributes, words.AGENT):
                return str(named)
        return self._memory.agent(span.trace_id) or service_of(span.resource)

    def about(self, span: Span, names: tuple[str, ...]) -> str | None:
        """Return what a span, or what encloses it, says under one of these names."""
        for each in (span, *self._above(span)):
            if named := words.first(each.attributes, names):
                return str(named)
        named = words.first(span.resource, names)
        return None if named is None else str(named)

    def parent(self, span: Span) -> str | None:
        """Return the nearest span around this one that is a call of its own; unknown, the one right around it."""
        for each in self._above(span):
            if self.role(each) in {Role.AGENT, Role.TOOL, Role.MODEL} or self.is_doubled(each):
                return each.span_id
        return span.parent_id or None

    def _above(self, span: Span) -> Iterator[Span]:
        """Yield what encloses a span, as far as it came with it, the nearest first."""
        for _ in range(DEPTH_MAX):
            found = self._spans.get((span.trace_id, span.parent_id)) if span.parent_id else None
            if found is None:
                return
            yield found
            span = found

    def _enclose(self, span: Span) -> None:
        """Let everything right around a call know that it tells of the same, up to where another call begins."""
        role = self._roles[span.trace_id, span.span_id]
        own = _what(span, role)
        # What came before may have told what is inside a span that is no call itself.
        inside = frozenset({own}) if own else self._memory.enclosed(span.span_id, span.trace_id)
        if not inside or not span.parent_id or role is Role.AGENT:
            return
        last = span
        for each in self._above(span):
            role = self._roles[each.trace_id, each.span_id]
            if role is Role.AGENT or (role in {Role.MODEL, Role.TOOL} and _what(each, role) not in inside):
                return
            self._memory.enclose(each.span_id, each.trace_id, inside)
            last = each
        if last.parent_id:
            self._memory.enclose(last.parent_id, last.trace_id, inside)

    def _hold(self, span: Span) -> None:
        """Let servers that tell of a tool's call later know that it was counted."""
        role = self.role(span)
        if role is Role.TOOL:
            self._memory.hold(span.span_id, span.trace_id, {_what(span, role)})
        elif role not in {Role.AGENT, Role.MODEL} and (around := self._memory.inside(span.parent_id, span.trace_id)):
            self._memory.hold(span.span_id, span.trace_id, around)


def _what(span: Span, role: Role) -> str:
    """Name the call a span tells of, so that two of the same are known: any model is one, a tool has its name."""
    if role is Role.MODEL:
        return "model"
    return f"tool/{tool_of(span)}" if role is Role.TOOL else ""


def tool_of(span: Span) -> str:
    """Return the tool's name."""
    return str(words.first(span.attributes, words.TOOL) or span.name.removeprefix("execute_tool ") or "unknown")


def service_of(resource: Any) -> str:
    """Return the service's name, or `agent` when nobody has named one."""
    named = str(resource.get(words.SERVICE) or "")
    return "agent" if not named or named.startswith(words.NO_SERVICE) else named
