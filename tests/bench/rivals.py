"""Who is put through faults, how does a worker of theirs start, and what do their topics say in the end?

Never causes a fault.  Each keeps its rows where its own documentation has readers look: Faust in the changelogs of its
tables, Quix Streams in the topics it publishes windows to, ours in its changelogs.  Read by librdkafka, read_committed.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.compare import PARTITIONS, by_minute
from bench.peer_install import PROGRAMS, QUIX, python_of
from bench.throughput import faust_truth, written
from changelogs import totals
from harness import Broker
from truth import listed_cost, recount

# By key, or by minute and key; the first number of a row counts events, or calls.
Rows = Mapping[Any, list[int]]


class Both(NamedTuple):
    """Rows of the first stage and of the second."""

    sessions: Rows
    tools: Rows


@dataclass(frozen=True)
class Rival:
    """One of those compared, in topics of its own."""

    name: str
    guarantee: str
    python: str
    command: Callable[[Path], list[str]]  # of a worker with this folder
    group: str
    source: str
    outputs: tuple[str, ...]  # whatever is written there is progress
    wanted: Both
    found: Callable[[], Both]


class Stage:
    """A broker, a session timeout, and the events; makes rivals that each have their own topics."""

    def __init__(self, broker: Broker, events: list[dict[str, Any]], session_ms: int) -> None:
        self.broker, self.events, self.session_ms = broker, events, session_ms

    def rival(self, name: str, prefix: str) -> Rival:
        """Return one by its name, with the topics it needs."""
        return MAKERS[name](self, prefix)

    def ours(self, prefix: str) -> Rival:
        """Return ours; its topics are made by its own command, before."""
        sessions, tools = recount(self.events, listed_cost)
        where = ["--bootstrap", self.broker.bootstrap, "--prefix", prefix]
        return Rival(
            "ours",
            "exactly once",
            sys.executable,
            lambda _: ["-m", "streams", "worker", *where],
            f"{prefix}workers",
            f"{prefix}events",
            (f"{prefix}sessions.changelog", f"{prefix}rollups.changelog"),
            _counted((sessions, tools)),
            lambda: _counted(totals(self.broker, prefix)),
        )

    def faust(self, prefix: str, guarantee: str) -> Rival:
        """Return the textbook Faust app with one of its guarantees."""
        for name in ("events", "by-tool"):
            self.broker.create(f"{prefix}{name}", PARTITIONS)
        program = str(Path(__file__).with_name("stock_faust.py"))
        about = [self.broker.bootstrap, prefix, f"{prefix}events", guarantee, str(self.session_ms)]
        changelogs = tuple(f"{prefix}faust-{table}-changelog" for table in ("sessions", "tools"))
        return Rival(
            f"Faust {version('faust-streaming')}",
            guarantee.replace("_", " "),
            sys.executable,
            lambda _: [program, *about],
            f"{prefix}faust",
            f"{prefix}events",
            changelogs,
            Both(*faust_truth(self.events)),
            lambda: Both(*(self._faust_rows(changelog) for changelog in changelogs)),
        )

    def _faust_rows(self, changelog: str) -> Rows:
        """Read a table: a key may stand in several partitions, each of which has counted a part of it."""
        rows: dict[Any, list[int]] = {}
        if not written(self.broker, changelog):
            return rows
        for table in self.broker.rows(changelog).values():
            for key, value in table.items():
                row = [sum(number.values()) if isinstance(number, dict) else number for number in json.loads(value)]
                before = rows.setdefault(json.loads(key), [0] * len(row))
                rows[json.loads(key)] = [one + more for one, more in zip(before, row, strict=True)]
        return rows

    def quix(self, prefix: str, guarantee: str) -> Rival:
        """Return the textbook Quix Streams app with one of its guarantees."""
        for name in ("events", "sessions", "tools"):
            self.broker.create(f"{prefix}{name}", PARTITIONS)
        about = [self.broker.bootstrap, prefix, f"{prefix}events", "0", "0", "-"]
        outputs = (f"{prefix}sessions", f"{prefix}tools")
        more = [guarantee, str(self.session_ms)]
        return Rival(
            QUIX[0].replace("quixstreams==", "Quix Streams "),
            guarantee.replace("-", " "),
            python_of("quix", QUIX),
            lambda folder: [str(PROGRAMS / "quix_streams.py"), *about, str(folder / "state"), *more],
            f"{prefix}quix",
            f"{prefix}events",
            outputs,
            Both(*by_minute(self.events)),
            lambda: Both(*(self._quix_rows(topic) for topic in outputs)),
        )

    def _quix_rows(self, topic: str) -> Rows:
        """Read the newest update of each window and key."""
        rows: dict[Any, list[int]] = {}
        for message in self.broker.read(topic):
            key, told = message.key(), message.value()
            assert key is not None
            assert told is not None
            window = json.loads(told)
            row = [sum(number.values()) if isinstance(number, dict) else number for number in window["value"]]
            rows[f"{window['start']}|{key.decode()}"] = row
        return rows


def _counted(both: tuple[Mapping[str, Mapping[str, int]], Mapping[str, Mapping[str, int]]]) -> Both:
    """Put the count first; what else a row holds follows by its name."""
    sessions, tools = both
    return Both(_listed(sessions, "events"), _listed(tools, "calls"))


def _listed(rows: Mapping[str, Mapping[str, int]], first: str) -> Rows:
    names = sorted({name for row in rows.values() for name in row} - {first})
    return {key: [row.get(first, 0), *(row.get(name, 0) for name in names)] for key, row in rows.items()}


MAKERS: Final[Mapping[str, Callable[[Stage, str], Rival]]] = {
    "ours": Stage.ours,
    "faust-at-least-once": lambda stage, prefix: stage.faust(prefix, "at_least_once"),
    "faust-exactly-once": lambda stage, prefix: stage.faust(prefix, "exactly_once"),
    "quix-at-least-once": lambda stage, prefix: stage.quix(prefix, "at-least-once"),
    "quix-exactly-once": lambda stage, prefix: stage.quix(prefix, "exactly-once"),
}


class Difference(NamedTuple):
    """How rows differ from the truth: `lost` and `twice` count events, per row, so that one may hide another."""

    rows: int
    wrong: int
    lost: int
    twice: int


def difference(wanted: Rows, found: Rows) -> Difference:
    """Compare rows with the truth; one that should not be there is wrong, and all of it counted twice."""
    wrong = lost = twice = 0
    for key in wanted.keys() | found.keys():
        want, have = wanted.get(key, [0]), found.get(key, [0])
        wrong += want != have
        lost += max(0, want[0] - have[0])
        twice += max(0, have[0] - want[0])
    return Difference(len(wanted), wrong, lost, twice)
