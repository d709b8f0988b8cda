"""Commands in the traffic, and the recount of what they did: exported = the sum of all deltas since the last reset.

The recount reads the log of deltas and orders, and shares no code with the stages but the row's own reader.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from random import Random
from typing import Any, Final, NamedTuple

from simulation.attended import Attended, ask, bad
from simulation.broker import Broker, Record
from simulation.erasures import Forget
from simulation.rulings import Loaded, vary
from simulation.traffic import MINUTE_MS, START_MS

from streams.fold.baseline import created_ms, since_reset
from streams.fold.rollup import LifetimeRow
from streams.fold.session import OVERFLOW
from streams.sink.view import View
from streams.stage import commands

Place = tuple[str, tuple[str, ...]]
Numbers = dict[str, int]

# Some metrics and what they are made of, written down here again.
METRICS: Final = {
    "agent_tool_retries_total": ("tool", ("tool_retries",)),
    "agent_tool_call_duration_seconds": ("tool", ("tool_duration",)),
    "agent_heartbeats_total": ("agent", ("heartbeats",)),
    "agent_tool_use_retries_*": ("agent_tool", ("tool_retries",)),
}
LABELS: Final = {
    "tool": (("tool-0",), ("tool-1",), ("tool-5",), (OVERFLOW,), ("never-used",)),
    "agent": (("agent-a",), ("agent-b",)),
    "model": (("m-1",), ("m|3\\",)),
    "tenant": (("tenant-x",),),
    "agent_tool": (("agent-a", "tool-0"), ("agent-b", None), (None, "tool-1"), (None, None)),
    "partition": (("0",), (None,)),
}
CIRCUITS: Final = (
    "agent|agent-a", "agent|agent-b", "agent|*", "*", "agent_tool|agent-a|tool-0", "tool|tool-1", "model|m*",
)  # fmt: skip
ACTIONS: Final = ("force-open", "force-close", "disable", "metrics-only", "reset", "reset", "force-close")
COLUMNS: Final = {"agent_tool": ("agent", "tool")}
_SKEW_MS: Final = 60_000


class Meant(NamedTuple):
    """What an accepted command does: at which time, to which rows (None: any), to which numbers (None: all)."""

    command: str
    at_ms: int
    dimension: str | None
    labels: tuple[str | None, ...]
    names: dict[str, tuple[str, ...]] | None
    breaker: str | None = None  # what is told to circuits changes no row

    def concerns(self, place: Place) -> bool:
        """Is this place one of them?"""
        if self.breaker is not None:
            return False
        if self.names is not None and place[0] not in self.names:
            return False
        if self.dimension is None:
            return True
        return place[0] == self.dimension and all(
            wanted in {None, label} for wanted, label in zip(self.labels, place[1], strict=True)
        )

    @property
    def single(self) -> bool:
        """Is it about one key, which has one owner?"""
        if self.breaker is not None:
            return "*" not in self.breaker
        return self.dimension is not None and not {None, OVERFLOW} & set(self.labels)


class Told(NamedTuple):
    """One record of the commands topic; all of the last three None: it must be refused."""

    value: bytes | None
    timestamp: int
    meant: Meant | Loaded | None
    attended: Attended | None = None
    forget: Forget | None = None

    @property
    def command(self) -> str | None:
        """The id of what is to happen."""
        return next((each.command for each in (self.meant, self.attended, self.forget) if each is not None), None)


class Orders:
    """Operators at work."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._told: list[Told] = []

    def next(self, now_ms: int) -> Told:
        """Make one command, good or bad, new or repeated."""
        random, luck = self._random, self._random.random()
        if luck < 0.15 and self._told:
            return random.choice(self._told)._replace(timestamp=now_ms)
        make = self._bad if luck < 0.3 else self._rules if luck < 0.55 else self._good
        made = make(now_ms)
        self._told.append(made)
        return made

    def _good(self, now_ms: int) -> Told:
        random = self._random
        if random.random() < 0.4:
            value, attended = ask(random, f"c{len(self._told)}", now_ms)
            return Told(value, now_ms, None, attended)
        dimension = random.choice((None, *LABELS))
        labels = () if dimension is None else random.choice(LABELS[dimension])
        at_ms = now_ms - random.choice((0, 0, 5, 30 * MINUTE_MS))
        time_ms = at_ms if random.random() < 0.9 else now_ms + random.choice((_SKEW_MS, _SKEW_MS + 1, 10**9))
        meant_ms = time_ms if time_ms - now_ms <= _SKEW_MS else now_ms
        name = f"c{len(self._told)}"
        if random.random() < 0.5:
            breaker, action = random.choice(CIRCUITS), random.choice(ACTIONS)
            told = {"kind": "breaker", "id": name, "time": time_ms, "by": "ops", "breaker": breaker, "action": action}
            return Told(json.dumps(told).encode(), now_ms, Meant(name, meant_ms, None, (), None, breaker))
        command: dict[str, Any] = {"kind": "reset", "id": name, "time": time_ms, "by": "ops", "scope": "all"}
        if dimension is not None:
            columns = COLUMNS.get(dimension, (dimension,))
            given = {column: label for column, label in zip(columns, labels, strict=True) if label is not None}
            command["scope"] = {"dimension": dimension, **({"labels": given} if given else {})}
        names = self._metrics(command, dimension)
        return Told(json.dumps(command).encode(), now_ms, Meant(name, meant_ms, dimension, labels, names))

    def _rules(self, now_ms: int) -> Told:
        """Change the rules, or go back to those of the settings."""
        name, text = f"c{len(self._told)}", vary(self._random) if self._random.random() < 0.8 else None
        command = {"kind": "rules", "id": name, "time": now_ms, "by": "ops", **({"text": text} if text else {})}
        return Told(json.dumps(command).encode(), now_ms, Loaded(name, text))

    def _metrics(self, command: dict[str, Any], dimension: str | None) -> dict[str, tuple[str, ...]] | None:
        """Ask for some metrics only, now and then; returns the numbers behind them."""
        known = [metric for metric, (of, _) in METRICS.items() if dimension in {None, of}]
        if not known or self._random.random() < 0.5:
            return None
        command["metrics"] = metrics = self._random.sample(known, self._random.randint(1, len(known)))
        names: dict[str, tuple[str, ...]] = {}
        for metric in metrics:
            of, made_of = METRICS[metric]
            names[of] = names.get(of, ()) + made_of
        return names

    def _bad(self, now_ms: int) -> Told:
        if self._random.random() < 0.3:
            return Told(json.dumps(bad(self._random, now_ms)).encode(), now_ms, None)
        good = {"kind": "reset", "id": "bad", "time": START_MS, "by": "ops", "scope": {"dimension": "tool"}}
        wrong: dict[str, Any] = self._random.choice((
            {"kind": "explode"}, {"by": ""}, {"time": "yesterday"}, {"labels": {"tool": "tool-0"}}, {"schema": 2},
            {"scope": {"dimension": "planet"}}, {"scope": {"dimension": "all"}}, {"scope": "tool"}, {"metrics": []},
            {"scope": {"dimension": "tool", "labels": {"agent": "a"}}}, {"metrics": ["agent_tool_calls_in_flight"]},
            {"id": 7}, {"kind": "rules"}, {"kind": "rules", "scope": {}},
            {"kind": "breaker"}, {"kind": "breaker", "breaker": "tool|a", "action": "reset"},
        ))  # fmt: skip
        rules = {"kind": "rules", "id": "bad", "time": START_MS, "by": "ops"}
        texts = [json.dumps({**rules, "text": text}).encode() for text in ("", "groups: 7", "{", "x" * 60_000)]
        values = (None, b"", b"{", b"[]", *texts, b"\xff", b"[" * 2_000, *[json.dumps({**good, **wrong}).encode()] * 12)
        return Told(self._random.choice(values), now_ms, None)


