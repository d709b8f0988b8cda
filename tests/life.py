"""One run under faults: agents that publish, workers, an exporter, and in the end three readings that must be equal.

The readings are the changelogs, by librdkafka (tests/changelogs.py); the exporter's page; and a recount of what was
published (tests/truth.py). Everything random comes from one seed, which is said when a run fails and repeats it.
"""

import json
import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from changelogs import totals
from fleet import Event
from fleet import Fleet as Agents
from harness import Broker, Fleet, WorkerProcess, eventually
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from truth import listed_cost, recount

from streams.topology import Stage
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import HOST, free_ports

SESSION_MS: Final = 6_000
TAKEOVER_S: Final = SESSION_MS / 1000 + 10  # the dead one is missed, then its partitions are loaded, on any machine
PARTITIONS: Final = {"events": 4, "rollups": 2}
RATE: Final = 2_000  # a third of what two workers on one slow core fold, so that lag comes from faults alone
REPEATED: Final = 100  # one record in so many is published twice, as a client's retry would
SCRAPE_S: Final = 1.0
BAD: Final = 400  # before one in so many stands a record that is no event
ENDLESS: Final = 100_000_000
STANDSTILL_S: Final = 180  # longer without progress on a partition is a failure, on any machine and whatever the fault
STOPPED_S: Final = 60  # a worker gives itself 15 s to end
CONSERVED: Final = frozenset({"received", "applied", "late", "duplicate", "rejected"})


def drawn_seed() -> int:
    """Return the seed of a long run: another one each time, or the one that FAULT_SEED names."""
    return int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))


def times(number: int) -> int:
    """Return how often a long run repeats a fault: FAULT_TIMES makes it fewer, for trying a test out."""
    return min(number, int(os.environ.get("FAULT_TIMES") or number))


@dataclass(frozen=True, slots=True)
class Load:
    """What the agents publish; the same seed gives the same events."""

    seed: int = 7
    count: int | None = None  # None: until the run is finished
    rate: int = RATE
    fleet: Mapping[str, Any] = field(default_factory=lambda: {"sessions": 500, "tools": 40})

    def events(self, count: int) -> Iterator[Event]:
        """Yield the first events."""
        return Agents(self.seed, **self.fleet).events(count)


