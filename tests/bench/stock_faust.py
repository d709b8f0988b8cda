"""The textbook Faust version of the work, as its documentation would have it: two agents, two tables, JSON models.

Stage one counts events and tokens per session and sends tool ends, keyed by tool, to a topic of their own; stage two
counts calls and durations per tool.  No windows, no duplicates, no alerts; state in memory with changelog topics.

    python tests/bench/stock_faust.py BOOTSTRAP PREFIX TOPIC
"""

import sys
from typing import Any

import faust

BOOTSTRAP, PREFIX, TOPIC = sys.argv[1:4]

app = faust.App(
    f"{PREFIX}faust",
    broker=f"kafka://{BOOTSTRAP}",
    store="memory://",
    web_enabled=False,
    topic_partitions=4,
    topic_replication_factor=1,
    table_standby_replicas=0,
)
events = app.topic(TOPIC, value_serializer="json", key_serializer="raw")
by_tool = app.topic(f"{PREFIX}by-tool", value_serializer="json", key_serializer="raw", partitions=4, internal=True)
sessions = app.Table("sessions", default=list, partitions=4)
tools = app.Table("tools", default=list, partitions=4)


@app.agent(events)  # type: ignore[untyped-decorator]  # Faust carries no types
async def count_sessions(stream: Any) -> None:
    """Count per session."""
    async for event in stream:
        count, tokens = sessions[event["session_id"]] or (0, 0)
        added = event.get("input_tokens", 0) + event.get("output_tokens", 0)
        sessions[event["session_id"]] = [count + 1, tokens + added]
        if event["kind"] == "tool_end":
            value = {"tool": event["tool"], "duration_ms": event["duration_ms"], "status": event["status"]}
            await by_tool.send(key=event["tool"].encode(), value=value)


@app.agent(by_tool)  # type: ignore[untyped-decorator]  # as above
async def count_tools(stream: Any) -> None:
    """Count per tool."""
    async for call in stream:
        calls, errors, duration = tools[call["tool"]] or (0, 0, 0)
        tools[call["tool"]] = [calls + 1, errors + (call["status"] != "success"), duration + call["duration_ms"]]


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warning"]
    app.main()
