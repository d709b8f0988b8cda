"""Which of several replicas sends?  The member of a consumer group that holds the baton: one partition of one topic.

Never hands the baton on while its holder lives: a replica that joins stands by.  Who holds it knows for how long it can
be sure of that: a process that was paused learns that its time is up before it learns who came after it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streams.errors import EdgeError
from streams.feed.ending import started
from streams.worker.connection import KafkaConnection, edge_errors, told_to_stop
from streams.worker.tail import stop_consumer

_log = logging.getLogger(__name__)

SESSION_TIMEOUT_MS: Final = 6_000  # the shortest that brokers allow unless told otherwise: so long is nobody told
_HEARTBEAT_MS: Final = 1_000
_MARGIN: Final = 0.8  # of the session: what is under way when it ends was begun by us
_POLL_MS: Final = 500
_SURE_S: Final = 0.1
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 5.0
_BATON: Final = 0  # the partition
_NO_CLAIM: Final = -1


class Lead:
    """This replica's place in the group; `gained` and `lost` tell when it changes."""

    def __init__(self, connection: KafkaConnection, topic: str, group: str, *, request_timeout_ms: int) -> None:
        self._connection = connection
        self._baton = TopicPartition(topic, _BATON)
        self.group = group
        self._request_timeout_ms = request_timeout_ms
        self._heard_s = -1.0
        self.claim = _NO_CLAIM  # the generation of the group in which we got it
        self.gained = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()
        self.decided = asyncio.Event()  # the group has said something

    @property
    def ours(self) -> bool:
        """Do we hold the baton, as far as we have heard?"""
        return self.gained.is_set()

    def sure(self) -> bool:
        """Can nobody else hold it at this moment?"""
        return self.ours and (time.monotonic() - self._heard_s) * 1000 < SESSION_TIMEOUT_MS * _MARGIN

    async def assured(self) -> None:
        """Wait until we are sure."""
        while not self.sure():  # noqa: ASYNC110  time takes it away, and no event says so
            await asyncio.sleep(_SURE_S)

    async def run(self) -> None:
        """Stay in the group for ever, through outages. Raises EdgeError for what no repetition cures: no right to."""
        delay_s = _BACKOFF_S
        while True:
            try:
                async with edge_errors(self._connection, f"joining the group {self.group}"), self._member() as consumer:
                    while True:
                        # Nothing is fetched: it is how the client knows that we live.
                        await consumer.getmany(timeout_ms=_POLL_MS)
                        delay_s = _BACKOFF_S
            except EdgeError as error:
                if not error.retryable:
                    raise
                reason = str(error)
            except asyncio.CancelledError:
                if told_to_stop():
                    raise
                reason = "the client gave up a request"
            self.decide((), _NO_CLAIM)
            _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, reason)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    @asynccontextmanager
    async def _member(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._connection.client_arguments(),
            client_id="agent-streams-notify",
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            request_timeout_ms=self._request_timeout_ms,
            partition_assignment_strategy=(_assignor(self),),
        )
        try:
            consumer.subscribe([self._baton.topic], listener=_Listener(self, consumer))
            await started(consumer.start())
            self._listen(consumer._coordinator)  # noqa: SLF001  nothing else tells when the broker last heard from us
            yield consumer
        finally:
            await stop_consumer(consumer)

    def _listen(self, coordinator: Any) -> None:
        beat = coordinator._do_heartbeat  # noqa: SLF001  as above

        async def heard() -> bool:
            since_s = time.monotonic()
            well = bool(await beat())
            if well:
                self._heard_s = since_s
            return well

        coordinator._do_heartbeat = heard  # noqa: SLF001  as above

    def decide(self, assigned: Iterable[TopicPartition], generation: int) -> None:
        """Take what the group has decided."""
        self.decided.set()
        if self._baton in set(assigned):
            self._heard_s = time.monotonic()
            if not self.ours:
                self.claim = generation
                self.lost.clear()
                self.gained.set()
                _log.info("notify_leads group=%s generation=%d", self.group, generation)
        elif self.ours:
            self.claim = _NO_CLAIM
            self.gained.clear()
            self.lost.set()
            _log.warning("notify_stands_by group=%s generation=%d", self.group, generation)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka carries no types
    """Passes on what the group decides."""

    def __init__(self, lead: Lead, consumer: AIOKafkaConsumer) -> None:
        self._lead = lead
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Go on: while the group decides anew nobody else has it."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take the decision; the partition is the baton, not something to read."""
        self._consumer.pause(*assigned)
        self._lead.decide(assigned, self._consumer._coordinator.generation)  # noqa: SLF001  there is no other way to it


def winner(claims: Mapping[str, int]) -> str:
    """Return the member that gets the baton: who got it last, else any; the same for whoever decides."""
    return max(sorted(claims), key=lambda member: claims[member])


def _assignor(lead: Lead) -> type[AbstractPartitionAssignor]:
    class Baton(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka carries no types
        """Leaves the baton with who holds it."""

        name = "agent-streams-baton"
        version = 0

        @classmethod
        def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG003  aiokafka's
            claims = {member: _claim(metadata.user_data) for member, metadata in members.items()}
            holder, topic = winner(claims), lead._baton.topic  # noqa: SLF001  one class in two
            return {
                member: ConsumerProtocolMemberAssignment(
                    cls.version, [(topic, [_BATON])] if member == holder else [], b""
                )
                for member in members
            }

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> Any:
            return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"%d" % lead.claim)

        @classmethod
        def on_assignment(cls, assignment: Any) -> None:
            """Nothing is kept here."""

    return Baton


def _claim(data: bytes | None) -> int:
    try:
        return int(data or b"")
    except ValueError:
        return _NO_CLAIM
