"""Which facts about an installation can be had: brokers, topics, workers, states, clocks, Redis?

Only looks: never creates, commits or writes anything.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, TopicAuthorizationFailedError

from streams.clock import now_ms
from streams.errors import EdgeError, StateRefused
from streams.feed.ending import started
from streams.feed.obstacle import redis_said
from streams.fold import session
from streams.stage import session_rows
from streams.stage.loading import UNREADABLE, known_log
from streams.stage.plan import Anchor
from streams.topology import (
    COMMANDS_STAGE,
    ROLLUPS_CHANGELOG,
    ROLLUPS_STAGE,
    SESSIONS_CHANGELOG,
    SESSIONS_STAGE,
    STAGES,
    Stage,
)
from streams.worker import checkup, topics
from streams.worker.checkup import Books, Clocks, Finding, Group, Place
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.load import lost_rows, strangers
from streams.worker.looking import following
from streams.worker.tables import Tables
from streams.worker.tail import Records

LOOK_AGAIN_S: Final = 0.25
LOOKS: Final = 20  # at the books, while events move
REDIS_TIMEOUT_S: Final = 3.0
_SESSION_ROWS: Final = frozenset({b"s", b"p", b"c"})
_APPENDED: Final = 1  # Kafka's timestamp type: set by the broker


@dataclass(slots=True)
class _Rows:
    """What is needed of the changelogs: no session is kept."""

    tables: Tables = field(default_factory=Tables)
    newest_ms: int | None = None
    by_broker: bool = False
    strange: set[tuple[str, int]] = field(default_factory=set)  # partitions with rows that cannot be read

    def take(self, suffix: str, partition: int, records: Records) -> None:
        """Take records of a changelog."""
        for record in records:
            self.newest_ms = max(record.timestamp, self.newest_ms or 0)
            self.by_broker = record.timestamp_type == _APPENDED
            try:
                if suffix == ROLLUPS_CHANGELOG.suffix or record.key == b"m":
                    self.tables.take(suffix, partition, record.key, record.value)
                elif suffix == SESSIONS_CHANGELOG.suffix and record.key[:1] in _SESSION_ROWS and record.value:
                    _check_head(partition, record.value)
            except (StateRefused, *UNREADABLE):
                self.strange.add((suffix, partition))

    def fault(self) -> str | None:
        """Take in the tables' rows that were read so far; return what is wrong with one that cannot be."""
        try:
            self.tables.rollups.entries("partition")
        except StateRefused as error:
            return str(error)
        return None


async def examine(kafka: KafkaConnection, prefix: str, group_id: str, redis_url: str | None) -> list[Finding]:
    """Look at everything, and say what it means."""
    findings: list[Finding] = []
    began = time.monotonic()
    try:
        cluster = await topics.look(kafka, prefix)
    except EdgeError as error:
        # What trying again cannot help says what it is and what to do: a certificate, a login, a protocol.
        value, step = str(error), "do what it says"
        if error.retryable:
            value = f"no answer ({type(error.__cause__).__name__})"
            step = "start it, or correct its address and the login"
        findings.append(Finding("broker", "fault", f"Kafka at {kafka.bootstrap}", value, "an answer", step))
    else:
        took_ms = (time.monotonic() - began) * 1000
        value = f"{cluster.brokers} broker{'s' if cluster.brokers > 1 else ''}, {took_ms:.0f} ms"
        findings.append(Finding("broker", "ok", f"Kafka at {kafka.bootstrap}", value))
        found = topics.judge(cluster, prefix, {})
        findings += checkup.topic_findings(found)
        if not any(each.what == "topic" for each in found):  # a topic is missing: there is nothing to look into
            findings += await _look_inside(kafka, prefix, group_id, cluster)
    if redis_url is not None:
        findings.append(checkup.redis_finding(await _ask_redis(redis_url)))
    return findings


def _check_head(partition: int, stored: bytes) -> None:
    codec = session.head(stored).codec
    if codec != session.ROW_CODEC:
        raise session_rows.newer(partition, f"a row has version {codec}, this program reads {session.ROW_CODEC}")


