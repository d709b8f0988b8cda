"""The real framework, a model that plays answers and real tools: exactly this ledger, however it ends."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, told_by
from mcp.client._memory import InMemoryTransport
from scripted_tools import Broken
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent, HookRegistry
from strands.models import Model
from strands.tools.mcp import MCPClient
from verdict_records import STOPPED, stopped
from woven import forecasts, weaving

from streams.event.model import AgentEnd, ModelEnd, ModelStart, TokenUsage, ToolEnd, ToolStart
from streams.feed.adapters.strands import AgentStreamsHooks

USAGE = {"inputTokens": 60, "outputTokens": 20, "totalTokens": 120, "cacheReadInputTokens": 40}  # cached ones beside
IDS = itertools.count()


class OutOfOrderError(Exception):
    status_code = 500


class Scripted(Model):
    """Plays answers: a text, tools to call, an exception to raise, or None for a stream that never ends."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)

    def update_config(self, **_: Any) -> None:
        return

    def get_config(self) -> Any:
        return {"model_id": "gpt-x"}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        yield {"messageStart": {"role": "assistant"}}
        calls = [answer] if isinstance(answer, tuple) else answer if isinstance(answer, list) else []
        for number, (name, arguments) in enumerate(calls, 1):
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": f"{name}-{next(IDS)}"}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": arguments}}}}
            if number < len(calls):
                yield {"contentBlockStop": {}}
        if not calls:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": answer or "well"}}}
            if answer is None:
                await asyncio.Event().wait()
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}
        yield {"metadata": {"usage": USAGE, "metrics": {"latencyMs": 1}}}


def agent(*answers: Any, hooks: list[Any], name: str = "planner", tools: tuple[Any, ...] = ()) -> Agent:
    tries: Iterator[int] = iter(range(10))

    @tool
    def add(a: int, b: int) -> str:
        """Add."""
        return str(a + b)

    @tool
    def flaky(x: str) -> str:
        """Fail once."""
        if next(tries) == 0:
            raise RuntimeError("not yet")
        return x

    return Agent(Scripted(*answers), tools=[add, flaky, *tools], hooks=hooks, name=name, callback_handler=None)


ADD = ("add", '{"a": 1, "b": 2}')
FLAKY = ("flaky", '{"x": "y"}')
THREAD = {"session_id": "t1"}
ONE_TOOL = [
    "AgentStart planner",
    "ModelStart gpt-x",
    "TokenUsage gpt-x",
    "ModelEnd gpt-x",
    "ToolStart add",
    "ToolEnd add",
    "ModelStart gpt-x",
    "TokenUsage gpt-x",
    "ModelEnd gpt-x",
    "TokenUsage gpt-x",
    "AgentEnd planner",
]


async def script(*hooks: AgentStreamsHooks) -> None:
    await agent(ADD, FLAKY, FLAKY, "done", hooks=list(hooks)).invoke_async("?", invocation_state=dict(THREAD))
    with pytest.raises(OutOfOrderError):
        await agent(OutOfOrderError(), hooks=list(hooks)).invoke_async("?", invocation_state=dict(THREAD))
    begun = asyncio.Event()

    async def stream() -> None:
        async for event in agent(None, hooks=list(hooks)).stream_async("?", invocation_state=dict(THREAD)):
            if "data" in event:
                begun.set()

    task = asyncio.create_task(stream())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
def out() -> Collected:
    return Collected()


async def test_the_script_gives_the_ledger(out: Collected) -> None:
    await script(AgentStreamsHooks(out))

    assert ledger_of(out) == told_by("strands", LEDGER)


async def test_registering_twice_changes_nothing(out: Collected) -> None:
    await script(AgentStreamsHooks(out))
    once = out.story()
    out.events.clear()
    await script(AgentStreamsHooks(out), AgentStreamsHooks(out))

    assert out.story() == once


@pytest.mark.parametrize("held_back", ["Before", "After"])
async def test_ends_alone_tell_nothing_and_a_request_ends_what_only_begins(out: Collected, held_back: str) -> None:
    class Some(AgentStreamsHooks):
        def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
            whole = HookRegistry()
            super().register_hooks(whole)
            for kind, entries in whole._registered_callbacks.items():
                if not kind.__name__.startswith(held_back) or kind is AfterInvocationEvent:
                    for entry in entries:
                        registry.add_callback(kind, getattr(entry, "callback", entry))

    await agent(ADD, "done", hooks=[Some(out)]).invoke_async("?", invocation_state=dict(THREAD))
    ledger = ledger_of(out)

    expected: dict[str, Any] = {
        "Before": ({}, {}, {}),
        # Strands gives a call to a model no id: what begins while one is open is that one, told by another hook.
        "After": ({"success": 1}, {"cancelled": 1}, {("add", "cancelled"): 1}),
    }
    assert ledger[:3] == expected[held_back]


