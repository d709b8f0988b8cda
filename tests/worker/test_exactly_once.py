"""Every record counts exactly once, whatever happens to the workers: judged by a reader that is not ours."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

import pytest
from counting import session_totals, tool_totals
from harness import Broker, Fleet, WorkerProcess, eventually, merged
from life import TAKEOVER_S

from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka

pytestmark = pytest.mark.kafka

SESSION_MS: Final = 6000
RATE: Final = 2000
PATIENT: Final = ("--session-ms", "14000")  # nobody is taken for dead because the machine is busy
_PROGRAM: Final = str(Path(__file__).parent / "counting_worker.py")


class Counted:
    """One run: a publisher in the background, workers, and in the end the comparison with what was published."""

    def __init__(self, bootstrap: str, prefix: str, fleet: Fleet) -> None:
        self.broker = Broker(bootstrap)
        self.prefix = prefix
        self.fleet = fleet
        self.group = f"{prefix}workers"
        self.published = 0
        self._sessions: Counter[str] = Counter()
        self._session_sums: Counter[str] = Counter()
        self._tools: Counter[str] = Counter()
        self._tool_sums: Counter[str] = Counter()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        if self._thread.is_alive():
            self._thread.join()
        self.fleet.__exit__(None, None, None)

    def worker(self, name: str, *options: str, static: bool = False) -> WorkerProcess:
        """Start a counting worker."""
        instance = ["--instance", name] if static else []
        command = [_PROGRAM, "--bootstrap", self.broker.bootstrap, "--prefix", self.prefix]
        return self.fleet.add(name, [*command, "--session-ms", str(SESSION_MS), *instance, *options])

    def publish(self) -> None:
        """Begin to publish, until `finish`."""
        self._thread.start()

    def progress(self) -> int:
        """Return how many records the group has committed."""
        return sum(self.broker.committed(self.group, f"{self.prefix}events").values())

    def wait_for_progress(self, timeout_s: float = 120) -> float:
        """Wait until every partition has moved on from where it is now; return how long that took, in seconds."""
        started = time.monotonic()
        before = self.broker.committed(self.group, f"{self.prefix}events")

        def all_moved() -> bool:
            self.fleet.revive()
            now = self.broker.committed(self.group, f"{self.prefix}events")
            return all(now[number] > offset for number, offset in before.items())

        eventually(all_moved, timeout_s=timeout_s, what=lambda: f"progress everywhere\n{self.fleet.logs()}")
        return time.monotonic() - started

    def wait_until_it_works(self, worker: WorkerProcess) -> None:
        """Wait until the worker reads partitions of its own."""
        eventually(
            lambda: worker.report(60)["reading"], timeout_s=120, what=lambda: f"{worker.name}\n{self.fleet.logs()}"
        )

    def finish(self, timeout_s: float = 120, *, stages: int = 2) -> None:
        """Stop publishing; wait until all of it is counted; compare both stages with the truth."""
        self._enough.set()
        self._thread.join()
        assert self.published, "nothing was published"

        def done() -> bool:
            self.fleet.revive()
            return self.progress() >= self.published and (stages == 1 or self.tools() == self._tool_truth())

        try:
            eventually(done, timeout_s=timeout_s, what="all records to be counted")
        except AssertionError:
            self.compare(stages)
            raise AssertionError(f"{self.progress()} of {self.published}\n{self.fleet.logs()}") from None
        self.compare(stages)

    def compare(self, stages: int) -> None:
        """Both directions: nothing missing, nothing more."""
        tables = self.broker.rows(f"{self.prefix}sessions.changelog")
        sessions = merged({number: session_totals(rows) for number, rows in tables.items()})
        assert self._truth(self._sessions, self._session_sums) == sessions, self.fleet.logs()
        assert stages == 1 or self._tool_truth() == self.tools(), self.fleet.logs()

    def tools(self) -> dict[str, tuple[int, int]]:
        """Return the second stage's totals."""
        tables = self.broker.rows(f"{self.prefix}rollups.changelog")
        return merged({number: tool_totals(rows) for number, rows in tables.items()})

    def _tool_truth(self) -> dict[str, tuple[int, int]]:
        return self._truth(self._tools, self._tool_sums)

    def _truth(self, counts: Counter[str], sums: Counter[str]) -> dict[str, tuple[int, int]]:
        return {key: (count, sums[key]) for key, count in counts.items()}

    def _publish(self) -> None:
        self.published = self.broker.publish(f"{self.prefix}events", self._records(), per_second=RATE)

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        for i in range(1_000_000):
            if self._enough.is_set():
                return
            session, tool, n = f"s{i % 997}", f"t{i % 41}", i % 13
            self._sessions[session] += 1
            self._session_sums[session] += n
            self._tools[tool] += 1
            self._tool_sums[tool] += n
            yield session.encode(), json.dumps({"session": session, "tool": tool, "n": n}).encode()


