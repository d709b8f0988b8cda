"""A PydanticAI agent whose runs, model requests and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[pydantic-ai]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python pydantic_ai_agent.py

With a real model only `scripted` goes: `Agent("openai:gpt-5", name="planner", capabilities=[…])`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from streams.feed import Emitter
from streams.feed.adapters.pydantic_ai import AgentStreamsCapability


def scripted(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Ask for the weather, then answer."""
    usage = RequestUsage(input_tokens=210, output_tokens=18)
    if len(messages) == 1:
        return ModelResponse([ToolCallPart("weather", {"city": "Lisbon"})], usage=usage)
    return ModelResponse([TextPart("It rains in Lisbon: take a coat.")], usage=usage)


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        agent = Agent(
            FunctionModel(scripted, model_name="scripted-1"),
            name="planner",
            tools=[weather],
            capabilities=[AgentStreamsCapability(emitter)],
        )
        answer = asyncio.run(agent.run("What shall I wear in Lisbon?", metadata={"session_id": "example-1"}))
        print(answer.output)
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
