"""What became of the events an emitter was given: the counts, and the names of the reasons."""

from dataclasses import dataclass, field
from enum import StrEnum

from streams.feed.batch import Origin


class Drop(StrEnum):
    """Why an event never reached Kafka; the value is a label."""

    QUEUE_FULL = "queue_full"
    TOO_LARGE = "too_large"
    INVALID = "invalid"
    CLOSED = "closed"
    SAMPLED = "sampled"  # left out on purpose, as configured
    PAYLOADS_OFF = "payloads_off"  # a body, and nobody has switched them on
    SPOOL_FULL = "spool_full"  # the oldest on disk, so that newer ones have room
    SPOOL_FAILED = "spool_failed"  # the disk did not take it, or did not give it back
    SEND_FAILED = "send_failed"  # still here when the emitter's time to close ran out


@dataclass(slots=True)
class Counters:
    """What the sender did; only its thread writes. taken = acknowledged + dropped + what it holds."""

    taken: int = 0
    acknowledged: int = 0
    records: int = 0
    sent_bytes: int = 0
    failures: int = 0  # of the connection; the same records went again
    last_failure: str | None = None
    connected: bool = False
    dropped: dict[Drop, int] = field(default_factory=dict)
    redacted: dict[str, int] = field(default_factory=dict)
    sends: int = 0  # requests to a broker that were acknowledged
    send_us: int = 0  # all of them together took so long
    send_us_max: int = 0
    handler_failures: int = 0
    spooled: int = 0  # events ever put on disk
    spool_bytes: int = 0  # on disk now, with what others have left
    spool_failures: int = 0
    spool_torn_bytes: int = 0  # of files that a crash has cut
    left_acknowledged: int = 0  # events of processes that are no more
    left_lost: int = 0

    def acknowledge(self, origin: Origin, events: int) -> None:
        """Count events that are safe in Kafka."""
        self.records += 1
        if origin is Origin.LEFT:
            self.left_acknowledged += events
        else:
            self.acknowledged += events

    def sent(self, took_us: int, size_bytes: int) -> None:
        """Count a request that was acknowledged."""
        self.sends += 1
        self.send_us += took_us
        self.send_us_max = max(self.send_us_max, took_us)
        self.sent_bytes += size_bytes

    def lose(self, origin: Origin, reason: Drop, events: int) -> None:
        """Count events that will never be sent, as ours or as somebody else's."""
        if origin is Origin.LEFT:
            self.left_lost += events
        elif events:
            self.drop(reason, events)

    def drop(self, reason: Drop, events: int = 1) -> None:
        """Count events that will never be sent."""
        self.dropped[reason] = self.dropped.get(reason, 0) + events
