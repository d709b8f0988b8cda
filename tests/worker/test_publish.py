"""Publishing: every JSON object reaches the partition of its key, and what is none is named."""

import asyncio
import os
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.errors import ConfigError
from streams.stage.keys import partition_of
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.publish import REFUSED_KEPT, Published, Refused, key_of, publish

PARTITIONS = 3


async def topic_of(kafka: str, prefix: str) -> str:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": PARTITIONS, "rollups": 1})
    return prefix + "events"


async def publish_bytes(kafka: str, topic: str, folder: Path, content: bytes, *, raw: bool = False) -> Published:
    file = folder / "input"
    file.write_bytes(content)
    with file.open("rb", buffering=0) as stream:
        return await publish(KafkaConnection(bootstrap=kafka), topic, stream.fileno(), raw=raw)


async def records(kafka: str, topic: str) -> list[ConsumerRecord]:
    """All records there are, partition by partition."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed") as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        left = sum((await consumer.end_offsets(partitions)).values())
        return sorted([await consumer.getone() for _ in range(left)], key=lambda each: (each.partition, each.offset))


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (b'{"session_id":"s","source":"p","agent":"a"}', b"s"),
        (b'{"source":"p","agent":"a"}', b"p"),
        (b'{"session_id":"","source":null,"agent":"a"}', b"a"),
        (b'{"session_id":7,"agent":"\xc3\xa4"}', "ä".encode()),
        (b"{}", None),
    ],
)
def test_key_is_the_session_else_the_source_else_the_agent(event: bytes, key: bytes | None) -> None:
    assert key_of(event) == key


@pytest.mark.parametrize("value", [b"", b"1", b"null", b"[]", b'"x"', b"{", b'{"a":\xff}', b"[" * 100_000])
def test_what_is_no_object_has_no_key(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        key_of(value)


def test_the_refused_are_all_counted_and_the_first_named() -> None:
    outcome = Published()
    for number in range(REFUSED_KEPT + 50):
        outcome.refuse(f"line {number}", "why")

    assert outcome.refused == REFUSED_KEPT + 50
    assert len(outcome.first_refused) == REFUSED_KEPT


@pytest.mark.kafka
async def test_each_event_lands_once_in_the_partition_of_its_key_and_in_order(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    topic = await topic_of(kafka, prefix)
    events = [{"session_id": f"s{number % 7}", "n": number} for number in range(5000)]
    content = b"\n".join(orjson.dumps(event) for event in events)
    outcome = await publish_bytes(kafka, topic, tmp_path, content)

    assert (outcome.records, outcome.bytes, outcome.refused) == (5000, len(content) - 4999, 0)
    found = await records(kafka, topic)
    assert all(record.partition == partition_of(record.key or b"", PARTITIONS) for record in found)
    by_session: dict[str, list[int]] = {}
    for record in found:
        event = orjson.loads(record.value or b"")
        by_session.setdefault(event["session_id"], []).append(event["n"])
    assert by_session == {f"s{key}": list(range(key, 5000, 7)) for key in range(7)}


@pytest.mark.kafka
async def test_lines_that_are_no_objects_are_named_and_their_neighbours_published(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    topic = await topic_of(kafka, prefix)
    outcome = await publish_bytes(kafka, topic, tmp_path, b'{"agent":"a"}\noops\n[1]\n{"agent":"b"}\n')

    assert outcome.records == 2
    assert outcome.first_refused == [Refused("line 2", "not a JSON object"), Refused("line 3", "not a JSON object")]
    assert {record.key for record in await records(kafka, topic)} == {b"a", b"b"}


@pytest.mark.kafka
async def test_raw_lines_go_out_as_they_are(kafka: str, prefix: str, tmp_path: Path) -> None:
    topic = await topic_of(kafka, prefix)
    lines = [b"oops", b"[1,2]", b'{"agent":"a"}', b"\xff\xfe"]
    outcome = await publish_bytes(kafka, topic, tmp_path, b"\n".join(lines), raw=True)

    assert (outcome.records, outcome.refused) == (4, 0)
    assert sorted(record.value or b"" for record in await records(kafka, topic)) == sorted(lines)


@pytest.mark.kafka
async def test_array_becomes_one_record_per_element(kafka: str, prefix: str, tmp_path: Path) -> None:
    topic = await topic_of(kafka, prefix)
    outcome = await publish_bytes(kafka, topic, tmp_path, b'[{"agent":"a"}, 3, {"agent":"b"}]')

    assert outcome.records == 2
    assert outcome.first_refused == [Refused("element 2", "not a JSON object")]


@pytest.mark.kafka
async def test_record_larger_than_the_topic_takes_is_named_and_the_rest_published(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """A batch that the broker refuses would end the idempotent producer: it must not get that far."""
    topic = await topic_of(kafka, prefix)
    limit = await topics.record_bytes_max(KafkaConnection(bootstrap=kafka), topic)
    fits = b'{"agent":"a","pad":"%s"}' % (b"x" * (limit - 200))
    outcome = await publish_bytes(
        kafka, topic, tmp_path, fits + b"\n" + fits[:-2] + b"x" * 100 + b'"}\n{"agent":"b"}\n'
    )

    assert outcome.records == 2
    ((where, reason),) = outcome.first_refused
    assert where == "line 2"
    assert f"{topic} takes at most {limit}" in reason


@pytest.mark.kafka
async def test_lines_of_a_pipe_are_published_while_it_is_open(kafka: str, prefix: str) -> None:
    topic = await topic_of(kafka, prefix)
    reader, writer = os.pipe()
    acknowledged = asyncio.Event()
    running = asyncio.create_task(
        publish(KafkaConnection(bootstrap=kafka), topic, reader, progress=lambda _count: acknowledged.set())
    )
    os.write(writer, b'{"agent":"a"}\n')
    await asyncio.wait_for(acknowledged.wait(), 60)
    os.write(writer, b'{"agent":"b"}')
    os.close(writer)
    outcome = await running
    os.close(reader)

    assert outcome.records == 2


@pytest.mark.kafka
async def test_publishing_can_be_cancelled_while_a_pipe_is_silent(kafka: str, prefix: str) -> None:
    topic = await topic_of(kafka, prefix)
    reader, writer = os.pipe()
    first = asyncio.Event()
    running = asyncio.create_task(
        publish(KafkaConnection(bootstrap=kafka), topic, reader, progress=lambda _count: first.set())
    )
    os.write(writer, b'{"agent":"a"}\n')
    await asyncio.wait_for(first.wait(), 60)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)
    os.close(writer)
    os.close(reader)


@pytest.mark.kafka
async def test_missing_topic_is_refused_and_not_created(kafka: str, prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"topic .*events: missing .*agent-streams topics create"):
        await publish_bytes(kafka, prefix + "events", tmp_path, b"{}\n")
    assert (await topics.look(KafkaConnection(bootstrap=kafka), prefix)).topics == {}
