"""Agents of Microsoft Agent Framework with scripted models and real tools; writes what their middleware gave.

It runs where the framework is installed, beside the wheel: started by test_agent_framework.py alone.
"""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)
from ledger_of import Collected, inside, ledger_of, plain
from scripted_tools import TRIES, Broken, OutOfOrderError, add, flaky, one_tool_is_back, slow
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd
from streams.feed.adapters.agent_framework import middleware, telling
from streams.feed.adapters.agent_framework_calls import AgentFrameworkCalls
from streams.feed.guard.denial import Denial

USAGE = {
    "input_token_count": 100, "output_token_count": 20, "total_token_count": 120,
    "cache_read_input_token_count": 40, "reasoning_output_token_count": 5,
}  # fmt: skip


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """Answers with texts, tools to call (name and arguments, or several), exceptions, or None: never to the end."""

    def __init__(self, *answers: Any, begun: asyncio.Event | None = None) -> None:
        super().__init__()
        self.model, self.answers, self.begun, self.asked = "gpt-x", list(answers), begun, 0

    def _next(self) -> list[Any]:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return [Content.from_text(answer)]
        return [
            Content.from_function_call(call_id=f"call-{self.asked}-{at}", name=name, arguments=of)
            for at, (name, of) in enumerate(answer if isinstance(answer, list) else [answer])
        ]

    def _inner_get_response(self, *, stream: bool, **_: Any) -> Any:
        if stream:
            return ResponseStream(self._parts(), finalizer=ChatResponse.from_updates)
        return self._whole()

    async def _whole(self) -> ChatResponse:
        message = Message("assistant", self._next())
        return ChatResponse(messages=[message], usage_details=USAGE, model="gpt-x", finish_reason="stop")

    async def _parts(self) -> AsyncIterator[ChatResponseUpdate]:
        if self.answers[0] is None:
            yield ChatResponseUpdate(role="assistant", contents=[Content.from_text("we")])
            if self.begun is not None:
                self.begun.set()
            await asyncio.Event().wait()
        for part in self._next():
            yield ChatResponseUpdate(role="assistant", contents=[part], model="gpt-x")
        yield ChatResponseUpdate(role="assistant", contents=[Content.from_usage(USAGE)], finish_reason="stop")


def forecast(city: str) -> str:
    """Ask a server that does not know."""
    raise RuntimeError(f"nobody knows {city}")


def agent(
    ware: Any, *answers: Any, name: str = "planner", begun: asyncio.Event | None = None, tools: Any = ()
) -> Agent:
    client = Scripted(*answers, begun=begun)
    return Agent(client=client, name=name, tools=[add, flaky, forecast, slow, *tools], middleware=ware)


async def run(one: Agent) -> str:
    try:
        return str((await one.run("?", session=one.create_session(session_id="t1"))).text)
    except Exception as error:  # noqa: BLE001  what became of it is what is asked
        return f"{type(error).__name__}: {error}"


async def stream(one: Agent, most: int = 100) -> str:
    said = ""
    async with one.run("?", stream=True, session=one.create_session(session_id="t1")) as updates:
        async for update in updates:
            said += update.text or ""
            most -= 1
            if most == 0:
                break
    return said


async def give_up(one: Agent, begun: asyncio.Event) -> None:
    task = asyncio.create_task(stream(one))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def script(ware: Any) -> list[str]:
    TRIES[0] = 0
    said = [
        await run(agent(ware, ("add", {"a": 1, "b": 2}), ("flaky", {"x": "y"}), ("flaky", {"x": "y"}), "done")),
        await run(agent(ware, OutOfOrderError("out of order"))),
    ]
    begun = asyncio.Event()
    await give_up(agent(ware, None, begun=begun), begun)
    return said


async def weave(ware: Any) -> str:
    ask = agent(ware, "known", name="expert").as_tool(name="ask", arg_name="question")
    both = [("add", {"a": 1, "b": 2}), ("forecast", {"city": "Lisbon"})]
    return await run(agent(ware, both, ("ask", {"question": "?"}), "done", tools=[ask]))


