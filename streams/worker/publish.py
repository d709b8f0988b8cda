"""Which records does a file of events make, and did Kafka acknowledge each of them?

Never judges an event: any JSON object goes out, so that the dead letter path sees what clients really send.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.feed.ending import started
from streams.worker import intake
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.intake import Item
from streams.worker.topics import record_bytes_max

REFUSED_KEPT: Final = 100  # the first so many refused are named; all are counted
_BATCH_BYTES: Final = 256 * 1024
_LINGER_MS: Final = 5  # lines of a pipe go out together, and nobody waits noticeably
_OVERHEAD_BYTES: Final = 128  # of a batch with one record: 61 for the batch, up to 21 for the record

Progress = Callable[[int], None]


class Refused(NamedTuple):
    """One value that was not published, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Published:
    """What became of the input: `records` were acknowledged by Kafka, `first_refused` is a bounded sample."""

    records: int = 0
    bytes: int = 0
    refused: int = 0
    first_refused: list[Refused] = field(default_factory=list)

    def refuse(self, where: str, reason: str) -> None:
        """Count one that was not published."""
        self.refused += 1
        if len(self.first_refused) < REFUSED_KEPT:
            self.first_refused.append(Refused(where, reason))

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "first_refused": [each._asdict() for each in self.first_refused]}


class _Identity(msgspec.Struct):
    session_id: Any = None
    source: Any = None
    agent: Any = None


_identity: Final = msgspec.json.Decoder(_Identity)


def key_of(value: bytes) -> bytes | None:
    """Return an event's record key: its session, else its source, else its agent; ValueError if it is no JSON object.

    The rule is that of `streams.topology.EVENTS`: by it, all events of a session meet in one partition.
    """
    try:
        identity = _identity.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a JSON object") from error
    for part in (identity.session_id, identity.source, identity.agent):
        if isinstance(part, str) and part:
            return part.encode()
    return None


async def publish(
    connection: KafkaConnection, topic: str, descriptor: int, *, raw: bool = False, progress: Progress | None = None
) -> Published:
    """Publish what can be read from a file descriptor, one record per event, and wait for every acknowledgement.

    The input is JSON lines or one JSON array; with `raw` every line goes out as it is, whatever it holds. `progress`
    is called with the number of acknowledged records. Should Kafka fail for good, some may have been published.
    """
    limit = await record_bytes_max(connection, topic)
    publication = _Publication(topic, limit, raw=raw, progress=progress)
    async with edge_errors(connection, f"publishing to {topic}"):
        producer = AIOKafkaProducer(
            **connection.client_arguments(),
            client_id="agent-streams-publish",
            enable_idempotence=True,
            linger_ms=_LINGER_MS,
            max_batch_size=min(_BATCH_BYTES, limit),
            max_request_size=limit,
        )
        try:
            await started(producer.start())
            async for item in intake.lines(descriptor) if raw else intake.events(descriptor):
                await publication.add(producer, item)
            await producer.flush()
        finally:
            await producer.stop()
        publication.check()
    return publication.outcome


class _Publication:
    """One run: what was sent, acknowledged and refused so far."""

    def __init__(self, topic: str, limit: int, *, raw: bool, progress: Progress | None) -> None:
        self.outcome = Published()
        self._topic = topic
        self._limit = limit
        self._raw = raw
        self._progress = progress
        self._failure: BaseException | None = None

    async def add(self, producer: AIOKafkaProducer, item: Item) -> None:
        """Send one value, or count why not; raises as soon as Kafka has failed for good."""
        self.check()
        try:
            key = self._key(item)
        except ValueError as error:
            self.outcome.refuse(item.where, str(error))
            return
        # One unsent batch per partition may wait: with a slow broker this waits too, so memory is bounded.
        future = await producer.send(self._topic, item.value, key=key)
        future.add_done_callback(lambda done: self._acknowledged(item, done))

    def check(self) -> None:
        """Raise what Kafka failed with, if it did."""
        if self._failure:
            raise self._failure

    def _key(self, item: Item) -> bytes | None:
        """Return the key to send a value with; ValueError says why it cannot be sent."""
        if item.fault:
            raise ValueError(item.fault)
        try:
            key = key_of(item.value)
        except ValueError:
            if not self._raw:
                raise
            key = None
        # Judged here: a batch that the broker refuses would break the idempotent producer's sequence.
        size = len(item.value) + len(key or b"") + _OVERHEAD_BYTES
        if size > self._limit:
            raise ValueError(f"{size} bytes with its key, {self._topic} takes at most {self._limit}")
        return key

    def _acknowledged(self, item: Item, future: "asyncio.Future[Any]") -> None:
        error = KafkaError("cancelled") if future.cancelled() else future.exception()
        if error:
            self._failure = self._failure or error
            return
        self.outcome.records += 1
        self.outcome.bytes += len(item.value)
        if self._progress:
            self._progress(self.outcome.records)
