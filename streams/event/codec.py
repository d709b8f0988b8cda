"""Bytes of one Kafka record into events; what is bad becomes a `Rejected` value and its neighbours still count.

Never raises on input, whatever the bytes are, and never looks at keys, topics or clocks.
A record holds one event, a JSON array of events, or one event per line; each may be in a CloudEvents envelope.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from streams.event.cloudevents import unwrap, unwrap_binary
from streams.event.custom import Customs, observe
from streams.event.model import Custom, Event, Plain

RECORD_BYTES_MAX: Final = 1_048_576  # what a default broker accepts as one batch
EVENTS_PER_RECORD_MAX: Final = 10_000  # 1 MiB of the smallest valid events is about 12,000
MS_END: Final = 10**14  # year 5138; larger integers cannot be milliseconds
US_END: Final = 10**17  # the same in microseconds; larger ones are nanoseconds (OpenTelemetry)
DIGITS_MAX: Final = 19  # of a time as text; nanoseconds need no more before the year 2286
DETAIL_CHARS_MAX: Final = 200
# A value of the input, which may be anybody's secret: between the first quote and the last one before its place.
_QUOTED: Final = re.compile(r"(?s)'.*'|\".*\"")


class Reason(StrEnum):
    """Why something was refused; the value is a label of the rejected counter."""

    EMPTY = "empty"  # no value (a tombstone) or only white space
    TOO_LARGE = "too_large"  # more bytes than RECORD_BYTES_MAX
    TOO_MANY = "too_many"  # more events than EVENTS_PER_RECORD_MAX
    MALFORMED = "malformed"  # no JSON, not UTF-8, nested beyond reason
    UNKNOWN_KIND = "unknown_kind"  # `kind` missing or not in the catalogue
    UNKNOWN_SCHEMA = "unknown_schema"  # a schema version newer than this one
    INVALID = "invalid"  # a field is missing, of the wrong type or out of bounds
    TIME = "time"  # `time` is text but not RFC 3339 with an offset
    UNDECLARED = "undeclared"  # a custom metric that the settings do not declare, or declare otherwise
    ERASED = "erased"  # of a session or user that was erased, from before; counted, and no dead letter says more


class Rejected(NamedTuple):
    """One thing refused: `position` is its index in the record, 0 for a record of one event; `part` its bytes."""

    reason: Reason
    position: int
    detail: str
    part: bytes


class Decoded(NamedTuple):
    """What one record held: good events in their order, and what was refused."""

    events: Sequence[Event]
    rejected: Sequence[Rejected]


# The first two do not know custom events, which have to be looked up: they are what the third one is for.
_decoder: Final = msgspec.json.Decoder(Plain)
_array_decoder: Final = msgspec.json.Decoder(list[Plain])
_complete_decoder: Final = msgspec.json.Decoder(Event)
_raw_array_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_any_decoder: Final = msgspec.json.Decoder(msgspec.Raw)

_time_of: Final = attrgetter("time")
_INT: Final = {int}

# The hot path calls this for records of one event and falls back to `decode_record` when it raises.
# It alone lets a `time` pass that is text and no time.
decode_one: Final[Callable[[bytes], Event]] = _decoder.decode


def decode_record(
    value: bytes | None, customs: Customs | None = None, headers: Sequence[tuple[str, bytes]] = ()
) -> Decoded:
    """Decode all that one record holds.

    Custom events become the observations they are declared as; without declarations they stay as they are.
    Headers are looked at when the value is no event by itself: they may be a CloudEvents envelope in binary mode.
    """
    decoded = _decode_value(value, customs)
    if decoded.rejected and headers and value is not None and len(value) <= RECORD_BYTES_MAX:
        inside = unwrap_binary(value, headers)
        if inside is not None:
            return _decode_value(inside, customs)
    return decoded


def _decode_value(value: bytes | None, customs: Customs | None) -> Decoded:
    if value is None or not value.strip():
        return _refuse(value or b"", Reason.EMPTY, "no value" if value is None else "no text")
    if len(value) > RECORD_BYTES_MAX:
        return _refuse(value, Reason.TOO_LARGE, f"{len(value)} bytes, at most {RECORD_BYTES_MAX}")
    first = value.lstrip()[:1]
    if first == b"[":
        return _decode_array(value, customs)
    event = _decode_event(value, 0, customs)
    if not isinstance(event, Rejected):
        return Decoded((event,), ())
    lines = [line for line in value.splitlines() if line.strip()]
    if len(lines) > 1 and any(_is_object(line) for line in lines):
        return _decode_parts(value, lines, customs)
    return Decoded((), (event,))


def _decode_array(value: bytes, customs: Customs | None) -> Decoded:
    events = _good_array(value)
    if events is not None:
        return _bounded(value, events)
    try:
        parts = _raw_array_decoder.decode(value)
    except Exception as error:  # noqa: BLE001  any bytes must end as a value; msgspec raises more than its own errors
        return _refuse(value, *explain(error))
    return _decode_parts(value, [bytes(part) for part in parts], customs)


def _good_array(value: bytes) -> list[Plain] | None:
    """Decode an array that is good throughout; None when its parts have to be looked at one by one."""
    try:
        events = _array_decoder.decode(value)
    except Exception:  # noqa: BLE001  as above
        return None
    if set(map(type, map(_time_of, events))) <= _INT:  # nearly always; asking each by itself takes twice as long
        return events
    return events if all(map(_timely, events)) else None


def _decode_parts(value: bytes, parts: Sequence[bytes], customs: Customs | None) -> Decoded:
    if len(parts) > EVENTS_PER_RECORD_MAX:
        return _refuse(value, Reason.TOO_MANY, f"{len(parts)} events, at most {EVENTS_PER_RECORD_MAX}")
    events: list[Event] = []
    rejected: list[Rejected] = []
    for position, part in enumerate(parts):
        event = _decode_event(part, position, customs)
        if isinstance(event, Rejected):
            rejected.append(event)
        else:
            events.append(event)
    return Decoded(events, rejected)


def _bounded(value: bytes, events: Sequence[Event]) -> Decoded:
    if len(events) > EVENTS_PER_RECORD_MAX:
        return _refuse(value, Reason.TOO_MANY, f"{len(events)} events, at most {EVENTS_PER_RECORD_MAX}")
    if not events:
        return _refuse(value, Reason.EMPTY, "an array without events")
    return Decoded(events, ())


def _decode_event(part: bytes, position: int, customs: Customs | None) -> Event | Rejected:
    try:
        event = decode_one(part)
    except Exception:  # noqa: BLE001  as above
        return _decode_rare(part, position, customs)
    return event if _timely(event) else untimely(part, position)


def _decode_rare(part: bytes, position: int, customs: Customs | None) -> Event | Rejected:
    """Decode what is no plain event: a custom one, one in an envelope, or nothing that counts."""
    event: Event
    try:
        event = _complete_decoder.decode(unwrap(part) or part)
    except Exception as error:  # noqa: BLE001  as above
        reason, detail = explain(error)
        return Rejected(reason, position, detail, part)
    if not _timely(event):
        return untimely(part, position)
    if not isinstance(event, Custom) or customs is None:
        return event
    observed = observe(event, customs)
    return Rejected(Reason.UNDECLARED, position, observed, part) if isinstance(observed, str) else observed


def untimely(part: bytes, position: int) -> Rejected:
    """Refuse an event because of its time."""
    return Rejected(Reason.TIME, position, "time is neither epoch milliseconds nor RFC 3339 with an offset", part)


def _timely(event: Event) -> bool:
    return isinstance(event.time, int) or time_ms(event.time) is not None


def _is_object(line: bytes) -> bool:
    """Return whether a line is a JSON object by itself, which a line of an indented one rarely is."""
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        _any_decoder.decode(line)
    except Exception:  # noqa: BLE001  as in _decode_event
        return False
    return True


def _refuse(value: bytes, reason: Reason, detail: str) -> Decoded:
    return Decoded((), (Rejected(reason, 0, detail, value),))


def explain(error: Exception) -> tuple[Reason, str]:
    """Name the reason behind a decoder's exception; the detail quotes field names and bounds, never values."""
    said, at, place = str(error).rpartition(" - at `")
    text = (_QUOTED.sub("'…'", said) + at + place)[:DETAIL_CHARS_MAX]
    if not isinstance(error, msgspec.ValidationError):
        return Reason.MALFORMED, type(error).__name__ if isinstance(error, RecursionError) else text
    if "`$.kind`" in text or "`kind`" in text:
        return Reason.UNKNOWN_KIND, "kind is missing or unknown"
    if "`$.schema`" in text:
        return Reason.UNKNOWN_SCHEMA, text
    return Reason.INVALID, text


def time_ms(time: int | str) -> int | None:
    """Turn an event's `time` into epoch milliseconds; None when it is no time at all.

    Integers below 10^14 are milliseconds, below 10^17 microseconds, else nanoseconds; text is RFC 3339 or digits.
    """
    if isinstance(time, str):
        if not (time.isdecimal() and time.isascii()):
            return _rfc3339_ms(time)
        if len(time) > DIGITS_MAX:
            return None
        time = int(time)
    if time < MS_END:
        return time
    return time // 1_000 if time < US_END else time // 1_000_000


def _rfc3339_ms(text: str) -> int | None:
    # Lower case is allowed there, and so is a leap second, which POSIX time does not have.
    text = text.upper().replace(":59:60", ":59:59")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    offset = moment.utcoffset()
    if offset is None:
        return None
    days = moment.toordinal() - 719_163  # 1970-01-01
    seconds = days * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
    ms = seconds * 1_000 + moment.microsecond // 1_000 - (offset.days * 86_400 + offset.seconds) * 1_000
    return ms if ms >= 0 else None
