"""What travels beside the numbers of a source partition: traces, bodies, and letters about what was refused.

Never a number: whatever happens here, the tables are the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from streams.event.codec import Rejected
from streams.event.model import Payload
from streams.fold.exemplars import Exemplars
from streams.fold.rollup import Delta
from streams.stage.deadletter import dead_letters
from streams.stage.payloads import OFF, PayloadPolicy, Payloads
from streams.stage.plan import Send, SourceRecord

__all__ = ["OFF", "Asides", "PayloadPolicy"]


class Asides:
    """The asides of one flush after the other."""

    __slots__ = ("_exemplars", "_partition", "_payloads", "_policy")

    def __init__(self, partition: int, policy: PayloadPolicy) -> None:
        self._partition = partition
        self._policy = policy
        self._exemplars = Exemplars()
        self._payloads = Payloads(partition, policy)

    @property
    def pending(self) -> int:
        """How many records the waiting bodies weigh."""
        return self._payloads.pending

    def take(self, event: Any, *, event_ms: int, offset: int, counted: dict[str, int]) -> None:
        """Take one event that is no duplicate and has a trace or a body."""
        if event.trace_id is not None:
            self._exemplars.note(event, event_ms)
        if isinstance(event, Payload):
            self._payloads.take(event, event_ms=event_ms, offset=offset, counted=counted)

    def letters(self, rejected: Sequence[Rejected], record: SourceRecord) -> Iterator[Send]:
        """Describe what was refused of a record, redacted as bodies are."""
        return dead_letters(rejected, self._partition, record.offset, record.timestamp, self._policy.redactor)

    def attach(self, deltas: list[Delta]) -> list[Delta]:
        """Tell deltas their traces; return them."""
        return self._exemplars.attach(deltas)

    def hand_over(self) -> list[Send]:
        """Return the bodies that the next transaction writes."""
        return self._payloads.hand_over()
