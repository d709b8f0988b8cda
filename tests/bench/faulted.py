"""What is left of the totals when workers are killed and paused?  The same events and faults, ours and its rivals.

    python tests/bench/faulted.py                                  kill -9 and SIGSTOP, three times each, 6,000 events
    python tests/bench/faulted.py --faults kill --times 10 --events 40000 --only ours,quix-exactly-once
    python tests/bench/faulted.py --docs                           and into docs/faults.md

Two workers share four partitions.  `kill` sends SIGKILL to one of them and starts it again at once; `pause` stops one
with SIGSTOP for two session timeouts, then wakes it.  They take turns.  A worker that ends by itself is started again,
as a supervisor would.  Events go on arriving; a fault comes when a third of its share of them is published.  Nothing is
published twice: whoever keeps each event once has the truth.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException

ROOT: Final = Path(__file__).parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.compare import PARTITIONS, machine  # noqa: E402  the path is set above
from bench.peer_install import LeftOut, cache  # noqa: E402  as above
from bench.rivals import MAKERS, Difference, Rival, Stage, difference  # noqa: E402  as above
from bench.throughput import records, written  # noqa: E402  as above
from bench.written import DOCS, write  # noqa: E402  as above
from fleet import Fleet as Agents  # noqa: E402  as above
from harness import Broker, WorkerProcess  # noqa: E402  as above

from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

SESSION_MS: Final = 6_000  # what brokers allow at least
SPAN_MS: Final = 5 * 60_000  # of event time: nothing is late for anybody
START_S: Final = 120.0  # two interpreters, a broker's first group, a machine that does something else
STANDSTILL_S: Final = 60.0  # 10 session timeouts, and as long as any transaction may stay open
ENDS_MAX: Final = 20  # by itself, one after another: a crash loop
SETTLED_S: Final = 12.0  # without a change, everything read
DRAINED_S: Final = 60.0  # since the last event was published: a quarter of a minute is enough for whoever works
POLL_S: Final = 0.2
COLUMNS: Final = (
    "fault", "who", "guarantee", "rows wrong, of", "events lost", "counted twice", "calls lost", "counted twice",
    "work went on after, s", "after waking, s", "ended by itself", "did not come back", "remark",
)  # fmt: skip
NOTHING: Final = Difference(0, 0, 0, 0)
RAISED_MAX: Final = 3  # kinds: a line of a table
_RAISED: Final = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Exception|Fenced|Failed|Exit))\b", re.MULTILINE)


@dataclass
class Outcome:
    """What became of one rival under one fault."""

    rival: str
    guarantee: str
    fault: str
    went_on_s: list[float] = field(default_factory=list)
    woke_s: list[float] = field(default_factory=list)  # after a pause: until all moved on with it awake
    exits: list[int] = field(default_factory=list)  # of workers that ended by themselves
    standstills: int = 0  # the work had to be set going by restarting both
    absent: int = 0  # restarts, or awakenings, after which the group lacked a member
    unread: int = 0
    remark: str = ""
    raised: str = ""  # what the workers' logs name most
    sessions: Difference = NOTHING
    tools: Difference = NOTHING

    @property
    def exact(self) -> bool:
        """Is every row as the truth has it?"""
        return not self.remark and not self.sessions.wrong and not self.tools.wrong and self.sessions.rows > 0


class GaveUp(Exception):
    """The work does not go on, whatever a supervisor may do."""


class Feed:
    """Publishes events in shares, each when it is asked for; the next is not asked for before the fault is over."""

    def __init__(self, broker: Broker, topic: str, shares: list[list[dict[str, Any]]], rate: float) -> None:
        self._broker, self._topic, self._shares, self._rate = broker, topic, shares, rate
        self._published = 0
        self._size = 0
        self._ended = False
        self._thread = threading.Thread()

    def begin(self, number: int) -> None:
        """Publish a share in the background, after the one before."""
        self._thread.join() if self._thread.ident else None
        self._published, self._size = 0, len(self._shares[number])
        self._thread = threading.Thread(target=self._publish, args=(self._shares[number],))
        self._thread.start()

    def _publish(self, share: list[dict[str, Any]]) -> None:
        self._broker.publish(self._topic, records(self._counting(share), 1), per_second=self._rate)

    def _counting(self, share: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for event in share:
            if self._ended:
                return
            self._published += 1
            yield event

    def third(self) -> bool:
        """Is a third of the share published?"""
        return self._published * 3 >= self._size

    @property
    def idle(self) -> bool:
        """Is all of the share published?"""
        return not self._thread.is_alive()

    def end(self, *, early: bool = False) -> None:
        """Wait until the share is published, or leave the rest of it."""
        self._ended = early
        if self._thread.ident:
            self._thread.join()


class Trial:
    """One rival, two workers, one kind of fault."""

    def __init__(self, broker: Broker, rival: Rival, feed: Feed, outcome: Outcome, folder: Path) -> None:
        self.broker, self.rival, self.feed, self.outcome = broker, rival, feed, outcome
        self.workers = []
        for name in ("one", "two"):
            own = folder / f"{rival.group}-{name}"
            own.mkdir(parents=True)
            self.workers.append(WorkerProcess(name, rival.command(own), own, python=rival.python))

    def run(self, times: int) -> None:
        """Cause the faults one after the other, then wait until all is read and compare."""
        try:
            for worker in self.workers:
                worker.start()
            if self.until(self._both_are_there, START_S) is None:
                raise GaveUp(f"no group of two within {START_S:g} s")
            for number in range(times):
                self.feed.begin(number)
                self.until(self.feed.third, START_S)
                self._cause(self.workers[number % 2])
            self.feed.begin(times)
            self.feed.end()
            self._settle()
        except GaveUp as error:
            self.outcome.remark = str(error)
        finally:
            self.feed.end(early=True)
            for worker in self.workers:
                worker.end()
        self._judge()

    def until(self, probe: Callable[[], Any], timeout_s: float) -> float | None:
        """Return the seconds until the probe holds, None when it did not; meanwhile start again what has ended."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            for worker in self.workers:
                if not worker.running:
                    self.outcome.exits.append(worker.wait(1))
                    if len(self.outcome.exits) > ENDS_MAX:
                        raise GaveUp(f"crash loop: {ENDS_MAX} ends, the last with {worker.exits[-1]}")
                    worker.start()
            if probe():
                return time.monotonic() - began
            time.sleep(POLL_S)
        return None

    def _both_are_there(self) -> bool:
        try:
            return self.broker.members(self.rival.group) == len(self.workers)
        except KafkaException:  # a coordinator that is loading, a group that is not there yet: ask again
            return False

    def committed(self) -> dict[int, int]:
        """Return how far the group has read the events."""
        return self.broker.committed(self.rival.group, self.rival.source)

    def _cause(self, worker: WorkerProcess) -> None:
        if self.outcome.fault == "kill":
            before = self.committed()
            worker.kill()
            worker.exits.pop()  # that was us
            worker.start()
            self.outcome.went_on_s.append(self._moved_on(before))
        else:
            self._pause(worker)
        if self.until(self._both_are_there, START_S) is None:
            self.outcome.absent += 1

    def _pause(self, worker: WorkerProcess) -> None:
        before, began = self.committed(), time.monotonic()
        worker.pause()
        try:
            self.outcome.went_on_s.append(self._moved_on(before))
            asleep = 2 * SESSION_MS / 1000 - (time.monotonic() - began)
            self.until(lambda: False, asleep)
        finally:
            if worker.running:
                worker.resume()
        self.outcome.woke_s.append(self._moved_on(self.committed()))

    def _moved_on(self, before: dict[int, int]) -> float:
        """Return the seconds until every partition has got further than it was.

        To have nothing more to read is no standstill, once nothing more comes.
        """

        def moved() -> bool:
            idle, now, ends = self.feed.idle, self.committed(), self.broker.ends(self.rival.source)
            return all(now[at] > offset or (idle and now[at] >= ends[at]) for at, offset in before.items())

        began = time.monotonic()
        if self.until(moved, STANDSTILL_S) is None:
            self.outcome.standstills += 1
            self._restart_both()
            if self.until(moved, STANDSTILL_S) is None:
                raise GaveUp(f"no progress within {STANDSTILL_S:g} s, nor after both had been restarted")
        return time.monotonic() - began

    def _restart_both(self) -> None:
        for worker in self.workers:
            worker.end()
            worker.start()

    def _settle(self) -> None:
        """Wait until everything is read and the rows are right, or nothing changes any more."""
        last, since = self._reached(), time.monotonic()
        until = since + DRAINED_S
        while time.monotonic() < until and (self._unread() or time.monotonic() - since < SETTLED_S):
            if not self._unread() and self.rival.found() == self.rival.wanted:
                return
            self.until(lambda: False, 1.0)
            now = self._reached()
            if now != last:
                last, since = now, time.monotonic()

    def _reached(self) -> list[int]:
        outputs = [written(self.broker, topic) for topic in self.rival.outputs]
        return [*self.committed().values(), *outputs]

    def _unread(self) -> int:
        return max(0, sum(self.broker.ends(self.rival.source).values()) - sum(self.committed().values()))

    def _judge(self) -> None:
        found = self.rival.found()
        self.outcome.sessions = difference(self.rival.wanted.sessions, found.sessions)
        self.outcome.tools = difference(self.rival.wanted.tools, found.tools)
        self.outcome.unread = self._unread()
        self.outcome.raised = raised(worker.log.read_text("utf-8", "replace") for worker in self.workers)


