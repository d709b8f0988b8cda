"""What the dead-letter topic says about something refused: why, where it stood, and how to recognise it.

Never holds the refused bytes themselves: a digest, the size and a redacted beginning.  Never much larger than the
record it speaks of, whatever that holds.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from streams.event.codec import Rejected
from streams.event.redact import EDGE_CHARS, REDACTOR, Redactor
from streams.stage.plan import Send
from streams.topology import DEAD_LETTER, EVENTS

SCHEMA: Final = 1
EXCERPT_CHARS_MAX: Final = 256
# A letter takes some 400 bytes and what it refuses may be two: without a limit, 20 kB of `1,` become 5 MB of letters.
LETTERS_PER_RECORD_MAX: Final = 20


class DeadLetter(Struct, omit_defaults=True):
    """One refused event, or one refused record (position 0) when its parts could not be told apart.

    `more` events of the same record were refused after this one and have no letter: they are counted all the same.
    """

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
    more: int = 0
    schema: int = SCHEMA


_encode: Final = msgspec.json.Encoder().encode


def dead_letters(
    rejected: Sequence[Rejected], partition: int, offset: int, timestamp_ms: int, redactor: Redactor = REDACTOR
) -> Iterator[Send]:
    """Describe the refusals of one record, the first ones each; the last letter says how many more there were."""
    more = max(0, len(rejected) - LETTERS_PER_RECORD_MAX)
    for number, one in enumerate(rejected[:LETTERS_PER_RECORD_MAX], 1):
        last = number == LETTERS_PER_RECORD_MAX
        yield dead_letter(one, partition, offset, timestamp_ms, redactor, more=more if last else 0)


def dead_letter(
    rejected: Rejected,
    partition: int,
    offset: int,
    timestamp_ms: int,
    redactor: Redactor = REDACTOR,
    *,
    more: int = 0,
    topic: str = EVENTS.suffix,
) -> Send:
    """Describe a refusal as a record of the dead-letter topic; `more` of the same record get none.

    `topic` is the suffix of where it stood.
    """
    part = rejected.part
    # More is looked at than is kept, so that a secret on the edge is seen whole.
    beginning, _ = redactor.text(part[: EXCERPT_CHARS_MAX + EDGE_CHARS].decode("utf-8", "replace"))
    letter = DeadLetter(
        reason=rejected.reason.value,
        detail=rejected.detail,
        topic=topic,
        partition=partition,
        offset=offset,
        position=rejected.position,
        timestamp_ms=timestamp_ms,
        value_bytes=len(part),
        value_sha256=sha256(part).hexdigest(),
        excerpt=beginning[:EXCERPT_CHARS_MAX],
        more=more,
    )
    key = f"{topic}:{partition}:{offset}:{rejected.position}".encode()
    return Send(DEAD_LETTER.suffix, None, key, _encode(letter))
