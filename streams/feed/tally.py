"""How is something counted that many threads do at once?  Without a lock: one step of `itertools.count`."""

import itertools
from collections.abc import Callable


class Tally:
    """A count that many threads raise without a lock: `next` of `itertools.count` is one step."""

    __slots__ = ("_reads", "add")

    def __init__(self) -> None:
        count = itertools.count()
        self.add: Callable[[], int] = count.__next__
        self._reads = 0

    def read(self) -> int:
        """Return how often `add` was called; reading counts too, so it is taken off again. One reader at a time."""
        reads = self._reads
        self._reads += 1
        return self.add() - reads
