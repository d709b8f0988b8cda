"""What became of a scripted run, whichever framework ran it: calls by how they ended, tokens, errors.

The same script gives the same ledger in every framework; what a framework cannot tell is missing on both sides.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from streams.event.codec import decode_one
from streams.event.model import (
    AgentEnd,
    AgentStart,
    Envelope,
    Event,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.event.tokens import Usage
from streams.feed.encode import Encoded, encode_event

PAIRS: Final = ((AgentStart, AgentEnd), (ModelStart, ModelEnd), (ToolStart, ToolEnd))


class Collected:
    """Takes events as an emitter would, and makes sure that a worker would accept them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Envelope) -> None:
        encoded = encode_event(event, source=b'"test"', seq=len(self.events), redactor=None)
        assert isinstance(encoded, Encoded), event
        self.events.append(decode_one(encoded.part))

    def of(self, kind: type[Envelope]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]

    def only(self, kind: type[Envelope]) -> Any:
        [event] = self.of(kind)
        return event

    def story(self) -> list[str]:
        return [brief(each) for each in self.events]


def brief(event: Event) -> str:
    """Say the kind and the name of what it is about, and how it ended unless well."""
    about = getattr(event, "tool", None) or getattr(event, "model", None) or event.agent
    status = getattr(event, "status", "success")
    return f"{type(event).__name__} {about}" + ("" if status == "success" else f" {status}")


class Ledger(NamedTuple):
    """Calls by how they ended, the tokens of the leaves, what kinds of errors the ends name, and how calls lie."""

    requests: dict[str, int]
    models: dict[str, int]
    tools: dict[tuple[str, str], int]
    tokens: Usage
    errors: dict[str, int]
    inside: dict[str, str] = {}  # noqa: RUF012  a default that nobody changes: agents and tools inside a tool, by which
    together: frozenset[str] = frozenset()  # tools that one answer asked for


USAGE: Final = Usage(100, 20, 40, 0, 5)
# Four answers of 100 and 20 tokens around three tool calls, of which the second fails and the third is the same again;
# then a request whose model is out of order; then one whose stream is given up.
LEDGER: Final = Ledger(
    requests={"success": 1, "error": 1, "cancelled": 1},
    models={"success": 4, "error": 1, "cancelled": 1},
    tools={("add", "success"): 1, ("flaky", "error"): 1, ("flaky", "success"): 1},
    tokens=Usage(400, 80, 160, 0, 20),
    errors={"tool_error": 1, "other": 2},
)
# An answer that asks for two tools at once, of which one asks a server that answers that it has failed; one that asks
# for a tool that asks another agent; that agent's answer, and the last.
WOVEN: Final = Ledger(
    requests={"success": 2},
    models={"success": 4},
    tools={("add", "success"): 1, ("forecast", "error"): 1, ("ask", "success"): 1},
    tokens=Usage(400, 80, 160, 0, 20),
    errors={"tool_error": 1},
    inside={"expert": "ask"},
    together=frozenset({"add", "forecast"}),
)


class Untold(NamedTuple):
    """What a framework cannot tell, and how that is known."""

    what: str
    why: str


_NO_AGENTS: Final = "it knows no agents"
UNTOLD: Final[dict[str, tuple[Untold, ...]]] = {
    "langchain": (),
    "pydantic_ai": (),
    "strands": (Untold("reasoning tokens", "strands.types.event_loop.Usage has no field for them"),),
    "openai_agents": (
        Untold("who is asked together", "agents.tracing.FunctionSpanData has no id of the call that a model asked for"),
    ),
    "crewai": (
        Untold("streams given up", "its bus has events for calls that end or fail, and none for those cut short"),
        Untold("who is asked together", "ToolUsageStartedEvent has no id of the call that a model asked for"),
    ),
    "litellm": (
        Untold("requests", _NO_AGENTS),
        Untold("tools", "the caller runs them"),
        Untold("streams given up", "CustomStreamWrapper calls its success handler at the stream's end, or not at all"),
    ),
    "mcp": (Untold("requests", _NO_AGENTS), Untold("models", "the protocol's calls are those of tools")),
}


