"""Which Kafka records do events make that came over HTTP, and how is a body unpacked?  Values in, values out.

Never talks to anybody, and knows no protocol.
"""

import zlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from streams.event.model import ID_CHARS_MAX, Envelope, partition_key
from streams.event.redact import Redactor
from streams.feed.batch import Batcher, BatchPolicy, Record
from streams.feed.encode import Refused, encode_event, fit

GZIP_WINDOW: Final = 31  # zlib's way to say gzip


class Signal(StrEnum):
    """What a request of OTLP holds; the value is the end of its path and a label."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


class TooLarge(ValueError):
    """More bytes than are taken."""


class Carried(NamedTuple):
    """What a request became: records for the events topic, and what its sender is told."""

    records: Sequence[Record]
    events: int
    items: int
    rejected: int
    reason: str
    refused: int  # events that cannot be sent


class Packed(NamedTuple):
    """Records, how many events are in them, and which events cannot be sent: their places and why."""

    records: Sequence[Record]
    events: int
    refused: Sequence[tuple[int, Refused]]


def pack(events: Iterable[Envelope], redactor: Redactor | None) -> Packed:
    """Make records of events; those of a session stay in order."""
    batcher, refused = Batcher(BatchPolicy()), []
    for place, made in enumerate(events):
        # Cut before it becomes a key: the record's and the event's session are the same.
        event = fit(made) if len(partition_key(made)) > ID_CHARS_MAX else made
        # Without source and sequence of ours: retries come by any process, and the id alone tells them.
        encoded = encode_event(event, source=None, seq=0, redactor=redactor)
        if isinstance(encoded, Refused):
            refused.append((place, encoded))
        else:
            batcher.add(partition_key(event), encoded.part, at_once=False, now_ms=0)
    records = batcher.drain()
    return Packed(records, sum(record.events for record in records), refused)


def unpack(body: bytes, limit: int) -> bytes:
    """Unpack gzip, of which there may be several parts. Raises ValueError, and TooLarge beyond the limit."""
    found = bytearray()
    while body:
        packed = zlib.decompressobj(GZIP_WINDOW)
        try:
            found += packed.decompress(body, limit + 1 - len(found))
        except zlib.error as error:
            raise ValueError("no gzip") from error
        if len(found) > limit:
            raise TooLarge(f"more than {limit} bytes unpacked")
        if not packed.eof:
            raise ValueError("gzip that ends before its end")
        body = packed.unused_data
    return bytes(found)
