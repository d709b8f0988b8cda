"""Agents of Google's ADK with scripted models and real tools, told by the plugin; writes what they gave as one object.

It runs where ADK is installed, which forbids packages of the other tests: started by test_google_adk.py alone.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import Agent, ParallelAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.adk.tools import AgentTool
from google.genai import types
from ledger_of import Collected, inside, ledger_of, plain
from scripted_tools import TRIES, Broken, OutOfOrderError, add, flaky, one_tool_is_back, slow
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd
from streams.feed.adapters.google_adk import AgentStreamsPlugin
from streams.feed.adapters.google_adk_calls import AdkCalls

USAGE = types.GenerateContentResponseUsageMetadata(
    prompt_token_count=100, cached_content_token_count=40, candidates_token_count=15, thoughts_token_count=5,
    total_token_count=120,
)  # fmt: skip
CONTEXT = ("invocation_id", "branch", "agent_name", "function_call_id", "user_id")


class Scripted(BaseLlm):
    """Answers with texts, tools to call (name and arguments, or several), exceptions, or None: never to the end."""

    model: str = "gpt-x"
    answers: list[Any] = []  # noqa: RUF012  a field: its base class is a model of pydantic's
    begun: Any = None

    async def generate_content_async(self, _request: Any, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if stream or answer is None:
            yield LlmResponse(content=types.ModelContent("we"), partial=True)
        if answer is None:
            if self.begun is not None:
                self.begun.set()
            await asyncio.Event().wait()
        if isinstance(answer, str):
            content = types.ModelContent(answer)
        else:
            asks = answer if isinstance(answer, list) else [answer]
            content = types.Content(
                role="model", parts=[types.Part.from_function_call(name=name, args=args) for name, args in asks]
            )
        yield LlmResponse(content=content, usage_metadata=USAGE, finish_reason=types.FinishReason.STOP)


def unsure() -> dict[str, Any]:
    """Come back, and say that it did not work."""
    return {"error": "not done"}


def recover(**_: Any) -> dict[str, str]:
    return {"error": "try again"}


def agent(*answers: Any, name: str = "planner", begun: Any = None, tools: tuple[Any, ...] = (), **more: Any) -> Agent:
    model = Scripted(answers=list(answers), begun=begun)
    given = [add, flaky, unsure, slow, *tools]
    return Agent(name=name, model=model, tools=given, on_tool_error_callback=recover, **more)


async def run(root: Any, *plugins: BasePlugin, streaming: bool = False, most: int = 100) -> str:
    """Ask once, in session t1; return the last text, or the error."""
    runner = InMemoryRunner(app=App(name="tests", root_agent=root, plugins=list(plugins)))
    await runner.session_service.create_session(app_name="tests", user_id="u1", session_id="t1")
    mode = StreamingMode.SSE if streaming else StreamingMode.NONE
    said = ""
    try:
        events = runner.run_async(user_id="u1", session_id="t1", new_message=types.UserContent("?"),
                                  run_config=RunConfig(streaming_mode=mode))  # fmt: skip
        async for event in events:
            parts = event.content.parts if event.content and event.content.parts else []
            said = "".join(part.text or "" for part in parts) or said
            most -= 1
            if most == 0:
                break
        await events.aclose()
    except Exception as error:  # noqa: BLE001  what became of it is what is asked
        return f"{type(error).__name__}: {error}"
    return said


async def give_up(root: Any, begun: asyncio.Event, *plugins: BasePlugin) -> None:
    task = asyncio.create_task(run(root, *plugins, streaming=True))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def script(*plugins: BasePlugin) -> list[str]:
    TRIES[0] = 0
    one = agent(("add", {"a": 1, "b": 2}), ("flaky", {"x": "y"}), ("flaky", {"x": "y"}), "done")
    said = [await run(one, *plugins), await run(agent(OutOfOrderError("out of order")), *plugins)]
    begun = asyncio.Event()
    await give_up(agent(None, begun=begun), begun, *plugins)
    return said


class Recorder(AdkCalls):
    """Keeps what it hears as plain values."""

    def __init__(self) -> None:
        super().__init__(Collected(), user_id=None, tenant=None, guard=None)
        self.heard: list[dict[str, Any]] = []

    def _keep(self, method: str, **said: Any) -> None:
        if "context" in said:
            context = said["context"]
            said["context"] = {name: getattr(context, name, None) for name in CONTEXT}
            said["context"]["session"] = context.session.id
        error = said.get("error") or sys.exception()
        said["error"] = None if error is None else [type(error).__name__, str(error)]
        self.heard.append({"method": method, **{key: value for key, value in said.items() if value is not None}})

    def begin_agent(self, context: Any) -> None:
        self._keep("begin_agent", context=context)

    def end_agent(self, context: Any, error: BaseException | None = None) -> None:
        self._keep("end_agent", context=context, error=error)

    def end_run(self, invocation_id: str, error: BaseException | None = None) -> None:
        self._keep("end_run", invocation_id=invocation_id, error=error)

    def begin_model(self, context: Any, request: Any) -> str | None:
        mode = context.run_config.streaming_mode.name
        self._keep("begin_model", context=context, model=request.model, streaming_mode=mode)

    def hear_model(self, context: Any, response: Any) -> None:
        self._keep("hear_model", context=context, response=response.model_dump(mode="json", exclude_none=True))

    def fail_model(self, context: Any, error: BaseException) -> None:
        self._keep("fail_model", context=context, error=error)

    def begin_tool(self, tool: Any, arguments: Any, context: Any) -> str | None:
        self._keep("begin_tool", context=context, tool=tool.name, arguments=dict(arguments))

    def end_tool(self, tool: Any, context: Any, result: Any = None, error: BaseException | None = None) -> None:
        self._keep("end_tool", context=context, tool=tool.name, result=result, error=error)


class Recording(AgentStreamsPlugin):
    """The plugin, in front of a recorder."""

    def __init__(self) -> None:
        super().__init__(Collected(), name="recording")
        self._calls = self.recorder = Recorder()


async def shapes(out: Collected) -> dict[str, Any]:
    """Run what the script has not: agents in agents, tools and models at once, streams, failures, what is stopped."""
    gave: dict[str, Any] = {}

    async def told(name: str, root: Any, guard: Any = None, **how: Any) -> None:
        plugin = AgentStreamsPlugin(out, tenant="acme", guard=guard)
        out.events.clear()
        answer = await run(root, plugin, **how)
        gave[name] = {"answer": answer, "story": out.story(), "within": inside(out), **plain(ledger_of(out))}

    ask = ("expert", {"request": "?"})
    expert = AgentTool(agent=agent(("add", {"a": 1, "b": 2}), "three", name="expert", description="knows"))
    await told("agent_as_tool", agent(ask, "done", tools=(expert,)))
    helper = agent("from the helper", name="helper", description="helps")
    await told("handed_over", agent(("transfer_to_agent", {"agent_name": "helper"}), sub_agents=[helper]))
    both = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}), ("unsure", {})]
    await told("tools_at_once", agent(both, "done"))
    crowd = [agent(("add", {"a": 1, "b": 2}), name, name=name) for name in ("left", "right")]
    await told("agents_at_once", ParallelAgent(name="crowd", sub_agents=crowd))
    chain = [agent(name, name=name) for name in ("first", "second")]
    await told("one_after_the_other", SequentialAgent(name="chain", sub_agents=chain))
    await told("streamed", agent(("add", {"a": 1, "b": 2}), "done", name="planner"), streaming=True)
    gave["streamed"]["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    await told("no_such_tool", agent(("nothing", {}), "done"))
    await told("closed_early", agent(("add", {"a": 1, "b": 2}), "done"), most=1)
    out.events.clear()
    root = agent([("slow", {}), ("add", {"a": 1, "b": 2})], "done")
    task = asyncio.create_task(run(root, AgentStreamsPlugin(out)))
    await one_tool_is_back(out)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gave["cancelled"] = {"story": out.story(), **plain(ledger_of(out))}
    for by in STOPPED:
        with stopped(by) as guard:
            await told(f"stopped_by_{by}", agent(("add", {"a": 1, "b": 2}), "done without"), guard)
            gave[f"stopped_by_{by}"]["denied"] = dict(guard.stats().denied)
    with stopped("breaker", model="gpt-x") as guard:
        await told("no_model", agent("never"), guard)
    gave["broken"] = await run(agent(("add", {"a": 1, "b": 2}), "done"), AgentStreamsPlugin(Broken()))
    return gave


async def whole() -> dict[str, Any]:
    out, recording = Collected(), Recording()
    answers = await script(AgentStreamsPlugin(out))
    gave: dict[str, Any] = {"answers": answers, "story": out.story(), **plain(ledger_of(out))}
    gave["sessions"] = sorted({f"{each.session_id} {each.user_id}" for each in out.events})
    gave["answer_bytes"] = [each.response_bytes for each in out.of(AgentEnd)]
    out.events.clear()
    await script(AgentStreamsPlugin(out), AgentStreamsPlugin(out, name="again"))
    gave["twice"] = out.story()
    await script(recording)
    gave["heard"] = recording.recorder.heard
    gave["shapes"] = await shapes(out)
    return gave


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(whole())))
