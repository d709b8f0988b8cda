"""The real framework, its function model and real tools: exactly this ledger, however it ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, told_by
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage
from scripted_tools import Broken
from verdict_records import STOPPED, stopped
from woven import weaving

from streams.event.model import AgentEnd, ModelEnd, ModelStart, TokenUsage, ToolEnd, ToolStart
from streams.feed import CallDenied
from streams.feed.adapters.pydantic_ai import AgentStreamsCapability
from streams.feed.timers import Session

USAGE = RequestUsage(
    input_tokens=100, output_tokens=20, cache_read_tokens=40, details={"reasoning_tokens": 5}
)  # cached tokens are part of the input


def asks(tool: str, **arguments: Any) -> ToolCallPart:
    return ToolCallPart(tool, arguments)


ADD = asks("add", a=1, b=2)
DONE = TextPart("done")


def scripted(*answers: Any) -> FunctionModel:
    """Make a model that gives these answers; an exception is raised, and a stream begins and never ends."""
    following = iter(answers)

    def answer(*_: Any) -> ModelResponse:
        part = next(following)
        if isinstance(part, Exception):
            raise part
        return ModelResponse(part if isinstance(part, list) else [part], usage=USAGE, finish_reason="stop")

    async def stream(_: Any, __: AgentInfo) -> AsyncIterator[str]:
        yield "well"
        await asyncio.Event().wait()

    return FunctionModel(answer, stream_function=stream, model_name="gpt-x")


def agent(*answers: Any, capabilities: list[Any], name: str = "planner") -> Agent[None, str]:
    made = Agent(scripted(*answers), name=name, capabilities=capabilities, retries=2)
    tries: Iterator[int] = iter(range(10))

    @made.tool_plain
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @made.tool_plain
    def flaky(x: str) -> str:
        """Fail once."""
        if next(tries) == 0:
            raise ModelRetry("not yet")
        return x

    return made


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


async def script(*capabilities: AgentStreamsCapability) -> None:
    watched = list(capabilities)
    flaky = [asks("flaky", x="y") for _ in range(2)]
    await agent(ADD, *flaky, DONE, capabilities=watched).run("?", metadata=THREAD)
    with pytest.raises(ModelHTTPError):
        await agent(ModelHTTPError(500, "gpt-x"), capabilities=watched).run("?", metadata=THREAD)

    async def stream(begun: asyncio.Event) -> None:
        async with agent(capabilities=watched).run_stream("?", metadata=THREAD) as result:
            async for _ in result.stream_text(debounce_by=None):
                begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(stream(begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
def out() -> Collected:
    return Collected()


async def test_the_script_gives_the_ledger(out: Collected) -> None:
    await script(AgentStreamsCapability(out))

    assert ledger_of(out) == told_by("pydantic_ai", LEDGER)


async def test_registering_twice_changes_nothing(out: Collected) -> None:
    await script(AgentStreamsCapability(out), AgentStreamsCapability(out))

    assert ledger_of(out) == told_by("pydantic_ai", LEDGER)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_woven_script_gives_the_ledger(out: Collected, times: int) -> None:
    watched: list[Any] = [AgentStreamsCapability(out) for _ in range(times)]
    expert = agent(DONE, capabilities=watched, name="expert")

    async def ask() -> str:
        """Ask the expert."""
        return (await expert.run("?")).output

    async with weaving(out) as does:
        model = scripted([ADD, asks("forecast")], asks("ask"), DONE)
        planner = Agent(model, name="planner", capabilities=watched, tools=[does.add, does.forecast, ask])
        await planner.run("?", metadata=THREAD)

    assert ledger_of(out) == told_by("pydantic_ai", WOVEN)


async def test_a_request_with_a_tool_is_told_exactly_so(out: Collected) -> None:
    await agent(ADD, DONE, capabilities=[AgentStreamsCapability(out)]).run("?", metadata=THREAD)
    request, tool = out.only(AgentEnd), out.only(ToolEnd)

    assert out.story() == ONE_TOOL
    assert {(each.agent, each.session_id) for each in out.events} == {("planner", "t1")}
    assert {each.parent_id for each in out.events if each.call_id != request.call_id} == {request.call_id}
    assert (request.completed, request.response_bytes) == (True, len("done"))
    assert (tool.input_bytes, tool.output_bytes) == (len('{"a":1,"b":2}'), 1)
    assert (out.only(ToolStart).call_id, out.only(ToolStart).arguments_hash) == (tool.call_id, tool.arguments_hash)


async def test_the_sum_of_a_run_is_an_aggregate_of_its_leaves(out: Collected) -> None:
    await agent(ADD, DONE, capabilities=[AgentStreamsCapability(out)]).run("?", metadata=THREAD)
    *leaves, whole = out.of(TokenUsage)

    assert [each.scope for each in (*leaves, whole)] == ["leaf", "leaf", "aggregate"]
    assert (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens) == (200, 40, 80)
    assert whole.call_id == out.only(AgentEnd).call_id


async def test_a_model_that_fails_says_with_which_code(out: Collected) -> None:
    with pytest.raises(ModelHTTPError):
        await agent(ModelHTTPError(529, "gpt-x"), capabilities=[AgentStreamsCapability(out)]).run("?")

    assert (out.only(ModelEnd).status, out.only(ModelEnd).error_code) == ("error", "529")
    assert out.only(AgentEnd).completed is False


async def test_tries_of_a_tool_are_numbered_and_arguments_that_do_not_fit_are_told(out: Collected) -> None:
    wrong = asks("add", a="one", b=2)
    await agent(wrong, ADD, DONE, capabilities=[AgentStreamsCapability(out)]).run("?", metadata=THREAD)

    assert [(each.attempt, each.status) for each in out.of(ToolEnd)] == [(1, "validation_error"), (2, "success")]


async def test_an_agent_inside_a_tool_is_a_request_inside_it(out: Collected) -> None:
    watched = [AgentStreamsCapability(out)]
    expert = agent(DONE, capabilities=watched, name="expert")
    planner = agent(asks("ask"), DONE, capabilities=watched)

    @planner.tool_plain
    async def ask() -> str:
        """Ask the expert."""
        return (await expert.run("?")).output

    await planner.run("?", metadata=THREAD)
    inner, outer = out.of(AgentEnd)

    assert (inner.agent, inner.parent_id, inner.session_id) == ("expert", out.only(ToolEnd).call_id, "t1")
    assert out.only(ToolEnd).parent_id == outer.call_id


async def test_the_session_is_the_conversation_unless_one_is_named(out: Collected) -> None:
    first = await agent(DONE, capabilities=[AgentStreamsCapability(out)]).run("?", conversation_id="c1")
    await agent(DONE, capabilities=[AgentStreamsCapability(out, session_id="mine", agent="web")]).run("?")

    assert first.output == "done"
    assert [(each.session_id, each.agent) for each in out.of(AgentEnd)] == [("c1", "planner"), ("mine", "web")]


async def test_the_test_model_of_the_framework_calls_every_tool(out: Collected) -> None:
    made = agent(capabilities=[AgentStreamsCapability(out)])
    with made.override(model=TestModel()):
        await made.run("?", metadata=THREAD)

    ledger = ledger_of(out)
    assert ledger.tools == {("add", "success"): 1, ("flaky", "error"): 1, ("flaky", "success"): 1}
    assert ledger.requests == {"success": 1}


async def test_a_request_inside_a_timed_one_names_it_as_its_parent(out: Collected) -> None:
    with Session(out, agent="web", session_id="t1").request() as request:
        await agent(DONE, capabilities=[AgentStreamsCapability(out)]).run("?")

    assert [each.parent_id for each in out.of(AgentEnd)] == [request.call_id, None]


async def test_an_emitter_that_raises_does_not_disturb_the_agent() -> None:
    result = await agent(ADD, DONE, capabilities=[AgentStreamsCapability(Broken())]).run("?")

    assert result.output == "done"


async def test_a_tool_that_is_stopped_is_not_called_and_the_model_reads_why(out: Collected) -> None:
    with stopped("breaker") as guard:
        capabilities = [AgentStreamsCapability(out, guard=guard) for _ in range(2)]
        result = await agent(ADD, DONE, capabilities=capabilities).run("?", metadata=THREAD)
        stats = guard.stats()
    told = str(result.all_messages())

    assert ("done", {"breaker": 1}, 2) == (result.output, stats.denied, stats.allowed)
    assert "tool:add was not called: its circuit is open" in told
    assert not out.of(ToolStart)
    assert not out.of(ToolEnd)


@pytest.mark.parametrize("by", ["budget", "loop"])
async def test_whoever_is_stopped_calls_no_model(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        capability = AgentStreamsCapability(out, tenant="acme", guard=guard)
        with pytest.raises(CallDenied, match=STOPPED[by][2]):
            await agent(ADD, DONE, capabilities=[capability]).run("?", metadata=THREAD)

    assert not out.of(ModelStart)
    assert "cancelled" == out.only(AgentEnd).status
