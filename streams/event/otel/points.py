"""Which events is a point of a metric?  Claude Code's sessions and, where asked for, its tokens.  Pure.

Everything else that metrics of agents say is said by spans and log events, call by call; counted here it would count
twice.  Only what was added since the last export can be counted: a cumulative sum says everything anew each time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from streams.event.model import Envelope, SessionStart, TokenUsage
from streams.event.otel import words
from streams.event.otel.family import service_of
from streams.event.otel.logs import PROVIDER, digest, first_of
from streams.event.otel.spans import Translated
from streams.event.otel.strange import Strange
from streams.event.otel.wire import Point
from streams.event.tokens import canonical

_NS_PER_MS: Final = 1_000_000
_TIME_NS_MAX: Final = 2**63 - 1
SESSIONS: Final = "claude_code.session.count"
TOKENS: Final = "claude_code.token.usage"
# Metrics about agents whose meaning we know, and count by what they are made of.
PASSED_OVER: Final = (
    "claude_code.active_time.", "claude_code.code_edit_tool.", "claude_code.commit.", "claude_code.cost.",
    "claude_code.lines_of_code.", "claude_code.pull_request.", "gen_ai.agent.", "gen_ai.client.",
    "gen_ai.execute_tool.", "gen_ai.invocation.", "gen_ai.invoke_agent.", "gen_ai.invoke_workflow.", "gen_ai.server.",
    "gen_ai.workflow.", "llm.", "mcp.client.", "mcp.server.", "strands.",
)  # fmt: skip
_OURS: Final = ("claude_code.", "gen_ai.", "llm.", "mcp.", "strands.")
CUMULATIVE: Final = (
    f"{TOKENS} and {SESSIONS} are taken as deltas: set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"
)


def translate(points: Sequence[Point], strange: Strange, *, tokens: bool = False) -> Translated:
    """Turn the points of one request into events; with `tokens` Claude Code's metric counts them, not its events."""
    events: list[Envelope] = []
    rejected = 0
    reason = ""
    for point in points:
        make = _EVENTS.get(point.metric)
        if make is None or (point.metric == TOKENS and not tokens):
            _note(point, strange)
        elif point.kind != "sum" or not point.delta:
            rejected, reason = rejected + 1, CUMULATIVE
        elif not 0 < point.time_ns <= _TIME_NS_MAX:
            rejected, reason = rejected + 1, reason or "points without a valid time"
        else:
            events += make(point)
    return Translated(events, len(points), rejected, reason)


def _note(point: Point, strange: Strange) -> None:
    if not point.metric.startswith(_OURS):
        strange.note("scope", point.scope or point.metric)
    elif point.metric not in _EVENTS and not point.metric.startswith(PASSED_OVER):
        strange.note("metric", point.metric)


def _common(point: Point, what: str) -> dict[str, Any]:
    said = {**point.resource, **point.attributes}
    named = digest(f"{point.metric} {point.start_ns} {point.value}", point.time_ns, said)
    return {
        "id": f"{named}-{what}",
        "time": point.time_ns // _NS_PER_MS,
        "agent": first_of(point, words.AGENT) or service_of(point.resource),
        "session_id": first_of(point, words.SESSION),
        "user_id": first_of(point, words.USER),
        "tenant": first_of(point, words.TENANT),
    }


def _session(point: Point) -> Iterator[Envelope]:
    if point.value > 0:
        yield SessionStart(**_common(point, "start"))


def _tokens(point: Point) -> Iterator[Envelope]:
    counted = canonical("claude_code_metric", {str(point.attributes.get("type")): point.value})
    if counted is not None:
        model = str(point.attributes.get("model") or "unknown")
        yield TokenUsage(**_common(point, "usage"), model=model, provider=PROVIDER, **counted.usage._asdict())


_EVENTS: Final[Mapping[str, Callable[[Point], Iterator[Envelope]]]] = {SESSIONS: _session, TOKENS: _tokens}
