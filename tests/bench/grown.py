"""One point of a growth curve: events of so many sessions, tools and bytes through both stages, without a broker.

Run by `growth.py` in a process of its own, so that memory is this point's alone.  Prints one line of JSON.
Time is the CPU time of this thread within the stages; what makes the events is outside the clock.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
if __name__ == "__main__":
    sys.path += [str(ROOT), str(ROOT / "tests")]  # at the end: a compiled package on PYTHONPATH wins

import msgspec  # noqa: E402  the path is set above
import psutil  # noqa: E402  as above
from fleet import START_MS, Fleet  # noqa: E402  as above
from one_stage import Record  # noqa: E402  as above

from streams.fold import live  # noqa: E402  as above
from streams.fold.price import PriceBook  # noqa: E402  as above
from streams.fold.pricelist import packaged_prices  # noqa: E402  as above
from streams.rule.defaults import default_rules  # noqa: E402  as above
from streams.rule.model import RuleSet  # noqa: E402  as above
from streams.rule.parse import parse_rules  # noqa: E402  as above
from streams.stage.keys import partition_of  # noqa: E402  as above
from streams.stage.rollups import RollupsPartition  # noqa: E402  as above
from streams.stage.sessions import SessionsPartition  # noqa: E402  as above
from streams.topology import ROLLUPS  # noqa: E402  as above

FLUSH_EVENTS: Final = 60_000  # at full load a flush holds half a second
SPAN_MS: Final = 240_000  # of event time: nothing is late, whatever the order
LIFE: Final = 8
FIELD_CHARS_MAX: Final = 500
ROLLUP_PARTITIONS: Final = 4
REST_MS: Final = 70_000  # more than the period after which rows that nobody touches are packed
TICK_MS: Final = 250  # a worker's
GC_THRESHOLDS: Final = (100_000, 20, 50)  # those of workers
WAVES: Final = 20  # with their ticks 25 minutes: nobody's silence lasts half an hour
FEATURES: Final = ("alert rules", "circuit breakers", "prices", "sequence numbers")
START: Final[dict[str, int]] = {"sessions": 2_000, "tools": 50, "rules": 0, "partitions": 4, "payload_bytes": 0}


def templates(payload_bytes: int, *, numbered: bool = True) -> list[bytes]:
    """Return the life of a session as JSON with holes: id, time, session, tool, and if numbered source and seq."""
    found: list[bytes] = []
    kinds = set()
    for event in Fleet(11, sessions=1).events(200):
        if event["kind"] in kinds or (event["kind"] != "agent_start" and not found):
            continue
        kinds.add(event["kind"])
        event |= {"id": "%ID", "time": "%TIME", "session_id": "%SESSION", "source": "%SOURCE", "seq": "%SEQ"}
        if not numbered:
            del event["source"], event["seq"]
        if "tool" in event:
            event["tool"] = "%TOOL"
        if payload_bytes:
            event["attributes"] = _padding(payload_bytes)
        text = json.dumps(event, separators=(",", ":")).replace('"%TIME"', "%TIME").replace('"%SEQ"', "%SEQ")
        found.append(_with_holes(text))
        if len(found) == LIFE:
            break
    return found


def _with_holes(text: str) -> bytes:
    for name in ("ID", "TIME", "SESSION", "TOOL", "SOURCE", "SEQ"):
        text = text.replace(f"%{name}", f"%({name})b")
    return text.encode()


def _padding(payload_bytes: int) -> dict[str, str]:
    rest, padding = payload_bytes, dict[str, str]()
    while rest > 0 and len(padding) < 32:
        size = min(rest, FIELD_CHARS_MAX)
        padding[f"{'field-' * 16}{len(padding):02d}"] = "x" * size
        rest -= size + 98
    return padding


class Events:
    """Records of many sessions: each one's next event when it is asked for, so that nothing is kept but a byte."""

    def __init__(self, sessions: int, tools: int, events: int, payload_bytes: int, *, numbered: bool = True) -> None:
        self._templates = templates(payload_bytes, numbered=numbered)
        self._sessions, self._tools = sessions, tools
        self._at = bytearray(sessions)
        self._count, self._step_ms = 0, SPAN_MS / events

    def of(self, number: int) -> tuple[bytes, bytes]:
        """Return key and value of a session's next event."""
        at = self._at[number]
        self._at[number] = (at + 1) % len(self._templates)
        self._count += 1
        session = b"s-%07d" % number
        holes = {
            b"ID": b"%d" % self._count,
            b"TIME": b"%d" % int(START_MS + self._count * self._step_ms),
            b"SESSION": session,
            b"TOOL": b"tool-%05d" % (number % self._tools),
            b"SOURCE": b"host-%d" % (number % 10),
            b"SEQ": b"%d" % self._count,
        }
        return session, self._templates[at] % holes

    def each(self, lives: int = 1, numbers: Iterable[int] | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yield so many events of every session, or of these, session by session."""
        for number in range(self._sessions) if numbers is None else numbers:
            for _ in range(lives):
                yield self.of(number)

    def some(self, count: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield so many events of sessions by chance."""
        chance = random.Random(3)
        for _ in range(count):
            yield self.of(chance.randrange(self._sessions))


class Stages:
    """Both stages, flushed every so many events; what they take is counted."""

    def __init__(self, partitions: int, rules: RuleSet, *, keep: bool = False, pricer: PriceBook | None = None) -> None:
        self.first = [
            SessionsPartition(number, partitions, ROLLUP_PARTITIONS, rules, pricer) for number in range(partitions)
        ]
        self.second = [RollupsPartition(number, ROLLUP_PARTITIONS, rules) for number in range(ROLLUP_PARTITIONS)]
        self._ends, self._rollup_ends = [0] * partitions, [0] * ROLLUP_PARTITIONS
        self.kept: list[dict[bytes, bytes]] | None = [{} for _ in range(partitions)] if keep else None
        self.cpu_ns = self.rows = self.row_bytes = self.value_bytes = 0

    def run(self, events: Iterable[tuple[bytes, bytes]]) -> int:
        """Feed everything, flush by flush; return how many events."""
        total = 0
        batches: list[list[Record]] = [[] for _ in self.first]
        for total, (key, value) in enumerate(events, 1):
            number = partition_of(key, len(self.first))
            batches[number].append(Record(self._ends[number], START_MS + SPAN_MS, key, value))
            self._ends[number] += 1
            self.value_bytes += len(value)
            if total % FLUSH_EVENTS == 0:
                self._flush(batches)
                batches = [[] for _ in self.first]
        self._flush(batches)
        return total

    def tick(self, now_ms: int) -> None:
        """Let time pass everywhere."""
        for first in self.first:
            first.tick(now_ms)
        for second in self.second:
            second.tick(now_ms)

    def rest(self, now_ms: int) -> int:
        """Let a period pass in which nothing is touched, tick by tick as a worker does; return its end."""
        end_ms = now_ms + REST_MS
        for at_ms in range(now_ms, end_ms, TICK_MS):
            self.tick(at_ms)
        return end_ms

    def _flush(self, batches: list[list[Record]]) -> None:
        begun = time.thread_time_ns()
        sends = []
        for number, (stage, records) in enumerate(zip(self.first, batches, strict=True)):
            stage.feed(records)
            plan = stage.plan()
            if plan is None:
                continue
            sends += [send for send in plan.sends if send.topic == ROLLUPS.suffix]
            self.rows += len(plan.rows)
            self.row_bytes += sum(len(value) for _, value in plan.rows if value is not None)
            if self.kept is not None:
                self.kept[number].update((key, value) for key, value in plan.rows if value is not None)
        for send in sends:
            assert send.partition is not None
            end = self._rollup_ends[send.partition]
            record = Record(end, START_MS, send.key, send.value, send.headers)
            self.second[send.partition].feed([record])
            self._rollup_ends[send.partition] = end + 1
        for second in self.second:
            second.plan()
        self.cpu_ns += time.thread_time_ns() - begun

    def applied(self) -> int:
        """Count what the first stage has applied."""
        return sum(stage.counters().get("applied", 0) for stage in self.first)


def many_rules(count: int) -> RuleSet:
    """Return the shipped rules, or so many others, over tools and sessions by turns."""
    if not count:
        return default_rules()
    over = (("tool", "tool_calls_error"), ("session", "errors"))
    lines = [
        f"      - {{alert: Rule{n}, over: {over[n % 2][0]}, value: {{sum: {over[n % 2][1]}}}, window: 5m, "
        f"above: {1_000_000 + n}, severity: warning}}"
        for n in range(count)
    ]
    return parse_rules("groups:\n  - name: many\n    rules:\n" + "\n".join(lines))


def cost(point: dict[str, int], events: int) -> dict[str, Any]:
    """Measure CPU per event, once every session is there."""
    stages = Stages(point["partitions"], many_rules(point["rules"]))
    source = Events(point["sessions"], point["tools"], point["sessions"] + events, point["payload_bytes"])
    before = stages.run(source.each())
    stages.cpu_ns = stages.rows = stages.row_bytes = stages.value_bytes = 0
    gc.collect()
    done = stages.run(source.some(events))
    assert stages.applied() == before + done, "an event was not counted"
    return {
        "us_per_event": stages.cpu_ns / done / 1000,
        "rows_per_event": stages.rows / done,
        "row_bytes": stages.row_bytes / max(1, stages.rows),
        "value_bytes": round(stages.value_bytes / done),
    }


def without(feature: str, events: int) -> dict[str, Any]:
    """Measure CPU per event with everything on but one feature; with a name that is none of them, with everything."""
    rules = default_rules()
    if feature == "alert rules":
        rules = msgspec.structs.replace(rules, rules=())
    elif feature == "circuit breakers":
        rules = msgspec.structs.replace(rules, breakers=())
    numbered = feature != "sequence numbers"  # without them every id is remembered
    pricer = None if feature == "prices" else PriceBook(packaged_prices())
    stages = Stages(START["partitions"], rules, pricer=pricer)
    source = Events(START["sessions"], START["tools"], START["sessions"] + events, 0, numbered=numbered)
    before = stages.run(source.each())
    stages.cpu_ns = 0
    gc.collect()
    done = stages.run(source.some(events))
    assert stages.applied() == before + done, "an event was not counted"
    return {"us_per_event": stages.cpu_ns / done / 1000}


def memory(sessions: int) -> dict[str, Any]:
    """Measure the resident memory of live sessions that came in waves: each after a whole request and a minute's rest.

    `hot_bytes` is what the first wave took while all its rows were being folded into.
    """
    stages = Stages(START["partitions"], default_rules())
    source = Events(sessions, START["tools"], sessions * LIFE, 0)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    done, wave, hot = 0, -(-sessions // WAVES), 0.0
    now_ms = START_MS + SPAN_MS
    for first in range(0, sessions, wave):
        numbers = range(first, min(first + wave, sessions))
        done += stages.run(source.each(LIFE, numbers))
        hot = hot or (process.memory_info().rss - before) / len(numbers)
        now_ms = stages.rest(now_ms)
    for _ in range(2):
        now_ms = stages.rest(now_ms)
    assert stages.applied() == done == sessions * LIFE, "an event was not counted"
    gc.collect()
    rested = (process.memory_info().rss - before) / sessions
    return {"bytes_per_session": rested, "hot_bytes": hot, "sessions": sessions}


def recovery(sessions: int) -> dict[str, Any]:
    """Measure how fast changelog rows become a state again, without the broker."""
    stages = Stages(START["partitions"], default_rules(), keep=True)
    stages.run(Events(sessions, START["tools"], sessions * LIFE, 0).each(LIFE))
    assert stages.kept is not None
    rows = [list(kept.items()) for kept in stages.kept]
    partitions = [
        SessionsPartition(number, len(rows), ROLLUP_PARTITIONS, default_rules()) for number in range(len(rows))
    ]
    begun = time.thread_time_ns()
    for partition, own in zip(partitions, rows, strict=True):
        partition.load(own)
        partition.loaded()
    took = time.thread_time_ns() - begun
    count = sum(map(len, rows))
    assert sum(sum(1 for _ in partition.sessions()) for partition in partitions) == sessions, "a session was lost"
    return {"rows_per_s": count / took * 1e9, "rows": count}


def main() -> None:
    """Measure what is named: `cost AXIS VALUE EVENTS`, `without FEATURE EVENTS`, `memory SESSIONS`, `recovery N`."""
    gc.set_threshold(*GC_THRESHOLDS)
    what, *rest = sys.argv[1:]
    if what == "cost":
        axis, value, events = rest
        found = cost({**START, axis: int(value)}, int(events))
    elif what == "without":
        found = without(rest[0], int(rest[1]))
    else:
        found = {"memory": memory, "recovery": recovery}[what](int(rest[0]))
    found["compiled"] = not str(live.__file__).endswith(".py")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
