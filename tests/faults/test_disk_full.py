"""Disks that are full, or may not be written to: at the brokers, at a worker, and where an emitter's spool is.

The disks are real file systems of some megabytes; what the brokers hold survives them, because only space is missing.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import fault_table
import pytest
from broker_life import BrokerLife
from cluster_roles import Roles
from harness import Broker, eventually
from life import PARTITIONS, Life, Load, drawn_seed
from small_disk import Ballast, small_disk

from streams.event.codec import decode_record
from streams.event.model import ToolStart
from streams.feed import BatchPolicy, Emitter, EmitterConfig, SpoolPolicy
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1_200), pytest.mark.long, pytest.mark.fault("T17")]

PREFIX: Final = "full."
RATE: Final = 1_000
BROKER_MB: Final = 512  # of each node; about five times what a run writes
WORKER_MB: Final = 16
SPOOL_MB: Final = 4
GONE_S: Final = 60.0
BACK_S: Final = 60.0
STILL_S: Final = 15.0  # longer than any transaction may last
_ELSEWHERE: Final = (
    "import os, runpy; os.chdir({folder!r}); runpy.run_module('streams', alter_sys=True, run_name='__main__')"
)
EVENTS: Final = 3_000  # of the emitter, before, while and after its disk is full


async def test_brokers_whose_disks_are_full_lose_nothing(tmp_path: Path) -> None:
    """One of three, which the others can do without; then all of them, until there is space again."""
    with ExitStack() as stack:
        disks = [stack.enter_context(small_disk(tmp_path / f"kafka/node-{each}", BROKER_MB)) for each in (1, 2, 3)]
        cluster = EmbeddedKafka(tmp_path / "kafka", nodes=3)
        stack.callback(cluster.stop, 1)
        cluster.start(timeout_s=120)
        await topics.create(KafkaConnection(bootstrap=cluster.bootstrap), PREFIX, PARTITIONS, replication=3)
        life = BrokerLife(cluster.bootstrap, PREFIX, tmp_path, load=Load(rate=RATE), seed=drawn_seed())
        await asyncio.to_thread(_fill_brokers, life, cluster, {n: Ballast(disk) for n, disk in enumerate(disks, 1)})


def _fill_brokers(life: BrokerLife, cluster: EmbeddedKafka, ballasts: Mapping[int, Ballast]) -> None:
    roles = Roles(cluster)
    with life:
        first = random.Random(life.seed).choice(list(ballasts))
        ballasts[first].fill()
        _wait_until_ended(cluster, first)
        alone_s = life.wait_for_progress(BACK_S)
        ballasts[first].drop()
        cluster.restart(first)
        life.wait_for_progress(BACK_S)
        eventually(lambda: roles.in_sync(f"{PREFIX}events"), timeout_s=BACK_S, what="all copies to be in sync")

        for ballast in ballasts.values():
            ballast.fill()
        for number in ballasts:
            _wait_until_ended(cluster, number)
        until, exits = time.monotonic() + STILL_S, life.exits()
        eventually(lambda: time.monotonic() > until, timeout_s=2 * STILL_S, what="transactions to be given up")
        assert exits == life.exits(), life.logs()
        for ballast in ballasts.values():
            ballast.drop()
        cluster.stop(1)
        cluster.start(timeout_s=120)
        back_s = life.wait_for_progress(BACK_S)

        life.finish(timeout_s=120)

        codes = [code for each in life.exits().values() for code in each]
        assert set(codes) <= {75}, life.logs()
        fault_table.record(
            "T17", "brokers", without_one_s=round(alone_s, 1), back_after_all_s=round(back_s, 1), exits=len(codes),
            events=life.published,
        )  # fmt: skip


def _wait_until_ended(cluster: EmbeddedKafka, number: int) -> None:
    """Wait until a node has ended by itself, as Kafka does that cannot write."""
    process = cluster._processes[number]
    eventually(lambda: process.poll() is not None, timeout_s=GONE_S, what=f"node {number} to end")


async def test_a_worker_that_can_write_nowhere_works_on(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Its working directory is read-only, and so is its home; where its log goes not a byte is left."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, PARTITIONS)
    with small_disk(tmp_path / "logs", WORKER_MB) as logs, small_disk(tmp_path / "ro", 1, read_only=True) as nowhere:
        settings = dict.fromkeys(("HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"), str(nowhere))
        program = ("-c", _ELSEWHERE.format(folder=str(nowhere)))
        life = Life(kafka, prefix, logs, load=Load(rate=RATE), settings=settings, program=program)
        await asyncio.to_thread(_fill_worker, life, Ballast(logs))


def _fill_worker(life: Life, logs: Ballast) -> None:
    with life:
        logs.fill()
        life.work_until(time.monotonic() + STILL_S)
        codes = []
        for worker in life.workers:
            codes.append(worker.stop())
            worker.start()
            life.wait_for_progress()
        life.workers[0].kill()
        life.workers[0].start()
        gap_s = life.wait_for_progress()
        logs.drop()

        life.finish()

        assert [0, 0] == codes, life.logs()
        fault_table.record("T17", "worker", restarts=3, standstill_after_kill_s=round(gap_s, 1), events=life.published)


async def test_an_emitter_whose_spool_is_full_counts_what_it_drops(tmp_path: Path) -> None:
    """No broker is there yet; the agent is never held up, and what is not counted as dropped arrives, once."""
    (port,) = free_ports(1)
    with small_disk(tmp_path / "spool", SPOOL_MB) as disk:
        emitter = Emitter(
            EmitterConfig(
                bootstrap_servers=f"127.0.0.1:{port}", topic_prefix=PREFIX, batch=BatchPolicy(age_ms=5),
                spool=SpoolPolicy(size_bytes=64 * 1024 * 1024, folder=str(disk / "events"), after_ms=0),
            )
        )  # fmt: skip
        ballast = Ballast(disk)
        try:
            await asyncio.to_thread(_emit_around, emitter, ballast)
            with EmbeddedKafka(tmp_path / "kafka", ports=[port]) as broker:
                await topics.create(KafkaConnection(bootstrap=broker.bootstrap), PREFIX)
                assert await emitter.flush(60_000), emitter.stats()
                stats = emitter.stats()
                records = Broker(broker.bootstrap).read(f"{PREFIX}events")
        finally:
            await emitter.aclose(1_000)
    ids = [each.id for record in records for each in decode_record(record.value()).events]
    dropped = stats.dropped["spool_failed"]
    assert {"spool_failed"} == stats.dropped.keys()
    assert len(ids) == len(set(ids))
    assert (3 * EVENTS, 0) == (len(ids) + dropped, stats.waiting)
    assert 0 < dropped <= EVENTS
    after = {str(number) for number in range(2 * EVENTS, 3 * EVENTS)}
    assert after <= set(ids), "what came when there was space again"
    fault_table.record("T17", "spool", emitted=3 * EVENTS, arrived=len(ids), dropped_and_counted=dropped)


def _emit_around(emitter: Emitter, disk: Ballast) -> None:
    """Emit before, while and after the disk is full."""
    for begin, change in ((0, disk.fill), (EVENTS, disk.drop), (2 * EVENTS, None)):
        for number in range(begin, begin + EVENTS):
            session = f"s{number % 9}"
            emitter.emit(ToolStart(id=str(number), time=1_000 + number, agent="a", session_id=session, tool="t"))
        settled = begin + EVENTS

        def put_away(settled: int = settled) -> bool:
            stats = emitter.stats()
            return stats.spooled + sum(stats.dropped.values()) == settled

        eventually(put_away, timeout_s=60, what=lambda: f"all events to be put away: {emitter.stats()}")
        if change is not None:
            change()
