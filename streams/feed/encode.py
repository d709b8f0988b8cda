"""Which bytes does an event become, so that no worker refuses them?  Redacted, cut to its bounds, stamped.  Pure.

Never changes a number and never raises on an event, whatever somebody put into it: what cannot be sent is `Refused`.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.inspect import StrType, StructType, Type, UnionType, type_info
from msgspec.structs import replace

from streams.event.codec import RECORD_BYTES_MAX, decode_one
from streams.event.model import ATTRIBUTES_MAX, ID_CHARS_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX, Envelope
from streams.event.redact import ATTRIBUTE_CHARS_MAX, Redactor, redact_event

_DIGEST_BYTES: Final = 8
_encode: Final = msgspec.json.Encoder().encode


class Refused(StrEnum):
    """Why an event cannot be sent; the value is a label of the drop counter."""

    INVALID = "invalid"  # a field is of the wrong type or a number out of bounds
    TOO_LARGE = "too_large"  # more bytes than a record may have


class Encoded(NamedTuple):
    """One event as JSON, and how often each redaction pattern hit."""

    part: bytes
    redacted: Mapping[str, int]


def encode_event(event: Envelope, *, source: bytes | None, seq: int, redactor: Redactor | None) -> Encoded | Refused:
    """Encode one event and make sure that it decodes; `source` (as JSON) and `seq` go in unless it has a source.

    Without a `source` the event stays without: its id alone tells it from others.
    """
    try:
        encoded = _encode_stamped(event, source, seq, redactor)
    except Exception:  # noqa: BLE001  whatever an agent put in there, it must not end its telemetry
        encoded = Refused.INVALID
    if isinstance(encoded, Encoded):
        return encoded
    try:
        return _encode_stamped(fit(event), source, seq, redactor)
    except Exception:  # noqa: BLE001  as above
        return Refused.INVALID


def _encode_stamped(event: Envelope, source: bytes | None, seq: int, redactor: Redactor | None) -> Encoded | Refused:
    redacted: Mapping[str, int] = {}
    if redactor is not None:
        event, redacted = redact_event(event, redactor)
    if event.source is None and source is not None:
        if event.seq is not None:
            event = replace(event, seq=None)
        # Spliced in as text: a copy of the struct would cost four times as much.
        part = b'%b,"source":%b,"seq":%d}' % (_encode(event)[:-1], source, seq)
    else:
        part = _encode(event)
    if len(part) > RECORD_BYTES_MAX:
        return Refused.TOO_LARGE
    decode_one(part)
    return Encoded(part, redacted)


def fit(event: Envelope) -> Envelope:
    """Cut texts and attributes to their bounds; a cut id ends in a digest, so that two stay two."""
    changes: dict[str, Any] = {}
    for name, declared in _texts(type(event)).items():
        value = getattr(event, name)
        if isinstance(value, str):
            fitted = _fit_text(value, declared.max_length or TEXT_CHARS_MAX)
            changes[name] = None if not fitted and declared.min_length else fitted
    if isinstance(event.attributes, dict):
        changes["attributes"] = {
            _fit_text(str(key), NAME_CHARS_MAX) or "_": _fit_value(value)
            for key, value in list(event.attributes.items())[:ATTRIBUTES_MAX]
        }
    return replace(event, **changes)


def _fit_value(value: Any) -> Any:
    """Leave what JSON knows and name the type of anything else: its text might hold what nobody meant to send."""
    if isinstance(value, str):
        return _fit_text(value, ATTRIBUTE_CHARS_MAX)
    return value if value is None or isinstance(value, (bool, int, float)) else type(value).__name__


def _fit_text(text: str, limit: int) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # lone surrogates have no UTF-8
    if len(text) <= limit:
        return text
    if limit != ID_CHARS_MAX:
        return text[:limit]
    digest = blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return text[: limit - len(digest) - 1] + "-" + digest


@cache
def _texts(kind: type[Envelope]) -> dict[str, StrType]:
    """Return the text fields of a kind with the bounds that the model declares."""
    info = type_info(kind)
    assert isinstance(info, StructType)
    return {field.name: text for field in info.fields if (text := _text(field.type)) is not None}


def _text(declared: Type) -> StrType | None:
    if isinstance(declared, UnionType):
        return next((text for each in declared.types if (text := _text(each)) is not None), None)
    return declared if isinstance(declared, StrType) else None
