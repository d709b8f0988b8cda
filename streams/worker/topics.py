"""Which of the declared topics are there, which differ, and what to do about it.

Creates what is missing and reports the rest; never empties a topic that exists, and alters one only when told to.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from streams.errors import ConfigError, EdgeError
from streams.feed.ending import started
from streams.topology import PAYLOADS, TOPICS, Topic
from streams.worker.connection import KafkaConnection, edge_errors

DEFAULT_PARTITIONS: Final[Mapping[str, int]] = {"events": 8, "rollups": 4, "commands": 1}
REPLICATION_WANTED: Final = 3  # or as many as there are brokers
SETTLE_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05
_OF_THE_TOPIC: Final = 1  # Kafka's number for where a setting comes from: made for this topic

# How a setting may differ from the declared one and still do its work; a setting not named here must be the same.
_AT_LEAST: Final = frozenset({"max.message.bytes", "retention.ms", "min.compaction.lag.ms", "min.insync.replicas"})
_AT_MOST: Final = frozenset({"segment.bytes", "segment.ms", "min.cleanable.dirty.ratio"})
# How long people's words are kept is for whoever answers to these people to say.
_FREE: Final = frozenset({(PAYLOADS.suffix, "retention.ms")})
# These lose or refuse data when they differ; the others cost time, disk or safety margin.
_FAULTS: Final = frozenset({"cleanup.policy", "max.message.bytes"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One topic as the brokers describe it; `replication` is that of its worst partition."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the brokers say: how many they are, and the declared topics that exist, by full name."""

    brokers: int
    topics: Mapping[str, Seen]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between the declaration and the brokers; only a `fault` keeps workers from starting."""

    topic: str
    what: str
    found: str
    expected: str
    next_step: str
    fault: bool

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, expected {self.expected}. {self.next_step}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` did: full names, in the order of the declaration."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


async def look(connection: KafkaConnection, prefix: str) -> Cluster:
    """Ask the brokers for the topics that `streams.topology` declares, under `prefix`."""
    async with _admin(connection, "reading the topics") as admin:
        return await _look(admin, prefix)


async def record_bytes_max(connection: KafkaConnection, topic: str) -> int:
    """Return how large a batch the topic takes; ConfigError when there is no such topic."""
    async with _admin(connection, f"looking for {topic}") as admin:
        if topic not in await admin.list_topics():
            raise ConfigError(f"topic {topic}: missing at {connection.bootstrap}. Run: agent-streams topics create")
        return int((await _configs(admin, [topic]))[topic]["max.message.bytes"])


async def check(connection: KafkaConnection, prefix: str, partitions: Mapping[str, int] | None = None) -> list[Finding]:
    """Compare the brokers with the declaration; without `partitions` any count of a source will do."""
    return judge(await look(connection, prefix), prefix, partitions or {})


def judge(cluster: Cluster, prefix: str, partitions: Mapping[str, int]) -> list[Finding]:
    """Return every difference, in the order of the declaration; pure."""
    return [finding for topic in TOPICS for finding in _judge(topic, cluster, prefix, partitions)]


async def create(
    connection: KafkaConnection,
    prefix: str,
    partitions: Mapping[str, int] | None = None,
    replication: int | None = None,
    retention_ms: Mapping[str, int] | None = None,
) -> Created:
    """Create the declared topics that are missing and wait until they have leaders.

    `partitions` is by the suffix a count comes from (`events`, `rollups`, `commands`); one that is not given is the
    existing topic's, else the default. A source that exists with another count raises ConfigError before anything is
    created.
    Without `replication` it is 3, or the number of brokers. `retention_ms` replaces the declared one, by suffix.
    """
    async with _admin(connection, "creating the topics") as admin:
        cluster = await _look(admin, prefix)
        counts = _counts(cluster, prefix, partitions or {})
        copies = replication or min(REPLICATION_WANTED, cluster.brokers)
        if copies > cluster.brokers:
            raise ConfigError(f"replication: {copies} asked for, but Kafka has {cluster.brokers} broker(s)")
        wanted = [kept(topic, retention_ms or {}) for topic in TOPICS]
        missing = [topic for topic in wanted if prefix + topic.suffix not in cluster.topics]
        created = await _create(admin, prefix, missing, counts, copies) if missing else ()
        await _settled(admin, {prefix + topic.suffix: counts[topic.like] for topic in missing})
        existing = tuple(prefix + each.suffix for each in TOPICS if prefix + each.suffix not in created)
    return Created(created, existing)


async def alter(connection: KafkaConnection, changes: Mapping[str, Mapping[str, str]]) -> None:
    """Set some settings of topics that exist, by full name; every other setting that was made for a topic stays.

    Between the look at those and the change nobody else may change them: the request that every supported Kafka knows
    replaces all of a topic's settings at once.
    """
    async with _admin(connection, "altering the topics") as admin:
        for name, wanted in changes.items():
            kept = await _made(admin, name)
            answers = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {**kept, **wanted})])
            for code, message, *_ in (each for answer in answers for each in answer.resources):
                if code:
                    error = for_code(code)
                    raise EdgeError(
                        f"the settings of {name} could not be changed: {message or error.__name__}",
                        retryable=error.retriable,
                    )
        await _altered(admin, changes)


async def delete_prefix(connection: KafkaConnection, prefix: str) -> list[str]:
    """Delete every topic whose name starts with `prefix`, declared or not; return their names once they are gone."""
    if not prefix:
        raise ConfigError("prefix: empty; that would delete every topic of the cluster")
    async with _admin(connection, f"deleting the topics of {prefix}") as admin:
        doomed = sorted(name for name in await admin.list_topics() if name.startswith(prefix))
        answer = await admin.delete_topics(doomed) if doomed else None
        for name, code in answer.topic_error_codes if answer else ():
            error = for_code(code)
            # One that is gone meanwhile is as wanted: brokers learn of a deletion one after the other.
            if code and error is not UnknownTopicOrPartitionError:
                raise EdgeError(f"{name} could not be deleted: {error.__name__}", retryable=error.retriable)
        await _gone(admin, doomed)
    return doomed


def wanted_config(topic: Topic, replication: int) -> dict[str, str]:
    """Return every setting a topic is created with; nothing is left to the cluster's defaults that matters to us."""
    in_sync = "2" if replication >= 3 else "1"
    return {"cleanup.policy": "delete", "min.insync.replicas": in_sync, **topic.config}


