"""What came in that no table knows?  Names and how often, a bounded number of them.  Pure.

Never keeps a value: it may be anybody's words.
"""

from collections.abc import Mapping
from typing import Final

from streams.event.model import NAME_CHARS_MAX

NAMES_MAX: Final = 500  # of one kind; a page of them is still read by somebody
KINDS: Final = ("span", "attribute", "log", "metric", "scope")
OVERFLOW: Final = "__overflow__"


class Strange:
    """Counts by kind and name; beyond NAMES_MAX names of a kind the rest counts under OVERFLOW."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}

    def note(self, kind: str, name: str) -> None:
        """Count one; `kind` is one of KINDS."""
        counts = self._counts[kind]
        name = name[:NAME_CHARS_MAX]
        if name not in counts and len(counts) >= NAMES_MAX:
            name = OVERFLOW
        counts[name] = counts.get(name, 0) + 1

    def totals(self) -> Mapping[str, int]:
        """Return how many of each kind there were."""
        return {kind: sum(counts.values()) for kind, counts in self._counts.items()}

    def report(self) -> Mapping[str, Mapping[str, int]]:
        """Return the names by kind, the most frequent first."""
        return {
            kind: dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
            for kind, counts in self._counts.items()
        }