def events_from_now(seed: int, count: int) -> list[dict[str, Any]]:
    """Return the events, of the last minutes: nobody's retention may touch them.  Ten to a session."""
    agents = Agents(
        seed, sessions=count // 10, step_ms=SPAN_MS / count, start_ms=int(time.time() * 1000) - SPAN_MS - 60_000
    )
    return list(agents.events(count))


def shared(events: list[dict[str, Any]], shares: int) -> list[list[dict[str, Any]]]:
    """Cut the events into equal shares, the last one takes the rest."""
    size = len(events) // shares
    cuts = [*(size * number for number in range(shares)), len(events)]
    return [events[begin:end] for begin, end in pairwise(cuts)]


def try_out(broker: Broker, name: str, fault: str, options: argparse.Namespace, folder: Path) -> Outcome:
    """Put one rival through one kind of fault."""
    prefix = f"faulted-{uuid.uuid4().hex[:8]}."
    if name == "ours":
        numbers = [f"--partitions={topic}={PARTITIONS}" for topic in ("events", "rollups")]
        where = ["--bootstrap", broker.bootstrap, "--prefix", prefix]
        command = [sys.executable, "-m", "streams", "topics", "create", *where, *numbers]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    events = events_from_now(options.seed, options.events)
    try:
        rival = Stage(broker, events, SESSION_MS).rival(name, prefix)
    except LeftOut as error:
        return Outcome(name, "", fault, remark=f"left out: {error}")
    outcome = Outcome(rival.name, rival.guarantee, fault)
    feed = Feed(broker, rival.source, shared(events, options.times + 1), options.rate)
    Trial(broker, rival, feed, outcome, folder).run(options.times)
    return outcome


