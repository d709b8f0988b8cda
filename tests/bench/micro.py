"""How much does each file on the path of an event cost per call, next to a loop of plain Python in the same run?

    python tests/bench/micro.py               every file, its cost in turns of that loop, and the limit it is held to
    python tests/bench/micro.py --compiled    the same with the path of an event compiled (no limits: they are plain's)
    python tests/bench/micro.py fold.apply    one of them

CPU time of this thread is counted, so that programs beside it cost little; what they still cost (caches, clock rate)
hits loop and file alike, because both run in turns and the best turn of each counts.
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
CODE: Final = "AGENT_STREAMS_BENCH_CODE"  # where the compiled package lies
if __name__ == "__main__":
    sys.path[:0] = [os.environ.get(CODE, str(ROOT)), str(ROOT / "tests")]

import msgspec  # noqa: E402  the path is set above
from fleet import START_MS, Fleet  # noqa: E402  as above
from one_stage import Record  # noqa: E402  as above
from pages import settle  # noqa: E402  as above

from streams.event import codec  # noqa: E402  as above
from streams.event.redact import REDACTOR  # noqa: E402  as above
from streams.feed import encode  # noqa: E402  as above
from streams.fold import apply, cells, dedup, live, merge, rollup, sketch  # noqa: E402  as above
from streams.fold.norms import Norms  # noqa: E402  as above
from streams.rule.book import AlertBook  # noqa: E402  as above
from streams.rule.defaults import default_rules  # noqa: E402  as above
from streams.rule.reading import SESSION  # noqa: E402  as above
from streams.sink.exposition import Page  # noqa: E402  as above
from streams.sink.view import View  # noqa: E402  as above
from streams.stage.readings import SessionReading  # noqa: E402  as above
from streams.stage.rollups import RollupsPartition  # noqa: E402  as above
from streams.stage.sessions import SessionsPartition  # noqa: E402  as above
from streams.topology import ROLLUPS  # noqa: E402  as above

EVENTS: Final = 2_000
TURNS: Final = 4_000  # of the reference loop: about 2 ms
ROUNDS: Final = 10  # the best of each counts; nine of them may fall into somebody else's burst
ATTEMPTS: Final = 5  # for what seems to be over its limit: a burst passes, a slowdown stays

Run = Callable[[], object]


class Work(NamedTuple):
    """One file at work: `make` prepares a run that has not happened yet, outside the clock; a run is `calls` calls."""

    name: str
    calls: int
    limit: float  # turns of the reference loop per call that the tests allow
    make: Callable[[], Run]


class Found(NamedTuple):
    """What was measured of one file: turns of the loop per call, and nanoseconds of CPU."""

    work: Work
    ratio: float
    call_ns: float


class _Row:
    __slots__ = ("count", "newest", "total")

    def __init__(self) -> None:
        self.count = self.total = self.newest = 0


def reference() -> int:
    """Do by hand what the path of an event is made of: a look-up by a tuple, a few sums, a comparison, a small list."""
    rows: dict[tuple[int, str], _Row] = {}
    names = [f"name-{number}" for number in range(16)]
    kept: list[int] = []
    for turn in range(TURNS):
        key = (turn & 31, names[turn & 15])
        row = rows.get(key)
        if row is None:
            row = rows[key] = _Row()
        row.count += 1
        row.total += turn
        if turn > row.newest:  # noqa: PLR1730  as the path of an event does it: max() takes three times as long
            row.newest = turn
        kept.append(row.total)
    return len(kept)


def works() -> list[Work]:
    """Return every file with its material; the limits are twice what a quiet machine showed.

    On a processor of another make a ratio may be half as much again, or as much less.
    """
    made = Material()
    return [
        Work("event.codec", EVENTS, 17.0, made.decode),
        Work("feed.encode", EVENTS, 21.0, made.encode),
        Work("fold.apply", EVENTS, 25.0, made.apply),
        Work("fold.live", len(made.packed), 100.0, made.unpack),
        Work("fold.cells", EVENTS, 25.0, made.deltas_of_cells),
        Work("fold.merge", len(made.deltas), 66.0, made.add_deltas),
        Work("fold.dedup", 2 * EVENTS, 6.0, made.repeat),
        Work("fold.sketch", EVENTS, 3.5, made.bins),
        Work("rule.book", len(made.readings), 65.0, made.touch),
        Work("stage.sessions", EVENTS, 100.0, made.first_stage),
        Work("stage.rollups", len(made.deltas), 200.0, made.second_stage),
        Work("sink.exposition", made.groups, 305.0, made.page),
    ]


class Material:
    """Events of one fleet and all that the stages make of them."""

    def __init__(self) -> None:
        raw = list(Fleet(5, sessions=200, step_ms=5.0).events(EVENTS))
        self.values = [msgspec.json.encode(event) for event in raw]
        self.events: list[Any] = [codec.decode_one(value) for value in self.values]
        self.records = [Record(number, START_MS, None, value) for number, value in enumerate(self.values)]
        self.ids = [event.id for event in self.events]
        stage = self._fresh()
        stage.feed(self.records)
        norms = Norms()
        rows = [(key, row) for key, row in stage.sessions() if isinstance(key, str)]
        self.readings = [(key, SessionReading(row, stage.watermark_ms, norms)) for key, row in rows]
        self.packed = [row.pack() for _, row in rows]
        plan = stage.plan()
        assert plan is not None
        self.batches = [
            Record(number, START_MS, send.key, send.value, send.headers)
            for number, send in enumerate(send for send in plan.sends if send.topic == ROLLUPS.suffix)
        ]
        decode = msgspec.json.Decoder(rollup.RollupBatch).decode
        self.deltas = [delta for batch in self.batches for delta in decode(batch.value or b"").deltas]
        second = RollupsPartition(0, 1)
        second.feed(self.batches)
        after = second.plan()
        assert after is not None
        self.rows = after.rows
        self.groups = len(list(second.keyed()))

    def _fresh(self) -> SessionsPartition:
        return SessionsPartition(0, 1, 1, default_rules())

    def decode(self) -> Run:
        """JSON into events, one a record."""
        decode, values = codec.decode_record, self.values
        return lambda: [decode(value) for value in values]

    def encode(self) -> Run:
        """Events into JSON, redacted and stamped, as the emitter's thread does."""
        events, into = self.events, encode.encode_event
        return lambda: [into(event, source=b'"a"', seq=1, redactor=REDACTOR) for event in events]

    def apply(self) -> Run:
        """Events into the rows of 200 sessions and the cells of one flush."""
        lives = {event.session_id: live.LiveRow("a", None, None, START_MS, START_MS, START_MS) for event in self.events}
        pairs = [(lives[event.session_id], event) for event in self.events]
        into = cells.Cells()

        def run() -> None:
            for row, event in pairs:
                apply.apply(row, row.pane_at(event.time), event, into, START_MS, event.time)

        return run

    def unpack(self) -> Run:
        """Stored rows into live ones and back."""
        packed = self.packed
        return lambda: [live.unpack(stored).pack() for stored in packed]

    def deltas_of_cells(self) -> Run:
        """Cells into deltas, once a flush."""
        filled = cells.Cells()
        row = live.LiveRow("a", None, None, START_MS, START_MS, START_MS)
        for event in self.events:
            apply.apply(row, row.pane_at(event.time), event, filled, event.time - event.time % 10_000, event.time)
        return filled.deltas

    def add_deltas(self) -> Run:
        """Deltas into lifetime rows and panes."""
        rows: dict[tuple[str, tuple[str, ...]], rollup.LifetimeRow] = {}
        for delta in self.deltas:
            key = (delta.dimension, delta.labels)
            rows.setdefault(key, rollup.LifetimeRow(delta.dimension, delta.labels, 0, START_MS, START_MS, 0))
        parts = [
            (rows[delta.dimension, delta.labels], rollup.PaneRow(10_000, START_MS), delta) for delta in self.deltas
        ]

        def run() -> None:
            for row, pane, delta in parts:
                merge.add_delta(row, pane, delta)

        return run

    def repeat(self) -> Run:
        """Events by id, and events by number."""
        window, mark, ids = dedup.IdWindow(), dedup.Mark(0, 0), self.ids

        def run() -> None:
            for seq, text in enumerate(ids, 1):
                window.repeated(text)
                mark.repeated(seq)

        return run

    def bins(self) -> Run:
        """Durations into bins, and three quantiles of them."""
        durations = [100 + 997 * number % 5_000_000 for number in range(EVENTS)]

        def run() -> list[float | None]:
            counts: dict[int, int] = {}
            for value in durations:
                index = sketch.bin_of(value)
                counts[index] = counts.get(index, 0) + 1
            return [sketch.quantile(counts, q) for q in (0.5, 0.95, 0.99)]

        return run

    def touch(self) -> Run:
        """Sessions by the shipped rules."""
        book, readings = AlertBook(default_rules()), self.readings

        def run() -> None:
            for key, reading in readings:
                book.touch(SESSION, (key,), reading, reading.now_ms)

        return run

    def first_stage(self) -> Run:
        """Records into a flush of the first stage: decode, fold, judge, encode."""
        stage, records = self._fresh(), self.records

        def run() -> object:
            stage.feed(records)
            return stage.plan()

        return run

    def second_stage(self) -> Run:
        """Rollup records into a flush of the second stage."""
        stage, batches = RollupsPartition(0, 1, default_rules()), self.batches

        def run() -> object:
            stage.feed(batches)
            return stage.plan()

        return run

    def page(self) -> Run:
        """Every row of the second stage into text."""
        view = View(1)
        page = Page(view, openmetrics=False)
        view.feed(0, self.rows)
        settle(view)

        def run() -> int:
            for _ in page.refresh():
                pass
            return sum(map(len, page.blocks({})))

        return run