class Life:
    """One run. Entered, it publishes, folds and exports; `finish` compares; left, nothing of it is there any more."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        folder: Path,
        *,
        load: Load | None = None,
        workers: tuple[str, ...] = ("one", "two"),
        static: bool = False,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "streams"),
    ) -> None:
        self.broker = Broker(bootstrap)
        self.prefix = prefix
        self.group = f"{prefix}workers"
        self.fleet = Fleet(folder)
        self.load = load or Load()
        self.rate = self.load.rate  # of what is published from `publish_on` on
        self.seed = seed
        self.random = random.Random(seed)
        self.static = static
        self.bad = self.repeated = self.published = 0
        self._names = workers
        self._program = program
        self._settings = {
            "AGENT_STREAMS_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "AGENT_STREAMS_HEARTBEAT_MS": "500",
            **(settings or {}),
        }
        self._ports: dict[str, int] = {}
        self._enough = threading.Event()
        self._failed: BaseException | None = None
        self._stream = enumerate(self.load.events(self.load.count or ENDLESS))
        self._publisher = threading.Thread(target=self._publish)
        self._trouble = folder / "trouble"
        self._settings["TROUBLE_FILE"] = str(self._trouble)

    # ---- who runs ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.workers = [self.add(name) for name in self._names]
            (self.port,) = free_ports(1)
            self.exporter = self._run("exporter", "exporter", "--port", str(self.port))
            self._publisher.start()
            self.wait_for_progress()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.fleet.__exit__(None, None, None)
        if self._publisher.is_alive():
            self._publisher.join()

    def add(self, name: str, *, gate: bool = False) -> WorkerProcess:
        """Start one more worker, which may have to wait at the gate of tests/troubled.py; `workers` is the caller's."""
        (self._ports[name],) = free_ports(1)
        instance = ["--instance", name] if self.static else []
        settings = {"TROUBLE_GATE": "1"} if gate else {}
        return self._run(name, "worker", "--health-port", str(self._ports[name]), *instance, **settings)

    def publish_on(self) -> None:
        """Go on publishing after `finish`."""
        self._enough.clear()
        self._publisher = threading.Thread(target=self._publish)
        self._publisher.start()

    def _run(self, name: str, command: str, *options: str, **settings: str) -> WorkerProcess:
        there = ("--bootstrap", self.broker.bootstrap, "--prefix", self.prefix)
        return self.fleet.add(name, [*self._program, command, *there, *options], self._settings | settings)

    def _publish(self) -> None:
        try:
            self.broker.publish(f"{self.prefix}events", self._records(), per_second=self.rate)
        except BaseException as error:  # noqa: BLE001  it is the run's to say
            self._failed = error

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        while not self._enough.is_set() and (following := next(self._stream, None)) is not None:
            number, event = following
            key, value = event["session_id"].encode(), json.dumps(event).encode()
            if number % BAD == BAD - 1:
                self.bad += 1
                yield key, b'{"kind": "tool_end", "id": "broken-%d"' % number
            yield key, value
            self.published += 1
            if number % REPEATED == 0:
                self.repeated += 1
                yield key, value

    # ---- what is seen from outside ----------------------------------------------------------------------------

    def logs(self) -> str:
        """Return what a failed assertion should say."""
        return f"FAULT_SEED={self.seed} repeats this run\n{self.fleet.logs()}"

    def committed(self, topic: str = "events") -> dict[int, int]:
        """Return the offsets of a stage, the first one unless its topic is named."""
        return self.broker.committed(self.group, f"{self.prefix}{topic}")

    def loads(self, worker: WorkerProcess) -> int:
        """Count how often a worker has taken partitions over."""
        return worker.log.read_text().count("partitions_loaded")

    def owned(self, worker: WorkerProcess) -> dict[str, set[int]]:
        """Return the partitions on a worker's page, by stage; nothing where it does not answer."""
        found: dict[str, set[int]] = {}
        try:
            page = scraped(self._ports[worker.name])
        except OSError:
            return found
        for family in page:
            for sample in family.samples:
                if sample.name == "agent_worker_lag_offsets":
                    found.setdefault(sample.labels["stage"], set()).add(int(sample.labels["partition"]))
        return found

    def number(self, worker: WorkerProcess, name: str) -> float:
        """Return one number of a worker's page; 0 where it does not answer."""
        try:
            page = scraped(self._ports[worker.name])
        except OSError:
            return 0
        return sum(sample.value for family in page for sample in family.samples if sample.name == name)

    def owner(self, stage: Stage, partition: int) -> WorkerProcess:
        """Wait until exactly one running worker shows a partition of a stage, and return it."""

        def holders() -> list[WorkerProcess]:
            running = [worker for worker in self.workers if worker.running]
            found = [worker for worker in running if partition in self.owned(worker).get(stage.name, ())]
            return found if len(found) == 1 else []

        return eventually(holders, timeout_s=STANDSTILL_S, what=self.logs)[0]

    # ---- time passes ------------------------------------------------------------------------------------------

    def wait_for_progress(self, timeout_s: float = STANDSTILL_S, topic: str = "events") -> float:
        """Wait until every partition of a stage has moved on; return the seconds that took.

        Workers that ended with 75 are started again, as a supervisor does.
        """
        started, before = time.monotonic(), self.committed(topic)

        def moved() -> bool:
            self.fleet.revive()
            now = self.committed(topic)
            ended = not self._publisher.is_alive()  # nothing more to read is no standstill
            return ended or all(now[number] > offset for number, offset in before.items())

        eventually(moved, timeout_s=timeout_s, what=lambda: f"progress everywhere\n{self.logs()}")
        return time.monotonic() - started

    def work_until(self, moment: float) -> None:
        """Let time pass until `time.monotonic()` says so, all of it with progress on every partition."""
        while time.monotonic() < moment:
            self.wait_for_progress()

    def wait_for_load(self, worker: WorkerProcess, before: int, timeout_s: float = STANDSTILL_S) -> None:
        """Wait until a worker has taken partitions over once more."""

        def loaded() -> bool:
            self.fleet.revive()
            return self.loads(worker) > before

        eventually(loaded, timeout_s=timeout_s, what=lambda: f"{worker.name} to have partitions\n{self.logs()}")

    # ---- faults -----------------------------------------------------------------------------------------------

    def restart(self, worker: WorkerProcess) -> None:
        """Start a worker that has ended, and wait until it has partitions again."""
        before = self.loads(worker)
        worker.start()
        self.wait_for_load(worker, before)

    def kill(self, *workers: WorkerProcess) -> float:
        """Kill workers at once, have a supervisor start them again; return the seconds until everything moves on."""
        started, before = time.monotonic(), {worker.name: self.loads(worker) for worker in workers}
        for worker in workers:
            worker.signal(signal.SIGKILL)
        for worker in workers:
            worker.wait(STOPPED_S)
            worker.start()
        self.wait_for_progress()
        took_s = time.monotonic() - started
        for worker in workers:
            self.wait_for_load(worker, before[worker.name])
        return took_s

    def pause(self, worker: WorkerProcess, step: str | None = None, timeouts: int = 2) -> None:
        """Stop a worker for some session timeouts while its successor works, then let it wake up.

        Now, or with a step of tests/troubled.py in the middle of its next transaction.

        It ends with 75, when it wakes inside a transaction, or finds its state outdated and loads it anew.
        """
        before = self.loads(worker)
        if step is None:
            worker.pause()
        else:
            self.trouble(worker, f"stop-in {step}")
            eventually(lambda: stopped(worker), timeout_s=STANDSTILL_S, what=self.logs)
        self.work_until(time.monotonic() + timeouts * SESSION_MS / 1000)
        worker.resume()
        self.wait_for_load(worker, before)
        self.wait_for_progress()

    def trouble(self, worker: WorkerProcess, what: str) -> None:
        """Have a worker that runs tests/troubled.py do something to itself."""
        self._trouble.write_text(what)
        worker.signal(signal.SIGUSR1)

    def roll(self) -> list[float]:
        """Restart all, one after the other, as a deployment does; return the seconds without progress of each."""
        gaps_s = []
        for worker in self.workers:
            assert worker.stop(STOPPED_S) == 0, worker.tail()
            self.restart(worker)
            gaps_s.append(self.wait_for_progress())
        return gaps_s

    # ---- the end ----------------------------------------------------------------------------------------------

    def finish(self, timeout_s: float = STANDSTILL_S) -> None:
        """Publish no more, wait until everything is folded, and compare all three readings with the truth."""
        if self.load.count is None:
            self._enough.set()
        self._publisher.join()
        assert self._failed is None, repr(self._failed)
        whole = sum(self.broker.ends(f"{self.prefix}events").values())

        def read() -> bool:
            self.fleet.revive()
            return sum(self.committed().values()) >= whole

        eventually(read, timeout_s=timeout_s, what=lambda: f"the first stage to read everything\n{self.logs()}")
        self.truth = recount(self.load.events(self.published), listed_cost)
        eventually(lambda: totals(self.broker, self.prefix)[1] == self.truth[1], timeout_s=90, what=self._difference)
        self.compare()

    def compare(self) -> None:
        """Compare the three readings, once everything is folded."""
        sessions, tools = self.truth
        assert (sessions, tools) == totals(self.broker, self.prefix), self.logs()
        assert tools == eventually(lambda: self._exported(tools), timeout_s=60, what=self._behind)
        became = {
            "received": self.published + self.repeated + self.bad,
            "applied": self.published,
            "late": 0,
            "duplicate": self.repeated,
            "rejected": self.bad,
        }
        # Their last deltas may be in another partition than those of the tools, and so come a moment later.
        eventually(lambda: self.conservation() == became, timeout_s=60,
                   what=lambda: f"{became}, not {self.conservation()}\n{self.logs()}")  # fmt: skip
        assert self.bad == len(self.broker.read(f"{self.prefix}dead-letter")), self.logs()

    def exits(self) -> dict[str, list[int]]:
        """Return how each process has ended so far."""
        return {process.name: process.exits for process in self.fleet.workers}

    def _difference(self) -> str:
        tools, found = self.truth[1], totals(self.broker, self.prefix)[1]
        wrong = {name: (want, found.get(name)) for name, want in tools.items() if found.get(name) != want}
        return f"the tools' totals; expected and found: {wrong}\n{self.logs()}"

    def _behind(self) -> str:
        return f"the exporter to follow\n{self.logs()}"

    def _exported(self, expected: dict[str, dict[str, int]]) -> dict[str, dict[str, int]] | None:
        """Return the tools' totals as scraped, once they are the expected ones; they lag by a moment."""
        tools: dict[str, dict[str, int]] = {}
        for sample in self._samples():
            if sample.name == "agent_tool_calls_total":
                name = f"calls_{sample.labels['status']}"
            elif sample.name == "agent_tool_call_duration_seconds_count":
                name = "calls"
            elif sample.name == "agent_tool_call_duration_seconds_sum":
                name = "duration_us"
            else:
                continue
            value = round(sample.value * 1e6) if name == "duration_us" else int(sample.value)
            if value:
                tools.setdefault(sample.labels["tool"], {})[name] = value
        return tools if tools == expected else None

    def conservation(self) -> dict[str, int]:
        """Return what the exporter says became of all events."""
        found: dict[str, int] = {}
        for sample in self._samples():
            name = sample.name.removeprefix("agent_stream_events_").removesuffix("_total")
            if name in CONSERVED:
                found[name] = found.get(name, 0) + int(sample.value)
        return found

    def _samples(self) -> Iterator[Any]:
        try:
            page = scraped(self.port)
        except OSError:  # it starts, or loads
            return
        for family in page:
            yield from family.samples


