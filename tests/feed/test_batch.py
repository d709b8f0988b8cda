"""When records close, what they hold, and that no key's order is ever changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from streams.errors import ConfigError
from streams.event.codec import decode_record
from streams.event.model import AgentEnd, Degraded, Error, Guard, SessionEnd, SessionStart, ToolEnd, ToolStart
from streams.feed.batch import Batcher, BatchPolicy, Record, urgent


def event(number: int, session_id: str = "s") -> bytes:
    return json.encode(ToolStart(id=str(number), time=number, agent="a", session_id=session_id, tool="t"))


def batcher(**limits: int) -> Batcher:
    return Batcher(BatchPolicy(**limits))


def ids(record: Record) -> list[str]:
    decoded = decode_record(record.value)
    assert not decoded.rejected
    return [each.id for each in decoded.events]


def test_events_of_a_session_share_a_record_when_the_oldest_is_old_enough() -> None:
    queue = batcher(age_ms=20)
    queue.add("s", event(1), at_once=False, now_ms=1_000)
    queue.add("s", event(2), at_once=False, now_ms=1_019)

    assert queue.due_at_ms() == 1_020
    assert queue.due(1_019) == []
    [record] = queue.due(1_020)
    assert ids(record) == ["1", "2"]
    assert (record.key, record.events) == (b"s", 2)


def test_a_lone_event_goes_without_an_array_around_it() -> None:
    queue = batcher(age_ms=0)
    queue.add("s", event(1), at_once=False, now_ms=0)

    assert queue.due(0) == [Record(b"s", event(1), 1)]


def test_each_session_has_its_own_record() -> None:
    queue = batcher()
    for number in range(6):
        queue.add("ab"[number % 2], event(number), at_once=False, now_ms=0)

    assert [(record.key, ids(record)) for record in queue.drain()] == [(b"a", ["0", "2", "4"]), (b"b", ["1", "3", "5"])]


def test_an_urgent_event_takes_its_own_session_along_and_no_other() -> None:
    queue = batcher(age_ms=1_000)
    queue.add("a", event(1), at_once=False, now_ms=0)
    queue.add("b", event(2), at_once=False, now_ms=0)
    queue.add("a", event(3), at_once=True, now_ms=1)

    assert [ids(record) for record in queue.due(1)] == [["1", "3"]]
    assert queue.events == 1


def test_a_record_closes_at_its_count() -> None:
    queue = batcher(record_events=2, age_ms=1_000)
    for number in range(5):
        queue.add("s", event(number), at_once=False, now_ms=0)

    assert [ids(record) for record in queue.due(0)] == [["0", "1"], ["2", "3"]]


def test_a_record_never_exceeds_its_bytes_unless_one_event_does() -> None:
    size = len(event(1))
    queue = batcher(record_bytes=2 * size + 4, age_ms=1_000)
    for number in range(5):
        queue.add("s", event(number), at_once=False, now_ms=0)
    queue.add("s", b'"' + b"x" * 10 * size + b'"', at_once=False, now_ms=0)
    records = queue.drain()

    assert [record.events for record in records] == [2, 2, 1, 1]
    assert all(len(record.value) <= 2 * size + 4 for record in records[:-1])


def test_what_was_opened_again_after_closing_is_due_later() -> None:
    queue = batcher(record_events=2, age_ms=10)
    queue.add("a", event(1), at_once=False, now_ms=0)
    queue.add("b", event(2), at_once=False, now_ms=1)
    queue.add("a", event(3), at_once=False, now_ms=2)
    queue.add("a", event(4), at_once=False, now_ms=3)

    assert [ids(record) for record in queue.due(3)] == [["1", "3"]]
    assert queue.due_at_ms() == 11
    assert [ids(record) for record in queue.due(13)] == [["2"], ["4"]]
    assert queue.due_at_ms() is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 30)), max_size=120),
    st.integers(1, 7),
    st.integers(60, 400),
)
def test_every_event_leaves_once_and_in_the_order_of_its_session(
    script: list[tuple[str, bool, int]], record_events: int, record_bytes: int
) -> None:
    queue = batcher(record_events=record_events, record_bytes=record_bytes, age_ms=15)
    left: list[Record] = []
    now_ms = 0
    for number, (key, at_once, pause_ms) in enumerate(script):
        now_ms += pause_ms
        queue.add(key, event(number, key), at_once=at_once, now_ms=now_ms)
        left += queue.due(now_ms)
        assert queue.events == number + 1 - sum(record.events for record in left)
    left += queue.drain()

    for key in "abc":
        went = [each for record in left if record.key == key.encode() for each in ids(record)]
        assert went == [str(number) for number, step in enumerate(script) if step[0] == key]
    assert (queue.events, queue.size_bytes) == (0, 0)


def test_what_somebody_waits_for_is_urgent() -> None:
    at: dict[str, Any] = {"id": "1", "time": 0, "agent": "a"}

    assert urgent(Error(**at))
    assert urgent(Degraded(reason="slow", **at))
    assert urgent(SessionEnd(**at))
    assert urgent(Guard(target="t", denied_by="loop", **at))
    assert urgent(ToolEnd(tool="t", status="timeout", **at))
    assert not urgent(ToolEnd(tool="t", **at))
    assert not urgent(AgentEnd(**at))
    assert not urgent(SessionStart(**at))


def test_limits_that_make_no_sense_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        BatchPolicy(record_events=0, record_bytes=2**30, age_ms=60_000)

    assert "record_events: 0" in str(caught.value)
    assert "record_bytes: 1073741824" in str(caught.value)
    assert "age_ms: 60000 given, expected 0 to 30000" in str(caught.value)
