"""The real SDK and its real model, over a transport that plays a provider: exactly this ledger, however it ends."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Usage,
    function_tool,
    handoff,
    set_trace_processors,
)
from agents.exceptions import UserError
from agents.mcp import MCPServer
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, told_by
from mcp.client import Client
from openai import AsyncOpenAI, InternalServerError
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from scripted_tools import Broken
from verdict_records import STOPPED, stopped
from woven import forecasts, weaving

from streams.event.model import AgentEnd, AgentStart, ModelEnd, ModelStart, TokenUsage, ToolEnd, ToolStart
from streams.feed import CallDenied
from streams.feed.adapters.mcp import watch as watch_calls
from streams.feed.adapters.openai_agents import AgentStreamsProcessor
from streams.feed.adapters.openai_agents_guard import RunGuard
from streams.feed.timers import Session

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}

IDS = itertools.count()


def says(text: str = "done", *calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    asked = [
        {"id": f"{name}-{next(IDS)}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for name, given in calls
    ]
    message = {"role": "assistant", "content": None if asked else text, "tool_calls": asked or None}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if asked else "stop"}
    about = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-x"}
    return about | {"choices": [choice], "usage": USAGE}


class Endless(httpx.AsyncByteStream):
    """A streamed answer that begins and never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        delta = {"index": 0, "delta": {"role": "assistant", "content": "well"}, "finish_reason": None}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", "choices": [delta]}
        yield f"data: {json.dumps(chunk)}\n\n".encode()
        await asyncio.Event().wait()


class Provider(httpx.AsyncBaseTransport):
    """Plays answers; a number is an HTTP status, None an endless stream."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = next(self._answers)
        if answer is None:
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Endless())
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": "out of order"}}, request=request)
        return httpx.Response(200, json=answer, request=request)


def model(*answers: Any) -> OpenAIChatCompletionsModel:
    http = httpx.AsyncClient(transport=Provider(*answers))
    return OpenAIChatCompletionsModel("gpt-x", AsyncOpenAI(api_key="none", http_client=http, max_retries=0))


@function_tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def agent(*answers: Any, name: str = "planner", **more: Any) -> Agent[Any]:
    tries: Iterator[int] = iter(range(10))

    @function_tool
    def flaky(x: str) -> str:
        """Fail once."""
        if next(tries) == 0:
            raise RuntimeError("not yet")
        return x

    return Agent(name=name, model=model(*answers), tools=[add, flaky], **more)


@pytest.fixture
def out() -> Iterator[Collected]:
    yield Collected()
    set_trace_processors([])


def watch(out: Any, **more: Any) -> None:
    set_trace_processors([AgentStreamsProcessor(out, **more)])


THREAD = RunConfig(group_id="t1")
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
ADD = says("", ("add", {"a": 1, "b": 2}))


async def script() -> None:
    await Runner.run(agent(ADD, *(says("", ("flaky", {"x": "y"})) for _ in range(2)), says()), "?", run_config=THREAD)
    with pytest.raises(InternalServerError):
        await Runner.run(agent(500), "?", run_config=THREAD)
    stream = Runner.run_streamed(agent(None), "?", run_config=THREAD)
    async for event in stream.stream_events():
        if event.type == "raw_response_event":
            stream.cancel()


async def test_the_script_gives_the_ledger(out: Collected) -> None:
    watch(out)
    await script()

    assert ledger_of(out) == told_by("openai_agents", LEDGER)


async def test_registering_twice_changes_nothing(out: Collected) -> None:
    set_trace_processors([AgentStreamsProcessor(out), AgentStreamsProcessor(out)])
    await script()

    assert ledger_of(out) == told_by("openai_agents", LEDGER)


class Repeating(AgentStreamsProcessor):
    """Keeps every span that was told, to tell it again; some beginnings or ends may be held back."""

    def __init__(self, out: Any, held_back: str = "") -> None:
        super().__init__(out)
        self.told: list[tuple[Any, Any]] = []
        self._held_back = held_back

    def on_span_start(self, span: Any) -> None:
        self.told.append((super().on_span_start, span))
        if self._held_back != "beginnings":
            super().on_span_start(span)

    def on_span_end(self, span: Any) -> None:
        self.told.append((super().on_span_end, span))
        if self._held_back != "ends" or span.span_data.type == "task":
            super().on_span_end(span)


@pytest.mark.parametrize("seed", range(5))
async def test_spans_told_again_in_any_order_change_nothing(out: Collected, seed: int) -> None:
    processor = Repeating(out)
    set_trace_processors([processor])
    await script()
    once, again = out.story(), list(processor.told)
    random.Random(seed).shuffle(again)
    for hook, span in again:
        hook(span)

    assert out.story() == once
    assert ledger_of(out) == told_by("openai_agents", LEDGER)


async def test_ends_without_their_beginnings_tell_nothing_and_a_request_ends_what_has_none(out: Collected) -> None:
    set_trace_processors([Repeating(out, "beginnings")])
    await script()
    assert out.events == []

    set_trace_processors([Repeating(out, "ends")])
    await Runner.run(agent(ADD, says()), "?", run_config=THREAD)
    ledger = ledger_of(out)
    assert ({"success": 1}, {"cancelled": 2}, {("add", "cancelled"): 1}) == ledger[:3]


@pytest.mark.parametrize("times", [1, 2])
async def test_the_woven_script_gives_the_ledger(out: Collected, times: int) -> None:
    set_trace_processors([AgentStreamsProcessor(out) for _ in range(times)])
    expert = agent(says(), name="expert")

    @function_tool
    async def ask() -> str:
        """Ask the expert."""
        return str((await Runner.run(expert, "?")).final_output)

    async with weaving(out) as does:
        planner = agent(says("", ("add", {"a": 1, "b": 2}), ("forecast", {})), says("", ("ask", {})), says())
        planner.tools = [function_tool(does.add), function_tool(does.forecast), ask]
        await Runner.run(planner, "?", run_config=THREAD)

    assert ledger_of(out) == told_by("openai_agents", WOVEN)


class Served(MCPServer):
    """A server of the SDK's kind, reached within this process."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    @property
    def name(self) -> str:
        return "weather"

    async def connect(self) -> None:
        return

    async def cleanup(self) -> None:
        return

    async def list_tools(self, *_: Any, **__: Any) -> Any:
        return (await self._client.list_tools()).tools

    async def call_tool(self, tool_name: str, arguments: dict[str, Any] | None, meta: Any = None) -> Any:
        return await self._client.call_tool(tool_name, arguments, meta=meta)

    async def list_prompts(self) -> Any:
        raise NotImplementedError

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError


async def test_a_tool_of_a_server_of_the_sdks_that_fails_inside_a_good_answer_has_failed(out: Collected) -> None:
    """Of itself the SDK tells the trace of an answer, and nothing of a failure: the server is watched besides."""
    watch(out)
    async with Client(forecasts(out)) as client:
        planner = agent(says("", ("forecast", {})), says())
        planner.tools, planner.mcp_servers = [], [watch_calls(Served(client), out)]
        await Runner.run(planner, "?", run_config=THREAD)
    [end] = [each for each in out.of(ToolEnd) if each.tool == "forecast"]

    assert (end.status, end.attributes) == ("error", {"error_type": "tool_error"})
    assert "forecast" in end.error_message


async def test_a_request_with_a_tool_is_told_exactly_so(out: Collected) -> None:
    watch(out)
    await Runner.run(agent(ADD, says()), "?", run_config=THREAD)
    request, tool = out.only(AgentEnd), out.only(ToolEnd)

    assert out.story() == ONE_TOOL
    assert {(each.agent, each.session_id) for each in out.events} == {("planner", "t1")}
    assert {each.parent_id for each in out.events if each.call_id != request.call_id} == {request.call_id}
    assert (request.completed, tool.input_bytes, tool.output_bytes) == (True, len('{"a":1,"b":2}'), 1)
    assert out.only(ToolStart).call_id == tool.call_id


async def test_the_sum_of_a_run_is_an_aggregate_of_its_leaves(out: Collected) -> None:
    watch(out)
    await Runner.run(agent(ADD, says()), "?", run_config=THREAD)
    *leaves, whole = out.of(TokenUsage)

    assert [each.scope for each in (*leaves, whole)] == ["leaf", "leaf", "aggregate"]
    assert (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens) == (200, 40, 80)
    assert whole.call_id == out.only(AgentEnd).call_id


async def test_a_model_that_fails_says_with_which_code(out: Collected) -> None:
    watch(out)
    with pytest.raises(InternalServerError):
        await Runner.run(agent(500), "?", run_config=THREAD)

    assert (out.only(ModelEnd).status, out.only(ModelEnd).error_code) == ("error", "500")
    assert out.only(AgentEnd).completed is False


async def test_a_run_while_an_older_exception_is_handled_has_not_failed(out: Collected) -> None:
    watch(out)
    try:
        raise ValueError("older")
    except ValueError:
        await Runner.run(agent(ADD, says()), "?", run_config=THREAD)

    assert out.story() == ONE_TOOL