@pytest.mark.parametrize("times", [1, 2])
async def test_the_woven_script_gives_the_ledger(out: Collected, times: int) -> None:
    hooks: list[Any] = [AgentStreamsHooks(out) for _ in range(times)]
    expert = agent("done", hooks=hooks, name="expert")

    @tool
    async def ask() -> str:
        """Ask the expert."""
        return str(await expert.invoke_async("?"))

    async with weaving(out) as does:

        @tool
        async def add(a: int, b: int) -> str:
            """Add."""
            return await does.add(a, b)

        @tool
        async def forecast() -> str:
            """Ask the server."""
            return await does.forecast()

        model = Scripted([ADD, ("forecast", "{}")], ("ask", "{}"), "done")
        planner = Agent(model, tools=[add, forecast, ask], hooks=hooks, name="planner", callback_handler=None)
        await planner.invoke_async("?", invocation_state=dict(THREAD))

    assert ledger_of(out) == told_by("strands", WOVEN)


async def test_a_tool_of_an_mcp_server_that_fails_inside_a_good_answer_has_failed(out: Collected) -> None:
    served = Collected()

    def transport() -> Any:  # its type names both kinds of streams that Strands knows, the SDK has one
        return InMemoryTransport(forecasts(served))

    with MCPClient(transport) as client:
        hooks: list[Any] = [AgentStreamsHooks(out)]
        model = Scripted(("forecast", "{}"), "done")
        planner = Agent(model, tools=client.list_tools_sync(), hooks=hooks, name="planner", callback_handler=None)
        await planner.invoke_async("?", invocation_state=dict(THREAD))
    end = out.only(ToolEnd)

    assert (end.tool, end.status, end.attributes) == ("forecast", "error", {"error_type": "tool_error"})
    assert served.only(ToolEnd).status == "error"


async def test_a_request_with_a_tool_is_told_exactly_so(out: Collected) -> None:
    await agent(ADD, "done", hooks=[AgentStreamsHooks(out)]).invoke_async("?", invocation_state=dict(THREAD))
    request, tool_end = out.only(AgentEnd), out.only(ToolEnd)

    assert out.story() == ONE_TOOL
    assert {(each.agent, each.session_id) for each in out.events} == {("planner", "t1")}
    assert {each.parent_id for each in out.events if each.call_id != request.call_id} == {request.call_id}
    assert (request.completed, request.response_bytes) == (True, len("done"))
    assert (tool_end.input_bytes, tool_end.output_bytes) == (len('{"a":1,"b":2}'), 1)
    assert out.only(ToolStart).call_id == tool_end.call_id


async def test_the_sum_of_an_invocation_is_an_aggregate_of_its_leaves(out: Collected) -> None:
    await agent(ADD, "done", hooks=[AgentStreamsHooks(out)]).invoke_async("?", invocation_state=dict(THREAD))
    *leaves, whole = out.of(TokenUsage)

    assert [each.scope for each in (*leaves, whole)] == ["leaf", "leaf", "aggregate"]
    assert (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens) == (200, 40, 80)
    assert whole.call_id == out.only(AgentEnd).call_id


async def test_a_model_that_fails_says_with_which_code(out: Collected) -> None:
    with pytest.raises(OutOfOrderError):
        await agent(OutOfOrderError(), hooks=[AgentStreamsHooks(out)]).invoke_async("?")

    assert (out.only(ModelEnd).status, out.only(ModelEnd).error_code) == ("error", "500")
    assert (out.only(AgentEnd).status, out.only(AgentEnd).completed) == ("error", False)


async def test_an_agent_inside_a_tool_is_a_request_inside_it(out: Collected) -> None:
    hooks = [AgentStreamsHooks(out)]
    expert = agent("done", hooks=hooks, name="expert")

    @tool
    async def ask() -> str:
        """Ask the expert."""
        return str(await expert.invoke_async("?"))

    planner = agent(("ask", "{}"), "done", hooks=hooks, tools=(ask,))
    await planner.invoke_async("?", invocation_state=dict(THREAD))
    inner, outer = out.of(AgentEnd)

    assert (inner.agent, inner.parent_id, inner.session_id) == ("expert", out.only(ToolEnd).call_id, "t1")
    assert out.only(ToolEnd).parent_id == outer.call_id


async def test_an_emitter_that_raises_does_not_disturb_the_agent() -> None:
    result = await agent(ADD, "done", hooks=[AgentStreamsHooks(Broken())]).invoke_async("?")

    assert str(result).strip() == "done"


@pytest.mark.parametrize("by", STOPPED)
async def test_a_tool_that_is_stopped_is_cancelled_and_the_model_reads_why(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        hooks = [AgentStreamsHooks(out, tenant="acme", guard=guard) for _ in range(2)]
        made = agent(ADD, "done", hooks=hooks)
        if by == "breaker":
            await made.invoke_async("?", invocation_state=dict(THREAD))
            [told] = [
                part["toolResult"] for message in made.messages for part in message["content"] if "toolResult" in part
            ]

            assert ("error", 1) == (told["status"], guard.stats().denied["breaker"])
            assert STOPPED[by][2] in told["content"][0]["text"]
        else:  # whoever is stopped calls no model either
            result = await made.invoke_async("?", invocation_state=dict(THREAD))

            assert STOPPED[by][2] in str(result)
            assert not out.of(ModelStart)
    assert not out.of(ToolStart)
    assert not out.of(ToolEnd)
