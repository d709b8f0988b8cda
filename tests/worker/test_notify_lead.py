"""Who holds the baton, and how sure can it be?  And whoever writes next shuts out who wrote before."""

import asyncio

import pytest
from aiokafka import TopicPartition
from harness import Broker

from streams.errors import Fenced
from streams.worker import notify_lead
from streams.worker.connection import KafkaConnection
from streams.worker.notify_lead import Lead, winner
from streams.worker.notify_ledger import Ledger

BATON = TopicPartition("baton", 0)


def lead(bootstrap: str = "127.0.0.1:9") -> Lead:
    return Lead(KafkaConnection(bootstrap=bootstrap), "baton", "group", request_timeout_ms=3_000)


def test_the_baton_stays_with_who_got_it_last() -> None:
    """A member that slept still claims what it had; who came after it claims more."""
    assert winner({"b": -1, "a": 3, "c": -1}) == "a"
    assert winner({"slept": 3, "came-after": 5}) == "came-after"
    assert winner({"b": -1, "a": -1}) == winner({"a": -1, "b": -1})


def test_a_decision_is_taken_once_and_a_rebalance_that_leaves_the_baton_changes_nothing() -> None:
    one = lead()
    assert not one.sure()
    one.decide([], 1)
    assert (False, -1) == (one.ours, one.claim)
    one.decide([BATON], 2)
    one.decide([BATON], 5)
    assert (True, 2, False) == (one.ours, one.claim, one.lost.is_set())
    assert one.sure()
    one.decide([], 6)
    assert (False, -1, True) == (one.ours, one.claim, one.lost.is_set())
    assert not one.sure()


def test_who_has_not_heard_from_the_group_for_a_session_is_not_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_lead, "SESSION_TIMEOUT_MS", 0)
    one = lead()
    one.decide([BATON], 1)

    assert one.ours
    assert not one.sure()


@pytest.mark.kafka
async def test_of_two_ledgers_with_one_name_the_newer_writes(kafka: str, prefix: str) -> None:
    connection, topic = KafkaConnection(bootstrap=kafka), f"{prefix}ledger"
    Broker(kafka).create(topic, 1)

    def ledger() -> Ledger:
        return Ledger(connection, topic, request_timeout_ms=10_000, transactional_id=f"{prefix}notify")

    async with asyncio.timeout(120), ledger() as old:
        old.put(b"a", b"old")
        while old.waiting:
            await asyncio.sleep(0.02)
        async with ledger() as new:
            await new.opened.wait()
            new.put(b"a", b"new")
            while new.waiting:
                await asyncio.sleep(0.02)
            old.put(b"a", b"late")
            with pytest.raises(Fenced):
                await old.ended()
    written = await asyncio.to_thread(Broker(kafka).records, topic, 2)

    assert [b"old", b"new"] == [each.value() for each in written]
