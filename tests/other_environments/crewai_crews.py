"""Crews with scripted models and real tools, heard by the adapter; writes what they gave as one JSON object.

It runs where CrewAI is installed, which forbids the packages of the other tests: started by test_crewai.py alone.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false",
                  CREWAI_DISABLE_TRACKING="true", CREWAI_STORAGE_DIR=tempfile.mkdtemp())  # fmt: skip

from crewai import Agent, BaseLLM, Crew, Task
from crewai.events import crewai_event_bus
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from crewai.mcp.client import MCPClient
from crewai.mcp.transports.stdio import StdioTransport
from crewai.tools import tool
from crewai.tools.mcp_native_tool import MCPNativeTool
from crewai.tools.tool_failure import ToolFailure
from ledger_of import Collected, Ledger, ledger_of, plain

from streams.event.model import ModelEnd
from streams.feed.adapters.crewai import AgentStreamsListener
from streams.feed.guard.denial import Denial

PLAIN = (
    *("type", "event_id", "parent_event_id", "started_event_id", "task_id", "agent_id", "agent_role", "inputs"),
    *("call_id", "model", "stream", "temperature", "usage", "finish_reason", "tool_name", "run_attempts"),
)
INNER = {"agent": ("id", "role"), "task": ("id",), "failure": ("message",)}
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_prompt_tokens": 40,
         "reasoning_tokens": 5}  # fmt: skip
TRIES = [0]


# Starts within a second, and speaks over its standard input and output.
SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("weather", log_level="CRITICAL")
@server.tool()
def forecast() -> str:
    raise RuntimeError("no weather")
server.run()
"""


class Scripted(BaseLLM):
    """Answers with texts, tool calls or exceptions, and tells the bus of it as the providers do."""

    answers: list[Any] = []  # noqa: RUF012  a field: its base class is a model of pydantic's

    def supports_function_calling(self) -> bool:
        return True

    def call(self, messages: Any, tools: Any = None, *_: Any, **about: Any) -> Any:
        whose = {"from_task": about.get("from_task"), "from_agent": about.get("from_agent")}
        with llm_call_context():
            self._emit_call_started_event(messages=messages, tools=tools, **whose)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                self._emit_call_failed_event(error=str(answer), **whose)
                raise answer
            if isinstance(answer, str):
                self._emit_stream_chunk_event(answer[:2], **whose)
            self._emit_call_completed_event(
                response=answer, call_type=LLMCallType.LLM_CALL, usage=USAGE, finish_reason="stop", **whose
            )
            return answer


@tool("add")
def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)


@tool("flaky")
def flaky(x: str) -> str:
    """Fail once."""
    TRIES[0] += 1
    if TRIES[0] == 1:
        raise RuntimeError("not yet")
    return x


@tool("unsure")
def unsure() -> Any:
    """Come back, and say that it did not work."""
    return ToolFailure(message="not done")


def asks(name: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": f"call-{name}", "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}]  # fmt: skip


forecast = MCPNativeTool(
    client_factory=lambda: MCPClient(StdioTransport(command=sys.executable, args=["-c", SERVER])),
    tool_name="forecast",
    tool_schema={},
    server_name="weather",
)


@tool("ask")
def ask() -> str:
    """Ask the expert."""
    return work("3", role="expert")


def work(*answers: Any, role: str = "planner") -> str:
    agent = Agent(role=role, goal="answer", backstory="none", llm=Scripted(model="gpt-x", answers=list(answers)),
                  tools=[add, flaky, unsure, forecast, ask], max_retry_limit=0, verbose=False, cache=False)  # fmt: skip
    task = Task(description="what is it?", expected_output="an answer", agent=agent)
    return str(Crew(agents=[agent], tasks=[task], verbose=False, cache=False).kickoff(inputs={"session_id": "t1"}))


def kickoff(*answers: Any) -> str:
    try:
        said = work(*answers)
    except Exception as error:  # noqa: BLE001  what became of it is what is asked
        said = f"{type(error).__name__}: {error}"
    crewai_event_bus.flush()
    return said


