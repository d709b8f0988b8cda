"""Where a state goes on, and when it is refused because records are missing between it and the log."""

import asyncio

import pytest
from aiokafka import TopicPartition

from streams.errors import StateRefused
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.load import Log, start_offset
from streams.worker.runner import Runner

SOURCE = TopicPartition("agent.events", 3)


def test_the_state_says_where_to_read_on_whatever_the_group_says() -> None:
    assert 70 == start_offset(SOURCE, 70, Log(begin=10, end=100, committed=40))
    assert 70 == start_offset(SOURCE, 70, Log(begin=10, end=100, committed=None))


def test_without_a_state_reading_begins_where_the_log_does() -> None:
    assert 10 == start_offset(SOURCE, None, Log(begin=10, end=100, committed=None))


def test_a_state_at_either_end_of_the_log_fits() -> None:
    assert 100 == start_offset(SOURCE, 100, Log(begin=10, end=100, committed=100))
    assert 10 == start_offset(SOURCE, 10, Log(begin=10, end=100, committed=10))


@pytest.mark.parametrize(
    ("next_offset", "log", "numbers"),
    [
        (101, Log(begin=10, end=100, committed=101), ("101", "100")),
        (9, Log(begin=10, end=100, committed=9), ("9", "10", "1 records")),
        (None, Log(begin=0, end=100, committed=55), ("55",)),
    ],
    ids=["log-recreated", "retention-passed", "changelog-lost"],
)
def test_missing_records_are_refused_with_both_numbers_and_the_next_step(
    next_offset: int | None, log: Log, numbers: tuple[str, ...]
) -> None:
    with pytest.raises(StateRefused) as refused:
        start_offset(SOURCE, next_offset, log)

    message = str(refused.value)
    assert all(number in message for number in ("agent.events partition 3", *numbers, "another prefix"))
    assert 78 == refused.value.exit_code


async def test_a_cancellation_that_the_client_lets_out_is_an_outage_and_ours_is_not() -> None:
    """Taken for ours, it would leave the partitions unloaded until the next rebalance."""
    runner = Runner(WorkerConfig(connection=KafkaConnection(bootstrap="localhost:9092")), [])
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    loading = asyncio.ensure_future(runner._patiently(attempt))
    while len(attempts) < 2:
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading

    assert ([0, 1], 1) == (attempts, runner.counters.retries)
