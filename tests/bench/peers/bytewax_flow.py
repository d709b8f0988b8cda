"""The textbook Bytewax version of the work: a row per minute of event time, per session and per tool.

Folded windows that need no order, a recovery store in SQLite with a snapshot every second.  Rows come out when their
windows close, which the end of the topic does.

    python bytewax_flow.py BOOTSTRAP PREFIX TOPIC EVENTS TOOL_ENDS OUTPUT STATE
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from math import ceil, log
from pathlib import Path
from typing import Any, Final

import bytewax.operators as op
from bytewax._bytewax import cli_main
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir

BOOTSTRAP, _, TOPIC, _, _, OUTPUT, STATE = sys.argv[1:8]
LOG_GAMMA: Final = log(1.01 / 0.99)

begun: list[tuple[float, float]] = []
tables: dict[str, dict[str, list[int]]] = {"sessions": {}, "tools": {}}


def parsed(message: Any) -> dict[str, Any]:
    """Read one record."""
    if not begun:
        begun.append((time.perf_counter(), time.process_time()))
    event: dict[str, Any] = json.loads(message.value)
    return event


def moment(event: dict[str, Any]) -> datetime:
    """Tell when it happened."""
    return datetime.fromtimestamp(event["time"] / 1000, UTC)


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
    bin_ = ceil(log(max(duration_ms, 1)) / LOG_GAMMA)
    row[3][bin_] = row[3].get(bin_, 0) + 1
    return row


def merge_sessions(one: list[int], other: list[int]) -> list[int]:
    """Put two rows together."""
    return [a + b for a, b in zip(one, other, strict=True)]


def merge_tools(one: list[Any], other: list[Any]) -> list[Any]:
    """Put two rows together."""
    bins = {key: one[3].get(key, 0) + other[3].get(key, 0) for key in one[3].keys() | other[3].keys()}
    return [*(a + b for a, b in zip(one[:3], other[:3], strict=True)), bins]


class _Partition(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        for table, key, minute, row in items:
            kept = row if table == "sessions" else [*row[:3], sum(row[3].values())]
            tables[table][f"{START_MS + 60_000 * minute}|{key}"] = kept


class _Kept(DynamicSink[Any]):
    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _Partition:
        return _Partition()


START_MS: Final = 0
CLOCK: Final = windowing.EventClock(moment, wait_for_system_duration=timedelta(minutes=5))
MINUTES: Final = windowing.TumblingWindower(timedelta(minutes=1), datetime.fromtimestamp(START_MS, UTC))


def flow() -> Dataflow:
    """Return the work."""
    work = Dataflow("peer")
    source: Any = KafkaSource([BOOTSTRAP], [TOPIC], tail=False)
    events = op.map("parsed", op.input("events", work, source), parsed)
    of_sessions = op.key_on("by-session", events, lambda event: event["session_id"])
    sessions = windowing.fold_window(
        "sessions", of_sessions, CLOCK, MINUTES, lambda: [0, 0, 0, 0], add_session, merge_sessions, ordered=False
    )
    ends = op.filter("tool-ends", events, lambda event: event["kind"] == "tool_end")
    of_tools = op.key_on("by-tool", ends, lambda event: event["tool"])
    tools = windowing.fold_window(
        "tools", of_tools, CLOCK, MINUTES, lambda: [0, 0, 0, {}], add_tool, merge_tools, ordered=False
    )
    for name, rows in (("sessions", sessions.down), ("tools", tools.down)):
        named = op.map(f"named-{name}", rows, lambda each, name=name: (name, each[0], *each[1]))
        op.output(f"out-{name}", named, _Kept())
    return work


if __name__ == "__main__":
    Path(STATE).mkdir()
    init_db_dir(Path(STATE), 1)
    cli_main(flow(), workers_per_process=1, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(STATE))
    wall, cpu = time.perf_counter() - begun[0][0], time.process_time() - begun[0][1]
    half = Path(f"{OUTPUT}.half")
    half.write_text(json.dumps({"wall_s": wall, "cpu_s": cpu, **tables}))
    half.rename(OUTPUT)
    time.sleep(60)  # until it is ended: its memory is looked at
