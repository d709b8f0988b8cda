"""What does an emitter say of itself, and under which names?  Its counts as rows, for programs and for Prometheus.

Never asks it anything while it works: every number is one that it keeps anyway.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from streams.event.model import Resource
from streams.feed.identity import new_id
from streams.feed.stats import EmitterStats

_US_PER_S: Final = 1e6
_NS_PER_S: Final = 1e9


class Row(NamedTuple):
    """One metric: `label` is the name of the only label it may have."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str | None = None


class Sample(NamedTuple):
    """One number of a metric."""

    row: Row
    label: str | None
    value: int | float


EVENTS: Final = Row("agent_emitter_events_total", "counter", "Events that were handed over.")
ACKNOWLEDGED: Final = Row("agent_emitter_acknowledged_events_total", "counter", "Events that are safe in Kafka.")
DROPPED: Final = Row(
    "agent_emitter_dropped_events_total",
    "counter",
    "Events that will never be sent, by reason; sampled ones were left out as configured.",
    "reason",
)
QUEUE: Final = Row("agent_emitter_queue_events", "gauge", "Events that wait: in memory, or on disk.")
QUEUE_BYTES: Final = Row("agent_emitter_queue_bytes", "gauge", "Bytes of those in memory that are encoded.")
SENT: Final = Row("agent_emitter_sent_bytes_total", "counter", "Bytes that were sent and acknowledged.")
RECORDS: Final = Row("agent_emitter_records_total", "counter", "Kafka records that were acknowledged.")
SENDS: Final = Row("agent_emitter_sends_total", "counter", "Requests to a broker that were acknowledged.")
SEND_SECONDS: Final = Row("agent_emitter_send_seconds_total", "counter", "How long they took, all together.")
SEND_MAX: Final = Row("agent_emitter_send_seconds_max", "gauge", "How long the longest of them took.")
CALLER: Final = Row(
    "agent_emitter_caller_seconds", "gauge", "What an event costs the thread that hands it over: mean of some lately."
)
CALLER_MAX: Final = Row("agent_emitter_caller_seconds_max", "gauge", "The most that one of those cost.")
SAMPLE: Final = Row("agent_emitter_sample_ratio", "gauge", "Share of the sessions that are sent.")
CONNECTED: Final = Row("agent_emitter_connected", "gauge", "1 while there is a connection to Kafka, else 0.")
FAILURES: Final = Row("agent_emitter_failures_total", "counter", "Connections that failed and were made anew.")
SPOOLED: Final = Row("agent_emitter_spooled_events_total", "counter", "Events that were put on disk.")
SPOOL_BYTES: Final = Row("agent_emitter_spool_bytes", "gauge", "Bytes on disk, with what others have left.")
SPOOL_FAILURES: Final = Row("agent_emitter_spool_failures_total", "counter", "Times the disk failed us.")
SPOOL_TORN: Final = Row("agent_emitter_spool_torn_bytes_total", "counter", "Bytes on disk that a crash had cut.")
LEFT: Final = Row(
    "agent_emitter_left_events_total",
    "counter",
    "Events that processes which are no more had left on disk: acknowledged, or lost.",
    "outcome",
)
HANDLER_FAILURES: Final = Row("agent_emitter_handler_failures_total", "counter", "Handlers that raised on an event.")
REDACTED: Final = Row("agent_emitter_redactions_total", "counter", "What was redacted, by pattern.", "pattern")


def samples(stats: EmitterStats) -> Iterator[Sample]:
    """Yield every number, those of one metric one after the other."""
    yield Sample(EVENTS, None, stats.emitted)
    yield Sample(ACKNOWLEDGED, None, stats.acknowledged)
    yield from (Sample(DROPPED, reason, count) for reason, count in sorted(stats.dropped.items()))
    yield Sample(QUEUE, None, stats.waiting)
    yield Sample(QUEUE_BYTES, None, stats.waiting_bytes)
    yield Sample(SENT, None, stats.sent_bytes)
    yield Sample(RECORDS, None, stats.records)
    yield Sample(SENDS, None, stats.sends)
    yield Sample(SEND_SECONDS, None, stats.send_us / _US_PER_S)
    yield Sample(SEND_MAX, None, stats.send_us_max / _US_PER_S)
    yield Sample(CALLER, None, stats.caller_ns / _NS_PER_S)
    yield Sample(CALLER_MAX, None, stats.caller_ns_max / _NS_PER_S)
    yield Sample(SAMPLE, None, stats.sample)
    yield Sample(CONNECTED, None, int(stats.connected))
    yield Sample(FAILURES, None, stats.failures)
    yield Sample(SPOOLED, None, stats.spooled)
    yield Sample(SPOOL_BYTES, None, stats.spool_bytes)
    yield Sample(SPOOL_FAILURES, None, stats.spool_failures)
    yield Sample(SPOOL_TORN, None, stats.spool_torn_bytes)
    yield Sample(LEFT, "acknowledged", stats.left_acknowledged)
    yield Sample(LEFT, "lost", stats.left_lost)
    yield Sample(HANDLER_FAILURES, None, stats.handler_failures)
    yield from (Sample(REDACTED, pattern, count) for pattern, count in sorted(stats.redacted.items()))


def flat(stats: EmitterStats) -> Mapping[str, int | float]:
    """Return the numbers by name, as Prometheus would show them."""
    return {
        row.name if label is None else f'{row.name}{{{row.label}="{label}"}}': value
        for row, label, value in samples(stats)
    }


def resource_of(stats: EmitterStats, *, agent: str, now_ms: int) -> Resource:
    """Return what an emitter has waiting as an event, for those who have no Prometheus near their agents."""
    return Resource(id=new_id(), time=now_ms, agent=agent, source=None, queue_depth=stats.waiting)
