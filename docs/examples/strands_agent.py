"""A Strands agent whose invocations, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[strands]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python strands_agent.py

With a real model only `Scripted` goes: `Agent(name="planner", tools=[weather], hooks=[AgentStreamsHooks(emitter)])`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

from collections.abc import AsyncIterator
from typing import Any

from strands import Agent, tool
from strands.models import Model

from streams.feed import Emitter
from streams.feed.adapters.strands import AgentStreamsHooks

ASK = {"toolUse": {"name": "weather", "toolUseId": "call-1"}}
ANSWERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (ASK, {"toolUse": {"input": '{"city": "Lisbon"}'}}, "tool_use"),
    ({}, {"text": "It rains in Lisbon: take a coat."}, "end_turn"),
]


class Scripted(Model):
    """A model that says what it is told to."""

    def __init__(self) -> None:
        self._answers = iter(ANSWERS)

    def update_config(self, **_: Any) -> None:
        """Change nothing."""

    def get_config(self) -> dict[str, str]:
        """Return its name."""
        return {"model_id": "scripted-1"}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        """Refuse: this example has none."""
        raise NotImplementedError("ask it for text")

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Stream the next answer."""
        start, delta, reason = next(self._answers)
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}
        yield {"metadata": {"usage": {"inputTokens": 210, "outputTokens": 18, "totalTokens": 228}, "metrics": {}}}


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        hooks: list[Any] = [AgentStreamsHooks(emitter)]
        agent = Agent(Scripted(), name="planner", tools=[weather], hooks=hooks, callback_handler=None)
        answer = agent("What shall I wear in Lisbon?", invocation_state={"session_id": "example-1"})
        print(str(answer).strip())
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
