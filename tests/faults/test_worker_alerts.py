"""Alerts while their workers are killed and paused: every transition is on the topic, once, in order of its key.

Tools fail by a timetable, so which transitions must be there is known: the pure stages say it (tests/through_stages.py)
of the same events, one after the other, with no worker and no fault.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fault_table
import pytest
from fleet import Event
from harness import eventually
from life import PARTITIONS, Life, Load, drawn_seed, prepared
from through_stages import Stages

from streams.clock import now_ms
from streams.rule.parse import parse_rules

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(1_200)]

TOOLS: Final = 24
STEP_MS: Final = 3  # between two events of all tools
# A tool fails for 5 s inside one pane of 10 s, every two minutes: whatever is late by less than the window's rest is
# still judged, and an alert is over long before the next begins.
CYCLE_MS: Final = 120_000
FAILS_MS: Final = (2_000, 7_000)
LIMIT: Final = 20  # of some 70 failures
RULES: Final = f"""
groups:
  - name: g
    rules:
      - {{alert: ToolFailing, over: tool, value: {{sum: tool_calls_error}}, window: 1m, above: {LIMIT},
         severity: critical}}
"""
LASTS_S: Final = 300
Transitions = dict[str, list[tuple[int, str, int]]]
FAULTS: Final = ("kill", "kill", "pause")
APART_S: Final = (5, 20)
FLUSH: Final = 100  # events of a flush where no worker decides it
RESOLVED_S: Final = 120  # after the last failure: the window, and what a slow machine adds


@dataclass(frozen=True, slots=True)
class Timetable(Load):
    """Calls of tools that fail when it is their turn; event time is the wall's."""

    start_ms: int = 0

    def events(self, count: int) -> Iterator[Event]:
        """Yield the first events."""
        for number in range(count):
            tool, at_ms = number % TOOLS, number * STEP_MS
            yield {
                "kind": "tool_end", "id": f"e{number}", "source": f"host-{tool}", "seq": number // TOOLS + 1,
                "time": self.start_ms + at_ms, "agent": "a", "session_id": f"s{tool}", "tool": f"tool-{tool:02d}",
                "status": "error" if failing(tool, at_ms) else "success", "duration_ms": 1, "call_id": f"c{number}",
            }  # fmt: skip


def failing(tool: int, at_ms: int) -> bool:
    """Is it the tool's turn?"""
    begin, end = FAILS_MS
    return begin <= (at_ms - tool // 2 * 10_000) % CYCLE_MS < end


@pytest.mark.fault("T22", "T2", "T9")
async def test_every_transition_is_there_once_and_in_order(kafka: str, prefix: str, tmp_path: Path) -> None:
    await prepared(kafka, prefix)
    (tmp_path / "rules.yaml").write_text(RULES)
    seed, begun_ms = drawn_seed(), now_ms()
    load = Timetable(seed=seed, rate=1000 // STEP_MS, start_ms=begun_ms - begun_ms % CYCLE_MS)
    settings = {"AGENT_STREAMS_RULES_FILE": str(tmp_path / "rules.yaml")}
    with Life(kafka, prefix, tmp_path, load=load, seed=seed, settings=settings) as life:
        until = time.monotonic() + LASTS_S
        done = dict.fromkeys(FAULTS, 0)
        while time.monotonic() < until:
            fault, worker = life.random.choice(FAULTS), life.random.choice(life.workers)
            done[fault] += 1
            life.kill(worker) if fault == "kill" else life.pause(worker)
            life.work_until(time.monotonic() + life.random.uniform(*APART_S))
        life.finish()
        expected = _judged(load, life.published)
        eventually(
            lambda: _told(life, load) == expected, timeout_s=RESOLVED_S, what=lambda: _different(life, load, expected)
        )

        records = _records(life)
        assert len(records) == len({record["id"] for record, _ in records}), "a transition is there twice"
        late_ms = sorted(_detected(life, load))
    assert sum(map(len, expected.values())) >= TOOLS * 4, "the timetable is too short to show anything"
    fault_table.record(
        "T22", "under-kills-and-pauses", kills=done["kill"], pauses=done["pause"],
        transitions=len(records), missing=0, twice=0, detection_ms_median=late_ms[len(late_ms) // 2],
        detection_ms_max=late_ms[-1], seed=seed,
    )  # fmt: skip


def _judged(load: Timetable, count: int) -> Transitions:
    """Return what the pure stages say of these events, by tool."""
    stages = Stages(parse_rules(RULES), events=PARTITIONS["events"], rollups=PARTITIONS["rollups"])
    batch: list[dict[str, Any] | bytes] = []
    for event in load.events(count):
        batch.append(event)
        if len(batch) == FLUSH:
            stages.publish(batch)
            batch = []
    stages.publish(batch)
    stages.tick(load.start_ms + count * STEP_MS + CYCLE_MS)
    return _by_tool((json.loads(value) for _, value in stages.sent("alerts") if value is not None), load)


def _records(life: Life) -> list[tuple[dict[str, Any], int]]:
    """Return all transitions in order, with the time at which each was written."""
    messages = life.broker.read(f"{life.prefix}alerts")
    return [(json.loads(each.value()), each.timestamp()[1]) for each in messages if each.value() is not None]


def _told(life: Life, load: Timetable) -> Transitions:
    return _by_tool((record for record, _ in _records(life)), load)


def _by_tool(records: Iterable[dict[str, Any]], load: Timetable) -> Transitions:
    """Return turn of the timetable, state and number of each transition, in order; ids hold the moment of judging."""
    found: Transitions = {}
    for record in records:
        tool = record["labels"]["tool"]
        since_ms = record["active_since_ms"] - load.start_ms - int(tool[-2:]) // 2 * 10_000
        found.setdefault(tool, []).append((since_ms // CYCLE_MS, record["state"], record["transition"]))
    return found


def _different(life: Life, load: Timetable, expected: Transitions) -> str:
    told = _told(life, load)
    wrong = {tool: (turns, told.get(tool)) for tool, turns in expected.items() if told.get(tool) != turns}
    return f"the transitions; expected and found: {wrong}\n{life.logs()}"


def _detected(life: Life, load: Timetable) -> Iterator[int]:
    """Yield how long after the event that broke the limit each alert was written, in ms."""
    sent_ms: dict[str, int] = {}
    for message in life.broker.read(f"{life.prefix}events"):
        if message.value().endswith(b"}"):  # the broken ones are not
            sent_ms.setdefault(json.loads(message.value())["id"], message.timestamp()[1])
    broke: dict[str, list[str]] = {}
    failures: dict[tuple[str, int], int] = {}
    for event in load.events(life.published):
        if event["status"] == "error":
            turn = event["tool"], (event["time"] - load.start_ms) // 10_000
            failures[turn] = failures.get(turn, 0) + 1
            if failures[turn] == LIMIT + 1:
                broke.setdefault(event["tool"], []).append(event["id"])
    for record, written_ms in _records(life):
        if record["state"] == "firing":
            yield written_ms - sent_ms[broke[record["labels"]["tool"]].pop(0)]