def accepted(told: Sequence[tuple[int, Told]]) -> tuple[list[Meant], list[Loaded], list[Attended], Counter[str]]:
    """Return which commands happen, in their order, and how many were accepted, repeated and rejected."""
    remembered: list[str] = []
    happen: list[Meant] = []
    loaded: list[Loaded] = []
    attended: list[Attended] = []
    outcomes: Counter[str] = Counter()
    for _, one in told:
        if one.command is None:
            outcomes["rejected"] += 1
        elif one.command in remembered:
            outcomes["repeated"] += 1
        else:
            outcomes["accepted"] += 1
            if one.attended is not None:
                attended.append(one.attended)
            elif one.forget is not None:
                pass  # `erasures` asks what became of it
            elif isinstance(one.meant, Loaded):
                loaded.append(one.meant)
            else:
                happen.append(_at(one))  # a repeat is held against the time of its own record
            remembered = [*remembered, one.command][-commands.IDS_MAX :]
    return happen, loaded, attended, outcomes


def _at(one: Told) -> Meant:
    assert isinstance(one.meant, Meant)
    assert one.value is not None
    time_ms = json.loads(one.value)["time"]
    return one.meant._replace(at_ms=time_ms if time_ms - one.timestamp <= _SKEW_MS else one.timestamp)


