"""Which rows are due: keys in one-minute slots by deadline.  A key may stand in several slots: the row decides."""

from collections import deque
from collections.abc import Iterator
from typing import Final

from streams.fold.session import RowKey

SLOT_MS: Final = 60_000


def slot_of(due_ms: int) -> int:
    """Name the slot of a deadline: the first that begins after it."""
    return due_ms // SLOT_MS + 1


class IdleWheel:
    """Deadlines of rows, to the minute; adding costs one list append."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[int, deque[RowKey]] = {}

    def add(self, due_ms: int, key: RowKey) -> None:
        """Note that a row wants to be looked at once the clock has reached a moment."""
        slot = slot_of(due_ms)
        keys = self._slots.get(slot)
        if keys is None:
            self._slots[slot] = deque((key,))
        else:
            keys.append(key)

    def due(self, now_ms: int, limit: int) -> list[RowKey]:
        """Take at most `limit` keys whose slot has begun, oldest first."""
        taken: list[RowKey] = []
        last = now_ms // SLOT_MS
        if not self._slots or min(self._slots) > last:
            return taken
        for slot in sorted(slot for slot in self._slots if slot <= last):
            keys = self._slots[slot]
            while keys and len(taken) < limit:
                taken.append(keys.popleft())
            if keys:
                break
            del self._slots[slot]
        return taken

    def keys(self) -> Iterator[RowKey]:
        """Yield every key that is waited for."""
        for keys in self._slots.values():
            yield from keys

    def soonest(self) -> Iterator[tuple[int, RowKey]]:
        """Take slots and keys one by one, the soonest deadline first; later ones may be added meanwhile.

        Of one slot the key added first comes first: the newest would be taken as soon as it has come.
        """
        while self._slots:
            slot = min(self._slots)
            keys = self._slots[slot]
            while keys:
                yield slot, keys.popleft()
            del self._slots[slot]