@pytest.fixture
async def run(kafka: str, prefix: str, tmp_path: Path) -> Callable[[], Counted]:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 4, "rollups": 2})
    return lambda: Counted(kafka, prefix, Fleet(tmp_path))


def test_two_workers_share_the_work_and_take_over_from_each_other(run: Callable[[], Counted]) -> None:
    with run() as counted:
        first = counted.worker("a")
        counted.publish()
        counted.wait_until_it_works(first)
        second = counted.worker("b")
        counted.wait_until_it_works(second)
        counted.wait_for_progress()
        assert first.stop() == 0
        counted.wait_for_progress()
        first.start()
        counted.wait_until_it_works(first)

        counted.finish()

        assert [0, 0] == [first.stop(), second.stop()]
        assert 0 == sum(report["unknown_outcomes"] for report in first.reports() + second.reports())


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_kill_9_of_one_of_two_workers(run: Callable[[], Counted], *, static: bool) -> None:
    with run() as counted:
        workers = [counted.worker(name, static=static) for name in "ab"]
        counted.publish()
        for worker in workers:
            counted.wait_until_it_works(worker)
        takeovers_s = []
        for worker in workers:
            worker.kill()
            if static:
                worker.start()
            takeovers_s.append(counted.wait_for_progress())
            if not static:
                worker.start()
                counted.wait_until_it_works(worker)

        counted.finish()

        assert min(takeovers_s) <= TAKEOVER_S, takeovers_s  # a busy machine makes one of them late


def test_kill_9_between_the_steps_of_a_transaction(run: Callable[[], Counted]) -> None:
    """The workers kill themselves before, in the middle and right after a transaction."""
    steps = ("begin", "send", "offsets", "commit", "committed")
    with run() as counted:
        counted.worker("steady", static=True)
        counted.publish()
        for step in steps:
            worker = counted.worker(f"dying-{step}", "--die-at", step, "--instance", "dying")
            eventually(lambda worker=worker: not worker.running, timeout_s=90, what=counted.fleet.logs)  # type: ignore[misc]
            assert worker.wait(30) == -9
        counted.wait_for_progress()

        counted.finish()


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_a_worker_paused_for_longer_than_its_session(run: Callable[[], Counted], *, static: bool) -> None:
    """When it wakes it is a zombie: what it has in hand must not be written."""
    with run() as counted:
        paused, other = counted.worker("a", static=static), counted.worker("b", static=static)
        counted.publish()
        counted.wait_until_it_works(paused)
        counted.wait_until_it_works(other)
        paused.pause()
        counted.wait_for_progress()
        paused.resume()
        counted.wait_for_progress()

        counted.finish()

        assert set(paused.exits) <= {75}


@pytest.mark.fault("T7", "T8")
async def test_a_broker_that_is_away_for_longer_than_a_session(tmp_path: Path) -> None:
    """Transactions end in doubt; the workers go on by themselves when it is back."""
    with EmbeddedKafka(tmp_path / "kafka") as broker:
        await topics.create(KafkaConnection(bootstrap=broker.bootstrap), "away.", {"events": 4, "rollups": 2})
        await asyncio.to_thread(_outage, Counted(broker.bootstrap, "away.", Fleet(tmp_path)), broker)


def _outage(counted: Counted, broker: EmbeddedKafka) -> None:
    with counted:
        workers = [counted.worker(name) for name in "ab"]
        counted.publish()
        for worker in workers:
            counted.wait_until_it_works(worker)
        counted.wait_for_progress()  # or there may be nothing under way that could be in doubt
        broker.kill()
        eventually(
            lambda: sum(worker.reports()[-1]["unknown_outcomes"] for worker in workers) > 0,
            timeout_s=60,
            what="a transaction in doubt",
        )
        broker.restart()
        counted.wait_for_progress()

        counted.finish()

        assert [[], []] == [worker.exits for worker in workers]


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_a_rolling_restart_replays_nothing(run: Callable[[], Counted], *, static: bool) -> None:
    """What was folded is written before a worker lets go: no record is folded twice, by whomever."""
    with run() as counted:
        workers = [counted.worker(name, "--stages", "1", *PATIENT, static=static) for name in "ab"]
        counted.publish()
        for worker in workers:
            counted.wait_until_it_works(worker)
        for worker in workers:
            assert worker.stop() == 0
            worker.start()
            counted.wait_until_it_works(worker)

        counted.finish(stages=1)

        for worker in workers:
            worker.report()
        last = {report["pid"]: report["records"] for worker in workers for report in worker.reports()}
        assert counted.published == sum(last.values())
