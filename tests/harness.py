"""What a fault test needs: worker processes to start, kill and pause, and a reader that is not ours to judge them by.

Everything here waits for a condition, with a limit; what is started is ended, also when the test fails.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

_K = TypeVar("_K")
_T = TypeVar("_T")
ROOT: Final = Path(__file__).parent.parent
_POLL_S: Final = 0.05
# What brokers say right after a start, or of a topic that has just been made.
_COMING_BACK: Final = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
)


class WorkerProcess:
    """One worker: a program of ours in a process of its own, restartable under the same name."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:  # fmt: skip
        self.name = name
        self._settings = settings or {}
        self.log = folder / f"{name}.log"
        self.exits: list[int] = []
        self._command = [python, *command]
        self._out = folder / f"{name}.out"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, or start it again; output is appended."""
        assert not self.running, f"{self.name} runs already"
        environment = {
            **os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONUNBUFFERED": "1", **self._settings,
        }  # fmt: skip
        with self.log.open("ab") as log, self._out.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=log, cwd=ROOT, env=environment)
        return self

    @property
    def running(self) -> bool:
        """Is there a process, paused or not?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send any signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, between any two instructions."""
        self.signal(signal.SIGKILL)
        self.wait(60)

    def pause(self) -> None:
        """Stop it with SIGSTOP: it does not know that time passes."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 60) -> int:
        """Ask it to end with SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Wait until it has ended; return the exit code (negative: the signal)."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name} still runs after {timeout_s} s\n{self.tail()}") from error
        self.exits.append(code)
        return code

    def report(self, timeout_s: float = 60) -> dict[str, Any]:
        """Return the next report of a running worker: its program writes a line of JSON now and then."""
        before = len(self.reports())
        return eventually(lambda: self.reports()[before:], timeout_s=timeout_s, what=f"report of {self.name}")[-1]

    def reports(self) -> list[dict[str, Any]]:
        """Everything it reported so far, the last time when it ended."""
        found: list[dict[str, Any]] = []
        for line in self._out.read_text().splitlines() if self._out.exists() else ():
            with contextlib.suppress(ValueError):  # one that is being written, or that a kill has cut off
                found.append(json.loads(line))
        return found

    def tail(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else ""

    def end(self) -> None:
        """Leave nothing behind."""
        if self.running:
            self.resume()
            self.kill()


class Fleet:
    """The workers of a test; all of them are gone when it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[WorkerProcess] = []

    def add(self, name: str, command: Sequence[str], settings: Mapping[str, str] | None = None) -> WorkerProcess:
        """Start a worker, with these settings in its environment."""
        worker = WorkerProcess(name, command, self.folder, settings)
        self.workers.append(worker)
        return worker.start()

    def revive(self) -> list[str]:
        """Start every worker that ended with 75 again, as a supervisor does; return their names."""
        revived = []
        for worker in self.workers:
            if not worker.running and worker._process is not None and worker._process.returncode == 75:
                worker.wait(1)
                worker.start()
                revived.append(worker.name)
        return revived

    def logs(self) -> str:
        """Return the ends of all logs, for a failed assertion."""
        return "\n".join(f"--- {worker.name} exits {worker.exits}\n{worker.tail()}" for worker in self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end()


class Broker:
    """Kafka as librdkafka sees it: another implementation than the one under test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 2}  # outages are the test's own
        self.admin = AdminClient(self._settings)
        self._askers: dict[str, Consumer] = {}

    def publish(
        self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], *, per_second: float | None = None
    ) -> int:
        """Publish key and value pairs, at this rate; return how many, all of them acknowledged."""
        # Idempotent: what is sent again while a broker goes away must not be there twice.
        how = {"linger.ms": 10, "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True}
        producer = Producer({**self._settings, **how})
        failed: list[Any] = []

        def delivered(error: Any, _: object) -> None:
            if error is not None:
                failed.append(error)

        started, count = time.monotonic(), 0
        for count, (key, value) in enumerate(records, 1):
            producer.produce(topic, value=value, key=key, on_delivery=delivered)
            if count % 100 == 0:
                producer.poll(0)
                if per_second is not None:
                    time.sleep(max(0.0, started + count / per_second - time.monotonic()))
        unsent = producer.flush(300)
        assert not failed, failed[0]
        assert not unsent, f"{unsent} records of {count} were not acknowledged"
        return count

    def create(self, topic: str, partitions: int) -> None:
        """Create a plain topic."""
        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)

    def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Delete the records below these offsets, as retention does."""
        places = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]

        def ask() -> list[Any]:
            return [told.result(60) for told in self.admin.delete_records(places).values()]

        when_there(ask, f"the leaders of {topic}")

    def exists(self, topic: str) -> bool:
        """Is there such a topic?"""
        return topic in when_there(lambda: self.admin.list_topics(timeout=10), "the topics").topics

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic."""

        def ask() -> TopicMetadata:
            told = self.admin.list_topics(topic, timeout=10).topics[topic]
            if told.error is not None:
                raise KafkaException(told.error)
            return told

        found = when_there(ask, f"the topic {topic}")
        return [TopicPartition(topic, number) for number in sorted(found.partitions)]

    def read(self, topic: str, *, timeout_s: float = 60) -> list[Message]:
        """Read a whole topic, read_committed, to the end it has now."""
        return list(self._read(topic, timeout_s))

    def records(self, topic: str, count: int, *, timeout_s: float = 60) -> list[Message]:
        """Read a whole topic once it has so many records: that a transaction has ended is written after it was told."""

        def enough() -> list[Message]:
            found = self.read(topic)
            return found if len(found) >= count else []

        return eventually(enough, timeout_s=timeout_s, what=f"{count} records in {topic}")

    def rows(self, topic: str, *, timeout_s: float = 60) -> dict[int, dict[bytes, bytes]]:
        """Read a changelog: per partition the newest value of each key."""
        tables: dict[int, dict[bytes, bytes]] = {tp.partition: {} for tp in self.partitions(topic)}
        for message in self._read(topic, timeout_s):
            table, key, value = tables[message.partition()], message.key(), message.value()
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        return tables

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end of each partition that read_committed may reach."""
        with self._consumer() as consumer:
            return {tp.partition: reach(consumer, tp)[1] for tp in self.partitions(topic)}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the group's offset per partition; 0 where it has none.

        Asked as a consumer that never joins: librdkafka's admin client ends the process (a segmentation fault) when a
        broker goes away while it asks for offsets.
        """
        if group not in self._askers:
            # read_committed would wait until no transaction is open: what is asked for here is what is committed now.
            how = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
            self._askers[group] = Consumer({**self._settings, **how})

        asker, partitions = self._askers[group], self.partitions(topic)
        found = when_there(lambda: asker.committed(partitions, timeout=10), f"the offsets of {group}")
        return {tp.partition: max(0, tp.offset) for tp in found}

    def members(self, group: str) -> int:
        """Return how many members the group has."""
        ask = self.admin.describe_consumer_groups
        return len(when_there(lambda: ask([group])[group].result(60), f"the members of {group}").members)

    def _read(self, topic: str, timeout_s: float) -> Iterator[Message]:
        deadline = time.monotonic() + timeout_s
        with self._consumer() as consumer:
            todo = {}
            for tp in self.partitions(topic):
                begin, end = reach(consumer, tp)
                if begin < end:
                    todo[tp.partition] = end
            consumer.assign([TopicPartition(topic, number, 0) for number in todo])
            while todo:
                assert time.monotonic() < deadline, f"{topic} was not read within {timeout_s} s: {todo} left"
                for message in consumer.consume(10_000, 0.1):
                    error = message.error()
                    if error is None:
                        yield message
                    elif not _passes(error):
                        raise KafkaException(error)
                for tp in consumer.position([TopicPartition(topic, number) for number in todo]):
                    if tp.offset >= todo[tp.partition]:
                        del todo[tp.partition]

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **self._settings,
                "group.id": "harness",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()


def when_there(ask: Callable[[], _T], what: str, *, timeout_s: float = 60) -> _T:
    """Return what a broker answers, asking again while it or the topic is coming."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            if not _passes(error.args[0]):
                raise
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s} s for {what}") from error
        time.sleep(_POLL_S)


def _passes(error: KafkaError) -> bool:
    return bool(error.retriable()) or error.code() in _COMING_BACK


def reach(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Return the begin of a partition and the end that this consumer may reach."""
    begin, end = when_there(lambda: consumer.get_watermark_offsets(place, timeout=10), f"the ends of {place.topic}")
    return begin, end


def eventually(probe: Callable[[], _T], *, timeout_s: float, what: str | Callable[[], str]) -> _T:
    """Return the first true value of `probe`, or fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what if isinstance(what, str) else what()}")
        time.sleep(_POLL_S)


def merged(tables: Mapping[int, Mapping[_K, _T]]) -> dict[_K, _T]:
    """Put what was read per partition together; a key in two of them fails."""
    rows: dict[_K, _T] = {}
    for table in tables.values():
        assert not rows.keys() & table.keys(), "a key in two partitions"
        rows |= table
    return rows
