"""An agent of the OpenAI Agents SDK whose runs, model calls and tools arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[openai-agents]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python openai_agents_agent.py

With a real model only `Scripted` goes: `Agent(name="planner", model="gpt-5", tools=[weather])`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool, set_trace_processors
from agents.tracing import generation_span
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from streams.feed import Emitter
from streams.feed.adapters.openai_agents import AgentStreamsProcessor

ANSWERS: list[Any] = [
    ResponseFunctionToolCall(type="function_call", call_id="call-1", name="weather", arguments='{"city":"Lisbon"}'),
    ResponseOutputMessage(
        id="message-1",
        type="message",
        role="assistant",
        status="completed",
        content=[ResponseOutputText(type="output_text", text="It rains in Lisbon: take a coat.", annotations=[])],
    ),
]


class Scripted(Model):
    """A model that says what it is told to, and tells the trace about it as the SDK's own models do."""

    def __init__(self) -> None:
        self._answers = iter(ANSWERS)

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        """Return the next answer."""
        with generation_span(model="scripted-1") as span:
            span.span_data.usage = {"input_tokens": 210, "output_tokens": 18}
            usage = Usage(requests=1, input_tokens=210, output_tokens=18, total_tokens=228)
            return ModelResponse(output=[next(self._answers)], usage=usage, response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Refuse: this example does not stream."""
        raise NotImplementedError("run it with Runner.run")


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        # Instead of the SDK's own processor, which sends traces to OpenAI; add_trace_processor keeps both.
        set_trace_processors([AgentStreamsProcessor(emitter)])
        agent = Agent(name="planner", model=Scripted(), tools=[weather])
        asking = Runner.run(agent, "What shall I wear in Lisbon?", run_config=RunConfig(group_id="example-1"))
        answer = asyncio.run(asking)
        print(answer.final_output)
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
