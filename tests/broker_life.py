"""A run whose brokers fail: weather that makes alerts fire and end, and who comes to the brokers through which door.

Alerts of two kinds.  Limits of what a tool was called ever are passed once each, at moments spread over all of the run.
Storms, in which all calls of some tools fail, fire an alert per tool that ends a window after the storm.
"""

import json
import random
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack
import yaml
from fleet import Event
from fleet import Fleet as Agents
from harness import Broker, WorkerProcess, eventually
from life import Life, Load

TOOLS: Final = 20
STRICKEN: Final = 6  # tools per storm
LIMITS: Final = tuple(range(200, 6_200, 200))  # of a tool's calls ever; a run makes 2,500 to 5,000
WINDOW_S: Final = 40  # longer than any pause of the brokers, or alerts would rightly end within a storm
FAILURES: Final = 15  # within the window
_HEARD_S: Final = 60.0
_META: Final = b"m"  # the key of the row that says where its partition reads on, which is its first number


@dataclass(frozen=True, slots=True)
class Weather(Load):
    """Events of now, in calm and stormy times that take turns when asked to; what was published is told again alike."""

    turns: list[int] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def events(self, count: int) -> Iterator[Event]:
        """Yield the first events."""
        for number, event in enumerate(Agents(self.seed, **self.fleet).events(count)):
            if self.asked.is_set():
                self.asked.clear()
                self.turns.append(number)
            if event["kind"] == "tool_end":
                failing = event["tool"] in self.stricken(bisect_right(self.turns, number))
                event["status"] = "error" if failing else "success"
            yield event

    def turn(self) -> set[str]:
        """Have the weather change; return the tools that fail now."""
        before = len(self.turns)
        self.asked.set()
        eventually(lambda: len(self.turns) > before, timeout_s=_HEARD_S, what="the next event")
        return self.stricken(before + 1)

    def stricken(self, turn: int) -> set[str]:
        """Return the tools whose calls all fail after so many turns."""
        if turn % 2 == 0:
            return set()
        return set(random.Random(self.seed + turn).sample([f"tool-{number:02d}" for number in range(TOOLS)], STRICKEN))


def weather(seed: int, rate: int) -> Weather:
    """Return events that happen as they are published, from now on."""
    fleet = {
        "sessions": 300, "tools": TOOLS, "tools_per_agent": TOOLS, "step_ms": 1000 / rate,
        "start_ms": time.time_ns() // 1_000_000,
    }  # fmt: skip
    return Weather(seed=seed, rate=rate, fleet=fleet)


def write_rules(folder: Path) -> Path:
    """Write the rules of the alerts."""
    passed: list[dict[str, Any]] = [
        {
            "alert": f"Called{limit}", "over": "tool", "value": {"total": ["tool_calls_success", "tool_calls_error"]},
            "above": limit, "severity": "info", "summary": "{tool}",
        }
        for limit in LIMITS
    ]  # fmt: skip
    failing = {
        "alert": "ToolFailing", "over": "tool", "value": {"sum": "tool_calls_error"}, "window": f"{WINDOW_S}s",
        "above": FAILURES, "severity": "warning", "summary": "{tool}",
    }  # fmt: skip
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [*passed, failing]}]}))
    return path


