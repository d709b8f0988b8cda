"""Which rights does each role need at the brokers?  The least, as data: what is not listed is not used.

Never talks to a broker; the same rights are written for kafka-acls and for Strimzi.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from streams.errors import ConfigError
from streams.topology import (
    ALERTS,
    BREAKERS,
    COMMANDS,
    COMMANDS_CHANGELOG,
    DEAD_LETTER,
    EVENTS,
    NOTIFY_CHANGELOG,
    PAYLOADS,
    ROLLUPS,
    ROLLUPS_CHANGELOG,
    SESSIONS_CHANGELOG,
    STAGES,
    TOPICS,
    Topic,
)

ResourceType: TypeAlias = Literal["topic", "group", "transactional-id"]
Pattern: TypeAlias = Literal["literal", "prefixed"]
Operation: TypeAlias = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs", "Alter", "AlterConfigs"]

# Read, Write and Alter bring Describe with them, AlterConfigs brings DescribeConfigs: neither is listed beside.
ROLES: Final = ("worker", "exporter", "notify", "publisher", "guard", "ingest", "operator", "admin")
_STRIMZI_TYPES: Final = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}


@dataclass(frozen=True, slots=True)
class Right:
    """What one resource, or all that begin with its name, may be used for, and why."""

    type: ResourceType
    name: str
    pattern: Pattern
    operations: tuple[Operation, ...]
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def rights(role: str, prefix: str, app_id: str = "workers", otlp_topic: str | None = None) -> list[Right]:
    """Return what a role needs; ConfigError when there is no such role.

    `otlp_topic` is the topic that `ingest` reads spans from, when it does not only listen.
    """
    if role not in ROLES:
        raise ConfigError(f"role: {role!r} given, expected one of {', '.join(ROLES)}")
    group = f"{prefix}{app_id}"
    found: dict[str, Iterable[Right]] = {
        "worker": _worker(prefix, group),
        "exporter": _readers(prefix, (ROLLUPS_CHANGELOG, ALERTS, BREAKERS), "shown at /metrics"),
        "notify": (
            *_readers(prefix, (ALERTS, COMMANDS_CHANGELOG), "who is told of what, and what is silenced"),
            _topic(prefix, NOTIFY_CHANGELOG, ("Read", "Write"), "what each receiver was last told"),
            Right("group", f"{prefix}notify", "literal", ("Read",), "one replica sends, the others stand by"),
            Right(
                "transactional-id", f"{prefix}notify", "literal", ("Write",), "a replica that was replaced is shut out"
            ),
        ),
        "publisher": (_topic(prefix, EVENTS, ("Write",), "events are published"),),
        "guard": _readers(prefix, (BREAKERS, ALERTS), "calls are held against circuits and stop orders"),
        "ingest": _ingest(prefix, otlp_topic),
        "operator": _operator(prefix, group),
        "admin": _admin(prefix),
    }
    return list(found[role])


def kafka_acls(principal: str, some: Sequence[Right], bootstrap: str) -> Iterator[str]:
    """Write rights as command lines of Kafka's own tool."""
    for right in some:
        operations = " ".join(f"--operation {operation}" for operation in right.operations)
        yield (
            f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal {_quoted(principal)} {operations} "
            f"--{right.type} {_quoted(right.name)} --resource-pattern-type {right.pattern}  # {right.why}"
        )


def strimzi(user: str, some: Sequence[Right], cluster: str) -> str:
    """Write rights as a KafkaUser of the Strimzi operator (YAML)."""
    lines = [
        "apiVersion: kafka.strimzi.io/v1beta2", "kind: KafkaUser", "metadata:", f"  name: {json.dumps(user)}",
        "  labels:", f"    strimzi.io/cluster: {json.dumps(cluster)}", "spec:", "  authentication:",
        "    type: scram-sha-512", "  authorization:", "    type: simple", "    acls:",
    ]  # fmt: skip
    for right in some:
        resource, pattern = _STRIMZI_TYPES[right.type], "prefix" if right.pattern == "prefixed" else "literal"
        lines += [
            f"      # {right.why}",
            f"      - resource: {{type: {resource}, name: {json.dumps(right.name)}, patternType: {pattern}}}",
            f"        operations: [{', '.join(right.operations)}]",
        ]
    return "\n".join(lines) + "\n"


