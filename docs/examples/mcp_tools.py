"""A server of the Model Context Protocol whose tool calls arrive in Kafka; it needs a broker and nothing else.

    pip install 'agent-streams[mcp]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python mcp_tools.py

A watched client tells of its calls itself, also of those to servers of others: `watch(client, emitter)`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import asyncio

from mcp.client import Client
from mcp.server.mcpserver import MCPServer

from streams.feed import Emitter
from streams.feed.adapters.mcp import AgentStreamsMiddleware


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


async def ask(emitter: Emitter) -> None:
    """Call the tool once."""
    server = MCPServer("weather", middleware=[AgentStreamsMiddleware(emitter, agent="weather", session_id="example-1")])
    server.add_tool(weather)
    async with Client(server) as client:
        answer = await client.call_tool("weather", {"city": "Lisbon"})
        print(answer.structured_content)


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        asyncio.run(ask(emitter))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
