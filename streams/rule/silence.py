"""Which alerts is nobody to be told of, and until when?  Silences as they are stored and read.  Pure.

Never ends one by itself: the stage of commands does, by tick; readers hold the times against their own clock as well.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from streams.rule.matcher import LabelMatcher, all_hold, mean_everything

MATCHERS_MAX: Final = 16  # each is held against every alert

SilenceState: TypeAlias = Literal["pending", "active", "expired"]


class StoredSilence(Struct, array_like=True, frozen=True):
    """What the changelog of commands holds of one: `offset` is where its command stood."""

    offset: int
    id: str
    matchers: list[tuple[str, str, bool, bool]]  # name, value, is it an expression, must it match
    starts_ms: int
    ends_ms: int
    created_ms: int
    by: str
    note: str | None = None


class Silence(Struct, frozen=True):
    """One silence, ready to be held against alerts."""

    id: str
    matchers: tuple[LabelMatcher, ...]
    starts_ms: int
    ends_ms: int  # exclusive
    created_ms: int
    by: str
    note: str | None = None

    def state(self, now_ms: int) -> SilenceState:
        """Say whether it holds at this moment."""
        if now_ms < self.starts_ms:
            return "pending"
        return "active" if now_ms < self.ends_ms else "expired"

    def means(self, labels: Mapping[str, str]) -> bool:
        """Say whether it is about an alert with these labels."""
        return all_hold(self.matchers, labels)

    def next_ms(self, now_ms: int) -> int | None:
        """Return when its state changes next; None when it is over."""
        if now_ms < self.starts_ms:
            return self.starts_ms
        return self.ends_ms if now_ms < self.ends_ms else None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(StoredSilence).decode


def encode_silence(stored: StoredSilence) -> bytes:
    """Write a row."""
    return _encode(stored)


def decode_silence(value: bytes) -> StoredSilence:
    """Read a row."""
    return _decode(value)


def silence_of(stored: StoredSilence) -> Silence:
    """Make a stored silence ready; ValueError when its matchers are none of ours."""
    matchers = tuple(LabelMatcher.of(name, value, regex=re, equal=eq) for name, value, re, eq in stored.matchers)
    return Silence(stored.id, matchers, stored.starts_ms, stored.ends_ms, stored.created_ms, stored.by, stored.note)


def fault_of(matchers: tuple[LabelMatcher, ...]) -> str | None:
    """Say why nobody may silence by these; None when they may."""
    if mean_everything(matchers):
        return "the matchers mean every alert: one of them at least must not match an empty value"
    return None
