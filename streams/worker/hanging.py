"""Has the broker lost the end of a transaction?  Asks the leaders which of our transactions are open after our fence.

A fence ends every transaction of its producer before it returns, so none may be open then.  Kafka 4.2 to 4.4 lose the
marks that end one when a partition has no leader at that moment (KAFKA-20734): its records stay hidden until the same
producer ends its next transaction, and become visible then whatever had been decided about them.
Never ends a transaction itself: the partition's writer does.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_log = logging.getLogger(__name__)

_TAGS: Final = ("tags", TaggedFields)


class _Producers(Response):  # type: ignore[misc]  # aiokafka carries no types
    """DescribeProducers, version 0: https://kafka.apache.org/protocol#The_Messages_DescribeProducers."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("open_from", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeProducersV0(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = _Producers
    SCHEMA = Schema(
        ("topics", CompactArray(("name", CompactString("utf-8")), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS
    )


class _DescribeProducers(Request[_DescribeProducersV0]):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 61
    CLASSES = [_DescribeProducersV0]  # noqa: RUF012  the library's own form

    def __init__(self, places: Iterable[TopicPartition]) -> None:
        numbers: dict[str, list[int]] = {}
        for tp in places:
            numbers.setdefault(tp.topic, []).append(tp.partition)
        topics: list[tuple[str, list[int], dict[int, bytes]]] = [(topic, some, {}) for topic, some in numbers.items()]
        self._topics = topics

    def build(self, request_struct_class: type[_DescribeProducersV0]) -> _DescribeProducersV0:
        return request_struct_class(self._topics, {})


async def open_transactions(
    client: AIOKafkaClient, places: Collection[TopicPartition]
) -> dict[TopicPartition, dict[int, int]]:
    """Return producer ids and first offsets of the transactions that are open now, by partition; others are left out.

    A broker older than 2.8 and a topic that we may not read say nothing. Raises KafkaError while a leader is missing.
    """
    by_leader: dict[int, list[TopicPartition]] = {}
    for tp in places:
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            client.force_metadata_update()
            raise LeaderNotAvailableError(f"{tp.topic} partition {tp.partition}")
        by_leader.setdefault(leader, []).append(tp)
    try:
        answers = await asyncio.gather(
            *(client.send(leader, _DescribeProducers(some)) for leader, some in by_leader.items())
        )
    except IncompatibleBrokerVersion:
        return {}
    found: dict[TopicPartition, dict[int, int]] = {}
    unreadable: set[str] = set()
    for topic, partitions, _ in (each for answer in answers for each in answer.topics):
        for number, error_code, _, producers, _ in partitions:
            error = for_code(error_code)
            if error is TopicAuthorizationFailedError:
                unreadable.add(topic)
            elif error_code:
                raise error(f"asking {topic} partition {number} for its producers")
            still_open = {producer[0]: producer[5] for producer in producers if producer[5] >= 0}
            if still_open:
                found[TopicPartition(topic, number)] = still_open
    if unreadable:
        _log.info("producers_not_readable topics=%s", ",".join(sorted(unreadable)))
    return found
