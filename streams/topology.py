"""The wiring as data: which topics there are, how they are keyed, kept and cleaned, and which stage reads which.

Never talks to a broker: `worker.topics` creates and checks what is declared here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DAY_MS: Final = 24 * 60 * 60 * 1000

# A changelog is read whole at every take-over, so it must stay close to the size of the state it holds:
# small segments that roll often and a low dirty ratio, or recovery reads history instead of state.
_CHANGELOG: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    "max.message.bytes": str(2 * 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: `suffix` follows the prefix, `like` names the topic whose partition count it must share."""

    suffix: str
    holds: str
    key: str
    like: str
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def compacted(self) -> bool:
        """Is the newest record of each key kept for ever?"""
        return self.config.get("cleanup.policy") == "compact"


EVENTS: Final = Topic(
    suffix="events",
    holds="CallbackEvents, as published by agents",
    key="session_id, else source, else agent",
    like="events",
    config={
        "retention.ms": str(7 * DAY_MS),
        "max.message.bytes": str(2 * 1024 * 1024),
        # An event's time is held against its record's: stamped by the broker, no client's clock can move a watermark.
        "message.timestamp.type": "LogAppendTime",
    },
)
ROLLUPS: Final = Topic(
    suffix="rollups",
    holds="what one flush of the first stage adds to each dimension",
    key="none: the partition is explicit",
    like="rollups",
    config={"retention.ms": str(7 * DAY_MS), "max.message.bytes": str(8 * 1024 * 1024)},
)
ALERTS: Final = Topic(
    suffix="alerts",
    holds="every transition of every alert",
    key="fingerprint of the alert: rule, dimension and labels",
    like="rollups",
    # Compaction may not eat transitions that a consumer has a month to read.
    config={"cleanup.policy": "compact", "min.compaction.lag.ms": str(30 * DAY_MS)},
)
BREAKERS: Final = Topic(
    suffix="breakers",
    holds="the state of every circuit breaker",
    key="breaker name",
    like="rollups",
    # What is asked for as a circuit's history are the transitions that compaction has not eaten.
    config={"cleanup.policy": "compact", "min.compaction.lag.ms": str(30 * DAY_MS)},
)
DEAD_LETTER: Final = Topic(
    suffix="dead-letter",
    holds="what was refused: the reason, where it stood, its digest and its redacted beginning",
    key="source topic, partition and offset",
    like="rollups",
    config={"retention.ms": str(14 * DAY_MS)},
)
PAYLOADS: Final = Topic(
    suffix="payloads",
    holds="bodies of requests and responses, redacted and cut, where payload logging is on",
    key="session_id, else source, else agent",
    like="events",
    # People's words, even without their names in them: kept for as long as it takes to look into a fault.
    config={"retention.ms": str(3 * DAY_MS)},
)
SESSIONS_CHANGELOG: Final = Topic(
    suffix="sessions.changelog", holds="rows of the first stage", key="row key", like="events", config=_CHANGELOG
)
ROLLUPS_CHANGELOG: Final = Topic(
    suffix="rollups.changelog", holds="rows of the second stage", key="row key", like="rollups", config=_CHANGELOG
)
COMMANDS: Final = Topic(
    suffix="commands",
    holds="what operators ask for; who may write here may change what everybody sees",
    key="command id",
    # A topic of its own count, one partition unless asked otherwise: commands keep their order within a partition.
    like="commands",
    # A command's time becomes a counter's: held against the broker's clock, like an event's.
    config={"retention.ms": str(90 * DAY_MS), "message.timestamp.type": "LogAppendTime"},
)
COMMANDS_CHANGELOG: Final = Topic(
    suffix="commands.changelog",
    holds="which commands were accepted, and where they went",
    key="row key",
    like="commands",
    config=_CHANGELOG,
)
NOTIFY_CHANGELOG: Final = Topic(
    suffix="notify.changelog",
    holds="what each receiver of notifications was last told of each alert",
    key="receiver and fingerprint of the alert",
    like="rollups",
    config=_CHANGELOG,
)

TOPICS: Final = (
    EVENTS, ROLLUPS, ALERTS, BREAKERS, DEAD_LETTER, SESSIONS_CHANGELOG, ROLLUPS_CHANGELOG, COMMANDS, COMMANDS_CHANGELOG,
    PAYLOADS, NOTIFY_CHANGELOG,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """One source topic, its changelog, and the name that goes into transactional ids."""

    name: str
    source: Topic
    changelog: Topic


SESSIONS_STAGE: Final = Stage("sessions", EVENTS, SESSIONS_CHANGELOG)
ROLLUPS_STAGE: Final = Stage("rollups", ROLLUPS, ROLLUPS_CHANGELOG)
COMMANDS_STAGE: Final = Stage("commands", COMMANDS, COMMANDS_CHANGELOG)
STAGES: Final = (SESSIONS_STAGE, ROLLUPS_STAGE, COMMANDS_STAGE)