async def test_an_agent_handed_over_to_is_a_request_inside(out: Collected) -> None:
    watch(out)
    expert = agent(says(), name="expert")
    asks = says("", ("transfer_to_expert", {}))
    await Runner.run(agent(asks, handoffs=[handoff(expert)]), "?", run_config=THREAD)
    outer, inner = out.of(AgentStart)

    assert [outer.agent, inner.agent, inner.parent_id] == ["planner", "expert", outer.call_id]
    assert [each.agent for each in out.of(AgentEnd)] == ["expert", "planner"]
    assert out.of(ModelEnd)[1].parent_id == inner.call_id


async def test_without_a_group_every_trace_is_a_session_unless_one_is_named(out: Collected) -> None:
    watch(out)
    await Runner.run(agent(says()), "?")
    watch(out, session_id="mine", agent="web")
    await Runner.run(agent(says()), "?")
    first, second = out.of(AgentEnd)

    assert first.session_id.startswith("trace_")
    assert (second.session_id, second.agent) == ("mine", "web")


async def test_a_request_inside_a_timed_one_names_it_as_its_parent(out: Collected) -> None:
    watch(out)
    with Session(out, agent="web", session_id="t1").request() as request:
        await Runner.run(agent(says()), "?", run_config=THREAD)

    assert [each.parent_id for each in out.of(AgentEnd)] == [request.call_id, None]


async def test_spans_out_of_order_and_an_emitter_that_raises_are_not_noticed(out: Collected) -> None:
    nonsense: Any = object()
    processor = AgentStreamsProcessor(out)
    for hook in (processor.on_span_start, processor.on_span_end, processor.on_trace_start, processor.on_trace_end):
        hook(nonsense)
    watch(Broken())
    result = await Runner.run(agent(ADD, says()), "?", run_config=THREAD)

    assert result.final_output == "done"
    assert out.events == []


async def test_a_model_that_tells_the_trace_nothing_is_counted_by_its_turn(out: Collected) -> None:
    class Silent(Model):
        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            text = ResponseOutputText(type="output_text", text="done", annotations=[])
            said = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
            usage = Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)
            return ModelResponse(output=[said], usage=usage, response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            raise NotImplementedError

    set_trace_processors([AgentStreamsProcessor(out), AgentStreamsProcessor(out)])
    await Runner.run(Agent(name="planner", model=Silent()), "?", run_config=THREAD)
    leaf, whole = out.of(TokenUsage)

    assert (leaf.scope, leaf.input_tokens, leaf.parent_id) == ("leaf", 100, whole.call_id)
    assert (whole.scope, whole.input_tokens) == ("aggregate", 100)


def guarded_agent(guard: RunGuard, *answers: Any) -> Agent[Any]:
    made = agent(*answers)
    made.tools = guard.tools([function_tool(_add, name_override="add")])
    return made


def _add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def test_a_tool_that_is_stopped_is_not_called_and_the_model_reads_why(out: Collected) -> None:
    watch(out)
    with stopped("breaker") as guard:
        hooks = RunGuard(out, guard=guard)
        result = await Runner.run(guarded_agent(hooks, ADD, says()), "?", run_config=THREAD, hooks=hooks)
        denied = guard.stats().denied

    assert ({"breaker": 1}, "done") == (denied, result.final_output)
    assert STOPPED["breaker"][2] in str(result.to_input_list())
    assert "cancelled" == out.only(ToolEnd).status  # it did not fail, nor did it succeed
    assert "success" == out.only(AgentEnd).status


async def test_a_tool_without_our_guardrail_ends_the_run(out: Collected) -> None:
    watch(out)
    with stopped("breaker") as guard, pytest.raises(UserError, match="tool:add was not called") as caught:
        await Runner.run(agent(ADD, says()), "?", run_config=THREAD, hooks=RunGuard(out, guard=guard))

    assert isinstance(caught.value.__cause__, CallDenied)
    assert {"cancelled"} == {each.status for each in (out.only(ToolEnd), out.only(AgentEnd))}


@pytest.mark.parametrize("by", ["budget", "loop"])
async def test_whoever_is_stopped_calls_no_model(out: Collected, by: str) -> None:
    watch(out, tenant="acme")
    with stopped(by) as guard:
        hooks = RunGuard(out, tenant="acme", guard=guard)
        with pytest.raises(CallDenied, match=STOPPED[by][2]):
            await Runner.run(guarded_agent(hooks, ADD, says()), "?", run_config=THREAD, hooks=hooks)

    assert not out.of(ModelStart)
