"""Where a state goes on, and when it is refused because records are missing between it and the log."""

import pytest
from aiokafka import TopicPartition

from streams.errors import StateRefused
from streams.worker.load import Log, start_offset

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
