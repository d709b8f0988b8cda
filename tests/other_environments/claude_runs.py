"""The Claude Agent SDK on a transport that plays the command's side of its protocol; writes what the adapter gave.

Hooks are called, answered and obeyed as the command does; tools are functions that run.  It runs in an environment
with the SDK, which is large: started by test_claude_agent_sdk.py alone.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, StreamEvent, Transport, query
from ledger_of import Collected, inside, ledger_of, plain
from scripted_tools import TRIES, Broken, add, flaky
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage
from streams.feed.adapters.claude_agent_sdk import AgentStreamsWatch

USAGE = {"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0,
         "output_tokens_details": {"thinking_tokens": 5}}  # fmt: skip
FIRST = {**USAGE, "output_tokens": 1, "output_tokens_details": {}}  # what a message says before it is whole
IDS = itertools.count()


TOOLS = {"add": add, "flaky": flaky}


class Scripted(Transport):
    """Plays the command: texts, tools to call (name and arguments, or several), an exception, None: never to the end.

    A tool named Task has a third part: the answers of the subagent.
    """

    def __init__(self, *answers: Any, session: str = "t1", partial: bool = False, denies: tuple[str, ...] = ()) -> None:
        self._answers, self._session, self._partial, self._denies = list(answers), session, partial, denies
        self._out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._hooks: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.hooked: list[tuple[dict[str, Any], str | None]] = []
        self._turns = 0

    async def connect(self) -> None:
        return

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None:
        return

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._out.put_nowait(None)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        while (message := await self._out.get()) is not None:
            yield message

    async def write(self, data: str) -> None:
        said = json.loads(data)
        match said["type"]:
            case "control_request":
                for event, matchers in (said["request"].get("hooks") or {}).items():
                    self._hooks[event] = [each for matcher in matchers for each in matcher["hookCallbackIds"]]
                response = {"subtype": "success", "request_id": said["request_id"], "response": {}}
                self._out.put_nowait({"type": "control_response", "response": response})
            case "control_response":
                self._waiting.pop(said["response"]["request_id"]).set_result(said["response"].get("response") or {})
            case "user":
                task = asyncio.create_task(self._prompt())
                self._tasks.add(task)

    def _say(self, kind: str, **more: Any) -> None:
        self._out.put_nowait({"type": kind, "session_id": self._session, "uuid": f"u{next(IDS)}", **more})

    async def _hook(self, event: str, tool_use_id: str | None = None, /, **more: Any) -> dict[str, Any]:
        said = {"session_id": self._session, "transcript_path": "", "cwd": "", "hook_event_name": event, **more}
        self.hooked.append((said, tool_use_id))
        asked = []
        for callback in self._hooks.get(event, []):
            own = f"r{next(IDS)}"
            asked.append(self._waiting.setdefault(own, asyncio.get_running_loop().create_future()))
            request = {"subtype": "hook_callback", "callback_id": callback, "input": said, "tool_use_id": tool_use_id}
            self._out.put_nowait({"type": "control_request", "request_id": own, "request": request})
        merged: dict[str, Any] = {}
        for each in await asyncio.gather(*asked):
            merged |= each
        return merged

    async def _prompt(self) -> None:
        try:
            await self._answer()
        finally:
            self._out.put_nowait(None)  # whatever goes wrong here, nobody waits for ever

    async def _answer(self) -> None:
        self._say("system", subtype="init", model="gpt-x")
        refused = await self._hook("UserPromptSubmit", prompt="?")
        if refused.get("decision") == "block":
            self._result(result=refused["reason"])
            return
        text = await self._work(self._answers)
        if text is not None:
            await self._hook("Stop", stop_hook_active=False, last_assistant_message=text)
            self._result(result=text)

    async def _work(self, answers: list[Any], called: str | None = None, **whose: Any) -> str | None:
        while True:
            answer, own = answers.pop(0), f"m{next(IDS)}"
            if isinstance(answer, Exception):
                self._message(own, [{"type": "text", "text": str(answer)}], called, model="<synthetic>",
                              error="server_error", usage={})  # fmt: skip
                self._result(is_error=True, api_error_status=500, result=str(answer))
                return None
            if self._partial or answer is None:
                usage = FIRST if self._partial else None
                start = {"type": "message_start", "message": {"id": own, "model": "gpt-x", "usage": usage}}
                self._say("stream_event", event=start, parent_tool_use_id=called)
                delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "we"}}
                self._say("stream_event", event=delta, parent_tool_use_id=called)
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, str):
                self._message(own, [{"type": "text", "text": "well"}], called, usage=FIRST)
                self._message(own, [{"type": "text", "text": answer}], called, stop_reason="end_turn")
                return answer
            asks = answer if isinstance(answer, list) else [answer]
            uses = [
                {"type": "tool_use", "id": f"{ask[0]}-{next(IDS)}", "name": ask[0], "input": ask[1]} for ask in asks
            ]
            for use in uses:
                self._message(own, [use], called, stop_reason="tool_use")
            results = await asyncio.gather(*(self._call(use, ask, whose) for use, ask in zip(uses, asks, strict=True)))
            for result, _ in results:
                self._say("user", message={"role": "user", "content": [result]}, parent_tool_use_id=called)
            if stop := next((why for _, why in results if why), None):
                self._result(result=stop)
                return None

    async def _call(self, use: dict[str, Any], ask: Any, whose: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        own, name = use["id"], use["name"]
        about = {"tool_name": name, "tool_input": use["input"], "tool_use_id": own, **whose}
        decided = (await self._hook("PreToolUse", own, **about)).get("hookSpecificOutput") or {}
        block = {"type": "tool_result", "tool_use_id": own}
        if decided.get("permissionDecision") == "deny":
            return {**block, "content": decided["permissionDecisionReason"], "is_error": True}, None
        if name in self._denies:
            return {**block, "content": "not permitted", "is_error": True}, None
        try:
            if name == "Task":
                agent = {"agent_id": f"a{next(IDS)}", "agent_type": use["input"]["subagent_type"]}
                await self._hook("SubagentStart", **agent)
                output: Any = await self._work(list(ask[2]), own, **agent)
                await self._hook("SubagentStop", stop_hook_active=False, agent_transcript_path="", **agent,
                                 last_assistant_message=output)  # fmt: skip
            else:
                output = TOOLS[name](**use["input"])
        except Exception as error:  # noqa: BLE001  what became of it is what is told
            after = await self._hook("PostToolUseFailure", own, **about, error=str(error))
            return {**block, "content": str(error), "is_error": True}, _stop(after)
        after = await self._hook("PostToolUse", own, **about, tool_response=output, duration_ms=3)
        return {**block, "content": output}, _stop(after)

    def _message(self, own: str, content: list[Any], called: str | None, *, model: str = "gpt-x",
                 usage: Any = USAGE, error: str | None = None, stop_reason: str | None = None) -> None:  # fmt: skip
        self._turns += 1
        body = {"id": own, "model": model, "content": content, "usage": usage, "stop_reason": stop_reason}
        self._say("assistant", message=body, parent_tool_use_id=called, error=error)

    def _result(self, **more: Any) -> None:
        usage = {**USAGE, "input_tokens": 240, "output_tokens": 80, "cache_read_input_tokens": 160}
        self._say("result", **{"subtype": "success", "duration_ms": 9, "duration_api_ms": 7, "is_error": False,
                               "num_turns": self._turns, "total_cost_usd": 0.0123, "usage": usage, **more})  # fmt: skip


def _stop(answer: dict[str, Any]) -> str | None:
    return str(answer.get("stopReason")) if answer.get("continue") is False else None


async def run(transport: Scripted, *watches: AgentStreamsWatch, most: int = 1000, begun: Any = None) -> str:
    """Ask once; return the result."""
    hooks: Any = None
    for watch in watches:
        hooks = watch.hooks(hooks)
    stream: Any = query(prompt="?", options=ClaudeAgentOptions(hooks=hooks), transport=transport)
    for watch in watches:
        stream = watch.messages(stream)
    said = ""
    async for message in stream:
        if isinstance(message, ResultMessage):
            said = str(message.result)
        if begun is not None and isinstance(message, StreamEvent) and message.event["type"] == "content_block_delta":
            begun.set()
        most -= 1
        if most == 0:
            break
    await stream.aclose()
    return said


async def give_up(transport: Scripted, *watches: AgentStreamsWatch) -> None:
    """Cancel once the first token has come."""
    begun = asyncio.Event()
    task = asyncio.create_task(run(transport, *watches, begun=begun))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def script(*watches: AgentStreamsWatch) -> list[str]:
    TRIES[0] = 0
    calls = (("add", {"a": 1, "b": 2}), ("flaky", {"x": "y"}), ("flaky", {"x": "y"}), "done")
    said = [await run(Scripted(*calls), *watches), await run(Scripted(RuntimeError("out of order")), *watches)]
    await give_up(Scripted(None), *watches)
    return said


class Recorder(AgentStreamsWatch):
    """Keeps what it hears as plain values, and tells of it."""

    def __init__(self, out: Collected) -> None:
        super().__init__(out)
        self.heard: list[dict[str, Any]] = []

    def _hear_hook(self, said: Any, tool_use_id: str | None, answer: dict[str, Any]) -> None:
        self.heard.append({"hook": dict(said), "tool_use_id": tool_use_id})
        super()._hear_hook(said, tool_use_id, answer)

    def _hear(self, message: Any, heard: set[str]) -> None:
        told = {"message": type(message).__name__, "fields": asdict(message)}
        blocks = getattr(message, "content", None)
        if isinstance(blocks, list):
            told["blocks"] = [type(block).__name__ for block in blocks]
        self.heard.append(told)
        super()._hear(message, heard)

    def _leave(self, heard: set[str], error: BaseException | None) -> None:
        self.heard.append({"leave": sorted(heard), "error": None if error is None else type(error).__name__})
        super()._leave(heard, error)


class Later:
    """Lets the first question about a model pass: what stops it comes about while the agent works."""

    active = True

    def __init__(self, guard: Any) -> None:
        self._guard, self._passed = guard, False

    def denial(self, target: str, **whose: Any) -> Any:
        if target.startswith("model:") and not self._passed:
            self._passed = True
            return None
        return self._guard.denial(target, **whose)


async def shapes(out: Collected) -> dict[str, Any]:
    """Run what the script has not: subagents, tools at once, fragments, refusals, what is stopped."""
    gave: dict[str, Any] = {}

    async def told(name: str, transport: Scripted, guard: Any = None, **how: Any) -> None:
        out.events.clear()
        watch = AgentStreamsWatch(out, tenant="acme", model="gpt-x", guard=guard)
        answer = await run(transport, watch, **how)
        gave[name] = {"answer": answer, "story": out.story(), "within": inside(out), **plain(ledger_of(out))}

    task = ("Task", {"subagent_type": "expert"}, [("add", {"a": 1, "b": 2}), "three"])
    await told("subagent", Scripted(task, "done"))
    await told("subagents_at_once", Scripted([task, ("Task", {"subagent_type": "critic"}, ["no"])], "done"))
    both = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}), ("flaky", {"x": "y"})]
    TRIES[0] = 0
    await told("tools_at_once", Scripted(both, "done"))
    await told("fragments", Scripted(("add", {"a": 1, "b": 2}), "done", partial=True))
    gave["fragments"]["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    await told("not_permitted", Scripted(("add", {"a": 1, "b": 2}), "done", denies=("add",)))
    await told("closed_early", Scripted(("add", {"a": 1, "b": 2}), "done"), most=3)
    out.events.clear()
    await give_up(Scripted(None, partial=True), AgentStreamsWatch(out))
    gave["given_up"] = {"story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    watch = AgentStreamsWatch(out)
    client = ClaudeSDKClient(
        ClaudeAgentOptions(hooks=watch.hooks()), transport=Scripted(("add", {"a": 1, "b": 2}), "x")
    )
    async with client:
        await client.query("?")
        async for _ in watch.messages(client.receive_response()):
            pass
    gave["client"] = {"story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    unwatched = AgentStreamsWatch(out)
    options = ClaudeAgentOptions(hooks=unwatched.hooks())
    async for _ in query(prompt="?", options=options, transport=Scripted(("add", {"a": 1, "b": 2}), "x")):
        pass
    gave["hooks_alone"] = {"story": out.story()}
    for by in STOPPED:
        with stopped(by) as guard:
            await told(f"stopped_by_{by}", Scripted(("add", {"a": 1, "b": 2}), "done without"), guard)
            gave[f"stopped_by_{by}"]["denied"] = dict(guard.stats().denied)
    with stopped("breaker", model="gpt-x") as guard:
        await told("no_model", Scripted("never"), guard)
        await told("stopped_midway", Scripted(("add", {"a": 1, "b": 2}), "never"), Later(guard))
    gave["broken"] = await run(Scripted(("add", {"a": 1, "b": 2}), "done"), AgentStreamsWatch(Broken()))
    return gave


async def whole() -> dict[str, Any]:
    out = Collected()
    answers = await script(AgentStreamsWatch(out))
    gave: dict[str, Any] = {"answers": answers, "story": out.story(), **plain(ledger_of(out))}
    gave["sessions"] = sorted({f"{each.session_id} {each.agent}" for each in out.events})
    gave["answer_bytes"] = [each.response_bytes for each in out.of(AgentEnd)]
    gave["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    gave["whole"] = [
        [each.input_tokens, each.cost_nano_usd] for each in out.of(TokenUsage) if each.scope == "aggregate"
    ]
    out.events.clear()
    await script(AgentStreamsWatch(out), AgentStreamsWatch(out))
    gave["twice"] = out.story()
    recorder = Recorder(Collected())
    await script(recorder)
    gave["heard"] = recorder.heard
    gave["shapes"] = await shapes(out)
    return gave


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(whole())))
