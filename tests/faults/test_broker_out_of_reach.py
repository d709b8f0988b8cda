"""Brokers that cannot be reached for a minute: nothing passes, nothing is refused, and late comes what was under way.

A network of doors stands between each worker and three brokers; producers and the exporter go their own way.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fault_table
import pytest
from broker_life import BrokerLife, Memory
from harness import WorkerProcess, eventually
from life import PARTITIONS, SESSION_MS, Load, drawn_seed
from network import Network, behind

from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1_200), pytest.mark.long]

PREFIX: Final = "away."
RATE: Final = 1_000
AWAY_S: Final = 60.0
BACK_S: Final = 60.0
# What waits while nothing can be written is bounded by the chunks that are queued: 4 MB each on the wire.
GROWTH_BYTES: Final = 100 * 1024 * 1024


@pytest.mark.fault("T8")
async def test_all_workers_and_then_one_of_them_cannot_reach_the_brokers(tmp_path: Path) -> None:
    networks = [Network(), Network()]
    with behind(tmp_path, networks) as cluster:
        await topics.create(KafkaConnection(bootstrap=cluster.bootstrap), PREFIX, PARTITIONS, replication=3)
        via = {"one": cluster.through(0), "two": cluster.through(1)}
        life = BrokerLife(
            cluster.bootstrap, PREFIX, tmp_path, load=Load(rate=RATE), seed=drawn_seed(), via=via
        )  # fmt: skip
        await asyncio.to_thread(_away, life, networks)


def _away(life: BrokerLife, networks: Sequence[Network]) -> None:
    with life:
        life.work_until(time.monotonic() + 10)
        memory = Memory(*life.workers)
        with memory.watched():
            back_s = _hold(life, networks)
        _no_crash_loop(life.workers)
        growth_bytes = memory.growth_bytes()
        assert growth_bytes < GROWTH_BYTES

        lonely, other = life.workers
        before = life.loads(other)
        memory = Memory(lonely)
        with memory.watched():
            networks[0].hold()
            until, began = time.monotonic() + AWAY_S, time.monotonic()
            life.wait_for_load(other, before)
            life.wait_for_progress()
            taken_over_s = time.monotonic() - began
            life.work_until(until)
            networks[0].release()
            began, before = time.monotonic(), life.loads(lonely)
            life.wait_for_load(lonely, before, BACK_S)
            life.wait_for_progress()
            lonely_back_s = time.monotonic() - began
        _no_crash_loop(life.workers)
        assert memory.growth_bytes() < GROWTH_BYTES
        assert taken_over_s < SESSION_MS / 1000 + 10, life.logs()

        life.finish()

        fault_table.record(
            "T8", "all-workers", away_s=AWAY_S, back_s=round(back_s, 1), growth_mb=growth_bytes // 2**20,
        )  # fmt: skip
        fault_table.record(
            "T8", "one-worker", away_s=AWAY_S, taken_over_s=round(taken_over_s, 1), back_s=round(lonely_back_s, 1),
            growth_mb=memory.growth_bytes() // 2**20,
            exits=sum(len(codes) for codes in life.exits().values()), events=life.published,
        )  # fmt: skip


def _hold(life: BrokerLife, networks: Sequence[Network]) -> float:
    """Let nobody reach a broker for a minute; return the seconds until all is read on."""
    for network in networks:
        network.hold()
    before, until = life.committed(), time.monotonic() + AWAY_S
    eventually(lambda: time.monotonic() > until, timeout_s=2 * AWAY_S, what="a minute to pass")
    assert sum(life.committed().values()) - sum(before.values()) < 2 * RATE, "something went through"
    for network in networks:
        network.release()
    return life.wait_for_progress(BACK_S)


def _no_crash_loop(workers: Sequence[WorkerProcess]) -> None:
    """A worker may end once, with the code that asks for a restart; it is no cure for a broker that is away."""
    assert all(codes in ([], [75]) for codes in (worker.exits for worker in workers)), [each.exits for each in workers]
