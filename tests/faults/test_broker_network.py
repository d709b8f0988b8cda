"""A slow network that loses packets and connections: every answer takes 200 ms longer, and nothing is lost or doubled.

More comes than can be passed on for a while: it waits in Kafka, not in the workers' memory.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

import fault_table
import pytest
from broker_life import BrokerLife, Memory
from life import PARTITIONS, Load, drawn_seed
from network import Network, behind

from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1_200), pytest.mark.long]

PREFIX: Final = "slow."
RATE: Final = 2_000
ONE_WAY_S: Final = 0.1
LOST: Final = 0.01  # of the chunks: each waits until TCP would have sent it again
CUT: Final = 0.006  # of the chunks: a connection is reset
PHASE_S: Final = 40.0
PROGRESS_S: Final = 60.0
GROWTH_BYTES: Final = 100 * 1024 * 1024


@pytest.mark.fault("T25")
async def test_a_slow_and_lossy_network_costs_time_and_nothing_else(tmp_path: Path) -> None:
    seed = drawn_seed()
    network = Network(seed)
    with behind(tmp_path, [network]) as cluster:
        await topics.create(KafkaConnection(bootstrap=cluster.bootstrap), PREFIX, PARTITIONS, replication=3)
        via = dict.fromkeys(("one", "two", "exporter"), cluster.through(0))
        life = BrokerLife(cluster.bootstrap, PREFIX, tmp_path, load=Load(rate=RATE), seed=seed, via=via)
        await asyncio.to_thread(_endure, life, network)


def _endure(life: BrokerLife, network: Network) -> None:
    with life:
        memory = Memory(*life.workers)
        with memory.watched():
            network.delay_s = ONE_WAY_S
            lags = [_phase(life)]
            network.stalled = LOST
            lags.append(_phase(life))
            network.cut = CUT
            lags.append(_phase(life))
            assert network.cuts, "no connection was cut"
            assert network.stalls, "nothing was late"
            network.cut = 0.0

            life.finish(timeout_s=180)  # slow to the end

        exits = [code for codes in life.exits().values() for code in codes]
        assert set(exits) <= {75}, life.logs()
        assert memory.growth_bytes() < GROWTH_BYTES
        fault_table.record(
            "T25", "slow-and-lossy", round_trip_ms=round(2000 * ONE_WAY_S), events=life.published, cuts=network.cuts,
            late_chunks=network.stalls, most_records_behind=max(lags), growth_mb=memory.growth_bytes() // 2**20,
            exits=len(exits),
        )  # fmt: skip


def _phase(life: BrokerLife) -> int:
    """Let time pass, all of it with progress; return how many records the workers were behind at the most."""
    until, most = time.monotonic() + PHASE_S, 0
    while time.monotonic() < until:
        life.wait_for_progress(PROGRESS_S)
        most = max(most, life.published - sum(life.committed().values()))
    return most
