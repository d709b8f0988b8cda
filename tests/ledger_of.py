"""What became of a scripted run, whichever framework ran it: calls by how they ended, tokens, errors.

The same script gives the same ledger in every framework; what a framework cannot tell is missing on both sides.
"""

from collections import Counter
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
    """Calls by how they ended, the tokens of the leaves, and what kinds of errors the ends name."""

    requests: dict[str, int]
    models: dict[str, int]
    tools: dict[tuple[str, str], int]
    tokens: Usage
    errors: dict[str, int]


# Four answers of 100 and 20 tokens around three tool calls, of which the second fails and the third is the same again;
# then a request whose model is out of order; then one whose stream is given up.
USAGE: Final = Usage(100, 20, 40, 0, 5)
LEDGER: Final = Ledger(
    requests={"success": 1, "error": 1, "cancelled": 1},
    models={"success": 4, "error": 1, "cancelled": 1},
    tools={("add", "success"): 1, ("flaky", "error"): 1, ("flaky", "success"): 1},
    tokens=Usage(400, 80, 160, 0, 20),
    errors={"tool_error": 1, "other": 2},
)


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
    return Ledger(
        dict(Counter(each.status for each in out.of(AgentEnd))),
        dict(Counter(each.status for each in out.of(ModelEnd))),
        dict(Counter((each.tool, each.status) for each in out.of(ToolEnd))),
        Usage(*(sum(getattr(each, name) for each in leaves) for name in Usage._fields)),
        dict(Counter(each.attributes["error_type"] for each in ends if each.attributes)),
    )


def plain(ledger: Ledger) -> dict[str, Any]:
    """Say a ledger as JSON can, for programs of other environments."""
    tools = sorted([*key, count] for key, count in ledger.tools.items())
    return {**ledger._asdict(), "tools": tools, "tokens": list(ledger.tokens)}


def inside(out: Collected) -> list[list[str]]:
    """Say of every beginning what it is inside of."""
    starts = [each for each in out.events if isinstance(each, AgentStart | ModelStart | ToolStart)]
    names = {each.call_id: brief(each).partition(" ")[2] for each in starts}
    return [[names[each.call_id], names.get(each.parent_id or "", "")] for each in starts]