def raised(logs: Iterable[str]) -> str:
    """Name the exceptions that end tracebacks in these logs, the most frequent first; empty without any."""
    counts = Counter(name for log in logs for name in _RAISED.findall(log))
    return ", ".join(f"{name} {count}x" for name, count in counts.most_common(RAISED_MAX))


def seconds(values: list[float]) -> str:
    """Say the median and the worst."""
    return f"{statistics.median(values):.1f} / {max(values):.1f}" if values else "–"


def table(outcomes: list[Outcome], about: dict[str, str], options: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    asked = f"{options.events:,} events at {options.rate:,.0f}/s, {options.times} faults of each kind"
    told = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [
        f"{asked}, seed {options.seed}; session timeout {SESSION_MS / 1000:g} s. {told}. Times: median / worst.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for each in outcomes:
        one, two = each.sessions, each.tools
        wrong = f"{one.wrong + two.wrong:,} of {one.rows + two.rows:,}"
        counts = " | ".join(f"{count:,}" for count in (one.lost, one.twice, two.lost, two.twice))
        exits = f"{len(each.exits)} ({', '.join(map(str, sorted(set(each.exits))))})" if each.exits else "0"
        logged = f"logged: {each.raised}" if each.raised else ""
        remark = "; ".join(filter(None, [each.remark, unread(each), logged]))
        lines.append(
            f"| {each.fault} | {each.rival} | {each.guarantee} | {'exact, ' if each.exact else ''}{wrong} | {counts} "
            f"| {seconds(each.went_on_s)} | {seconds(each.woke_s)} | {exits} | {each.standstills + each.absent} "
            f"| {remark} |"
        )
    return "\n".join(lines)


def unread(outcome: Outcome) -> str:
    """Say how many events nobody had read, by the group's offsets, when nothing moved any more."""
    return f"{outcome.unread:,} not read {DRAINED_S:g} s after the last was published" if outcome.unread else ""


def main() -> None:
    """Run, print and write; end with 1 when ours is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default="kill,pause", metavar="NAME,NAME")
    parser.add_argument("--times", type=int, default=3, help="faults of each kind")
    parser.add_argument("--events", type=int, default=6_000)
    parser.add_argument("--rate", type=float, default=250.0, help="events per second: all of them can keep up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(MAKERS), metavar="NAME,NAME")
    parser.add_argument("--out", type=Path, default=cache() / "results", help="where faulted.md and faulted.json go")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/faults.md as well")
    options = parser.parse_args()
    faults, names = options.faults.split(","), options.only.split(",")
    if not ({*faults} <= {"kill", "pause"} and {*names} <= MAKERS.keys()):
        parser.error(f"faults are kill and pause, names are {', '.join(MAKERS)}")
    os.environ |= {"AGENT_STREAMS_SESSION_TIMEOUT_MS": str(SESSION_MS), "AGENT_STREAMS_HEARTBEAT_MS": "1000"}
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-faulted-"))
    named = os.environ.get("KAFKA_BOOTSTRAP")
    kafka = None if named else EmbeddedKafka(folder / "kafka")
    outcomes = []
    try:
        broker = Broker(named or (kafka.start() if kafka else ""))
        for fault in faults:
            for name in names:
                outcome = try_out(broker, name, fault, options, folder)
                outcomes.append(outcome)
                print(f"{fault:6}{name:20} {outcome}", file=sys.stderr, flush=True)
    finally:
        if kafka is not None:
            kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)
    about = machine()
    told = {"machine": about, "options": {**vars(options), "out": ""}, "outcomes": [asdict(each) for each in outcomes]}
    write("rivals", table(outcomes, about, options), told, out=options.out, docs=options.docs, page=DOCS / "faults.md")
    sys.exit(any(each.rival == "ours" and not each.exact for each in outcomes))


if __name__ == "__main__":
    main()
