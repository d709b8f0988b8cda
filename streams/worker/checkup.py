"""What do the facts about an installation mean?  Pure: facts in, findings out, each with what to do next.

Never asks anybody: `streams.worker.doctor` gathers the facts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from aiokafka import TopicPartition

from streams.errors import StateRefused
from streams.fold.measure import OUTCOMES
from streams.rule.amount import amount_text
from streams.topology import STAGES
from streams.worker import topics
from streams.worker.load import Log, start_offset

Level: TypeAlias = Literal["ok", "advice", "fault"]

LAG_MUCH: Final = 10_000  # offsets of a stage; transaction marks count among them, a few per flush
SKEW_MUCH_MS: Final = 5_000
PARTITIONERS: Final = (
    "librdkafka and its Python, Go and .NET clients: partitioner=murmur2_random; sarama: a custom hash partitioner "
    "with murmur2; segmentio/kafka-go: kafka.Murmur2Balancer; Java, franz-go, kafkajs 2 and aiokafka do so by default"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, what was found, what was expected, and what to do about it."""

    check: str
    level: Level
    what: str
    value: str
    expected: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        if self.level == "ok":
            return f"{self.what}: {self.value}"
        return f"{self.what}: {self.value}, expected {self.expected} → {self.next_step}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Place:
    """One source partition of one stage: its log, its state, and what the group has committed."""

    stage: str
    source: TopicPartition
    begin: int
    end: int
    committed: int | None
    next_offset: int | None  # as the meta row says


@dataclass(frozen=True, slots=True)
class Group:
    """The workers' consumer group."""

    name: str
    state: str
    members: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the stages say about the same events."""

    counters: Mapping[int, Mapping[str, int]]  # first stage, by source partition
    passed_on: Mapping[int, tuple[int, int]]  # second stage, by source partition: (received, events of its upstream)
    whole: tuple[int, int]  # (applied + late of all partitions, events of the whole), at one moment as far as can be
    still: bool  # did nothing move while they were read?


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the workers' clocks say, against ours."""

    newest_ms: int | None  # timestamp of the newest changelog record
    now_ms: int
    by_broker: bool  # brokers stamp the changelogs themselves


def topic_findings(found: Sequence[topics.Finding]) -> Iterator[Finding]:
    """Return what the topics' own check says."""
    for each in found:
        what, level = f"{each.topic}, {each.what}", "fault" if each.fault else "advice"
        yield Finding(
            "topics", "fault" if level == "fault" else "advice", what, each.found, each.expected, each.next_step
        )
    if not found:
        yield Finding("topics", "ok", "topics", "as declared")