def orders_in(records: Sequence[Record]) -> Iterator[tuple[str, int]]:
    """Yield the commands in a partition of the rollups topic, in order: their ids and times."""
    for record in records:
        batch = json.loads(record.value or b"")
        for order in (*batch.get("orders", ()), *batch.get("breaker_orders", ())):
            yield order[1], order[2]


class Recount:
    """One partition of the rollups topic, added up from its log."""

    def __init__(self, named: set[Place], happen: Sequence[Meant]) -> None:
        self._named = named
        self._meant = {one.command: one for one in happen}
        self.held: dict[Place, Numbers] = {}
        self.gone: dict[Place, Numbers] = {}
        self.since: dict[Place, dict[str, int]] = {}

    def read(self, records: Sequence[Record]) -> None:
        """Add deltas and carry out orders, as they stand in the log."""
        for record in records:
            batch = json.loads(record.value or b"")
            for dimension, labels, _, sums, samples, histograms, *_ in batch["deltas"]:
                place = dimension, tuple(labels)
                if place not in self._named:
                    place = dimension, (OVERFLOW,) * len(labels)
                held = self.held.setdefault(place, {})
                added = Counter(sums)
                for name, values in samples.items():
                    added[name] += sum(values)
                for name, (sum_us, *_rest) in histograms.items():
                    added[name] += sum_us
                for name, by in added.items():
                    held[name] = held.get(name, 0) + by
            for order in batch.get("orders", ()):
                self._reset(self._meant[order[1]]._replace(at_ms=order[2]))

    def _reset(self, meant: Meant) -> None:
        for place, held in self.held.items():
            if meant.concerns(place):
                names = held if meant.names is None else meant.names[place[0]]
                gone, since = self.gone.setdefault(place, {}), self.since.setdefault(place, {})
                gone.update({name: held[name] for name in names if name in held})
                for name in ("*", *held) if meant.names is None else names:
                    since[name] = max(meant.at_ms, since.get(name, -1))

    def shown(self, place: Place) -> Numbers:
        """Return what has been added to a place since its resets; nothing for zero."""
        gone = self.gone.get(place, {})
        less = {name: value - gone.get(name, 0) for name, value in self.held[place].items()}
        return {name: value for name, value in less.items() if value}

    def begun(self, place: Place, name: str) -> int | None:
        """Return when a number was last reset."""
        since = self.since.get(place, {})
        return max((since[key] for key in (name, "*") if key in since), default=None)


def shown_of(row: LifetimeRow) -> Numbers:
    """Return what is exported of a row, in the recount's shape."""
    return _numbers(since_reset(row))


def _numbers(row: LifetimeRow) -> Numbers:
    numbers = row.sums | {name: histogram.sum_us for name, histogram in row.histograms.items()}
    return {name: value for name, value in numbers.items() if value}


def follow(broker: Broker, partitions: int, random: Random) -> list[View]:
    """Return two exporters: one that has seen every row as it came, in any order of partitions, and one come late."""
    caps = {"tool": 2, "agent": 1, "agent_tool": 2}
    early, late = View(partitions, caps), View(partitions, caps)
    parts = [broker.history.get(("rollups.changelog", number), ()) for number in range(partitions)]
    for step in zip_longest(*parts):
        for number, record in random.sample(list(enumerate(step)), len(step)):
            if record is not None:
                early.feed(number, [(record.key or b"", record.value)])
        if random.random() < 0.1:
            _settle(early)
    for number in range(partitions):
        log = broker.log("rollups.changelog", number)
        late.feed(number, [(record.key or b"", record.value) for record in log.read(0, log.end)[0]])
    for view in (early, late):
        _settle(view)
    return [early, late]


def page_of(view: View, dimension: str) -> dict[tuple[str, ...], tuple[Numbers, int]]:
    """Return what an exporter shows of a dimension: by labels, and since when all of it counts."""
    return {
        group.labels: (_numbers(group.shown), created_ms(group.shown, ("no such number",)))
        for group in view.groups(dimension)
    }


def _settle(view: View) -> None:
    for _ in view.settle():
        pass
