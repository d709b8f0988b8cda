"""What is normal for a tool or a model: how long its calls take, and whether its results tell questions apart.

Learned per partition from the calls that end there, stored with it, and halved now and then so that it follows change.
Never decides that something is wrong: it names the moment after which silence is no longer normal.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from streams.fold.packing import pack
from streams.fold.session import UNKNOWN_DEADLINE_MS, Norm
from streams.fold.trail import code_of

NORM_ROW: Final = b"n"  # what keys of stored norms begin with; then t(ool) or m(odel), and the name
NORMS_MAX: Final = 1_000  # names with a norm of their own, tools and models each; later ones have the default
ENOUGH: Final = 20  # calls before their durations are believed
REFRESH: Final = 64  # calls between two looks at the durations
FORGET_AT: Final = 4_096  # calls, then all counts are halved: about the last four thousand decide

BINS: Final = 96  # half octaves: 2^48 µs are nine years
QUANTILE_PERCENT: Final = 99
FACTOR: Final = 4  # times as long as all but one in a hundred: no longer a slow call
FLOOR_MS: Final = 30_000  # nothing is overdue sooner: people and guards cannot act faster
CEILING_MS: Final = 20 * 60_000  # or later: a session without an event ends after 30 min
DEFAULT_MS: Final = UNKNOWN_DEADLINE_MS

TOLD_ENOUGH: Final = 8  # results before a tool counts as one that only acknowledges


class LiveNorm:
    """What is known of one tool or model."""

    __slots__ = ("bins", "calls", "code", "deadline_ms", "dirty", "last", "shared", "told")

    def __init__(self, name: str) -> None:
        self.code: bytes = code_of(name)
        self.bins: list[int] = [0] * BINS
        self.calls: int = 0
        self.deadline_ms: int = DEFAULT_MS
        self.told: int = 0
        self.shared: int = 0
        self.last: bytes = b""
        self.dirty: bool = False

    @property
    def acknowledges(self) -> bool:
        """Does it mostly say the same, whatever it is asked: "ok"?"""
        return self.told >= TOLD_ENOUGH and 2 * self.shared >= self.told

    def observe(self, us: int) -> None:
        """Add the duration of a call."""
        length = us.bit_length()
        index = 2 * length + (us >> length - 2 & 1 if length > 1 else 0)
        if index < BINS:
            self.bins[index] += 1
        self.calls += 1
        if self.calls == ENOUGH or self.calls % REFRESH == 0:
            if self.calls >= FORGET_AT:
                self.bins = [count // 2 for count in self.bins]
                self.calls = sum(self.bins)
            self.deadline_ms = self._deadline_ms()

    def answer(self, result: bytes) -> None:
        """Add a result, to be compared with the one before: of another call, most often of another session."""
        self.told += 1
        if result == self.last:
            self.shared += 1
        self.last = result
        if self.told >= FORGET_AT:
            self.told //= 2
            self.shared //= 2

    def _deadline_ms(self) -> int:
        left = self.calls * (100 - QUANTILE_PERCENT) // 100  # calls that may take longer
        for index in range(BINS - 1, -1, -1):
            left -= self.bins[index]
            if left < 0:
                length = index // 2
                upper_us = (3 + index % 2 << length) >> 2  # the end of the half octave
                return min(max(FACTOR * upper_us // 1_000, FLOOR_MS), CEILING_MS)
        return DEFAULT_MS


class Norms:
    """The norms of a partition."""

    __slots__ = ("_dirty", "models", "tools")

    def __init__(self) -> None:
        self.tools: dict[str, LiveNorm] = {}
        self.models: dict[str, LiveNorm] = {}
        self._dirty: dict[bytes, LiveNorm] = {}

    def tool(self, name: str) -> LiveNorm | None:
        """Return what is known of a tool, to be added to; None beyond NORMS_MAX."""
        return self._norm(self.tools, "t", name)

    def model(self, name: str) -> LiveNorm | None:
        """Return what is known of a model, to be added to; None beyond NORMS_MAX."""
        return self._norm(self.models, "m", name)

    def _norm(self, norms: dict[str, LiveNorm], kind: str, name: str) -> LiveNorm | None:
        norm = norms.get(name)
        if norm is None:
            if len(norms) >= NORMS_MAX:
                return None
            norm = norms[name] = LiveNorm(name)
        if not norm.dirty:
            norm.dirty = True
            self._dirty[(kind + name).encode()] = norm
        return norm

    def load(self, key: bytes, stored: bytes) -> bool:
        """Take a stored row if it is a norm, and say whether it was; raises msgspec.MsgspecError or ValueError."""
        if key[:1] != NORM_ROW:
            return False
        text = key[1:].decode()
        row = _decode(stored)
        norm = LiveNorm(text[1:])
        for index, count in row.bins.items():
            if not 0 <= index < BINS:
                raise ValueError(f"no bin is number {index}")
            norm.bins[index] = count
        norm.calls = row.calls
        norm.deadline_ms = row.deadline_ms
        norm.told = row.told
        norm.shared = row.shared
        norm.last = row.last
        (self.tools if text[:1] == "t" else self.models)[text[1:]] = norm
        return True

    def drain(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what changed since the last call: key and stored norm."""
        for key, norm in self._dirty.items():
            norm.dirty = False
            bins = {index: count for index, count in enumerate(norm.bins) if count}
            yield NORM_ROW + key, pack((bins, norm.calls, norm.deadline_ms, norm.told, norm.shared, norm.last))
        self._dirty = {}


_decode: Final = msgspec.msgpack.Decoder(Norm).decode
