"""An agent of Microsoft Agent Framework whose runs and calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[agent-framework]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python agent_framework_agent.py

With a real model only `Scripted` goes: `Agent(client=OpenAIChatClient(), …)`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
)

from streams.feed import Emitter
from streams.feed.adapters.agent_framework import middleware

ASK = Content.from_function_call(call_id="call-1", name="weather", arguments={"city": "Lisbon"})
ANSWER = Content.from_text("It rains in Lisbon: take a coat.")


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):  # type: ignore[misc]  # not seen by mypy
    """A client whose model says what it is told to."""

    model = "scripted-1"

    def __init__(self, *answers: Content) -> None:
        super().__init__()
        self.answers = list(answers)

    async def _inner_get_response(self, **_: Any) -> ChatResponse:
        message = Message("assistant", [self.answers.pop(0)])
        return ChatResponse(messages=[message], usage_details={"input_token_count": 210, "output_token_count": 18})


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


async def ask(emitter: Emitter) -> str:
    """Ask once; return the answer."""
    agent = Agent(client=Scripted(ASK, ANSWER), name="planner", tools=[weather], middleware=middleware(emitter))
    session = agent.create_session(session_id="example-1")
    return str((await agent.run("What shall I wear in Lisbon?", session=session)).text)


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        print(asyncio.run(ask(emitter)))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