async def _look_inside(kafka: KafkaConnection, prefix: str, group_id: str, cluster: topics.Cluster) -> list[Finding]:
    rows = _Rows()
    counts = {stage.name: cluster.topics[prefix + stage.source.suffix].partitions for stage in STAGES}
    changelogs = [stage.changelog.suffix for stage in STAGES]
    with edge_errors(kafka, "looking at the workers"):
        async with following(kafka, prefix, changelogs, rows.take) as topics_followed:
            await topics_followed.catch_up()
            before = {stage.name: _next_offsets(rows, stage) for stage in STAGES}
            group, committed = await _group(kafka, group_id)
            places: list[Place] = []
            unfit: list[tuple[str, str]] = []
            for stage in STAGES:
                source = prefix + stage.source.suffix
                mine = {tp.partition: offset for tp, offset in committed.items() if tp.topic == source}
                offsets = await _settled(rows, stage, before[stage.name], mine)
                sources = [TopicPartition(source, number) for number in range(counts[stage.name])]
                places += await _places(kafka, stage, sources, mine, offsets)
                unfit += await _unfit(kafka, prefix, stage, cluster, rows)
            if fault := rows.fault():
                unfit.append((prefix + ROLLUPS_CHANGELOG.suffix, fault))
            books = Books({}, {}, (0, 0), still=True) if rows.strange or fault else await _balance(rows)
    counters = books.counters
    return [
        *checkup.worker_findings(group, counts[STAGES[0].name]),
        *checkup.strange_findings(sorted((prefix + suffix, number) for suffix, number in rows.strange)),
        *checkup.unfit_findings(unfit),
        *checkup.place_findings(places),
        *checkup.lag_findings(places),
        checkup.misrouted_finding(counters),
        *([] if rows.strange or fault else checkup.book_findings(books)),
        *checkup.clock_findings(Clocks(rows.newest_ms, now_ms(), rows.by_broker), counters),
    ]


async def _group(kafka: KafkaConnection, group_id: str) -> tuple[Group, dict[TopicPartition, int]]:
    admin = AIOKafkaAdminClient(**kafka.client_arguments(), client_id="agent-streams-doctor")
    try:
        await started(admin.start())
        if not await _coordinated(admin, group_id):
            return Group(group_id, "unknown", 0), {}
        (answer,) = await admin.describe_consumer_groups([group_id])
        _, _, state, _, _, members, *_ = answer.groups[0]
        offsets = await admin.list_consumer_group_offsets(group_id)
    finally:
        await admin.close()
    return Group(group_id, state, len(members)), {tp: each.offset for tp, each in offsets.items() if each.offset >= 0}


async def _coordinated(admin: AIOKafkaAdminClient, group_id: str) -> bool:
    """Wait for the group's coordinator; a cluster that never had any group makes its first one now."""
    for _ in range(LOOKS):
        try:
            await admin.find_coordinator(group_id)
        except GroupCoordinatorNotAvailableError:
            await asyncio.sleep(LOOK_AGAIN_S)
        else:
            return True
    return False


def _metas(rows: _Rows, stage: Stage) -> Mapping[int, Any]:
    tables = rows.tables
    metas: dict[str, Mapping[int, Any]] = {
        SESSIONS_STAGE.name: tables.sessions.meta,
        ROLLUPS_STAGE.name: tables.rollups.meta,
        COMMANDS_STAGE.name: tables.commands,
    }
    return metas[stage.name]


def _next_offsets(rows: _Rows, stage: Stage) -> dict[int, int]:
    return {partition: each.next_offset for partition, each in _metas(rows, stage).items()}


async def _settled(
    rows: _Rows, stage: Stage, before: Mapping[int, int], committed: Mapping[int, int]
) -> dict[int, int]:
    """Return where the states go on, as of when the group was asked: between a look before it and one after it."""
    for _ in range(LOOKS):
        after = _next_offsets(rows, stage)
        if all(after.get(partition, offset) >= offset for partition, offset in committed.items()):
            break
        await asyncio.sleep(LOOK_AGAIN_S)
    return {
        partition: committed[partition]
        if before.get(partition, 0) <= committed.get(partition, -1) <= offset
        else offset
        for partition, offset in after.items()
    }


