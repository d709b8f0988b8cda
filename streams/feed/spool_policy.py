"""How much of what cannot be sent may wait on disk, where, and from when on?  One frozen value.

Never touches the disk: `streams.feed.spool` does.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.errors import ConfigError

SPOOL_BYTES_MAX: Final = 2**40
AFTER_MS_MAX: Final = 3_600_000
SEGMENT_BYTES: Final = 4 * 1024 * 1024  # of one file: what is read at once, sent again after a crash, or dropped whole
_SEGMENTS: Final = 8  # a small spool has smaller files, so that a full one loses an eighth and not everything


@dataclass(frozen=True, slots=True)
class SpoolPolicy:
    """The limits of the spool; 0 bytes is none at all. A value out of bounds raises ConfigError with every fault."""

    size_bytes: int = 0
    folder: str = ""  # empty: agent-streams/spool in the user's state directory
    after_ms: int = 1_000  # of silence, before what waits in memory is put on disk

    def __post_init__(self) -> None:
        if faults := "; ".join(self._faults()):
            raise ConfigError(faults)

    @property
    def on(self) -> bool:
        """Is anything ever put on disk?"""
        return self.size_bytes > 0

    @property
    def segment_bytes(self) -> int:
        """How large does a file become before the next is begun?"""
        return max(1, min(SEGMENT_BYTES, self.size_bytes // _SEGMENTS))

    def root(self) -> Path:
        """Name the folder of all spools. Raises RuntimeError where the user has no home."""
        if self.folder:
            return Path(self.folder)
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "agent-streams" / "spool"

    def _faults(self) -> Iterator[str]:
        for name, most in (("size_bytes", SPOOL_BYTES_MAX), ("after_ms", AFTER_MS_MAX)):
            if not 0 <= getattr(self, name) <= most:
                yield f"spool {name}: {getattr(self, name)} given, expected 0 to {most}"
