"""An agent of Google's ADK whose work, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[google-adk]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python google_adk_agent.py

With a real model only `Scripted` goes: `Agent(name="planner", model="gemini-2.5-flash", tools=[weather])`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import Agent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, GenerateContentResponseUsageMetadata, ModelContent, Part, UserContent

from streams.feed import Emitter
from streams.feed.adapters.google_adk import AgentStreamsPlugin

ASK = Content(role="model", parts=[Part.from_function_call(name="weather", args={"city": "Lisbon"})])
USAGE = GenerateContentResponseUsageMetadata(prompt_token_count=210, candidates_token_count=18, total_token_count=228)


class Scripted(BaseLlm):  # type: ignore[misc]  # as a checker without ADK sees it
    """A model that says what it is told to."""

    model: str = "scripted-1"
    answers: list[Any] = [ASK, ModelContent("It rains in Lisbon: take a coat.")]  # noqa: RUF012  a field of pydantic's

    async def generate_content_async(self, *_: Any, **__: Any) -> AsyncIterator[LlmResponse]:
        """Say the next answer."""
        yield LlmResponse(content=self.answers.pop(0), usage_metadata=USAGE)


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


async def ask(emitter: Emitter) -> str:
    """Ask once; return the answer."""
    agent = Agent(name="planner", model=Scripted(), tools=[weather])
    app = App(name="example", root_agent=agent, plugins=[AgentStreamsPlugin(emitter)])
    answer = ""
    async with InMemoryRunner(app=app) as runner:
        await runner.session_service.create_session(app_name="example", user_id="u-1", session_id="example-1")
        question = UserContent("What shall I wear in Lisbon?")
        async for event in runner.run_async(user_id="u-1", session_id="example-1", new_message=question):
            answer = "".join(part.text or "" for part in event.content.parts)
    return answer


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        print(asyncio.run(ask(emitter)))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
