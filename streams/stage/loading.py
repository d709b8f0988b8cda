"""What is left of a changelog when only the last word on each key counts, and what of it is no state of ours?

Never looks into a row.
"""

import struct
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from streams.errors import StateRefused
from streams.stage.plan import Anchor, Row

# What reading a row raises when it is not what this program writes; bytes may hold anything.
UNREADABLE: Final = (msgspec.MsgspecError, struct.error, ValueError, LookupError, RecursionError, OverflowError)


def compact(kept: dict[bytes, bytes], rows: Iterable[Row]) -> None:
    """Take rows in log order: a later one replaces an earlier one, and None deletes it."""
    for key, value in rows:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value


class Made(Protocol):
    """What every stage's meta row says of the log that the state was made of."""

    @property
    def partitions(self) -> int:
        """How many it had; 0: releases before did not note it."""

    @property
    def anchor(self) -> Anchor | None:
        """The last record that was read."""


def known_log(place: str, made: Made, partitions: int) -> Anchor | None:
    """Return by which record the log is known; StateRefused when the state was made with another partition count."""
    if made.partitions and partitions and made.partitions != partitions:
        raise StateRefused(
            f"the state of {place} was made with {made.partitions} partitions, and its topic has {partitions} now: "
            "keys have moved to other partitions, away from what is known of them. Create all topics under a new "
            "prefix with the count you want, and start anew with it"
        )
    return made.anchor
