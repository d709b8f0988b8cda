"""Which guard does an adapter ask?  The one it was given, else its emitter's, else none.

Never asks one that is off.
"""

from typing import Protocol

from streams.feed.guard.denial import Denial
from streams.feed.timers import Emits


class Asks(Protocol):
    """A guard, as far as adapters need one."""

    @property
    def active(self) -> bool:
        """Is there anything it goes by?"""

    def denial(
        self,
        target: str,
        *,
        session_id: str | None = None,
        user: str | None = None,
        tenant: str | None = None,
        agent: str | None = None,
        provider: str | None = None,
    ) -> Denial | None:
        """Return why a call may not be made, or None when it may."""


def guard_of(emitter: Emits, given: Asks | None) -> Asks | None:
    """Return the guard to ask, None when every call may be made."""
    guard: Asks | None = getattr(emitter, "guard", None) if given is None else given
    return guard if guard is not None and guard.active else None