def _less(errors: dict[str, int], name: str, count: int) -> dict[str, int]:
    return dict(Counter(errors) - Counter({name: count}))


_LEFT_OUT: Final[dict[str, Callable[[Ledger], Ledger]]] = {
    "reasoning tokens": lambda told: told._replace(tokens=told.tokens._replace(reasoning_tokens=0)),
    "who is asked together": lambda told: told._replace(together=frozenset()),
    "streams given up": lambda told: told._replace(
        requests={status: count for status, count in told.requests.items() if status != "cancelled"},
        models={status: count for status, count in told.models.items() if status != "cancelled"},
    ),
    "requests": lambda told: told._replace(
        requests={}, inside={}, errors=_less(told.errors, "other", told.requests.get("error", 0))
    ),
    "tools": lambda told: told._replace(
        tools={}, together=frozenset(), errors={name: n for name, n in told.errors.items() if name != "tool_error"}
    ),
    "models": lambda told: told._replace(
        models={}, tokens=Usage(), together=frozenset(), errors=_less(told.errors, "other", told.models.get("error", 0))
    ),
}


def told_by(adapter: str, ledger: Ledger) -> Ledger:
    """Return what an adapter can tell of a ledger."""
    for untold in UNTOLD[adapter]:
        ledger = _LEFT_OUT[untold.what](ledger)
    return ledger


def ledger_of(out: Collected) -> Ledger:
    """Fold the events, having made sure that they are whole: each begins and ends once, and has a place."""
    assert len({each.id for each in out.events}) == len(out.events)
    for start, end in PAIRS:
        began = [each.call_id for each in out.of(start)]
        assert sorted(began) == sorted(each.call_id for each in out.of(end)) == sorted(set(began))
    calls = {each.call_id for each in out.events}
    assert {each.parent_id for each in out.events} - {None} <= calls
    leaves = [each for each in out.of(TokenUsage) if each.scope == "leaf"]
    models = [each.call_id for each in out.of(ModelEnd)]
    assert all(models.count(each.call_id) == 1 for each in leaves)
    ends = [each for _, end in PAIRS for each in out.of(end)]
    tool_of = {each.call_id: each.tool for each in out.of(ToolEnd)}
    inner = {each.agent: each.parent_id for each in out.of(AgentEnd)}
    inner |= {each.tool: each.parent_id for each in out.of(ToolEnd)}
    return Ledger(
        dict(Counter(each.status for each in out.of(AgentEnd))),
        dict(Counter(each.status for each in out.of(ModelEnd))),
        dict(Counter((each.tool, each.status) for each in out.of(ToolEnd))),
        Usage(*(sum(getattr(each, name) for each in leaves) for name in Usage._fields)),
        dict(Counter(each.attributes["error_type"] for each in ends if each.attributes)),
        {name: tool_of[around] for name, around in inner.items() if around in tool_of},
        _together(out),
    )


def plain(ledger: Ledger) -> dict[str, Any]:
    """Say a ledger as JSON can, for programs of other environments."""
    tools = sorted([*key, count] for key, count in ledger.tools.items())
    return {**ledger._asdict(), "tools": tools, "tokens": list(ledger.tokens), "together": sorted(ledger.together)}


def inside(out: Collected) -> list[list[str]]:
    """Say of every beginning what it is inside of."""
    starts = [each for each in out.events if isinstance(each, AgentStart | ModelStart | ToolStart)]
    names = {each.call_id: brief(each).partition(" ")[2] for each in starts}
    return [[names[each.call_id], names.get(each.parent_id or "", "")] for each in starts]


def _together(out: Collected) -> frozenset[str]:
    grouped = [each for each in out.of(ToolEnd) if each.parallel_group is not None]
    assert {each.parallel_group for each in grouped} <= {each.call_id for each in out.of(ModelEnd)}
    return frozenset(each.tool for each in grouped)