async def _places(
    kafka: KafkaConnection,
    stage: Stage,
    sources: Sequence[TopicPartition],
    committed: Mapping[int, int],
    offsets: Mapping[int, int],
) -> list[Place]:
    begins, ends = await _bounds(kafka, sources)
    return [
        Place(stage.name, tp, begins[tp], ends[tp], committed.get(tp.partition), offsets.get(tp.partition))
        for tp in sources
    ]


async def _unfit(
    kafka: KafkaConnection, prefix: str, stage: Stage, cluster: topics.Cluster, rows: _Rows
) -> list[tuple[str, str]]:
    """Return what keeps states from being loaded, by place: another partition count, lost rows, a log that is new."""
    source, changelog = prefix + stage.source.suffix, prefix + stage.changelog.suffix
    partitions = cluster.topics[source].partitions  # the changelog may have another count, which is a fault of its own
    changelogs = [TopicPartition(changelog, number) for number in range(cluster.topics[changelog].partitions)]
    sources = [TopicPartition(source, number) for number in range(partitions)]
    unfit: list[tuple[str, str]] = []
    anchors: dict[TopicPartition, Anchor | None] = {}
    for number, meta in _metas(rows, stage).items():
        try:
            anchors[TopicPartition(source, number)] = known_log(f"{stage.name} partition {number}", meta, partitions)
        except StateRefused as error:
            unfit.append((f"{source} partition {number}", str(error)))
    anchors = {tp: anchor for tp, anchor in anchors.items() if tp.partition < partitions}
    async with _consumer(kafka) as consumer:
        begins = await consumer.beginning_offsets([*changelogs, *sources])
        ends = await consumer.end_offsets([*changelogs, *sources])
        strange: dict[TopicPartition, str] = {}
        with suppress(TopicAuthorizationFailedError):  # who may not read events leaves this to the workers, which may
            strange = await strangers(consumer, anchors, begins, ends)
    unfit += [(f"{tp.topic} partition {tp.partition}", lost_rows(tp, begins[tp])) for tp in changelogs if begins[tp]]
    return unfit + [(f"{tp.topic} partition {tp.partition}", text) for tp, text in strange.items()]


@asynccontextmanager
async def _consumer(kafka: KafkaConnection) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **kafka.client_arguments(),
        client_id="agent-streams-doctor",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await started(consumer.start())
        yield consumer
    finally:
        await consumer.stop()


async def _bounds(
    kafka: KafkaConnection, partitions: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    async with _consumer(kafka) as consumer:
        return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)


async def _balance(rows: _Rows) -> Books:
    """Look at the books until they agree, or have stood still without agreeing: rows of one moment come in parts."""
    before: Books | None = None
    for _ in range(LOOKS):
        books = _books(rows, before)
        if (
            not any(finding.level == "fault" for finding in checkup.book_findings(books))
            and books.whole[0] == books.whole[1]
        ):
            return books
        before = books
        await asyncio.sleep(LOOK_AGAIN_S)
    return _books(rows, before)


def _books(rows: _Rows, before: Books | None) -> Books:
    tables = rows.tables
    counters = {partition: dict(meta.counters) for partition, meta in tables.sessions.meta.items()}
    received = {int(entry.labels[0]): entry.sum("received") for entry in tables.rollups.entries("partition")}
    upstreams: dict[int, int] = {}
    for meta in tables.rollups.meta.values():
        for source, upstream in meta.upstreams.items():
            upstreams[source] = max(upstreams.get(source, 0), upstream.events)
    applied = sum(entry.sum("applied", "late") for entry in tables.rollups.entries("partition"))
    everything = tables.rollups.get("all")
    whole = (applied, everything.sum("events") if everything else 0)
    passed_on = {source: (count, upstreams.get(source, 0)) for source, count in received.items()}
    still = before is not None and (before.counters, before.passed_on, before.whole) == (counters, passed_on, whole)
    return Books(counters, passed_on, whole, still=still)


async def _ask_redis(url: str) -> str | None:
    """Return what is wrong with Redis, without the URL; None when it answers."""
    from redis.asyncio import Redis  # noqa: PLC0415  takes half a second, and few have one
    from redis.exceptions import RedisError  # noqa: PLC0415  as above

    try:
        async with Redis.from_url(
            url, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
        ) as client:
            await client.ping()
    except (RedisError, OSError, ValueError) as error:
        return redis_said(error)
    return None