def _worker(prefix: str, group: str) -> Iterator[Right]:
    changelogs = [stage.changelog for stage in STAGES]
    for stage in STAGES:
        if stage.source != ROLLUPS:
            yield _topic(prefix, stage.source, ("Read", "DescribeConfigs"), f"source of the stage {stage.name}")
    for topic in (*changelogs, ROLLUPS):
        yield _topic(prefix, topic, ("Read", "Write", "DescribeConfigs"), topic.holds)
    for topic in (ALERTS, BREAKERS, DEAD_LETTER, PAYLOADS):
        # Read: after a crash the worker asks these partitions whether a transaction of its own is still open.
        yield _topic(prefix, topic, ("Read", "Write", "DescribeConfigs"), topic.holds)
    yield Right("group", group, "literal", ("Read",), "workers share the partitions, and commit")
    yield Right("transactional-id", f"{group}-", "prefixed", ("Write",), "one transaction per partition and flush")


def _ingest(prefix: str, otlp_topic: str | None) -> Iterator[Right]:
    yield _topic(prefix, EVENTS, ("Write", "DescribeConfigs"), "events made of spans; the limit of their size")
    if otlp_topic is not None:
        own = f"{prefix}ingest-otlp."
        yield Right("topic", otlp_topic, "literal", ("Read",), "spans to make events of")
        yield Right("group", own, "prefixed", ("Read",), "receivers share the partitions, and commit")
        yield Right("transactional-id", own, "prefixed", ("Write",), "events and offsets are one transaction")


def _operator(prefix: str, group: str) -> Iterator[Right]:
    yield _topic(prefix, COMMANDS, ("Write", "DescribeConfigs"), "commands; doctor")
    changelogs = (COMMANDS_CHANGELOG, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG, NOTIFY_CHANGELOG)
    for topic in (*changelogs, ALERTS, BREAKERS, DEAD_LETTER):
        yield _topic(prefix, topic, ("Read", "DescribeConfigs"), "what became of a command; tables, alerts, doctor")
    for topic in (EVENTS, ROLLUPS, PAYLOADS):
        yield _topic(prefix, topic, ("Describe", "DescribeConfigs"), "doctor: where the log ends, and its settings")
    yield Right("group", group, "literal", ("Describe",), "doctor: who works, and how far")


def _admin(prefix: str) -> Iterator[Right]:
    operations: tuple[Operation, ...] = ("Create", "Describe", "AlterConfigs")
    yield Right("topic", prefix, "prefixed", operations, f"topics plan, check and create, of {len(TOPICS)} topics")
    yield _topic(prefix, EVENTS, ("Read", "Write"), "replay, from here or to here")
    yield _topic(prefix, COMMANDS_CHANGELOG, ("Read",), "replay from here: the erasures that hold")
    yield _topic(prefix, COMMANDS, ("Write",), "replay to here: the same erasures")
    yield Right("group", f"{prefix}replay", "literal", ("Read",), "replay to here: how far it is")
    yield Right("transactional-id", f"{prefix}replay", "literal", ("Write",), "replay to here: each record once")


def _readers(prefix: str, some: Iterable[Topic], why: str) -> tuple[Right, ...]:
    return tuple(_topic(prefix, topic, ("Read",), why) for topic in some)


def _topic(prefix: str, topic: Topic, operations: tuple[Operation, ...], why: str) -> Right:
    return Right("topic", prefix + topic.suffix, "literal", operations, why)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
