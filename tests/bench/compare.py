"""How does this compare with its peers?  The same events, the same topic, one core each, in one run.

    python tests/bench/compare.py                          40,000 events, every peer, one round
    python tests/bench/compare.py --events 4000000 --runs 3
    python tests/bench/compare.py --only ours,quix-streams

Ours runs compiled, as its image does.  Peers come from their registries into the user's cache folder.  Rounds go
through all of them in turn.  A result whose totals differ from a plain recount does not count and ends the program with
1; a peer that cannot be installed here is named with the reason.  Prints a table, and writes it as Markdown and JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench import throughput  # noqa: E402  the path is set above
from bench.peer_install import BYTEWAX, PROGRAMS, QUIX, LeftOut, cache, kafka_streams, python_of  # noqa: E402  as above
from bench.throughput import Run, measure, records  # noqa: E402  as above
from bench.written import write  # noqa: E402  as above
from changelogs import totals  # noqa: E402  as above
from compiled import build  # noqa: E402  as above
from fleet import Fleet  # noqa: E402  as above
from harness import Broker, eventually  # noqa: E402  as above
from truth import listed_cost, recount  # noqa: E402  as above

from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above
from streams.worker.kafka_jars import KAFKA_VERSION  # noqa: E402  as above

MINUTE_MS: Final = 60_000
SPAN_MS: Final = 5 * MINUTE_MS  # of event time, whatever the number of events: nothing is late for anybody
PARTITIONS: Final = 4
FAUST_EVENTS_MAX: Final = 100_000  # a minute and a half; more would take hours
PEER_TIMEOUT_S: Final = 1_800

Row = dict[str, list[int]]


@dataclass
class Measured:
    """One run of one contestant."""

    events: int
    wall_s: float
    cpu_s: float
    rss_mb: float
    exact: bool

    @property
    def per_s(self) -> float:
        """Events per second of wall time."""
        return self.events / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Events per CPU second of the process; the broker's are not in it."""
        return self.events / self.cpu_s


@dataclass
class Contestant:
    """One of those compared: what it does, how it runs, and what came of it."""

    name: str
    does: str
    run: Callable[[], Measured]
    runs: list[Measured] = field(default_factory=list)
    left_out: str = ""


