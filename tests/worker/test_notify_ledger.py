"""What was delivered is written down, whatever the broker does meanwhile."""

import asyncio
from pathlib import Path

import pytest
from harness import Broker

from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.notify_ledger import Ledger

WAIT_S = 60.0


async def _written(ledger: Ledger) -> None:
    async with asyncio.timeout(WAIT_S):
        while ledger.waiting:
            await asyncio.sleep(0.02)


@pytest.mark.kafka
async def test_rows_wait_for_a_broker_that_is_away_and_the_newest_of_each_is_written(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as node:
        connection = KafkaConnection(bootstrap=node.bootstrap)
        Broker(node.bootstrap).create("ledger", 1)
        async with Ledger(connection, "ledger", request_timeout_ms=3_000) as ledger:
            ledger.put(b"a", b"1")
            ledger.put(b"gone", b"1")
            await _written(ledger)
            await asyncio.to_thread(node.kill)
            ledger.put(b"a", b"2")
            ledger.put(b"a", b"3")
            ledger.put(b"gone", None)
            waiting = ledger.waiting
            await asyncio.to_thread(node.restart)
            await _written(ledger)
        rows = await asyncio.to_thread(Broker(node.bootstrap).rows, "ledger")

    assert waiting == 2
    assert {0: {b"a": b"3"}} == rows


@pytest.mark.kafka
async def test_the_end_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as node:
        Broker(node.bootstrap).create("ledger", 1)
        connection = KafkaConnection(bootstrap=node.bootstrap)
        async with asyncio.timeout(WAIT_S):
            async with Ledger(connection, "ledger", request_timeout_ms=3_000) as ledger:
                ledger.put(b"a", b"1")
                await _written(ledger)
                await asyncio.to_thread(node.kill)
                ledger.put(b"a", b"2")
                began = asyncio.get_running_loop().time()
            took_s = asyncio.get_running_loop().time() - began

    assert ledger.waiting == 1
    assert took_s < 20
