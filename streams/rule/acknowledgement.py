"""Who has taken an alert on?  What is stored, and what the alert topic is told.  Pure.

Never touches the alert: a new life of it (another incarnation) is not acknowledged.
Alert topic: key = `ack/` and the fingerprint, so that it stands beside the alert's own record and never replaces it.
"""

from typing import Final

import msgspec
from msgspec import Struct

from streams.rule.records import ALERT_TYPE, SCHEMA, Message, cloud_headers

KEY_PREFIX: Final = "ack/"
SOURCE: Final = "/agent-streams/commands/"
KEPT_MS: Final = 30 * 24 * 60 * 60 * 1000  # then an alert that still fires is news again; as long as resolved ones stay


class StoredAcknowledgement(Struct, array_like=True, frozen=True):
    """What the changelog of commands holds of one: `offset` is where its command stood."""

    offset: int
    command: str
    fingerprint: str
    incarnation: int
    time_ms: int
    ends_ms: int
    by: str
    note: str | None = None


class AcknowledgementRecord(Struct, frozen=True, kw_only=True):
    """Somebody has taken an alert on: this life of it, until `ends_ms` at most.

    A record without a value (a tombstone) under the same key takes it back.
    """

    schema: int = SCHEMA
    id: str
    fingerprint: str
    incarnation: int
    by: str
    note: str | None
    time_ms: int
    ends_ms: int

    def holds(self, incarnation: int, now_ms: int) -> bool:
        """Say whether this life of the alert is acknowledged at this moment."""
        return incarnation == self.incarnation and now_ms < self.ends_ms


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(StoredAcknowledgement).decode
_encode_record: Final = msgspec.json.Encoder().encode
_decode_record: Final = msgspec.json.Decoder(AcknowledgementRecord).decode


def encode_acknowledgement(stored: StoredAcknowledgement) -> bytes:
    """Write a row."""
    return _encode(stored)


def decode_acknowledgement(value: bytes) -> StoredAcknowledgement:
    """Read a row."""
    return _decode(value)


def acknowledged_of(key: bytes | None) -> str | None:
    """Return whose alert's acknowledgement stands under a key of the alert topic; None: it is an alert's own."""
    if key is None or not key.startswith(KEY_PREFIX.encode()):
        return None
    return key[len(KEY_PREFIX) :].decode("utf-8", "replace")


def read_acknowledgement(value: bytes) -> AcknowledgementRecord:
    """Read a record of the alert topic; msgspec.DecodeError when it is none."""
    return _decode_record(value)


def acknowledged_message(stored: StoredAcknowledgement) -> Message:
    """Return what the alert topic is told when somebody takes an alert on."""
    record = AcknowledgementRecord(
        id=stored.command,
        fingerprint=stored.fingerprint,
        incarnation=stored.incarnation,
        by=stored.by,
        note=stored.note,
        time_ms=stored.time_ms,
        ends_ms=stored.ends_ms,
    )
    return Message(_key(stored.fingerprint), _encode_record(record), _headers(stored, "acknowledged", stored.time_ms))


def unacknowledged_message(stored: StoredAcknowledgement, at_ms: int) -> Message:
    """Return what the alert topic is told when an acknowledgement ends."""
    return Message(_key(stored.fingerprint), None, _headers(stored, "unacknowledged", at_ms))


def _key(fingerprint: str) -> bytes:
    return f"{KEY_PREFIX}{fingerprint}".encode()


def _headers(stored: StoredAcknowledgement, word: str, at_ms: int) -> tuple[tuple[str, bytes], ...]:
    suffix = "" if word == "acknowledged" else "/ended"
    return cloud_headers(
        ce_id=stored.command + suffix, ce_type=ALERT_TYPE + word, ce_source=SOURCE + word, time_ms=at_ms
    )
