"""What became of the events an emitter was given: the counts, and the names of the reasons."""

from dataclasses import dataclass, field
from enum import StrEnum


class Drop(StrEnum):
    """Why an event never reached Kafka; the value is a label."""

    QUEUE_FULL = "queue_full"
    TOO_LARGE = "too_large"
    INVALID = "invalid"
    CLOSED = "closed"
    SAMPLED = "sampled"  # left out on purpose, as configured
    PAYLOADS_OFF = "payloads_off"  # a body, and nobody has switched them on
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

    def drop(self, reason: Drop, events: int = 1) -> None:
        """Count events that will never be sent."""
        self.dropped[reason] = self.dropped.get(reason, 0) + events
