"""A LangChain agent whose requests, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[langchain]' langchain
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python langchain_agent.py

With a real model only `Scripted` goes: `create_agent("openai:gpt-5", tools, name="planner")`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from streams.feed import Emitter
from streams.feed.adapters.langchain import AgentStreamsCallback


class Scripted(FakeMessagesListChatModel):
    """A model that says what it is told to, and binds tools by ignoring them."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> "Scripted":  # noqa: ARG002  as the base class
        """Return itself."""
        return self


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


@tool
def clothes(weather: str) -> str:
    """Tell what to wear."""
    return "a coat" if "rain" in weather else "a hat"


ANSWERS = [
    AIMessage(
        "",
        tool_calls=[{"name": "weather", "args": {"city": "Lisbon"}, "id": "call-1"}],
        usage_metadata={"input_tokens": 210, "output_tokens": 18, "total_tokens": 228},
        response_metadata={"model_name": "scripted-1", "finish_reason": "tool_calls"},
    ),
    AIMessage(
        "",
        tool_calls=[{"name": "clothes", "args": {"weather": "rain"}, "id": "call-2"}],
        usage_metadata={"input_tokens": 240, "output_tokens": 15, "total_tokens": 255},
        response_metadata={"model_name": "scripted-1", "finish_reason": "tool_calls"},
    ),
    AIMessage(
        "It rains in Lisbon: take a coat.",
        usage_metadata={"input_tokens": 260, "output_tokens": 9, "total_tokens": 269},
        response_metadata={"model_name": "scripted-1", "finish_reason": "stop"},
    ),
]


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        agent: Any = create_agent(Scripted(responses=list(ANSWERS)), [weather, clothes], name="planner")
        answer = agent.invoke(
            {"messages": [("user", "What shall I wear in Lisbon?")]},
            {"callbacks": [AgentStreamsCallback(emitter)], "configurable": {"thread_id": "example-1"}},
        )
        print(answer["messages"][-1].content)
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
