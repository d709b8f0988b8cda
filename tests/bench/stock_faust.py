"""The textbook Faust version of the work, as its documentation would have it: two agents, two tables, JSON models.

Stage one adds up events and tokens per session and sends tool ends, keyed by tool, to a topic of their own; stage two
adds up calls, errors and durations per tool, with a quantile sketch (log-spaced bins, 1 % relative error).  No windows,
no duplicates, no alerts.  State is in memory with changelog topics; the guarantee is Faust's own default,
at_least_once.

What makes it as fast as a user gets it without leaving the documentation: the memory store, orjson (Faust uses it by
itself where it is installed, as here), plain dictionaries instead of records, a producer that lingers (by default every
message is a request of its own; this alone gives about half more), no wait for the broker's answer to a message, no
standby replicas, no web server, a log of warnings only.  uvloop and larger stream buffers made no difference here.

    python tests/bench/stock_faust.py BOOTSTRAP PREFIX TOPIC [GUARANTEE SESSION_MS]

With a guarantee it is one worker of several, for tests/bench/faulted.py: the session timeout is given, the heartbeat is
a sixth of it, and offsets are committed every second instead of every 2.8, so that a crash repeats less.
"""

import sys
from math import ceil, log
from typing import Any, Final

import faust

BOOTSTRAP, PREFIX, TOPIC = sys.argv[1:4]
GUARANTEE, SESSION_MS = sys.argv[4:6] or ("at_least_once", "0")
LOG_GAMMA: Final = log(1.01 / 0.99)  # bins this wide hold any quantile to 1 %

AMONG_OTHERS: Final[dict[str, Any]] = {
    "processing_guarantee": GUARANTEE,
    "broker_session_timeout": int(SESSION_MS) / 1000,
    "broker_heartbeat_interval": int(SESSION_MS) / 6000,
    "broker_commit_interval": 1.0,
}

app = faust.App(
    f"{PREFIX}faust",
    broker=f"kafka://{BOOTSTRAP}",
    store="memory://",
    web_enabled=False,
    topic_partitions=4,
    topic_replication_factor=1,
    table_standby_replicas=0,
    producer_linger_ms=20,
    **(AMONG_OTHERS if int(SESSION_MS) else {}),
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
        duration_ms = call["duration_ms"]
        calls, errors, total_ms, sketch = tools[call["tool"]] or [0, 0, 0, dict[str, int]()]
        bin_ = str(ceil(log(max(duration_ms, 1)) / LOG_GAMMA))  # JSON has no other keys than text
        sketch[bin_] = sketch.get(bin_, 0) + 1
        tools[call["tool"]] = [calls + 1, errors + (call["status"] != "success"), total_ms + duration_ms, sketch]


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()