def worker_findings(group: Group, partitions: int) -> Iterator[Finding]:
    """Hold the number of workers against the number of partitions to share."""
    what = f"workers of {group.name}"
    if group.members == 0:
        yield Finding("workers", "fault", what, "none", "at least one", "run: agent-streams worker")
    elif group.members > partitions:
        step = f"stop {group.members - partitions}, or start anew under a prefix with more partitions"
        expected = f"at most {partitions}, one per partition of the events topic"
        yield Finding("workers", "advice", what, f"{group.members}, some without work", expected, step)
    elif group.state != "Stable":
        yield Finding(
            "workers",
            "advice",
            what,
            f"{group.members}, the group is {group.state}",
            "Stable",
            "look again in a moment",
        )
    else:
        share = -(-partitions // group.members)
        yield Finding("workers", "ok", what, f"{group.members}, for {partitions} partitions: at most {share} each")


def strange_findings(places: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Name the changelogs, by topic and partition, whose rows this release cannot read: workers refuse them."""
    for topic, partition in places:
        what, expected = f"{topic} partition {partition}", "rows that this release reads"
        step = "run the release that wrote it, which is newer than this one"
        yield Finding("state", "fault", what, "rows that cannot be read", expected, step)


def unfit_findings(unfit: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Tell of states that workers refuse, by place, as they would."""
    for what, text in unfit:
        yield Finding("state", "fault", what, text, "a state that fits its log", "do what it says")


def place_findings(places: Sequence[Place]) -> Iterator[Finding]:
    """Hold state, log and committed offsets against each other; the state decides where reading goes on."""
    wrong = False
    for place in places:
        what = f"{place.source.topic} partition {place.source.partition}"
        try:
            start_offset(place.source, place.next_offset, Log(place.begin, place.end, place.committed))
        except StateRefused as error:
            wrong = True
            text = str(error)
            yield Finding("state", "fault", what, text, "a state that fits its log", "do what it says")
            continue
        if place.next_offset is not None and place.committed != place.next_offset:
            wrong = True
            yield Finding(
                "state",
                "advice",
                what,
                f"committed offset {place.committed}, state at {place.next_offset}",
                "the same: both are written in one transaction",
                "nothing has to be done for the numbers: workers go on where the state says. Lag tools are misled; "
                "does anything else commit for this group?",
            )
    if not wrong:
        yield Finding("state", "ok", "state and log", f"fit together in {len(places)} partitions")


def lag_findings(places: Sequence[Place]) -> Iterator[Finding]:
    """Add up how far each stage is behind."""
    for stage in STAGES:
        behind = [
            max(0, p.end - (p.begin if p.next_offset is None else p.next_offset))
            for p in places
            if p.stage == stage.name
        ]
        lag = sum(behind)
        what, value = f"lag of {stage.name}", f"{lag:,} offsets, at most {max(behind, default=0):,} in one partition"
        if lag > LAG_MUCH:
            step = "is a worker running? If it is and this does not fall, start another one"
            yield Finding("lag", "advice", what, value, f"{LAG_MUCH:,} or less", step)
        else:
            yield Finding("lag", "ok", what, value)


def misrouted_finding(counters: Mapping[int, Mapping[str, int]]) -> Finding:
    """Say whether clients put sessions where Kafka's own partitioner would."""
    misrouted = sum(each.get("misrouted", 0) for each in counters.values())
    if not misrouted:
        return Finding("partitioner", "ok", "misrouted sessions", "0")
    return Finding(
        "partitioner",
        "advice",
        "misrouted sessions",
        f"{misrouted:,}",
        "0. Totals are exact all the same, but a session spread over partitions is judged in parts",
        f"set the partitioner of the clients to murmur2. {PARTITIONERS}",
    )


def book_findings(books: Books) -> Iterator[Finding]:
    """Check that no event was lost or doubled: within the first stage, between the stages, and in the whole."""
    faults = [*_stage_faults(books), *_between_faults(books)]
    counted, whole = books.whole
    if counted != whole and books.still:
        faults.append(("the whole", f"{whole:,} events", f"{counted:,}, what the partitions have applied"))
    for what, value, expected in faults:
        yield Finding("conservation", "fault", what, value, expected, "keep the topics as they are and report a bug")
    if not faults:
        received = sum(each.get("received", 0) for each in books.counters.values())
        moving = "" if counted == whole else f" ({abs(counted - whole):,} on their way)"
        text = f"{received:,} received = applied + late + duplicate + rejected, in every stage{moving}"
        yield Finding("conservation", "ok", "events", text)


def _stage_faults(books: Books) -> Iterator[tuple[str, str, str]]:
    for partition, counters in sorted(books.counters.items()):
        total = sum(counters.get(name, 0) for name in OUTCOMES)
        received = counters.get("received", 0)
        if total != received:
            yield f"first stage, partition {partition}", f"{total:,} events by outcome", f"{received:,}, as received"


def _between_faults(books: Books) -> Iterator[tuple[str, str, str]]:
    for partition, (received, upstream) in sorted(books.passed_on.items()):
        if received != upstream:
            what = f"second stage, what came of partition {partition}"
            yield what, f"{received:,} events", f"{upstream:,}, as passed on"


def clock_findings(clocks: Clocks, counters: Mapping[int, Mapping[str, int]]) -> Iterator[Finding]:
    """Hold the clocks of workers, brokers and publishers against ours."""
    whose = "the brokers'" if clocks.by_broker else "the workers'"
    if clocks.newest_ms is not None:
        ahead_ms = clocks.newest_ms - clocks.now_ms
        if ahead_ms > SKEW_MUCH_MS:
            yield Finding(
                "clocks",
                "fault",
                f"{whose} clock against ours",
                f"{amount_text(ahead_ms, 'ms')} ahead",
                f"{amount_text(SKEW_MUCH_MS, 'ms')} or less",
                "set the clocks by NTP, there and here",
            )
        else:
            age = amount_text(max(0, -ahead_ms), "ms")
            yield Finding("clocks", "ok", f"{whose} clock against ours", f"newest row {age} old, none from the future")
    skewed = sum(each.get("skewed", 0) for each in counters.values())
    if skewed:
        yield Finding(
            "clocks",
            "advice",
            "events from the future",
            f"{skewed:,}",
            "none more than 60s ahead of the time Kafka got them; they were given that time",
            "set the clocks of the publishers by NTP; is `time` in UTC, and in the unit the schema says?",
        )


def redis_finding(error: str | None) -> Finding:
    """Say whether the mirror of the breaker states can be reached; the URL may hold a password and is not shown."""
    if error is None:
        return Finding("redis", "ok", "Redis", "answers")
    step = "correct AGENT_STREAMS_REDIS_URL or start Redis; until then breaker states reach nobody through it"
    return Finding("redis", "fault", "Redis", error, "an answer to PING", step)
