"""Which sessions must still be looked at because the rules have changed?  Some of them at a time.

Never judges: a session is armed here, and judged when the partition takes its next step.
"""

from typing import Any, Final

from streams.fold import session
from streams.fold.session import RowKey
from streams.rule.reading import SESSION
from streams.stage.judging import Judging

ARM_PER_STEP: Final = 2_000  # 8 ms; a million sessions must not hold the loop because a rule was changed


class Arming:
    """The sessions that have not been armed since the last change of the rules."""

    def __init__(self) -> None:
        self._keys: list[RowKey] = []

    def begin(self, rows: dict[RowKey, Any], judging: Judging) -> None:
        """Look at every row there is, if one of the new rules can be broken by time alone."""
        self._keys = list(rows) if judging.fresh(SESSION) else []
        if not self._keys:
            judging.armed()

    def step(self, rows: dict[RowKey, Any], judging: Judging, now_ms: int) -> None:
        """Look at the next ones; a row that is not there any more needs no look."""
        if not self._keys:
            return
        part, self._keys = self._keys[-ARM_PER_STEP:], self._keys[:-ARM_PER_STEP]
        edges = judging.fresh(SESSION, in_flight=False)
        for key in part:
            stored = rows.get(key)
            if stored is None or not isinstance(key, str):
                continue
            ended, in_flight = _looks(stored)
            if not ended and (edges or in_flight):
                judging.arm_fresh(SESSION, (key,), now_ms)
        if not self._keys:
            judging.armed()


def _looks(stored: Any) -> tuple[bool, bool]:
    """Is a row over, and has it calls in flight?"""
    if isinstance(stored, bytes):
        head = session.head(stored)
        return head.ended, head.in_flight
    return bool(stored.ended_ms), bool(stored.open)
