"""An agent of the Claude Agent SDK whose prompts, model calls and tool calls arrive in Kafka; no model is needed.

    pip install 'agent-streams[claude-agent-sdk]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python claude_agent_sdk_agent.py

With the real command `Scripted` goes: `query(prompt="…", options=options)`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, Transport, query

from streams.feed import Emitter
from streams.feed.adapters.claude_agent_sdk import AgentStreamsWatch

USAGE = {"input_tokens": 210, "output_tokens": 18}
WEATHER = {"type": "tool_use", "id": "call-1", "name": "weather", "input": {"city": "Lisbon"}}
ANSWER = "It rains in Lisbon: take a coat."
USE = {"tool_name": "weather", "tool_input": WEATHER["input"], "tool_use_id": "call-1"}
RESULT = {"type": "tool_result", "tool_use_id": "call-1", "content": "rain in Lisbon"}
COUNTS = {"duration_ms": 9, "duration_api_ms": 7, "num_turns": 2, "total_cost_usd": 0.0009, "usage": USAGE}


def says(name: str, block: dict[str, Any]) -> dict[str, Any]:
    """Return what the command says when a model has answered."""
    return {"type": "assistant", "message": {"id": name, "model": "scripted-1", "content": [block], "usage": USAGE}}


SCRIPT: list[Any] = [
    ("UserPromptSubmit", {"prompt": "…"}),
    says("m-1", WEATHER),
    ("PreToolUse", USE),
    ("PostToolUse", {**USE, "tool_response": "rain in Lisbon"}),
    {"type": "user", "message": {"content": [RESULT]}},
    says("m-2", {"type": "text", "text": ANSWER}),
    {"type": "result", "subtype": "success", "is_error": False, "result": ANSWER, **COUNTS},
]


class Scripted(Transport):  # type: ignore[misc]  # as a checker without the SDK sees it
    """The command, saying what it is told to; of its protocol only what hooks need."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._hooks: dict[str, Any] = {}
        self._answered, self._asked = asyncio.Event(), asyncio.Event()

    async def connect(self) -> None:
        """Connect to nothing."""

    async def close(self) -> None:
        """Close nothing."""

    async def end_input(self) -> None:
        """Take no more."""

    def is_ready(self) -> bool:
        """Say that it is."""
        return True

    async def write(self, data: str) -> None:
        """Take what the SDK says: its hooks, their answers, the prompt."""
        said = json.loads(data)
        if said["type"] == "control_request":
            self._hooks = said["request"]["hooks"]
            response = {"subtype": "success", "request_id": said["request_id"], "response": {}}
            self._said.put_nowait({"type": "control_response", "response": response})
        elif said["type"] == "control_response":
            self._answered.set()
        else:
            self._asked.set()

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Play the script: call hooks and wait for them, say messages."""
        yield await self._said.get()
        await self._asked.wait()
        for step in SCRIPT:
            if isinstance(step, dict):
                yield {"session_id": "example-1", "uuid": "u", **step}
                continue
            name, about = step
            hook = {"session_id": "example-1", "hook_event_name": name, **about}
            called = {"subtype": "hook_callback", "callback_id": self._hooks[name][0]["hookCallbackIds"][0]}
            self._answered.clear()
            yield {"type": "control_request", "request_id": name, "request": {**called, "input": hook}}
            await self._answered.wait()


async def ask(emitter: Emitter) -> str:
    """Ask once; return the answer."""
    watch = AgentStreamsWatch(emitter, agent="planner")
    options = ClaudeAgentOptions(hooks=watch.hooks())
    answer = ""
    messages = query(prompt="What shall I wear in Lisbon?", options=options, transport=Scripted())
    async for message in watch.messages(messages):
        if isinstance(message, ResultMessage):
            answer = str(message.result)
    return answer


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        print(asyncio.run(ask(emitter)))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