def measure(chosen: Iterable[Work], rounds: int = ROUNDS) -> list[Found]:
    """Run each in turns with the reference loop; the best turn of each counts."""
    found = []
    gc.collect()
    gc.disable()
    try:
        for work in chosen:
            best = loop = 1 << 62
            for _ in range(rounds):
                loop = min(loop, cpu_ns(reference))
                best = min(best, cpu_ns(work.make()))
            found.append(Found(work, (best / work.calls) / (loop / TURNS), best / work.calls))
    finally:
        gc.enable()
    return found


def hold(chosen: Iterable[Work], rounds: int = ROUNDS) -> list[Found]:
    """Measure, and measure again what breaks its limit; the lowest counts."""
    found = []
    for work in chosen:
        best = measure([work], rounds)[0]
        for _ in range(ATTEMPTS - 1):
            if best.ratio <= work.limit:
                break
            best = min(best, measure([work], rounds)[0], key=lambda each: each.ratio)
        found.append(best)
    return found


def cpu_ns(run: Run) -> int:
    """Return the processor time that a run takes of this thread."""
    begun = time.thread_time_ns()
    run()
    return time.thread_time_ns() - begun


def show(found: Iterable[Found], *, limits: bool) -> None:
    """Print one line for each."""
    print(f"{'file':18} {'turns/call':>10} {'µs/call':>9}" + (f" {'limit':>8}" if limits else ""))
    for work, ratio, call_ns in found:
        print(f"{work.name:18} {ratio:10.2f} {call_ns / 1000:9.2f}" + (f" {work.limit:8.1f}" if limits else ""))


def main() -> None:
    """Measure and print; ends with 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FILE", help="such as fold.apply; all without")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.compiled:
        from compiled import build  # noqa: PLC0415  needs a compiler, only here

        with tempfile.TemporaryDirectory(prefix="agent-streams-bench-") as folder:
            code = str(build(Path(folder)))
            paths = os.pathsep.join((code, str(ROOT / "tests")))
            command = [sys.executable, __file__, *options.names, "--rounds", str(options.rounds)]
            sys.exit(
                subprocess.run(command, env={**os.environ, CODE: code, "PYTHONPATH": paths}, check=False).returncode
            )
    plain = CODE not in os.environ
    chosen = [work for work in works() if not options.names or work.name in options.names]
    if not chosen:
        parser.error(f"no such file: {' '.join(options.names)}; known: {', '.join(work.name for work in works())}")
    found = hold(chosen, options.rounds) if plain else measure(chosen, options.rounds)
    show(found, limits=plain)
    sys.exit(1 if plain and any(each.ratio > each.work.limit for each in found) else 0)


if __name__ == "__main__":
    main()
