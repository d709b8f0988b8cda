"""An agent of LlamaIndex whose runs, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[llama-index]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python llama_index_agent.py

With a real model only `Scripted` goes: `FunctionAgent(name="planner", llm=OpenAI("gpt-5"), tools=[weather])`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage, ChatResponse
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.mock import MockFunctionCallingLLM

from streams.feed import Emitter
from streams.feed.adapters.llama_index import AgentStreamsHandler

ASK = ToolSelection(tool_id="call-1", tool_name="weather", tool_kwargs={"city": "Lisbon"})
ANSWERS = [
    ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [ASK]}),
    ChatMessage(role="assistant", content="It rains in Lisbon: take a coat."),
]
RAW = {"model": "scripted-1", "usage": {"prompt_tokens": 210, "completion_tokens": 18, "total_tokens": 228}}


class Scripted(MockFunctionCallingLLM):  # type: ignore[misc]  # as a checker without LlamaIndex sees it
    """A model that says what it is told to."""

    answers: list[Any] = ANSWERS

    @llm_chat_callback()  # type: ignore[untyped-decorator]  # as above
    async def achat(self, *_: Any, **__: Any) -> ChatResponse:
        """Say the next answer."""
        return ChatResponse(message=self.answers.pop(0), raw=RAW)


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


async def ask() -> str:
    """Ask once; return the answer."""
    agent = FunctionAgent(name="planner", llm=Scripted(), tools=[weather], streaming=False)
    with instrument_tags({"session_id": "example-1"}):
        return str(await agent.run(user_msg="What shall I wear in Lisbon?"))


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        AgentStreamsHandler(emitter).listen()
        print(asyncio.run(ask()))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
