"""What a sender needs of whatever carries its records: open, which partition, send, close.

Kafka is the one there is (`streams.feed.kafka`).
"""

from collections.abc import Sequence
from typing import Final, Protocol

from streams.errors import EdgeError
from streams.feed.batch import Record

THREAD_NAME: Final = "agent-streams-emitter"  # where outlets live


class TooLargeError(EdgeError):
    """The other side refused the size; nothing of it was written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class Outlet(Protocol):
    """One connection; after any error it is closed and a new one is made."""

    async def open(self) -> None:
        """Connect, and learn the partitions. Raises EdgeError."""

    def partition(self, key: bytes) -> int:
        """Tell where records of this key belong; only when open."""

    async def send(self, partition: int, records: Sequence[Record]) -> int:
        """Write records in order, return the bytes that went out once all are safe. Raises EdgeError, TooLargeError."""

    async def close(self) -> None:
        """Let go of everything, soon; never raises."""
