"""The textbook Quix Streams version of the work: a row per minute of event time, per session and per tool.

Tumbling windows with a reducer, state in RocksDB with changelog topics, exactly once, commits every second.

    python quix_streams.py BOOTSTRAP PREFIX TOPIC EVENTS TOOL_ENDS OUTPUT STATE [GUARANTEE SESSION_MS]

With a guarantee it is one worker of several, for tests/bench/faulted.py: every update of a row goes to the topics
PREFIXsessions and PREFIXtools, which have to be there, and neither EVENTS, TOOL_ENDS nor OUTPUT are looked at.
"""

import json
import sys
import time
from math import ceil, log
from pathlib import Path
from typing import Any, Final

from quixstreams import Application

BOOTSTRAP, PREFIX, TOPIC, EVENTS, TOOL_ENDS, OUTPUT, STATE = sys.argv[1:8]
GUARANTEE, SESSION_MS = sys.argv[8:10] or ("exactly-once", "")
LOG_GAMMA: Final = log(1.01 / 0.99)
MINUTE_MS: Final = 60_000
GRACE_MS: Final = 5 * MINUTE_MS

done = {"sessions": 0, "tools": 0}
begun: list[tuple[float, float]] = []
tables: dict[str, dict[str, list[int]]] = {"sessions": {}, "tools": {}}


def session_row(event: dict[str, Any]) -> list[int]:
    """Begin a session's row."""
    if not begun:
        begun.append((time.perf_counter(), time.process_time()))
    return add_session([0, 0, 0, 0], event)


def add_session(row: list[int], event: dict[str, Any]) -> list[int]:
    """Add an event to a session's row: events, errors, tokens in and out."""
    row[0] += 1
    row[1] += event["kind"] == "error"
    row[2] += event.get("input_tokens", 0)
    row[3] += event.get("output_tokens", 0)
    return row


def add_tool(row: list[Any], event: dict[str, Any]) -> list[Any]:
    """Add a call to a tool's row: calls, errors, milliseconds, and a quantile sketch."""
    duration_ms = event["duration_ms"]
    row[0] += 1
    row[1] += event["status"] != "success"
    row[2] += duration_ms
    bin_ = str(ceil(log(max(duration_ms, 1)) / LOG_GAMMA))  # JSON has no other keys than text
    row[3][bin_] = row[3].get(bin_, 0) + 1
    return row


def note(table: str) -> Any:
    """Keep the newest row of each window and key, to be compared when all is done."""

    def keep(window: dict[str, Any], key: Any, _timestamp: int, _headers: Any) -> None:
        name = key.decode() if isinstance(key, bytes) else key
        tables[table][f"{window['start']}|{name}"] = window["value"]
        done[table] += 1
        if done["sessions"] == int(EVENTS) and done["tools"] == int(TOOL_ENDS):
            finish()

    return keep


def finish() -> None:
    """Write what was counted; then the work is done, and the process waits to be ended."""
    wall, cpu = time.perf_counter() - begun[0][0], time.process_time() - begun[0][1]
    tools = {key: [*row[:3], sum(row[3].values())] for key, row in tables["tools"].items()}
    half = Path(f"{OUTPUT}.half")
    half.write_text(json.dumps({"wall_s": wall, "cpu_s": cpu, "sessions": tables["sessions"], "tools": tools}))
    half.rename(OUTPUT)


if __name__ == "__main__":
    among_others: dict[str, Any] = {}
    if SESSION_MS:
        among_others["consumer_extra_config"] = {"session.timeout.ms": int(SESSION_MS), "heartbeat.interval.ms": 1_000}
    if SESSION_MS and GUARANTEE == "exactly-once":  # as ours: nobody waits longer for a dead one's transaction
        among_others["producer_extra_config"] = {"transaction.timeout.ms": int(SESSION_MS)}
    app = Application(
        broker_address=BOOTSTRAP,
        consumer_group=f"{PREFIX}quix",
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=STATE,
        processing_guarantee=GUARANTEE,  # type: ignore[arg-type]  # one of two words, checked by it
        loglevel="WARNING",
        **among_others,
    )
    topic = app.topic(
        TOPIC,
        key_deserializer="str",
        value_deserializer="json",
        timestamp_extractor=lambda value, *_: value["time"],
    )
    events = app.dataframe(topic)
    of_sessions = events.tumbling_window(MINUTE_MS, GRACE_MS, name="sessions")
    sessions = of_sessions.reduce(add_session, session_row).current()
    calls = events[events["kind"] == "tool_end"].group_by("tool", key_serializer="str", key_deserializer="str")
    of_tools = calls.tumbling_window(MINUTE_MS, GRACE_MS, name="tools")
    tools = of_tools.reduce(add_tool, lambda event: add_tool([0, 0, 0, {}], event)).current()
    for name, rows in (("sessions", sessions), ("tools", tools)):
        if SESSION_MS:
            rows.to_topic(app.topic(f"{PREFIX}{name}", key_serializer="str", value_serializer="json"))
        else:
            rows.update(note(name), metadata=True)
    app.run()
