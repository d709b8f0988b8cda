"""What can be set about how much a worker remembers of sessions.

Never read by itself: `streams.settings` makes it a part of all settings.
"""

from pydantic import Field
from pydantic_settings import BaseSettings


class SessionSettings(BaseSettings):
    """The bounds of a worker's memory; see docs/capacity.md for bytes."""

    sessions: int = Field(
        default=1_000_000,
        ge=1_000,
        le=10_000_000,
        description="Sessions that a partition remembers, some 1 kB each; beyond them the one idle for longest is "
        "ended, and counted as evicted.",
    )
    sessions_active: int = Field(
        default=100_000,
        ge=1_000,
        le=10_000_000,
        description="Sessions of a partition that are kept ready to be folded into, some 5 kB each; of more than twice "
        "as many the others are packed, which costs some 20 µs whenever one of them goes on.",
    )
