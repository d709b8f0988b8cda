"""An outlet that keeps what it is given, and can be made to refuse, fail or wait: the far side for emitter tests."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from streams.errors import EdgeError
from streams.event.codec import decode_record
from streams.event.model import Event
from streams.feed.batch import Record
from streams.feed.config import EmitterConfig
from streams.feed.outlet import TooLargeError

PARTITIONS = 4


@dataclass
class Recording:
    """All that arrived, over every connection of one emitter; `outlet` goes into the emitter."""

    arrived: list[tuple[int, Record]] = field(default_factory=list)
    opened: int = 0
    fail_opens: int = 0  # so many attempts to connect fail
    fail_sends: int = 0  # so many batches arrive, but are reported as failed
    bytes_max: int | None = None  # a larger batch is refused
    let_through: threading.Event = field(default_factory=threading.Event)  # nothing is acknowledged before

    def __post_init__(self) -> None:
        self.let_through.set()

    def outlet(self, _config: EmitterConfig) -> "RecordingOutlet":
        """Make one connection."""
        return RecordingOutlet(self)

    def events(self) -> list[Event]:
        """Decode everything that arrived, in the order of arrival; nothing may have been refused."""
        decoded = [decode_record(record.value) for _, record in self.arrived]
        assert not any(each.rejected for each in decoded)
        return [event for each in decoded for event in each.events]

    def ids(self) -> list[str]:
        """Return the ids of the events that arrived."""
        return [event.id for event in self.events()]


class RecordingOutlet:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def open(self) -> None:
        if self._recording.fail_opens:
            self._recording.fail_opens -= 1
            raise EdgeError("nobody is there", retryable=True)
        self._recording.opened += 1

    def partition(self, key: bytes) -> int:
        return sum(key) % PARTITIONS

    async def send(self, partition: int, records: Sequence[Record]) -> int:
        recording = self._recording
        while not recording.let_through.is_set():
            await asyncio.sleep(0.001)
        size_bytes = sum(len(record.value) for record in records)
        if recording.bytes_max is not None and size_bytes > recording.bytes_max:
            raise TooLargeError(f"{size_bytes} bytes")
        recording.arrived += [(partition, record) for record in records]
        if recording.fail_sends:
            recording.fail_sends -= 1
            raise EdgeError("the answer was lost", retryable=True)
        return size_bytes

    async def close(self) -> None:
        pass


def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.002)