def weave() -> str:
    """Ask for two tools at once, one of them a server's that fails inside a good answer, then for another agent."""
    both = asks("add", {"a": 1, "b": 2}) + asks(forecast.name, {})
    return kickoff(both, asks("ask", {}), "done")


class Guard:
    """Denies what it is told to."""

    active = True

    def __init__(self) -> None:
        self.stopped: set[str] = set()
        self.asked: list[dict[str, Any]] = []

    def denial(self, target: str, **whose: Any) -> Denial | None:
        self.asked.append({"target": target, **whose})
        if target not in self.stopped:
            return None
        return Denial(target, "breaker", "open", "v1", "its circuit is open", None, None, "Use something else.")


def script() -> list[str]:
    TRIES[0] = 0
    return [
        kickoff(asks("add", {"a": 1, "b": 2}), asks("flaky", {"x": "y"}), asks("flaky", {"x": "y"}), "done"),
        kickoff(RuntimeError("out of order")),
    ]


class Recorder(AgentStreamsListener):
    """Keeps what it hears as plain values, in the order of emission."""

    def __init__(self, out: Collected) -> None:
        super().__init__(out)
        self.heard: list[tuple[int, dict[str, Any]]] = []

    async def hear(self, source: Any, event: Any) -> None:  # noqa: ARG002  as its base class
        plain = {name: getattr(event, name) for name in PLAIN if hasattr(event, name)}
        plain["timestamp"] = event.timestamp.isoformat()
        for name, fields in INNER.items():
            if getattr(event, name, None) is not None:
                plain[name] = {field: str(getattr(getattr(event, name), field)) for field in fields}
        for name in ("error", "output", "tool_args"):
            if getattr(event, name, None) is not None:
                plain[name] = str(getattr(event, name))
        self.heard.append((event.emission_sequence, plain))


def named(ledger: Ledger) -> Ledger:
    """Give the server's tool the name that the script gives it; CrewAI puts the server's before it."""
    short = {forecast.name: "forecast"}
    return ledger._replace(tools={(short.get(name, name), status): n for (name, status), n in ledger.tools.items()})


def main() -> None:
    out, guard = Collected(), Guard()
    listener = AgentStreamsListener(out, guard=guard).listen()
    recorder = Recorder(Collected()).listen()
    answers = script()
    heard = [plain for _, plain in recorder.heard]
    once, ledger = out.story(), ledger_of(out)
    sessions = {each.session_id or "" for each in out.events}
    first_tokens = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    out.events.clear()
    listener.listen()
    AgentStreamsListener(out, guard=guard).listen()
    script()
    twice = sorted(out.story())
    out.events.clear()
    kickoff(asks("unsure", {}), "done")
    failed = out.story()
    out.events.clear()
    guard.stopped = {"tool:add"}
    no_tool = kickoff(asks("add", {"a": 1, "b": 2}), "done without")
    tool_story = out.story()
    out.events.clear()
    guard.stopped = {"model:gpt-x"}
    no_model = kickoff("never")
    model_story = out.story()
    out.events.clear()
    guard.stopped = set()
    woven, woven_ledger = weave(), plain(named(ledger_of(out)))
    gave = {
        "woven": [woven, woven_ledger],
        "answers": answers,
        "story": once,
        "twice": twice,
        "sessions": sorted(sessions),
        "requests": ledger.requests,
        "models": ledger.models,
        "tools": sorted([*key, count] for key, count in ledger.tools.items()),
        "tokens": list(ledger.tokens),
        "errors": ledger.errors,
        "first_tokens": first_tokens,
        "failed": failed,
        "no_tool": [no_tool, tool_story],
        "no_model": [no_model, model_story],
        "asked": guard.asked[0],
        "heard": heard,
    }
    Path(sys.argv[1]).write_text(json.dumps(gave))


if __name__ == "__main__":
    main()
