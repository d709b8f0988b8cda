"""When must a key be looked at again if nothing touches it?  Pure: one deadline per key, in slots of 100 ms.

Never early and at most one slot late.  A key that is touched often costs one dict look-up: the deadline that stands is
kept unless the new one is earlier, and whoever looks at the key then sets the next.
"""

from collections.abc import Hashable, Iterable
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

SLOT_MS: Final = 100  # finer than the ticks that drive it
STALE_SPARE: Final = 1_000  # with as many again as there are deadlines: then clearing costs a key no more than adding

K = TypeVar("K", bound=Hashable)


class Watch(Generic[K]):
    """Deadlines by key; about 160 bytes for each, and as much for what was dropped or moved, of which few are kept."""

    __slots__ = ("_entries", "_heads", "_slots", "_standing")

    def __init__(self) -> None:
        self._standing: dict[K, int] = {}  # slot by key
        self._slots: dict[int, list[K]] = {}  # may hold keys that were dropped or moved: `_standing` decides
        self._heads: list[int] = []  # heap of the slots
        self._entries = 0  # keys in all slots

    def __contains__(self, key: K) -> bool:
        return key in self._standing

    def __len__(self) -> int:
        return len(self._standing)

    def add(self, key: K, due_ms: int) -> None:
        """Look at a key once the clock has reached a moment; an earlier deadline that stands wins."""
        slot = -(-due_ms // SLOT_MS)
        standing = self._standing.get(key)
        if standing is not None and standing <= slot:
            return
        keys = self._slots.get(slot)
        if keys is None:
            self._slots[slot] = [key]
            heappush(self._heads, slot)
        else:
            keys.append(key)
        self._standing[key] = slot
        self._entries += 1
        if self._entries > 2 * len(self._standing) + STALE_SPARE:
            self._clear()

    def add_all(self, keys: Iterable[K], due_ms: int) -> None:
        """Do what `add` does, for many keys and one moment."""
        slot = -(-due_ms // SLOT_MS)
        standing = self._standing
        fresh = [key for key in dict.fromkeys(keys) if (known := standing.get(key)) is None or known > slot]
        if not fresh:
            return
        if slot not in self._slots:
            heappush(self._heads, slot)
        self._slots.setdefault(slot, []).extend(fresh)
        standing.update(dict.fromkeys(fresh, slot))
        self._entries += len(fresh)

    def _clear(self) -> None:
        """Let go of keys that were dropped or moved: keys that come and go are not held until their deadlines."""
        slots: dict[int, list[K]] = {}
        for key, slot in self._standing.items():
            slots.setdefault(slot, []).append(key)
        self._slots, self._heads, self._entries = slots, sorted(slots), len(self._standing)

    def stands(self, key: K, by_ms: int) -> bool:
        """Return whether a key will be looked at by a moment, or by then and one slot."""
        standing = self._standing.get(key)
        return standing is not None and standing <= -(-by_ms // SLOT_MS)

    def drop(self, key: K) -> None:
        """Forget the deadline of a key."""
        self._standing.pop(key, None)

    def due(self, now_ms: int, limit: int) -> list[K]:
        """Take at most `limit` keys whose deadline has come, earliest slot first; the rest stays for the next call."""
        taken: list[K] = []
        last = now_ms // SLOT_MS
        while self._heads and self._heads[0] <= last and len(taken) < limit:
            slot = self._heads[0]
            keys = self._slots[slot]
            seen = 0
            for key in keys:
                if len(taken) >= limit:
                    break
                seen += 1
                if self._standing.get(key) == slot:
                    del self._standing[key]
                    taken.append(key)
            self._entries -= seen
            if seen < len(keys):
                del keys[:seen]
            else:
                del self._slots[slot]
                heappop(self._heads)
        return taken
