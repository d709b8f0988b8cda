"""How many events per second does one worker on one core do, everything on, and is every total right?

    python tests/bench/throughput.py                        400,000 single-event records
    python tests/bench/throughput.py --per-record 50        the same events, 50 to a record
    python tests/bench/throughput.py --faust 40000          and stock Faust beside it, on the same broker
    python tests/bench/throughput.py --compiled             our worker with the path of an event compiled
    python tests/bench/throughput.py --workers 2            a group of two, on a core each

The events are published first.  Time and CPU run from the first commit seen to the moment both stages have finished;
a run whose totals differ from a plain recount prints no figure and ends with 1.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from confluent_kafka import KafkaError, KafkaException

ROOT: Final = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from changelogs import totals  # noqa: E402  the path is set above
from compiled import build  # noqa: E402  as above
from fleet import Fleet  # noqa: E402  as above
from harness import Broker, eventually, merged  # noqa: E402  as above
from truth import listed_cost, recount  # noqa: E402  as above

from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

LOG_SHOWN_CHARS: Final = 4_000
SESSION_MS: Final = 60_000  # who is held while events are published stays in the group
BEING_CREATED: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
)
FEATURES: Final = (
    "session rows, 1-minute panes, calls in flight",
    "duplicates by (source, seq), late and skewed events",
    "rollups over 7 dimensions, 10 s panes, explicit buckets and log-bin sketches",
    "default alert rules and circuit breakers",
    "one transaction per partition and flush, offset stamps, read_committed second stage",
)


def records(events: Iterable[dict[str, Any]], per_record: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value: one event, or a JSON array of events of one session."""
    if per_record == 1:
        for event in events:
            yield event["session_id"].encode(), json.dumps(event, separators=(",", ":")).encode()
        return
    gathered: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        mine = gathered.setdefault(event["session_id"], [])
        mine.append(event)
        if len(mine) == per_record:
            yield event["session_id"].encode(), json.dumps(mine, separators=(",", ":")).encode()
            mine.clear()
    for session, mine in gathered.items():
        if mine:
            yield session.encode(), json.dumps(mine, separators=(",", ":")).encode()


class Measured:
    """Wall seconds, and CPU seconds of some processes, between two moments."""

    def __init__(self, *pids: int) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._begun = (time.perf_counter(), self._cpu())

    def _cpu(self) -> float:
        used = [process.cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in used))

    def end(self) -> dict[str, float]:
        """Return seconds since the beginning, and the resident memory now."""
        wall, cpu = time.perf_counter() - self._begun[0], self._cpu() - self._begun[1]
        rss_bytes = sum(process.memory_info().rss for process in self._processes)
        return {"wall_s": wall, "cpu_s": cpu, "rss_mb": rss_bytes / 1e6}


class Run:
    """A pinned process and its log."""

    def __init__(self, command: list[str], core: int, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=log.parent,  # `python -m` looks into the current folder first
                env={**os.environ, **environment},
                stdout=out,
                stderr=out,
            )

    def lives(self) -> None:
        """Fail with the end of its log when the process has ended: nobody should wait for it."""
        code = self.process.poll()
        assert code is None, f"it ended with {code}:\n{self._log.read_text(errors='replace')[-LOG_SHOWN_CHARS:]}"

    def stop(self) -> None:
        """Ask it to end, also when it is held, and wait."""
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)
        self.process.wait(60)


def measure(runs: Sequence[Run], done: Callable[[], int], whole: int, what: str) -> dict[str, float]:
    """Wait for the first progress, then for the end of the work; return the rate."""

    def progress() -> int:
        for run in runs:
            run.lives()
        return done()

    begun = eventually(progress, timeout_s=120, what=f"{what} to begin")
    assert begun < whole, f"{what} had finished when it was first seen: take more than {whole} events"
    measured = Measured(*(run.process.pid for run in runs))
    eventually(lambda: progress() >= whole, timeout_s=1200, what=f"{what} to finish")
    figures = measured.end()
    count = whole - begun
    return {"events": count, **figures, "per_s": count / figures["wall_s"], "per_cpu_s": count / figures["cpu_s"]}


def ours(
    broker: Broker, events: list[dict[str, Any]], per_record: int, cores: Sequence[int], folder: Path, code: Path
) -> dict[str, float]:
    """Run our workers over the events, one on each of `cores`; `code` is where their package lies.

    All events are there before anybody folds one; several workers are a group by then, and held meanwhile.
    """
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    command = [sys.executable, "-m", "streams"]
    environment = {
        "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
        "AGENT_STREAMS_TOPIC_PREFIX": prefix,
        "PYTHONPATH": str(code),
        "AGENT_STREAMS_SESSION_TIMEOUT_MS": str(SESSION_MS),
        "AGENT_STREAMS_REQUEST_TIMEOUT_MS": str(2 * SESSION_MS),
    }
    subprocess.run([*command, "topics", "create"], env={**os.environ, **environment}, check=True, stdout=sys.stderr)
    alone = len(cores) == 1
    count = broker.publish(f"{prefix}events", records(events, per_record)) if alone else 0
    runs = [Run([*command, "worker"], core, environment, folder / f"worker-{core}.log") for core in cores]
    try:
        if not alone:
            eventually(lambda: broker.members(f"{prefix}workers") == len(cores), timeout_s=60, what="the group to form")
            for run in runs:
                run.process.send_signal(signal.SIGSTOP)
            count = broker.publish(f"{prefix}events", records(events, per_record))
            for run in runs:
                run.process.send_signal(signal.SIGCONT)
        per = len(events) / count

        def progress() -> int:
            return int(sum(broker.committed(f"{prefix}workers", f"{prefix}events").values()) * per)

        figures = measure(runs, progress, len(events), "the workers")
        sessions, tools = recount(events, listed_cost)
        eventually(lambda: totals(broker, prefix)[1] == tools, timeout_s=30, what="the second stage's totals")
        exact = totals(broker, prefix) == (sessions, tools)
    finally:
        for run in runs:
            run.stop()
    if not exact:
        sys.exit("the totals are wrong: no figure")
    return figures