class Alerts:
    """What the alert topic says."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self._broker, self._topic = broker, f"{prefix}alerts"

    def records(self) -> list[dict[str, Any]]:
        """Return all transitions; those of a key are in one partition, and stay in its order."""
        return [json.loads(message.value()) for message in self._broker.read(self._topic) if message.value()]

    def wait_for_storm(self, tools: set[str]) -> None:
        """Wait until exactly these tools are said to fail."""

        def failing() -> bool:
            last = {each["labels"]["tool"]: each["state"] for each in self.records() if each["alert"] == "ToolFailing"}
            return {tool for tool, state in last.items() if state == "firing"} == tools

        eventually(failing, timeout_s=_HEARD_S + WINDOW_S, what=f"alerts of exactly {sorted(tools)}")

    def check(self, load: Weather, calls: Mapping[str, int]) -> int:
        """Every transition is there, once, and in order; return how many there are."""
        records = self.records()
        assert [] == [name for name, times in Counter(each["id"] for each in records).items() if times > 1]
        lives: dict[tuple[str, str], list[str]] = {}
        turns: dict[str, list[tuple[int, int]]] = {}
        for each in records:
            lives.setdefault((each["alert"], each["labels"]["tool"]), []).append(each["state"])
            turns.setdefault(each["fingerprint"], []).append((each["incarnation"], each["transition"]))
        wanted = expected(load, calls)
        both = wanted.keys() | lives.keys()
        wrong = {key: (wanted.get(key), lives.get(key)) for key in both if wanted.get(key) != lives.get(key)}
        assert not wrong, f"alerts, expected and found: {wrong}"
        assert [] == [(name, each) for name, each in turns.items() if each != sorted(set(each))]
        return len(records)


def expected(load: Weather, calls: Mapping[str, int]) -> dict[tuple[str, str], list[str]]:
    """Return the states of each alert and tool in their order, as they follow from what was published."""
    lives = {(f"Called{limit}", tool): ["firing"] for limit in LIMITS for tool in calls if calls[tool] > limit}
    for turn in range(1, len(load.turns) + 1):
        for tool in load.stricken(turn):
            lives.setdefault(("ToolFailing", tool), []).append("firing")
        for tool in load.stricken(turn - 1):
            lives["ToolFailing", tool].append("resolved")
    return lives


class BrokerLife(Life):
    """A life whose processes come to the brokers where `via` says, by name; all others directly."""

    def __init__(self, *arguments: Any, via: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._via = via or {}

    def _run(self, name: str, command: str, *options: str, **settings: str) -> WorkerProcess:
        there = ("--bootstrap", self._via.get(name, self.broker.bootstrap), "--prefix", self.prefix)
        return self.fleet.add(name, [*self._program, command, *there, *options], {**self._settings, **settings})

    def check_durable(self) -> None:
        """Whatever the group has committed, the changelog holds: its meta row says where to read on."""
        for source, changelog in (("events", "sessions.changelog"), ("rollups", "rollups.changelog")):
            committed = self.broker.committed(self.group, f"{self.prefix}{source}")

            def held(changelog: str = changelog, committed: dict[int, int] = committed) -> bool:
                tables = self.broker.rows(f"{self.prefix}{changelog}")
                return all(_next_offset(tables[number]) >= offset for number, offset in committed.items())

            # The marks of one transaction are written one partition after the other.
            eventually(held, timeout_s=_HEARD_S, what=lambda: f"{changelog} to hold {committed}\n{self.logs()}")  # noqa: B023  called at once


class Memory:
    """The memory of processes, looked at now and then; bytes."""

    def __init__(self, *processes: WorkerProcess) -> None:
        self._processes = processes
        self._most: dict[str, int] = {}
        self._first: dict[str, int] = {}

    def look(self) -> None:
        """Look at each that runs; one that was started anew is compared with the one before it."""
        for process in self._processes:
            if process.running:
                resident = _resident_bytes(process.pid)
                self._first.setdefault(process.name, resident)
                self._most[process.name] = max(self._most.get(process.name, 0), resident)

    @contextmanager
    def watched(self) -> Iterator["Memory"]:
        """Look ten times a second while the block runs."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.1):
                self.look()

        watching = threading.Thread(target=watch)
        self.look()
        watching.start()
        try:
            yield self
        finally:
            over.set()
            watching.join()

    def growth_bytes(self) -> int:
        """Return the most that one of them has grown by since the first look."""
        return max(most - self._first[name] for name, most in self._most.items())


def _next_offset(rows: Mapping[bytes, bytes]) -> int:
    return int(msgpack.unpackb(rows[_META], strict_map_key=False)[0]) if _META in rows else 0


def _resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) * 1024
