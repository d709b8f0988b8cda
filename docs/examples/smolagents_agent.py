"""An agent of smolagents whose runs, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[smolagents]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python smolagents_agent.py

With a real model only `Scripted` goes: `ToolCallingAgent(tools=[weather], model=OpenAIModel("gpt-5"))`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

from typing import Any

from smolagents import LogLevel, Model, ToolCallingAgent, tool
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole, TokenUsage

from streams.feed import Emitter
from streams.feed.adapters.smolagents import watch

ASK = ("weather", {"city": "Lisbon"})
ANSWER = ("final_answer", {"answer": "It rains in Lisbon: take a coat."})


class Scripted(Model):  # type: ignore[misc]  # as a checker without smolagents sees it
    """A model that asks for what it is told to."""

    def __init__(self, *asks: tuple[str, dict[str, str]]) -> None:
        super().__init__(model_id="scripted-1")
        self.asks = list(asks)

    def generate(self, *_: Any, **__: Any) -> ChatMessage:
        """Ask for the next tool."""
        name, arguments = self.asks.pop(0)
        function = ChatMessageToolCallFunction(name=name, arguments=arguments)
        call = ChatMessageToolCall(id=f"call-{len(self.asks)}", type="function", function=function)
        usage = TokenUsage(input_tokens=210, output_tokens=18)
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call], token_usage=usage)


@tool  # type: ignore[untyped-decorator]  # as above
def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where
    """
    return f"rain in {city}"


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        agent = ToolCallingAgent(
            tools=[weather], model=Scripted(ASK, ANSWER), name="planner", verbosity_level=LogLevel.OFF
        )
        print(watch(agent, emitter, session_id="example-1").run("What shall I wear in Lisbon?"))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
