"""The real server and the real client in one process: every tool call told once, whoever watches."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from ledger_of import LEDGER, Collected, ledger_of, told_by
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import ToolEnd, ToolStart
from streams.feed.adapters.mcp import AgentStreamsMiddleware, watch
from streams.feed.adapters.pydantic_ai import AgentStreamsCapability
from streams.feed.timers import Session


def serve(*middleware: Any) -> MCPServer:
    server = MCPServer("tools", middleware=list(middleware), log_level="CRITICAL")
    tries: Iterator[int] = iter(range(10))

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @server.tool()
    def flaky(x: str) -> str:
        """Fail once."""
        if next(tries) == 0:
            raise RuntimeError("not yet")
        return x

    @server.tool()
    async def hang() -> None:
        """Never answer."""
        await asyncio.Event().wait()

    return server


async def script(client: Client) -> None:
    await client.call_tool("add", {"a": 1, "b": 2})
    assert (await client.call_tool("flaky", {"x": "y"})).is_error
    await client.call_tool("flaky", {"x": "y"})


@pytest.fixture
def out() -> Collected:
    return Collected()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_server_tells_the_ledger_of_tools(out: Collected, times: int) -> None:
    async with Client(serve(*(AgentStreamsMiddleware(out) for _ in range(times)))) as client:
        await script(client)

    assert ledger_of(out) == told_by("mcp", LEDGER)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_client_tells_the_ledger_of_tools(out: Collected, times: int) -> None:
    async with Client(serve()) as client:
        for _ in range(times):
            watch(client, out)
        await script(client)

    assert ledger_of(out) == told_by("mcp", LEDGER)


async def test_a_call_watched_on_both_sides_is_told_once(out: Collected) -> None:
    async with Client(serve(AgentStreamsMiddleware(out))) as client:
        await script(watch(client, out))

    assert ledger_of(out) == told_by("mcp", LEDGER)


async def test_a_call_that_an_agents_adapter_tells_of_is_told_once(out: Collected) -> None:
    async with Client(serve(AgentStreamsMiddleware(out))) as client:
        watch(client, out)
        agent = Agent(TestModel(), name="planner", capabilities=[AgentStreamsCapability(out)])

        @agent.tool_plain
        async def add(a: int, b: int) -> str:
            """Add by asking the server."""
            return str((await client.call_tool("add", {"a": a, "b": b})).structured_content)

        await agent.run("?")

    assert ledger_of(out).tools == {("add", "success"): 1}


async def test_a_call_is_told_exactly_so(out: Collected) -> None:
    async with Client(serve()) as client:
        with Session(out, agent="web", session_id="t1").request() as request:
            await watch(client, out, agent="planner", session_id="t1").call_tool("add", {"a": 1, "b": 2})
    start, end = out.only(ToolStart), out.only(ToolEnd)

    assert (end.tool, end.agent, end.session_id, end.parent_id) == ("add", "planner", "t1", request.call_id)
    assert (end.input_bytes, end.output_bytes, end.status) == (len('{"a":1,"b":2}'), 1, "success")
    assert (start.call_id, start.arguments_hash) == (end.call_id, end.arguments_hash)


async def test_a_tool_that_fails_inside_a_good_answer_has_failed(out: Collected) -> None:
    async with Client(serve()) as client:
        answer = await watch(client, out).call_tool("flaky", {"x": "y"})
    end = out.only(ToolEnd)

    assert (answer.is_error, end.status, end.attributes) == (True, "error", {"error_type": "tool_error"})
    assert "flaky" in end.error_message


@pytest.mark.parametrize("side", ["server", "client"])
async def test_a_call_that_is_given_up_is_cancelled(out: Collected, side: str) -> None:
    server = serve(AgentStreamsMiddleware(out)) if side == "server" else serve()
    async with Client(server) as client:
        calling = asyncio.create_task((client if side == "server" else watch(client, out)).call_tool("hang"))
        while not out.events:
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        while len(out.events) == 1:
            await asyncio.sleep(0)

    assert out.story() == ["ToolStart hang", "ToolEnd hang cancelled"]


async def test_a_call_that_takes_too_long_is_a_timeout(out: Collected) -> None:
    async with Client(serve()) as client:
        with pytest.raises(MCPError):
            await watch(client, out).call_tool("hang", read_timeout_seconds=0.01)

    assert out.only(ToolEnd).status == "timeout"


async def test_an_emitter_that_raises_is_not_noticed() -> None:
    async with Client(serve(AgentStreamsMiddleware(Broken()))) as client:
        answer = await watch(client, Broken()).call_tool("add", {"a": 1, "b": 2})

    assert not answer.is_error


@pytest.mark.parametrize("by", STOPPED)
async def test_a_call_that_is_stopped_never_reaches_the_server(out: Collected, by: str) -> None:
    served = Collected()
    with stopped(by) as guard:
        async with Client(serve(AgentStreamsMiddleware(served))) as client:
            watch(client, out, session_id="t1", tenant="acme", guard=guard)
            result = await client.call_tool("add", {"a": 1, "b": 2})
        denied = guard.stats().denied

    assert ({by: 1}, True) == (denied, result.is_error)
    assert STOPPED[by][2] in result.content[0].text  # type: ignore[union-attr]  # a text
    assert not out.of(ToolStart)
    assert not served.of(ToolStart)
