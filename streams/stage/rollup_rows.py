"""How are the second stage's rows written: their changelog keys, the meta row, and what is said of unreadable ones?

Never holds state and never decides what a row says: the rows themselves are `streams.fold.rollup`.
"""

from typing import Final

import msgspec
from msgspec import Struct

from streams.errors import StateRefused
from streams.fold.panes import PaneKey
from streams.fold.rollup import RollupBatch
from streams.stage.loading import UNREADABLE
from streams.stage.plan import Anchor
from streams.stage.trust import Mark

META_CODEC: Final = 1
META_KEY: Final = b"m"
LIFETIME: Final = b"l"
PANE: Final = b"p"
NO_DIGEST: Final = -1  # in rows of releases that kept none


class Upstream(Struct, array_like=True):
    """What is known of one partition of the first stage."""

    sequence: int = 0
    events: int = 0
    watermark_ms: int = -1
    late: int = 0
    duplicate: int = 0
    rejected: int = 0
    digest: int = NO_DIGEST  # of the last batch


class Meta(Struct, array_like=True):
    """What a partition remembers beside its rows."""

    next_offset: int
    clock_ms: int
    upstreams: dict[int, Upstream]
    incarnation: int = -1  # the newest of any alert
    codec: int = META_CODEC
    forgotten_sources: int = 0  # of gauges, because a row had no room
    rules: int = 0  # version of the rules that alerts were last judged by
    marks: list[Mark] = []  # how whole the numbers were lately, while a rule demands to know
    partitions: int = 0  # of the source, when this was written; 0: not noted
    anchor: Anchor | None = None  # the last record that was read
    named: dict[str, int] = {}  # rows per dimension that ever had a name of their own, the erased ones included


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Meta).decode


def lifetime_key(key: str) -> bytes:
    """Write the changelog key of a lifetime row."""
    return LIFETIME + key.encode()


def pane_key(pane: PaneKey, key: str) -> bytes:
    """Write the changelog key of a pane row: size and start in ms, then the key it belongs to."""
    return b"p%d:%d:" % pane + key.encode()


def encode_meta(meta: Meta) -> bytes:
    """Return a meta row as stored: a MessagePack array."""
    return _encode(meta)


def decode_meta(partition: int, stored: bytes) -> Meta:
    """Read a stored meta row; StateRefused when another release wrote it."""
    try:
        meta = _decode(stored)
    except UNREADABLE as error:
        raise newer(partition, f"its meta row cannot be read ({error})") from error
    if meta.codec != META_CODEC:
        raise newer(partition, f"its meta row has version {meta.codec}, this program reads {META_CODEC}")
    return meta


def is_last(batch: RollupBatch, digest: int, upstream: Upstream) -> bool:
    """Is a batch with the last sequence the last one itself, sent twice?"""
    return batch.events == upstream.events and upstream.digest in {digest, NO_DIGEST}


def told_by(source: int) -> str:
    """Name the partition that sent a batch."""
    return f"source partition {source}" if source >= 0 else f"commands partition {-1 - source}"


def unreadable(partition: int, key: bytes, error: Exception) -> StateRefused:
    """Say that a row is not what this program writes."""
    return StateRefused(
        f"rollups partition {partition}: the row {key!r} of its changelog cannot be read ({error!r}). A newer release "
        "or somebody else wrote it: run that release, restore the topic, or start over under another topic prefix."
    )


def newer(partition: int, what: str) -> StateRefused:
    """Say that the state is of a newer release."""
    return StateRefused(
        f"rollups partition {partition}: {what}. The state was written by a newer release: run that release, "
        "or start over under another topic prefix."
    )
