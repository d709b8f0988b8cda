"""Which trace stands behind a duration?  The last one per key and flush, told to the second stage with the numbers.

Never a number and never more than one per histogram and key: an exemplar is a hint to a person, and may be lost.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from streams.event.model import AgentEnd, Envelope, ModelEnd, ToolEnd
from streams.fold.rollup import Delta, Exemplar

TRACE_ID_CHARS_MAX: Final = 120  # OpenMetrics allows an exemplar's labels 128 characters, `trace_id` takes eight
# Nothing that has to be escaped: not every reader of OpenMetrics knows how to, and no tracing system needs it.
_TRACE_ID: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{TRACE_ID_CHARS_MAX}}}")
# Keys remembered per flush: as many as have series of their own, with room; the rest of a flush goes without.
KEYS_MAX: Final = 2_000

Key: TypeAlias = tuple[str, tuple[str, ...], str]  # dimension, labels, histogram


class Noted(NamedTuple):
    """One duration of one event, as far as it says where it belongs."""

    agent: str
    name: str
    provider: str | None
    exemplar: Exemplar


class Exemplars:
    """The last traced durations of a flush, by histogram and finest key."""

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[tuple[str, str, str, str | None], Noted] = {}

    def note(self, event: Envelope, event_ms: int) -> None:
        """Remember the trace of an event that ends something; of all others nothing."""
        trace_id = event.trace_id
        if trace_id is None or not _TRACE_ID.fullmatch(trace_id):
            return
        if isinstance(event, ToolEnd):
            self._put("tool_duration", event.agent, event.tool, None, event.duration_ms, trace_id, event_ms)
        elif isinstance(event, ModelEnd):
            name, provider = event.model, event.provider
            self._put("model_duration", event.agent, name, provider, event.duration_ms, trace_id, event_ms)
            if event.first_token_ms is not None:
                self._put("first_token", event.agent, name, provider, event.first_token_ms, trace_id, event_ms)
        elif isinstance(event, AgentEnd):
            self._put("request_duration", event.agent, "", None, event.duration_ms, trace_id, event_ms)

    def _put(
        self,
        histogram: str,
        agent: str,
        name: str,
        provider: str | None,
        duration_ms: float,
        trace_id: str,
        event_ms: int,
    ) -> None:
        noted, key = self._noted, (histogram, agent, name, provider)
        if key in noted or len(noted) < KEYS_MAX:
            exemplar = Exemplar(trace_id, int(duration_ms * 1000 + 0.5), event_ms)  # rounded as the fold does
            noted[key] = Noted(agent, name, provider, exemplar)

    def attach(self, deltas: list[Delta]) -> list[Delta]:
        """Tell each key's first delta the last trace noted for it, and forget everything; return the deltas."""
        if not self._noted:
            return deltas
        last: dict[tuple[str, tuple[str, ...]], dict[str, Exemplar]] = {}
        for (histogram, *_), noted in self._noted.items():
            for place in _places(histogram, noted):
                last.setdefault(place, {})[histogram] = noted.exemplar
        for delta in deltas:
            found = last.pop((delta.dimension, delta.labels), None)
            if found is not None:
                delta.exemplars = found
        self._noted = {}
        return deltas


def _places(histogram: str, noted: Noted) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the keys whose histogram is exported."""
    if histogram == "request_duration":
        yield "agent", (noted.agent,)
    elif histogram == "tool_duration":
        yield "tool", (noted.name,)
        yield "agent_tool", (noted.agent, noted.name)
    else:
        yield "model", (noted.name,)
        if noted.provider is not None:
            yield "provider", (noted.provider,)