def faust(broker: Broker, events: list[dict[str, Any]], core: int, folder: Path) -> dict[str, float]:
    """Run the textbook Faust app over the events, in topics of its own."""
    prefix = f"stock-{uuid.uuid4().hex[:8]}-"
    for name in ("events", "by-tool"):
        broker.create(f"{prefix}{name}", 4)
    broker.publish(f"{prefix}events", records(events, 1))
    return faust_over(broker, events, f"{prefix}events", prefix, core, folder)


def faust_over(
    broker: Broker, events: list[dict[str, Any]], topic: str, prefix: str, core: int, folder: Path
) -> dict[str, float]:
    """Run the textbook Faust app over a topic that holds the events; that of the calls exists already.

    Its tables write one changelog record per change, so that their ends say how far it has got; it has finished when
    both tables have.  What they hold is compared afterwards.
    """
    ends = sum(event["kind"] == "tool_end" for event in events)
    program = str(ROOT / "tests" / "bench" / "stock_faust.py")
    run = Run([sys.executable, program, broker.bootstrap, prefix, topic], core, {}, folder / "faust.log")
    sessions, tools = (f"{prefix}faust-{table}-changelog" for table in ("sessions", "tools"))
    try:

        def progress() -> int:
            first = written(broker, sessions)
            return first if first < len(events) or written(broker, tools) >= ends else len(events) - 1

        figures = measure([run], progress, len(events), "stock Faust")
        exact = (faust_rows(broker, sessions), faust_rows(broker, tools)) == faust_truth(events)
    finally:
        run.stop()
    figures["exact"] = exact
    return figures


def written(broker: Broker, topic: str) -> int:
    """Count what stands in a topic; nothing while it is being created."""
    try:
        return sum(broker.ends(topic).values()) if broker.exists(topic) else 0
    except KafkaException as error:
        if error.args[0].code() in BEING_CREATED:
            return 0
        raise


def faust_rows(broker: Broker, changelog: str) -> dict[str, list[int]]:
    """Read a table of the Faust app; of its sketches, how many values they hold."""
    rows = merged(broker.rows(changelog)).items()
    return {
        json.loads(key): [sum(number.values()) if isinstance(number, dict) else number for number in json.loads(value)]
        for key, value in rows
    }


def faust_truth(events: list[dict[str, Any]]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return what the tables of the Faust app must hold."""
    sessions, tools = recount(events)
    return (
        {
            key: [row["events"], row.get("input_tokens", 0) + row.get("output_tokens", 0)]
            for key, row in sessions.items()
        },
        {
            key: [row["calls"], row["calls"] - row.get("calls_success", 0), row["duration_us"] // 1000, row["calls"]]
            for key, row in tools.items()
        },
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--per-record", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="compile our path of an event first")
    parser.add_argument("--workers", type=int, default=1, help="each on a core of its own, from --core downwards")
    parser.add_argument("--faust", type=int, default=0, help="events for stock Faust; 0 leaves it out")
    options = parser.parse_args()
    events = list(Fleet(1).events(options.events))
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    named = os.environ.get("KAFKA_BOOTSTRAP")
    kafka = None if named else EmbeddedKafka(folder / "kafka")
    try:
        code = build(folder) if options.compiled else ROOT
        broker = Broker(named or (kafka.start() if kafka else ""))
        how = "compiled" if options.compiled else "plain Python"
        cores = [options.core - number for number in range(options.workers)]
        each = "one core" if options.workers == 1 else f"{options.workers} workers on a core each"
        print(f"{options.events} events, {options.per_record} per record, {each}, {how}; on:")
        print("\n".join(f"  {feature}" for feature in FEATURES))
        for _ in range(options.runs):
            show("agent-streams", ours(broker, events, options.per_record, cores, folder, code))
        if options.faust:
            show("stock Faust", faust(broker, events[: options.faust], options.core, folder))
    finally:
        if kafka is not None:
            kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)


def show(name: str, figures: dict[str, float]) -> None:
    """Print one run."""
    print(
        f"{name:14} {figures['per_s']:10,.0f} events/s {figures['per_cpu_s']:10,.0f} per CPU-s "
        f"{figures['wall_s']:7.2f} s wall {figures['cpu_s']:7.2f} s CPU {figures['rss_mb']:6.0f} MB"
        + ("" if figures.get("exact", True) else "   TOTALS WRONG"),
        flush=True,
    )


if __name__ == "__main__":
    main()