def kept(topic: Topic, retention_ms: Mapping[str, int]) -> Topic:
    """Return a topic as it is to be kept, by suffix."""
    kept_ms = retention_ms.get(topic.suffix)
    return topic if kept_ms is None else replace(topic, config={**topic.config, "retention.ms": str(kept_ms)})


@asynccontextmanager
async def _admin(connection: KafkaConnection, doing: str) -> AsyncIterator[AIOKafkaAdminClient]:
    async with edge_errors(connection, doing):
        admin = AIOKafkaAdminClient(**connection.client_arguments(), client_id="agent-streams-topics")
        try:
            await started(admin.start())
            yield admin
        finally:
            await admin.close()


async def _described(admin: AIOKafkaAdminClient) -> dict[str, Any]:
    # Asked for all: naming topics would create them on clusters that create topics by themselves.
    return {entry["topic"]: entry for entry in await admin.describe_topics()}


async def _configs(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """Read every setting of some topics, defaults included."""
    configs: dict[str, dict[str, str]] = {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    for answer in await admin.describe_configs(resources) if resources else []:
        for code, message, _kind, name, entries in answer.resources:
            if code:
                reason = message or for_code(code).__name__
                raise EdgeError(f"the settings of {name} could not be read: {reason}", retryable=False)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def _made(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Read the settings that were made for one topic, without the brokers' defaults."""
    found: dict[str, str] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]):
        for code, message, _kind, name, entries in answer.resources:
            if code:
                reason = message or for_code(code).__name__
                raise EdgeError(f"the settings of {name} could not be read: {reason}", retryable=False)
            found |= {entry[0]: entry[1] for entry in entries if entry[3] == _OF_THE_TOPIC}
    return found


async def _look(admin: AIOKafkaAdminClient, prefix: str) -> Cluster:
    brokers = len((await admin.describe_cluster())["brokers"])
    described = await _described(admin)
    present = [prefix + topic.suffix for topic in TOPICS if prefix + topic.suffix in described]
    configs = await _configs(admin, present)
    return Cluster(
        brokers,
        {
            name: Seen(
                partitions=len(described[name]["partitions"]),
                replication=min((len(each["replicas"]) for each in described[name]["partitions"]), default=0),
                config=configs[name],
            )
            for name in present
        },
    )


def _judge(topic: Topic, cluster: Cluster, prefix: str, partitions: Mapping[str, int]) -> Iterator[Finding]:
    name = prefix + topic.suffix
    seen = cluster.topics.get(name)
    if seen is None:
        yield Finding(
            name,
            "topic",
            "missing",
            f"one for {topic.holds}",
            f"Run: agent-streams topics create --prefix {prefix}",
            True,
        )
        return
    yield from _judge_count(topic, seen, cluster, prefix, partitions)
    copies = min(REPLICATION_WANTED, cluster.brokers)
    if seen.replication < copies:
        yield Finding(
            name,
            "replication",
            str(seen.replication),
            f"{copies} or more on {cluster.brokers} brokers",
            "The loss of one broker can lose records: add replicas with kafka-reassign-partitions",
            False,
        )
    for key, value in wanted_config(topic, seen.replication).items():
        found = seen.config.get(key, "unset")
        if (topic.suffix, key) not in _FREE and not _agrees(key, found, value):
            yield Finding(
                name,
                key,
                found,
                f"{value}{_relation(key)}",
                f"Run: kafka-configs --alter --topic {name} --add-config {key}={value}",
                key in _FAULTS,
            )


def _judge_count(
    topic: Topic, seen: Seen, cluster: Cluster, prefix: str, partitions: Mapping[str, int]
) -> Iterator[Finding]:
    """The source of a count is compared with the setting, every other topic with its source."""
    source = cluster.topics.get(prefix + topic.like)
    if topic.suffix == topic.like:
        expected, because = partitions.get(topic.suffix, seen.partitions), "as set"
        step = f"Set it to {seen.partitions}, or choose a new prefix: the state belongs to the count it was made with"
    elif source is None:
        return
    else:
        expected, because = source.partitions, f"as {prefix + topic.like} has"
        step = "State and log share partition numbers: create all topics under a new prefix with the count you want"
    if seen.partitions != expected:
        name = prefix + topic.suffix
        yield Finding(name, "partition count", str(seen.partitions), f"{expected} {because}", step, True)


def _agrees(key: str, found: str, wanted: str) -> bool:
    if found == wanted:
        return True
    if key not in _AT_LEAST and key not in _AT_MOST:
        return sorted(found.split(",")) == sorted(wanted.split(","))
    try:
        number, limit = float(found), float(wanted)
    except ValueError:
        return False
    if key == "retention.ms" and number < 0:
        return True  # -1: for ever
    return number >= limit if key in _AT_LEAST else number <= limit


def _relation(key: str) -> str:
    if key in _AT_LEAST:
        return " or more"
    return " or less" if key in _AT_MOST else ""


def _counts(cluster: Cluster, prefix: str, partitions: Mapping[str, int]) -> dict[str, int]:
    """Return the count of each source; refuse names that are no source, counts below 1 and sources that differ."""
    sources = {topic.like for topic in TOPICS}
    faults = [
        f"partitions: {name!r} given, expected one of {', '.join(sorted(sources))}"
        for name in partitions.keys() - sources
    ]
    counts = {**DEFAULT_PARTITIONS, **partitions}
    for name in sorted(sources):
        seen = cluster.topics.get(prefix + name)
        if counts[name] < 1:
            faults.append(f"partitions of {name}: {counts[name]} given, expected 1 or more")
        elif seen is not None and name not in partitions:
            counts[name] = seen.partitions
        elif seen is not None and seen.partitions != counts[name]:
            faults.append(
                f"{prefix + name} exists with {seen.partitions} partitions, {counts[name]} asked for: ask for "
                f"{seen.partitions} (--partitions {name}={seen.partitions}), or choose a new prefix: "
                f"agent-streams topics plan --partitions {name}={counts[name]} shows the way"
            )
    if faults:
        raise ConfigError("; ".join(faults))
    return counts


async def _create(
    admin: AIOKafkaAdminClient, prefix: str, topics: list[Topic], counts: Mapping[str, int], copies: int
) -> tuple[str, ...]:
    answer = await admin.create_topics(
        [
            NewTopic(prefix + topic.suffix, counts[topic.like], copies, topic_configs=wanted_config(topic, copies))
            for topic in topics
        ]
    )
    created = []
    for name, code, message in answer.topic_errors:
        error = for_code(code)
        if not code:
            created.append(name)
        elif error is not TopicAlreadyExistsError:  # another process was faster: as good
            raise EdgeError(f"{name} could not be created: {message or error.__name__}", retryable=error.retriable)
    return tuple(created)


async def _altered(admin: AIOKafkaAdminClient, changes: Mapping[str, Mapping[str, str]]) -> None:
    """Wait until these settings are shown: brokers learn of a change one after the other."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while left := [
        name for name, wanted in changes.items() if not wanted.items() <= (await _made(admin, name)).items()
    ]:
        if time.monotonic() > deadline:
            raise EdgeError(f"{', '.join(left)}: not altered after {SETTLE_TIMEOUT_S:g} s", retryable=True)
        await asyncio.sleep(_POLL_S)


async def _gone(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Wait until no broker names these topics any more: the answer comes before the metadata follows."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while left := set(names) & set(await admin.list_topics()):
        if time.monotonic() > deadline:
            raise EdgeError(f"{', '.join(sorted(left))}: still there after {SETTLE_TIMEOUT_S:g} s", retryable=True)
        await asyncio.sleep(_POLL_S)


async def _settled(admin: AIOKafkaAdminClient, counts: Mapping[str, int]) -> None:
    """Wait until every partition has a leader, before which clients see unknown topics; refuse unexpected counts."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        described = await _described(admin)
        unready = [name for name in counts if not _led(described.get(name))]
        if not unready:
            break
        if time.monotonic() > deadline:
            raise EdgeError(f"{', '.join(unready)}: no leaders after {SETTLE_TIMEOUT_S:g} s", retryable=True)
        await asyncio.sleep(_POLL_S)
    for name, count in counts.items():
        found = len(described[name]["partitions"])
        if found != count:
            raise ConfigError(
                f"{name}: created meanwhile by another process with {found} partitions, {count} asked for"
            )


def _led(entry: Mapping[str, Any] | None) -> bool:
    """Does every partition have a leader?"""
    return bool(entry and entry["partitions"] and all(each["leader"] >= 0 for each in entry["partitions"]))
