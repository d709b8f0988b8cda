"""How are the first stage's rows written: their changelog keys, the meta row, and what is said of unreadable ones?

Never holds state and never decides what a row says: the row itself is `streams.fold.session`.
"""

from typing import Final

import msgspec
from msgspec import Struct

from streams.errors import StateRefused
from streams.fold.live import LiveRow
from streams.fold.measure import OUTCOMES
from streams.fold.session import RowKey
from streams.stage.loading import UNREADABLE
from streams.stage.plan import Anchor
from streams.stage.trust import Mark

META_CODEC: Final = 1
META_KEY: Final = b"m"


class Meta(Struct, array_like=True):
    """What a partition remembers beside its rows."""

    next_offset: int
    watermark_ms: int = -1
    clock_ms: int = -1
    counters: dict[str, int] = {}
    sequences: dict[int, int] = {}  # last sequence sent, by rollups partition
    incarnation: int = -1  # the newest of any alert
    codec: int = META_CODEC
    rules: int = 0  # version of the rules that alerts were last judged by
    marks: list[Mark] = []  # how whole the numbers were lately, while a rule demands to know
    erased: int = 0  # version of the last erasure that is carried out
    partitions: int = 0  # of the source, when this was written; 0: not noted
    anchor: Anchor | None = None  # the last record that was read


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Meta).decode


def encode_meta(meta: Meta) -> bytes:
    """Return a meta row as stored: a MessagePack array."""
    return _encode(meta)


def decode_meta(partition: int, stored: bytes) -> Meta:
    """Read a stored meta row; StateRefused when another release wrote it."""
    try:
        meta = _decode(stored)
    except UNREADABLE as error:
        raise newer(partition, f"the meta row cannot be read ({error})") from error
    if meta.codec != META_CODEC:
        raise newer(partition, f"its meta row has version {meta.codec}, this program reads {META_CODEC}")
    return meta


def added(meta: Meta | None, counted: dict[str, int]) -> dict[str, int]:
    """Return the counters of a meta row and what was counted since."""
    total = dict(meta.counters) if meta else {}
    for name, count in counted.items():
        total[name] = total.get(name, 0) + count
    return total


def following(meta: Meta, last: Meta | None, counted: dict[str, int]) -> Meta:
    """Fill in what a meta row takes over from the last one; events received are noted in `counted`."""
    received = sum(counted.get(outcome, 0) for outcome in OUTCOMES)
    if received:
        counted["received"] = received
    meta.counters = added(last, counted)
    meta.sequences = dict(last.sequences) if last else {}
    return meta


def row_key(key: RowKey) -> bytes:
    """Write the changelog key of a row: s(ession), p(rocess), or c(losed) incarnation."""
    if isinstance(key, str):
        return b"s" + key.encode()
    return b"p" + key[0].encode() if len(key) == 1 else b"c" + f"{key[1]}:{key[0]}".encode()


def read_row_key(raw: bytes) -> RowKey:
    """Read the changelog key of a row; ValueError when it is none."""
    text = raw[1:].decode()
    if raw[:1] == b"s":
        return text
    if raw[:1] == b"p":
        return (text,)
    incarnation, _, session_id = text.partition(":")
    if raw[:1] != b"c" or not incarnation.isdecimal():
        raise ValueError("no row has such a key")
    return (session_id, incarnation)


def stamped(row: LiveRow, stamp: int) -> bytes:
    """Note the highest offset folded into a row, and pack it."""
    row.stamp = stamp
    return row.pack()


def unreadable(partition: int, key: bytes, error: Exception) -> StateRefused:
    """Say that a row is not what this program writes."""
    return StateRefused(
        f"sessions partition {partition}: the row {key!r} of its changelog cannot be read ({error}). A newer release "
        "or somebody else wrote it: run that release, restore the topic, or start over under another topic prefix."
    )


def newer(partition: int, what: str) -> StateRefused:
    """Say that the state is of a newer release."""
    return StateRefused(
        f"sessions partition {partition}: {what}. The state was written by a newer release: run that release, "
        "or start over under another topic prefix."
    )
