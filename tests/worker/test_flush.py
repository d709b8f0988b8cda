"""A plan is one transaction of one producer: all of it or nothing, and only while the partition is ours."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.transaction import EndTxnRequest
from harness import Broker, eventually

from streams.errors import EdgeError, Fenced
from streams.stage.plan import Plan, Send
from streams.worker import topics
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.flush import OutcomeUnknown, Writer

pytestmark = pytest.mark.kafka


@pytest.fixture
async def config(kafka: str, prefix: str) -> WorkerConfig:
    connection = KafkaConnection(bootstrap=kafka)
    await topics.create(connection, prefix, {"events": 2, "rollups": 3})
    return WorkerConfig(connection=connection, prefix=prefix, session_timeout_ms=6000, heartbeat_ms=500)


def writer(config: WorkerConfig) -> Writer:
    source = TopicPartition(config.topic("events"), 1)
    return Writer(
        config, stage="sessions", source=source, changelog=TopicPartition(config.topic("sessions.changelog"), 1)
    )


async def test_rows_sends_and_offset_become_visible_together(config: WorkerConfig) -> None:
    broker = Broker(config.connection.bootstrap)
    ours = await writer(config).fence()
    sends = [
        Send("rollups", 2, None, b"explicit", (("sequence", b"1"),)),
        Send("alerts", None, b"an alert", b"keyed"),
        Send("alerts", None, b"an alert", None),
    ]
    now_ms = time.time_ns() // 1_000_000

    await ours.write(Plan([(b"a", b"1"), (b"b", None), (b"a", b"2")], sends, 7), now_ms=now_ms)
    await ours.close()

    changelog = broker.records(config.topic("sessions.changelog"), 3)
    assert [(1, b"a", b"1"), (1, b"b", None), (1, b"a", b"2")] == [
        (m.partition(), m.key(), m.value()) for m in changelog
    ]
    assert {now_ms} == {message.timestamp()[1] for message in changelog}
    (delta,) = broker.records(config.topic("rollups"), 1)
    assert (2, b"explicit", [("sequence", b"1")]) == (delta.partition(), delta.value(), delta.headers())
    alerts = broker.records(config.topic("alerts"), 2)
    assert [b"keyed", None] == [message.value() for message in alerts]
    assert 1 == len({message.partition() for message in alerts})
    committed = {0: 0, 1: 7}
    eventually(lambda: committed == broker.committed(config.group_id, config.topic("events")), timeout_s=60,
               what=f"{committed}")  # fmt: skip


async def test_a_plan_larger_than_a_batch_is_still_one_transaction(config: WorkerConfig) -> None:
    ours = await writer(config).fence()
    rows = [(b"%d" % number, b"x" * 10_000) for number in range(400)]

    await ours.write(Plan([*rows], [], 400), now_ms=0)
    await ours.close()

    broker = Broker(config.connection.bootstrap)
    assert len(rows) == len(broker.records(config.topic("sessions.changelog"), len(rows)))
    assert dict(rows) == broker.rows(config.topic("sessions.changelog"))[1]


async def test_an_earlier_writer_is_fenced(config: WorkerConfig) -> None:
    earlier = await writer(config).fence()
    await earlier.write(Plan([(b"a", b"1")], [], 1), now_ms=0)
    later = await writer(config).fence()

    with pytest.raises(Fenced):
        await earlier.write(Plan([(b"a", b"stale")], [], 2), now_ms=0)

    await later.write(Plan([(b"a", b"2")], [], 2), now_ms=0)
    await earlier.close()
    await later.close()
    broker = Broker(config.connection.bootstrap)
    assert [b"1", b"2"] == [message.value() for message in broker.records(config.topic("sessions.changelog"), 2)]


async def test_an_end_that_was_sent_twice_is_an_unknown_outcome(config: WorkerConfig) -> None:
    """The lost request may arrive later, and would end the transaction that is open then."""
    ours = await writer(config).fence()
    client = ours._producer.client
    send = client.send
    lost: list[object] = []

    async def lossy(node_id: int, request: object, **options: Any) -> Any:
        answer = await send(node_id, request, **options)
        if isinstance(request, EndTxnRequest) and not lost:
            lost.append(request)
            raise KafkaConnectionError("the answer was lost")
        return answer

    client.send = lossy
    ours._watch_for_doubt(ours._producer)

    with pytest.raises(OutcomeUnknown):
        await ours.write(Plan([(b"a", b"1")], [], 1), now_ms=0)

    await ours.close()


async def test_a_cancellation_that_the_client_lets_out_is_an_unknown_outcome(config: WorkerConfig) -> None:
    """Nobody told us to stop: a request was given up because the broker is away."""
    ours = await writer(config).fence()

    async def given_up() -> None:
        raise asyncio.CancelledError

    ours._producer.commit_transaction = given_up

    with pytest.raises(OutcomeUnknown, match="gave up"):
        await ours.write(Plan([(b"a", b"1")], [], 1), now_ms=0)

    await ours.close()


async def test_a_row_that_no_topic_takes_fails_for_good(config: WorkerConfig) -> None:
    ours = await writer(config).fence()

    with pytest.raises(EdgeError) as error:
        await ours.write(Plan([(b"a", b"x" * 3_000_000)], [], 1), now_ms=0)

    assert not error.value.retryable
    await ours.close()


async def test_closing_is_not_left_halfway_by_a_cancellation(config: WorkerConfig) -> None:
    """A rebalance cancels whoever reloads a partition, who may be closing its writer at that moment."""
    before = asyncio.all_tasks()
    ours = await writer(config).fence()
    await ours.write(Plan([(b"a", b"1")], [], 1), now_ms=0)

    closing = asyncio.ensure_future(ours.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    assert before == asyncio.all_tasks()


async def test_closing_ends_every_task(config: WorkerConfig) -> None:
    before = asyncio.all_tasks()
    ours = await writer(config).fence()
    await ours.write(Plan([(b"a", b"1")], [], 1), now_ms=0)

    await ours.close()

    assert before == asyncio.all_tasks()
