"""What the dead-letter topic says about something refused: why, where it stood, and how to recognise it.

Never holds the refused bytes themselves: a digest, the size and a redacted beginning.
"""

from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from streams.event.codec import Rejected
from streams.event.redact import EDGE_CHARS, redact
from streams.stage.plan import Send
from streams.topology import DEAD_LETTER, EVENTS

SCHEMA: Final = 1
EXCERPT_CHARS_MAX: Final = 256


class DeadLetter(Struct, omit_defaults=True):
    """One refused event, or one refused record (position 0) when its parts could not be told apart."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    position: int
    timestamp_ms: int
    value_bytes: int
    value_sha256: str
    excerpt: str
    schema: int = SCHEMA


_encode: Final = msgspec.json.Encoder().encode


def dead_letter(rejected: Rejected, partition: int, offset: int, timestamp_ms: int) -> Send:
    """Describe a refusal as a record of the dead-letter topic."""
    part = rejected.part
    # More is looked at than is kept, so that a secret on the edge is seen whole.
    beginning, _ = redact(part[: EXCERPT_CHARS_MAX + EDGE_CHARS].decode("utf-8", "replace"))
    letter = DeadLetter(
        reason=rejected.reason.value,
        detail=rejected.detail,
        topic=EVENTS.suffix,
        partition=partition,
        offset=offset,
        position=rejected.position,
        timestamp_ms=timestamp_ms,
        value_bytes=len(part),
        value_sha256=sha256(part).hexdigest(),
        excerpt=beginning[:EXCERPT_CHARS_MAX],
    )
    key = f"{EVENTS.suffix}:{partition}:{offset}:{rejected.position}".encode()
    return Send(DEAD_LETTER.suffix, None, key, _encode(letter))