class Recorder(AgentFrameworkCalls):
    """Keeps what it is told as plain values, and hands it on."""

    def __init__(self) -> None:
        super().__init__(Collected(), agent=None, session_id=None, user_id="u1", tenant="acme", guard=None)
        self.heard: list[dict[str, Any]] = []

    def _keep(self, method: str, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        around = getattr(self._calls.around, "id", None)
        told: dict[str, Any] = {"method": method, "run_id": run_id, "around": around, **said}
        told["error"] = None if error is None else [type(error).__name__, str(error)]
        self.heard.append({key: value for key, value in told.items() if value not in (None, False, [], ())})

    def begin_run(self, run_id: str, agent: str, conversation: str | None, about: Any = None) -> None:
        self._keep("begin_run", run_id, agent=agent, about=about)
        super().begin_run(run_id, agent, conversation, about)

    def end_run(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_run", run_id, error, **said)
        super().end_run(run_id, error, **said)

    def begin_model(self, run_id: str, model: str, **said: Any) -> Denial | None:
        self._keep("begin_model", run_id, model=model, **said)
        return super().begin_model(run_id, model, **said)

    def first_token(self, run_id: str) -> None:
        self._keep("first_token", run_id)
        super().first_token(run_id)

    def end_model(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_model", run_id, error, **said)
        super().end_model(run_id, error, **said)

    def begin_tool(self, run_id: str, tool: str, arguments: Any, *, asked: str | None = None) -> Denial | None:
        self._keep("begin_tool", run_id, tool=tool, arguments=dict(arguments), asked=asked)
        return super().begin_tool(run_id, tool, arguments, asked=asked)

    def end_tool(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_tool", run_id, error, **said)
        super().end_tool(run_id, error, **said)


async def shapes(out: Collected) -> dict[str, Any]:
    """Run what agents are made of; tell of each what it said."""
    gave: dict[str, Any] = {}
    one_tool = (("add", {"a": 1, "b": 2}), "done")

    async def told(name: str, *answers: Any, guard: Any = None, how: Any = run, **more: Any) -> None:
        out.events.clear()
        ware = middleware(out, tenant="acme", guard=guard)
        try:
            answer = await how(agent(ware, *answers), **more)
        except Exception as error:  # noqa: BLE001  as above
            answer = f"{type(error).__name__}: {error}"
        gave[name] = {"answer": answer, "story": out.story(), "within": inside(out), **plain(ledger_of(out))}
        gave[name]["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]

    await told("streamed", *one_tool, how=stream)
    await told("closed_early", *one_tool, how=stream, most=1)
    await told("streamed_failure", OutOfOrderError("out of order"), how=stream)
    await told("misfit", ("add", {"a": "one"}), "done")
    out.events.clear()
    root = agent(middleware(out), [("slow", {}), ("add", {"a": 1, "b": 2})], "done")
    task = asyncio.create_task(run(root))
    await one_tool_is_back(out)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gave["cancelled"] = {"story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    updates = agent(middleware(out), *one_tool).run("?", stream=True)
    await anext(updates)
    del updates  # without a word
    gc.collect()
    gave["forgotten"] = {"story": out.story(), **plain(ledger_of(out))}
    for by in STOPPED:
        with stopped(by) as guard:
            await told(f"stopped_by_{by}", ("add", {"a": 1, "b": 2}), "done without", guard=guard)
            gave[f"stopped_by_{by}"]["denied"] = dict(guard.stats().denied)
    with stopped("breaker", model="gpt-x") as guard:
        await told("no_model", "never", guard=guard)
        await told("no_streaming_model", "never", guard=guard, how=stream)
    gave["broken"] = await run(agent(middleware(Broken()), *one_tool))
    return gave


async def whole() -> dict[str, Any]:
    out = Collected()
    about = {"user_id": "u1", "tenant": "acme"}
    answers = await script(middleware(out, **about))
    gave: dict[str, Any] = {"answers": answers, "story": out.story(), **plain(ledger_of(out))}
    gave["sessions"] = sorted({f"{each.session_id} {each.user_id} {each.tenant} {each.agent}" for each in out.events})
    gave["answer_bytes"] = [each.response_bytes for each in out.of(AgentEnd)]
    out.events.clear()
    await script([*middleware(out, **about), *middleware(out, agent="again")])
    gave["twice"] = out.story()
    out.events.clear()
    gave["woven_answer"] = await weave(middleware(out, **about))
    gave["woven"] = plain(ledger_of(out))
    for name, play in (("heard", script), ("heard_woven", weave)):
        recorder = Recorder()
        await play(telling(recorder))
        gave[name] = recorder.heard
    gave["shapes"] = await shapes(out)
    return gave


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(whole())))
