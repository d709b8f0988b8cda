"""Where does a stretch of events come from that rules are tried on?  The events topic between two moments, or a file.

Never joins a group, never commits and never writes: the stages it feeds end in memory.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.event.custom import NO_CUSTOMS, Customs
from streams.feed.ending import started
from streams.fold.price import Pricer
from streams.rule.model import RuleSet
from streams.stage.lives import Life
from streams.stage.replay import STEP_MS, Merge, Pace, Read, Replay, read_line
from streams.topology import EVENTS, ROLLUPS
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.tail import partition_counts, stop_consumer

RECORDS_PER_FETCH: Final = 5_000  # of each partition in memory: some 5 MB
LINES_PER_STEP: Final = 5_000
_POLL_MS: Final = 500
_FETCH_BYTES: Final = 4 * 1024 * 1024
_SAY_S: Final = 1.0

Say = Callable[[str], None]


class Given(NamedTuple):
    """What the stages are made with besides rules."""

    pricer: Pricer | None = None
    customs: Customs = NO_CUSTOMS


@dataclass(slots=True)
class Played:
    """What was replayed: from where to where, how much of it, how fast, and what was no longer there."""

    replays: list[Replay]
    from_ms: int
    to_ms: int
    records: int = 0
    took_s: float = 0.0
    missing: dict[int, int] = field(default_factory=dict)  # by partition: when its oldest record was written

    @property
    def events(self) -> int:
        """How many events the records held."""
        return self.replays[0].counters().get("received", 0)


class Stretch(NamedTuple):
    """One partition: the offsets to read."""

    begin: int
    end: int


async def play_topic(
    kafka: KafkaConnection,
    prefix: str,
    rule_sets: Sequence[RuleSet],
    given: Given,
    *,
    from_ms: int,
    to_ms: int,
    warm_up_ms: int,
    say: Say,
    step_ms: int = STEP_MS,
) -> Played:
    """Replay the events topic between two moments under each of these rule sets.

    Raises ConfigError when topics are missing, EdgeError when Kafka fails.
    """
    topic = prefix + EVENTS.suffix
    counts = await partition_counts(kafka, [topic, prefix + ROLLUPS.suffix])
    replays = [
        Replay(
            rules, partitions=counts[topic], rollup_partitions=counts[prefix + ROLLUPS.suffix], pricer=given.pricer,
            customs=given.customs,
        )
        for rules in rule_sets
    ]  # fmt: skip
    played = Played(replays, from_ms, to_ms)
    merge = Merge(counts[topic])
    pace = Pace(replays, merge, step_ms=step_ms)
    async with edge_errors(kafka, f"reading {topic}"):
        consumer = AIOKafkaConsumer(
            **kafka.client_arguments(),
            client_id="agent-streams-backtest",
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # retention may go on while we read
            isolation_level="read_committed",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        try:
            await started(consumer.start())
            places = [TopicPartition(topic, number) for number in range(counts[topic])]
            stretches = await _stretches(consumer, places, from_ms - warm_up_ms, to_ms)
            await _oldest(consumer, stretches, played)
            began_s = time.monotonic()
            await _read(consumer, stretches, merge, pace, Progress(say, began_s, stretches))
        finally:
            await stop_consumer(consumer)
    pace.finish(to_ms)
    played.records, played.took_s = pace.records, time.monotonic() - began_s
    return played


async def _stretches(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], from_ms: int, to_ms: int
) -> dict[TopicPartition, Stretch]:
    """Find the offsets of a range of time."""
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    first = await consumer.offsets_for_times(dict.fromkeys(places, max(0, from_ms)))
    last = await consumer.offsets_for_times(dict.fromkeys(places, max(0, to_ms)))

    def within(tp: TopicPartition, found: Any) -> int:
        """Return an offset no further than may be read: a transaction may be open there."""
        return int(ends[tp] if found is None else min(found.offset, ends[tp]))

    return {tp: Stretch(within(tp, first[tp]), within(tp, last[tp])) for tp in places}


async def _oldest(consumer: AIOKafkaConsumer, stretches: dict[TopicPartition, Stretch], played: Played) -> None:
    """Note the partitions that no longer hold the beginning of the range itself; the warm-up may be incomplete."""
    begins, ends = await consumer.beginning_offsets(list(stretches)), await consumer.end_offsets(list(stretches))
    since = await consumer.offsets_for_times(dict.fromkeys(stretches, played.from_ms))
    for tp, begin in begins.items():
        found = since[tp]
        # Something was deleted, and the oldest record that is left is from within the range, or there is none.
        if begin > 0 and (begin == ends[tp] if found is None else found.offset == begin):
            played.missing[tp.partition] = played.to_ms if found is None else found.timestamp


async def _read(
    consumer: AIOKafkaConsumer,
    stretches: dict[TopicPartition, Stretch],
    merge: Merge,
    pace: Pace,
    progress: "Progress",
) -> None:
    """Hand over every record of the range, no partition further ahead than a fetch."""
    places = {tp.partition: tp for tp in stretches}
    for tp, stretch in stretches.items():
        consumer.seek(tp, stretch.begin)
        if stretch.begin >= stretch.end:
            merge.end(tp.partition)
    while wanted := pace.wants():
        asked = [places[number] for number in wanted]
        fetched = await consumer.getmany(*asked, timeout_ms=_POLL_MS, max_records=RECORDS_PER_FETCH)
        for tp, records in fetched.items():
            end = stretches[tp].end
            merge.push(tp.partition, [record for record in records if record.offset < end])
        for tp in asked:
            position = await consumer.position(tp)
            progress.at[tp] = position
            if position >= stretches[tp].end:
                merge.end(tp.partition)
        pace.go()
        progress.say(pace)


class Progress:
    """How far a replay is, said once a second."""

    def __init__(self, say: Say, began_s: float, stretches: dict[TopicPartition, Stretch]) -> None:
        self.at = {tp: stretch.begin for tp, stretch in stretches.items()}
        self._say = say
        self._began_s = self._said_s = began_s
        self._begins = dict(self.at)
        self._all = sum(max(0, stretch.end - stretch.begin) for stretch in stretches.values())

    def say(self, pace: Pace) -> None:
        """Say it, unless it was said just now."""
        now_s = time.monotonic()
        if now_s - self._said_s < _SAY_S:
            return
        self._said_s = now_s
        done = sum(at - self._begins[tp] for tp, at in self.at.items())
        share = f" ({done * 100 // self._all} %)" if self._all else ""
        self._say(f"replayed {pace.records:,} records{share}, {pace.records / (now_s - self._began_s):,.0f}/s")


def play_lines(
    lines: Iterable[bytes], rule_sets: Sequence[RuleSet], given: Given, *, say: Say, step_ms: int = STEP_MS
) -> Played:
    """Replay lines of JSON, each an event or an array of them, in one partition; each was written when it happened."""
    replays = [Replay(rules, pricer=given.pricer, customs=given.customs) for rules in rule_sets]
    merge = Merge(1)
    pace = Pace(replays, merge, step_ms=step_ms)
    began_s = time.monotonic()
    progress = Progress(say, began_s, {})
    offset, before_ms, first_ms = 0, 0, None
    stream = iter(lines)
    while part := list(islice(stream, LINES_PER_STEP)):
        records: list[Read] = []
        for line in part:
            if line.strip():
                read = read_line(offset, line.rstrip(b"\r\n"), before_ms)
                offset, before_ms = offset + 1, max(before_ms, read.timestamp)
                records.append(read)
        if records and first_ms is None:
            first_ms = records[0].timestamp
        merge.push(0, records)
        pace.go()
        progress.say(pace)
    merge.end(0)
    pace.finish(before_ms + step_ms)
    played = Played(replays, first_ms or 0, pace.now_ms)
    played.records, played.took_s = pace.records, time.monotonic() - began_s
    return played


def as_dict(played: Played, which: int = 0) -> dict[str, Any]:
    """Return what one rule set would have told, for programs."""
    replay = played.replays[which]
    lives = replay.lives.all(played.from_ms)
    return {
        "from_ms": played.from_ms,
        "to_ms": played.to_ms,
        "records": played.records,
        "counters": replay.counters(),
        "seconds": round(played.took_s, 3),
        "events_per_second": round(played.events / played.took_s) if played.took_s else None,
        "missing": {str(partition): oldest_ms for partition, oldest_ms in played.missing.items()},
        "alerts": [life_dict(life, played.from_ms) for life in lives],
        "breakers_opened": replay.circuits,
    }


def life_dict(life: Life, from_ms: int) -> dict[str, Any]:
    """Return one alert, for programs."""
    return {
        "alert": life.alert,
        "over": life.over,
        "labels": life.labels,
        "severity": life.severity,
        "since_ms": life.since_ms,
        "fired_ms": life.fired_ms,
        "resolved_ms": life.resolved_ms,
        "fired_for_ms": life.fired_for_ms,
        "reason": life.reason,
        "peak": life.peak,
        "peak_text": life.peak_text,
        "unit": life.unit,
        "summary": life.summary,
        "began_before": life.fired_ms is not None and life.fired_ms < from_ms,
    }
