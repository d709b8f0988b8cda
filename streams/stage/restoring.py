"""How does a partition of sessions know its rows again?  By their heads: a million rows, and none of them is decoded.

Never judges and never decides what is counted again: it says which rows are newer than the meta row.
"""

from collections.abc import Mapping
from typing import Final

from streams.fold.session import CLOSED_KEPT_MS, GAP_MS, ROW_CODEC, unpack_head
from streams.rule.reading import Key
from streams.stage.idle import IdleWheel
from streams.stage.loading import UNREADABLE
from streams.stage.session_rows import newer, read_row_key, unreadable
from streams.stage.session_table import SessionTable

_SESSION: Final = ord("s")
_ROWS: Final = b"spc"  # sessions, processes, closed incarnations; see `session_rows.row_key`


class Restored:
    """What the rows of sessions say, and the rows that are something else."""

    __slots__ = ("others", "quiet", "replay_below", "torn", "waiting")

    def __init__(self) -> None:
        self.others: list[tuple[bytes, bytes]] = []
        self.replay_below: int = 0  # a torn transaction left rows that hold offsets below this; the meta row does not
        self.torn: list[tuple[str, str]] = []  # closed rows that are newer than the meta row
        self.waiting: list[Key] = []  # sessions with calls in flight
        self.quiet: list[Key] = []  # sessions that are alive without


def restore(
    stored: Mapping[bytes, bytes], table: SessionTable, idle: IdleWheel, closed: IdleWheel, next_offset: int,
    clock_ms: int,
) -> Restored:  # fmt: skip
    """Put rows into the table as they are stored, and their deadlines on the wheels. Raises StateRefused."""
    found = Restored()
    rows, latest_ms = table.rows, clock_ms + GAP_MS
    waiting, quiet = found.waiting, found.quiet
    newest = next_offset - 1
    for raw, value in stored.items():
        kind = raw[0] if raw else 0
        if kind not in _ROWS:
            found.others.append((raw, value))
            continue
        try:
            key = raw[1:].decode() if kind == _SESSION else read_row_key(raw)
            codec, ended, in_flight, stamp, seen_ms = unpack_head(value)
        except UNREADABLE as error:
            raise unreadable(table.partition, raw, error) from error
        if codec != ROW_CODEC:
            raise newer(table.partition, f"a row has version {codec}, this program reads {ROW_CODEC}")
        if stamp > newest:
            newest = stamp
            found.replay_below = stamp + 1
        due_ms = seen_ms + (CLOSED_KEPT_MS if ended else GAP_MS)
        if isinstance(key, tuple) and len(key) == 2:
            closed.add(due_ms, key)
            if stamp >= next_offset:
                found.torn.append(key)
            continue
        idle.add(min(latest_ms, due_ms), key)
        rows[key] = value
        if isinstance(key, str) and not ended:
            (waiting if in_flight else quiet).append((key,))
    return found