class Arena:
    """The events, the topic that holds them, and what the totals must be."""

    def __init__(self, broker: Broker, events: list[dict[str, Any]], core: int, folder: Path, code: Path) -> None:
        self.broker, self.events, self.core, self.folder = broker, events, core, folder
        self.code = code
        self.prefix = f"compare-{uuid.uuid4().hex[:8]}."
        self.topic = f"{self.prefix}events"
        self.ends = sum(event["kind"] == "tool_end" for event in events)
        self._rows: tuple[Row, Row] | None = None

    def fill(self) -> None:
        """Create the topics and publish the events once, for all."""
        command = [sys.executable, "-m", "streams", "topics", "create"]
        numbers = ["--partitions", f"events={PARTITIONS}", "--partitions", f"rollups={PARTITIONS}"]
        environment = {**os.environ, **self._environment()}
        subprocess.run([*command, *numbers], env=environment, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        self.broker.publish(self.topic, records(self.events, 1))

    def _environment(self) -> dict[str, str]:
        return {
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "AGENT_STREAMS_TOPIC_PREFIX": self.prefix,
            "PYTHONPATH": str(self.code),
        }

    def contestants(self) -> list[Contestant]:
        """Return all of them with what each does of the work."""
        return [
            Contestant("ours", OURS, self.ours),
            Contestant("kafka-streams", KAFKA_STREAMS, self.kafka_streams),
            Contestant("quix-streams", QUIX_STREAMS, lambda: self.python("quix", QUIX, "quix_streams.py")),
            Contestant("bytewax", BYTEWAX_DOES, lambda: self.python("bytewax", BYTEWAX, "bytewax_flow.py")),
            Contestant("stock-faust", STOCK_FAUST, self.faust),
        ]

    def ours(self) -> Measured:
        """Run our worker; it owns what follows from its topic, so that later rounds get a copy of it."""
        if any(self.broker.committed(f"{self.prefix}workers", self.topic).values()):
            copy = Arena(self.broker, self.events, self.core, Path(tempfile.mkdtemp(dir=self.folder)), self.code)
            copy.fill()
            return copy.ours()
        run = Run([sys.executable, "-m", "streams", "worker"], self.core, self._environment(), self.folder / "ours.log")
        try:
            group = f"{self.prefix}workers"
            figures = measure(
                [run], lambda: sum(self.broker.committed(group, self.topic).values()), len(self.events), "ours"
            )
            truth = recount(self.events, listed_cost)
            eventually(lambda: totals(self.broker, self.prefix)[1] == truth[1], timeout_s=60, what="our second stage")
            exact = totals(self.broker, self.prefix) == truth
        finally:
            run.stop()
        return Measured(int(figures["events"]), figures["wall_s"], figures["cpu_s"], figures["rss_mb"], exact)

    def kafka_streams(self) -> Measured:
        """Run the Kafka Streams program, exactly once."""
        return self._peer("kafka-streams", kafka_streams(), ["exactly_once_v2"])

    def python(self, name: str, requirements: tuple[str, ...], program: str) -> Measured:
        """Run a Python peer in its own environment."""
        return self._peer(name, [python_of(name, requirements), str(PROGRAMS / program)], [])

    def _peer(self, name: str, command: list[str], more: list[str]) -> Measured:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        output, prefix = folder / "out.json", f"{name}-{uuid.uuid4().hex[:8]}-"
        about = [self.broker.bootstrap, prefix, self.topic, str(len(self.events)), str(self.ends), str(output)]
        run = Run([*command, *about, str(folder / "state"), *more], self.core, {"PYTHONPATH": ""}, folder / "log")

        def written() -> bool:
            run.lives()
            return output.exists()

        try:
            eventually(written, timeout_s=PEER_TIMEOUT_S, what=f"{name} to finish")
            rss_mb = psutil.Process(run.process.pid).memory_info().rss / 1e6
        finally:
            run.process.kill()
            run.process.wait(60)
        told = json.loads(output.read_bytes())
        exact = (told["sessions"], told["tools"]) == self.rows()
        return Measured(len(self.events), told["wall_s"], told["cpu_s"], rss_mb, exact)

    def faust(self) -> Measured:
        """Run the textbook Faust app, over the first events when there are too many for it."""
        events, topic = self.events, self.topic
        prefix = f"stock-{uuid.uuid4().hex[:8]}-"
        if len(events) > FAUST_EVENTS_MAX:
            events, topic = events[:FAUST_EVENTS_MAX], f"{prefix}events"
            self.broker.create(topic, PARTITIONS)
            self.broker.publish(topic, records(events, 1))
        self.broker.create(f"{prefix}by-tool", PARTITIONS)
        figures = throughput.faust_over(self.broker, events, topic, prefix, self.core, self.folder)
        return Measured(
            int(figures["events"]), figures["wall_s"], figures["cpu_s"], figures["rss_mb"], bool(figures["exact"])
        )

    def rows(self) -> tuple[Row, Row]:
        """Recount the rows of peers, by minute and key."""
        if self._rows is None:
            self._rows = by_minute(self.events)
        return self._rows


def by_minute(events: Iterable[dict[str, Any]]) -> tuple[Row, Row]:
    """Recount the rows of peers that have windows: of sessions and of tools, by minute and key."""
    sessions: Row = {}
    tools: Row = {}
    for event in events:
        minute = event["time"] - event["time"] % MINUTE_MS
        row = sessions.setdefault(f"{minute}|{event['session_id']}", [0, 0, 0, 0])
        used = event.get("input_tokens", 0), event.get("output_tokens", 0)
        for at, more in enumerate((1, event["kind"] == "error", *used)):
            row[at] += more
        if event["kind"] == "tool_end":
            row = tools.setdefault(f"{minute}|{event['tool']}", [0, 0, 0, 0])
            for at, more in enumerate((1, event["status"] != "success", event["duration_ms"], 1)):
                row[at] += more
    return sessions, tools


OURS: Final = (
    "exactly once; session rows with minutes, duplicates, late events, calls in flight; rollups over 7 dimensions with "
    "10 s panes, buckets and sketches; rules, circuits and prices as shipped"
)
KAFKA_STREAMS: Final = (
    "exactly once (v2), commit every 1 s; 60 s windows per session (count, errors, tokens) and, re-keyed, per tool "
    "(count, errors, sum, sketch); RocksDB with changelogs, one thread"
)
QUIX_STREAMS: Final = "the same windows; exactly once, commit every 1 s; RocksDB with changelogs"
BYTEWAX_DOES: Final = (
    "the same windows, read when they close; a snapshot into SQLite every 1 s; no Kafka output, no consumer group"
)
STOCK_FAUST: Final = (
    "no windows: lifetime rows per session (count, tokens) and, re-keyed, per tool (count, errors, sum, sketch); at "
    "least once; memory with changelogs"
)


def machine() -> dict[str, str]:
    """Say what this ran on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or "unknown",
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "kafka": os.environ.get("KAFKA_BOOTSTRAP", f"embedded {KAFKA_VERSION}"),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def table(contestants: Iterable[Contestant], about: dict[str, str], events: int) -> str:
    """Return the result as Markdown: medians of the runs that count."""
    lines = [
        f"{events:,} single-event JSON records, {PARTITIONS} partitions, one core each in turn. "
        + ", ".join(f"{name} {value}" for name, value in about.items()),
        "",
        "| | events/s | events per CPU-s | RSS MB | runs | totals | what it does |",
        "|---|---:|---:|---:|---:|---|---|",
    ]  # fmt: skip
    for each in contestants:
        if each.left_out or not each.runs:
            lines.append(f"| {each.name} | – | – | – | 0 | left out: {each.left_out} | {each.does} |")
            continue
        good = [run for run in each.runs if run.exact]
        if len(good) < len(each.runs):
            lines.append(f"| {each.name} | – | – | – | {len(each.runs)} | **wrong** | {each.does} |")
            continue
        rate, cpu, rss = (
            statistics.median(getattr(run, name) for run in good) for name in ("per_s", "per_cpu_s", "rss_mb")
        )
        note = "" if good[0].events >= events * 0.5 else f" of its {good[0].events:,} events"
        lines.append(
            f"| {each.name} | {rate:,.0f} | {cpu:,.0f} | {rss:.0f} | {len(good)} | exact{note} | {each.does} |"
        )
    return "\n".join(lines)


def compare(arena: Arena, names: set[str], runs: int) -> list[Contestant]:
    """Run those chosen in turn, round by round."""
    arena.fill()
    chosen = [each for each in arena.contestants() if not names or each.name in names]
    for number in range(runs):
        for each in chosen:
            if each.left_out:
                continue
            try:
                measured = each.run()
            except LeftOut as error:
                each.left_out = str(error).replace("\n", " ")
                continue
            each.runs.append(measured)
            said = "" if measured.exact else "   TOTALS WRONG"
            print(f"{number + 1} {each.name:14} {measured.per_s:10,.0f} events/s{said}", file=sys.stderr, flush=True)
    return chosen


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--only", default="", metavar="NAME,NAME")
    parser.add_argument("--out", type=Path, default=cache() / "results", help="where compare.md and compare.json go")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/performance.md as well")
    options = parser.parse_args()
    events = list(Fleet(1, step_ms=SPAN_MS / options.events).events(options.events))
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    named = os.environ.get("KAFKA_BOOTSTRAP")
    kafka = None if named else EmbeddedKafka(folder / "kafka")
    try:
        broker = Broker(named or (kafka.start() if kafka else ""))
        arena = Arena(broker, events, options.core, folder, build(folder))
        contestants = compare(arena, set(filter(None, options.only.split(","))), options.runs)
    finally:
        if kafka is not None:
            kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)
    about = machine()
    text = table(contestants, about, options.events)
    found = {each.name: {"left_out": each.left_out, "runs": [asdict(run) for run in each.runs]} for each in contestants}
    told = {"machine": about, "events": options.events, "contestants": found}
    write("compare", text, told, out=options.out, docs=options.docs)
    sys.exit(any(not run.exact for each in contestants for run in each.runs))


if __name__ == "__main__":
    main()
