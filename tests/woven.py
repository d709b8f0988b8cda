"""What the woven script needs besides a framework: a server whose tool fails inside a good answer, and tools that meet.

Both sides of the server are watched, as an agent's developer may do who knows nothing of the other side.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger_of import Collected
from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from streams.feed.adapters.mcp import AgentStreamsMiddleware, watch

TIMEOUT_S = 60


def forecasts(out: Collected) -> MCPServer:
    server = MCPServer("weather", middleware=[AgentStreamsMiddleware(out)], log_level="CRITICAL")

    @server.tool()
    def forecast() -> str:
        """Fail: the answer says so, the request succeeds."""
        raise RuntimeError("no weather")

    return server


class Tools:
    """What the tools do, whichever framework calls them: both of the first come only while the other is there."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._meeting = asyncio.Barrier(2)

    async def add(self, a: int, b: int) -> str:
        """Add."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._meeting.wait()
        return str(a + b)

    async def forecast(self) -> str:
        """Ask the server, and hand on whatever it answers."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._meeting.wait()
        answer = await self._client.call_tool("forecast", {})
        assert answer.is_error
        return str(answer.content)


@asynccontextmanager
async def weaving(out: Collected) -> AsyncIterator[Tools]:
    """Serve, and watch the client as well."""
    async with Client(forecasts(out)) as client:
        yield Tools(watch(client, out))
