"""Was this event folded before?  Exact by (source, seq), bounded by id.  Pure.

What is more than 63 behind a mark's highest counts as seen: publishers send a session's events in order, so only a
repeat can be that old.
"""

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

WINDOW_BITS: Final = 64
MARK_MASK: Final = (1 << WINDOW_BITS) - 1

MARKS_MAX: Final = 64  # sources per session; the one first seen is forgotten, and counted
IDS_MAX: Final = 262_144  # remembered ids per partition, about 25 MB
DIGEST_BYTES: Final = 8
IDS_PER_SEGMENT: Final = 512  # one changelog row of 4 KiB, rewritten until it is full


class Mark:
    """Which numbers of a source were seen: the highest, and a window of WINDOW_BITS below it.

    Numbers mostly come one after the other, or (a source with many sessions) far apart: both leave `bits` alone.
    Bit n of `bits` says whether `highest − run − n` was seen; the `run` numbers up to the highest were.
    """

    __slots__ = ("bits", "highest", "run")

    def __init__(self, highest: int, bits: int) -> None:
        self.highest: int = highest
        self.run: int = 0
        self.bits: int = bits

    def repeated(self, seq: int) -> bool:
        """Return whether a number was seen, and note it."""
        ahead = seq - self.highest
        if ahead >= WINDOW_BITS:
            self.highest = seq
            self.run = 0
            self.bits = 1
            return False
        if ahead == 1:
            self.highest = seq
            if self.run < WINDOW_BITS:
                self.run += 1
            return False
        if ahead <= -WINDOW_BITS:
            return True
        self._settle()
        if ahead > 0:
            self.highest = seq
            self.bits = (self.bits << ahead | 1) & MARK_MASK
            return False
        bit = 1 << -ahead
        if self.bits & bit:
            return True
        self.bits |= bit
        return False

    def _settle(self) -> None:
        if self.run:
            self.bits = (self.bits << self.run | ((1 << self.run) - 1)) & MARK_MASK
            self.run = 0

    def values(self) -> list[int]:
        """Return it as stored: [highest, bits], bit n for `highest − n`."""
        self._settle()
        return [self.highest, self.bits]


def digest(text: str) -> int:
    """Return the 8 bytes by which an id is remembered."""
    return int.from_bytes(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest())


class IdWindow:
    """The newest ids of a partition in segments; whole segments are forgotten, oldest first.

    Two different ids collide with probability n / 2^64 (n remembered ids): below 2 in 10^14 at the limit.
    """

    __slots__ = ("_dirty", "_seen", "_segments", "dropped")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._segments: deque[tuple[int, list[int]]] = deque()
        self._dirty: set[int] = set()
        self.dropped: list[int] = []

    def __len__(self) -> int:
        return len(self._seen)

    def repeated(self, text: str) -> bool:
        """Return whether an id is remembered, and remember it."""
        number = digest(text)
        if number in self._seen:
            return True
        self._seen.add(number)
        if not self._segments or len(self._segments[-1][1]) >= IDS_PER_SEGMENT:
            self._segments.append((self._segments[-1][0] + 1 if self._segments else 0, []))
        segment, numbers = self._segments[-1]
        numbers.append(number)
        self._dirty.add(segment)
        if len(self._seen) > IDS_MAX:
            oldest, forgotten = self._segments.popleft()
            self._seen.difference_update(forgotten)
            self._dirty.discard(oldest)
            self.dropped.append(oldest)
        return False

    def load(self, segment: int, packed: bytes) -> None:
        """Take one segment back; segments may come in any order, the last version of each counts.

        Raises ValueError for bytes that are no segment.
        """
        if len(packed) % DIGEST_BYTES or len(packed) > IDS_PER_SEGMENT * DIGEST_BYTES:
            raise ValueError(f"{len(packed)} bytes are no row of ids")
        starts = range(0, len(packed), DIGEST_BYTES)
        self._segments.append((segment, [int.from_bytes(packed[at : at + DIGEST_BYTES]) for at in starts]))

    def loaded(self) -> None:
        """All segments are back."""
        self._segments = deque(sorted(dict(self._segments).items()))
        self._seen = {number for _, numbers in self._segments for number in numbers}

    def changes(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield (segment, packed) of what changed since the last call; None for a forgotten segment."""
        for segment in self.dropped:
            yield segment, None
        self.dropped = []
        for segment, numbers in reversed(self._segments):
            if segment not in self._dirty:
                break
            yield segment, b"".join(number.to_bytes(DIGEST_BYTES) for number in numbers)
        self._dirty = set()
