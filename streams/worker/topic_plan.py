"""What would have to happen to the topics, and what will they weigh?  Pure: a look at the brokers in, changes out.

Never changes anything, and never offers to alter what cannot be altered: a partition count that holds state has only
the way of a new prefix, which is named step by step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from streams.topology import DAY_MS, TOPICS, Topic
from streams.worker.topics import DEFAULT_PARTITIONS, REPLICATION_WANTED, Cluster, Finding, judge, kept, wanted_config

Action: TypeAlias = Literal["create", "alter", "refuse", "advise"]
SIGNS: Final[Mapping[Action, str]] = {"create": "+", "alter": "~", "refuse": "!", "advise": "?"}
_SECONDS_PER_DAY: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs, and what would be done about it; `steps` is the way where we do nothing ourselves."""

    action: Action
    topic: str
    what: str
    found: str
    expected: str
    steps: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """The mark before its line."""
        return SIGNS[self.action]

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


class Rate(NamedTuple):
    """How fast a topic is written to; bytes are those of key, value and headers, before compression."""

    records_per_s: float
    record_bytes: float


@dataclass(frozen=True, slots=True)
class Volume:
    """What one topic weighs over all its copies; without `kept_bytes` it is compacted: as large as what lives in it."""

    topic: str
    rate: Rate
    copies: int
    retention_ms: int | None
    bytes_per_day: int
    kept_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "rate": self.rate._asdict()}


def plan(
    cluster: Cluster,
    prefix: str,
    partitions: Mapping[str, int] | None = None,
    replication: int | None = None,
    retention_ms: Mapping[str, int] | None = None,
) -> list[Change]:
    """Return what stands between the brokers and the declaration, in the order of the declaration."""
    counts = _counts(cluster, prefix, partitions or {})
    copies = replication or min(REPLICATION_WANTED, cluster.brokers)
    changes: list[Change] = []
    for finding in judge(cluster, prefix, partitions or {}):
        topic = next(each for each in TOPICS if prefix + each.suffix == finding.topic)
        if finding.what == "topic":
            changes.append(_creation(kept(topic, retention_ms or {}), finding.topic, counts[topic.like], copies))
        elif finding.what == "partition count":
            changes.append(_refusal(finding, prefix, topic.like, counts))
        else:
            changes.append(_of_settings(finding))
    return changes


def alterations(changes: Sequence[Change], cluster: Cluster, prefix: str) -> dict[str, dict[str, str]]:
    """Return the settings that a plan alters, by full name."""
    found: dict[str, dict[str, str]] = {}
    for change in changes:
        if change.action == "alter":
            topic = next(each for each in TOPICS if prefix + each.suffix == change.topic)
            wanted = wanted_config(topic, cluster.topics[change.topic].replication)
            found.setdefault(change.topic, {})[change.what] = wanted[change.what]
    return found


def migration(prefix: str, like: str, count: int) -> tuple[str, ...]:
    """Return how to another partition count: by a new prefix that reads the old events anew, beside the old one."""
    new = f"{prefix.rstrip('.')}-{like}{count}."
    return (
        f"agent-streams replay --prefix {prefix} --from earliest --to-prefix {new} --partitions {like}={count}",
        f"AGENT_STREAMS_TOPIC_PREFIX={new} for new workers, until `agent-streams doctor --prefix {new}` sees no lag",
        f"pause the publishers, run the replay again (it goes on where it ended), then set their prefix to {new}",
        f"AGENT_STREAMS_TOPIC_PREFIX={new} for exporters, notify and guards; stop the old workers",
    )


def volumes(cluster: Cluster, prefix: str, rates: Mapping[str, Rate], replication: int | None = None) -> list[Volume]:
    """Return what these rates, by suffix, come to: rate x size x copies, for as long as records are kept."""
    found = []
    for topic in TOPICS:
        rate = rates.get(topic.suffix)
        if rate is None:
            continue
        name = prefix + topic.suffix
        seen = cluster.topics.get(name)
        copies = seen.replication if seen else replication or min(REPLICATION_WANTED, cluster.brokers)
        config = seen.config if seen else wanted_config(topic, copies)
        retention_ms = int(config["retention.ms"]) if "retention.ms" in config and not topic.compacted else None
        per_day = round(rate.records_per_s * rate.record_bytes * _SECONDS_PER_DAY) * copies
        total = None if retention_ms is None or retention_ms < 0 else per_day * retention_ms // DAY_MS
        found.append(Volume(name, rate, copies, retention_ms, per_day, total))
    return found


def _creation(topic: Topic, name: str, count: int, copies: int) -> Change:
    config = ", ".join(f"{key}={value}" for key, value in sorted(wanted_config(topic, copies).items()))
    made = f"{count} partition{'s' if count > 1 else ''}, {copies} cop{'ies' if copies > 1 else 'y'}, {config}"
    return Change("create", name, "topic", "missing", made)


def _refusal(finding: Finding, prefix: str, like: str, counts: Mapping[str, int]) -> Change:
    why = f"state and log share partition numbers, and keys would change theirs: keep {finding.found}, or migrate:"
    steps = (why, *migration(prefix, like, counts[like]))
    return Change("refuse", finding.topic, finding.what, finding.found, finding.expected, steps)


def _of_settings(finding: Finding) -> Change:
    action: Action = "advise" if finding.what == "replication" else "alter"
    step = finding.next_step if action == "advise" else "agent-streams topics create --alter"
    return Change(action, finding.topic, finding.what, finding.found, finding.expected, (step,))


def _counts(cluster: Cluster, prefix: str, partitions: Mapping[str, int]) -> dict[str, int]:
    """Return the count that each source has or is to have; what was asked for wins, so that a refusal can name it."""
    return dict(_each_count(cluster, prefix, partitions))


def _each_count(cluster: Cluster, prefix: str, partitions: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for name, default in DEFAULT_PARTITIONS.items():
        seen = cluster.topics.get(prefix + name)
        yield name, partitions.get(name, seen.partitions if seen else default)
