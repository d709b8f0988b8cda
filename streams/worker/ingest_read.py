"""Which events does a body hold that came over HTTP, and what in it is none?  Bytes in, values out.

Never raises on an event: what is refused is told by its place, with the reason a dead letter would have.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from streams.event.codec import Reason, Rejected, decode_record, explain
from streams.event.custom import Customs, observe
from streams.event.model import Custom, Event
from streams.event.redact import Redactor
from streams.feed.batch import Record
from streams.worker.ingest_records import TooLarge, pack

JSON: Final = "application/json"
LINES: Final = ("application/x-ndjson", "application/jsonl")
KINDS: Final = (JSON, *LINES)
EVENTS_MAX: Final = 50_000  # of one request: what 16 MB hold at 300 bytes each
REFUSED_TOLD: Final = 100  # the first so many are named; all are counted
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Posted(NamedTuple):
    """What a request became: records, and what its sender is told."""

    records: Sequence[Record]
    events: int
    items: int
    refused: Sequence[Rejected]


def read(body: bytes, *, lines: bool, customs: Customs, redactor: Redactor | None) -> Posted:
    """Read a JSON object, an array, or an object per line. Raises ValueError when it is none, TooLarge for too many."""
    parts = _parts(body, lines=lines)
    if len(parts) > EVENTS_MAX:
        raise TooLarge(f"{len(parts)} events, at most {EVENTS_MAX}")
    events: list[Event] = []
    places: list[int] = []
    refused: list[Rejected] = []
    for place, part in enumerate(parts):
        found, why = decode_record(part)
        refused += (each._replace(position=place) for each in why)
        for event in found:
            undeclared = observe(event, customs) if isinstance(event, Custom) else None
            if isinstance(undeclared, str):
                refused.append(Rejected(Reason.UNDECLARED, place, undeclared, part))
            else:
                events.append(event)
                places.append(place)
    packed = pack(events, redactor)
    refused += (Rejected(Reason(why.value), places[at], "it cannot be sent", b"") for at, why in packed.refused)
    refused.sort(key=lambda each: each.position)
    return Posted(packed.records, packed.events, len(parts), refused)


def told(accepted: int, refused: Sequence[Rejected]) -> dict[str, Any]:
    """Return what a sender reads: how many are safe, and of the others where they stood and why."""
    if not refused:
        return {"accepted": accepted}
    first = [
        {"index": each.position, "reason": each.reason.value, "detail": each.detail} for each in refused[:REFUSED_TOLD]
    ]
    return {"accepted": accepted, "refused": len(refused), "first_refused": first}


def _parts(body: bytes, *, lines: bool) -> Sequence[bytes]:
    if lines:
        found = [line for line in body.splitlines() if line.strip()]
    elif body.lstrip()[:1] == b"[":
        try:
            found = [bytes(part) for part in _array.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"the body is no JSON array: {explain(error)[1]}") from error
    else:
        found = [body] if body.strip() else []
    if not found:
        raise ValueError("the body is empty: expected a JSON object, an array of them, or one per line")
    return found
