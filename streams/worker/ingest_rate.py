"""How many events may one client send?  So many a second, and two seconds' worth at once.  Pure: `now_s` is given.

Never remembers more clients than it says: those that have been quiet for longest are forgotten, which forgives them.
"""

import math
from collections import OrderedDict
from typing import Final

BURST_S: Final = 2
CLIENTS_MAX: Final = 10_000  # 2 MB


class Rates:
    """What every client may still send; what a request turns out to hold may be more, and is owed."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._most = float(per_s * BURST_S)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # events, and when that was so

    def wait_s(self, client: str, now_s: float) -> int:
        """Say in how many whole seconds a client may send again: 0 is now."""
        left = self._now(client, now_s)
        return 0 if left > 0 else math.floor(-left / self._per_s) + 1

    def take(self, client: str, events: int, now_s: float) -> None:
        """Take note of events that came."""
        left = self._now(client, now_s) - events
        self._left[client] = (left, now_s)
        self._left.move_to_end(client)
        if len(self._left) > CLIENTS_MAX:
            self._left.popitem(last=False)

    def _now(self, client: str, now_s: float) -> float:
        left, at_s = self._left.get(client, (self._most, now_s))
        return min(self._most, left + (now_s - at_s) * self._per_s)