def stopped(worker: WorkerProcess) -> bool:
    """Has SIGSTOP reached a process?"""
    return worker.running and Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def scraped(port: int) -> list[Family]:
    """Return the page of metrics at a port; OSError where nobody answers with one."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


class Watched:
    """Somebody who reads the exporter's page all the time: no counter may ever shrink, or pass what was published."""

    def __init__(self, life: Life, name: str = "agent_tool_calls_total") -> None:
        self.scrapes = 0
        self.faults: list[str] = []
        self._life = life
        self._name = name
        self._done = threading.Event()
        self._seen: dict[frozenset[tuple[str, str]], float] = {}
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SCRAPE_S):
            try:
                page = scraped(self._life.port)
            except OSError:  # dead, paused, or loading: no page is better than a wrong one
                continue
            self.scrapes += 1
            self._look({frozenset(s.labels.items()): s.value for f in page for s in f.samples if s.name == self._name})

    def _look(self, now: dict[frozenset[tuple[str, str]], float]) -> None:
        self.faults += [f"{dict(key)}: {was} became {now.get(key)}" for key, was in self._seen.items()
                        if now.get(key, 0) < was]  # fmt: skip
        if sum(now.values()) > self._life.published:
            self.faults.append(f"{sum(now.values())} calls of {self._life.published} events")
        self._seen = now


async def prepared(bootstrap: str, prefix: str) -> None:
    """Create the topics of a run."""
    await topics.create(KafkaConnection(bootstrap=bootstrap), prefix, PARTITIONS)
