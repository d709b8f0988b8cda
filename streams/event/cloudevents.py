"""Which event is inside a CloudEvents envelope?  Structured (one JSON object) and binary (record headers `ce_…`).

Never judges the event: what comes out is decoded like any other.
An envelope gives what the event lacks (id, time, source) and contradicts nothing.  Its ids are only unique within its
source, so an id taken from it names both.
See the CloudEvents specification 1.0, its JSON event format and its Kafka protocol binding.
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Raw, Struct

from streams.event.model import ID_CHARS_MAX

MARK: Final = b'"specversion"'
HEADER_PREFIX: Final = "ce_"
FILLED: Final = ("id", "time", "source")


class _Structured(Struct):
    """An envelope in structured mode; attributes that mean nothing here are not looked at."""

    specversion: str
    id: str | None = None
    time: str | None = None
    source: str | None = None
    data: Raw = Raw(b"")
    data_base64: str | None = None


_structured: Final = msgspec.json.Decoder(_Structured)
_object: Final = msgspec.json.Decoder(dict[str, Raw])
_encode: Final = msgspec.json.Encoder().encode


def unwrap(part: bytes) -> bytes | None:
    """Return the event inside a structured envelope; None when this is none."""
    if MARK not in part:
        return None
    try:
        envelope = _structured.decode(part)
        data = bytes(envelope.data) or b64decode(envelope.data_base64 or "", validate=True)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    given = {name: value for name in FILLED if (value := getattr(envelope, name)) is not None}
    return _fill(data, given) if data else None


def unwrap_binary(value: bytes, headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Return the event of a record whose headers are an envelope in binary mode; None when they are none."""
    given = {
        name.removeprefix(HEADER_PREFIX): text.decode("utf-8", "replace")
        for name, text in headers
        if name.startswith(HEADER_PREFIX) and text is not None
    }
    return _fill(value, {name: given[name] for name in FILLED if name in given}) if "specversion" in given else None


def _fill(data: bytes, given: Mapping[str, str]) -> bytes | None:
    """Add to an event what it lacks; None when it is no JSON object."""
    try:
        event = _object.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    for name, value in given.items():
        if name not in event:
            event[name] = Raw(_encode(_identity(value, given.get("source")) if name == "id" else value))
    return _encode(event)


def _identity(number: str, source: str | None) -> str:
    named = f"{source}#{number}" if source is not None else number
    return named if len(named) <= ID_CHARS_MAX else sha256(named.encode("utf-8", "replace")).hexdigest()
