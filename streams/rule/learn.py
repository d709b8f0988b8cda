"""What is usual for each key of a rule?  Samples of closed windows, kept as integers, moved by event time alone.

Never looks at an open pane and never learns from a window without an event: silence is not a value.

A sample is the rule's value over one window, taken at multiples of the window; it is learned when the pane after it
has closed, so that nothing is ever compared with itself.  Windows that passed unseen are caught up on, as far as the
panes reach (an hour): a rule that is new therefore begins with what the last hour holds.
A baseline needs no samples: it is the rest of the trailing hour (or less), and says nothing of younger rows.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from streams.rule.model import Ratio, Rule, Sum
from streams.rule.reading import Key, Reading
from streams.rule.usual import HOURS, Usual, fixed_of, limit_of, mean_sigma, median_mad, sample_of, weighted

KEYS_MAX: Final = 2_000  # per rule and partition: at a kilobyte each, 2 MB
REACH_MS: Final = 60 * 60_000  # as far back as there are panes of a minute
HOUR_MS: Final = 60 * 60_000

Value = Callable[[Rule, Reading], int | float | None]


class Learned(Struct, array_like=True, gc=False):
    """What is stored of one key: samples (newest last), or one average and deviation, or those of each hour of day.

    `of` names what was learned; another question begins anew.  `next_ms` is the end of the next window to learn.
    """

    of: str
    next_ms: int
    samples: list[int] = []
    centres: list[int] = []
    spreads: list[int] = []
    counts: list[int] = []


encode_learned: Final[Callable[[Learned], bytes]] = msgspec.msgpack.Encoder().encode
decode_learned: Final[Callable[[bytes], Learned]] = msgspec.msgpack.Decoder(Learned).decode


class Learning:
    """What one rule has learned; `value` is how the rule looks at a reading, `overflowed` counts keys without room."""

    __slots__ = ("_dirty", "_known", "_of", "_rule", "_usual", "_value", "overflowed")

    def __init__(self, rule: Rule, usual: Usual, value: Value) -> None:
        self._rule = rule
        self._usual = usual
        self._value = value
        self._known: dict[Key, Learned] = {}
        self._dirty: dict[Key, None] = {}
        self._of = question(rule, usual)
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._known)

    def keys(self) -> list[Key]:
        """Return every key that something is known or stored of."""
        return [*self._known, *(key for key in self._dirty if key not in self._known)]

    @property
    def changed(self) -> bool:
        """Is there a row to store."""
        return bool(self._dirty)

    def limit(self, key: Key, reading: Reading, now_ms: int) -> tuple[float | None, int]:
        """Return the limit for a key at a moment, None while too little is known, and how many samples it rests on."""
        if not self._usual.learned:
            return _baseline(self._rule, self._usual, reading)
        learned = self._known.get(key)
        if learned is None:
            learned = self._admit(key, reading, now_ms)
            if learned is None:
                return None, 0
        self._catch_up(key, learned, reading, now_ms)
        return self._limit(learned, now_ms)

    def _admit(self, key: Key, reading: Reading, now_ms: int) -> Learned | None:
        if len(self._known) >= KEYS_MAX:
            self.overflowed += 1
            return None
        window_ms = self._rule.window_ms
        since_ms = now_ms - min(reading.age_ms(), REACH_MS)
        learned = Learned(self._of, -(-since_ms // window_ms) * window_ms + window_ms)
        if self._usual.centre == "ewma":
            places = HOURS if self._usual.hourly else 1
            learned.centres, learned.spreads, learned.counts = [0] * places, [0] * places, [0] * places
        self._known[key] = learned
        self._dirty[key] = None
        return learned

    def _catch_up(self, key: Key, learned: Learned, reading: Reading, now_ms: int) -> None:
        """Learn every window that has passed, except one that ends with the pane that has just closed."""
        rule = self._rule
        window_ms, step_ms = rule.window_ms, rule.subject.step_ms
        edge_ms = now_ms - now_ms % step_ms
        if learned.next_ms >= edge_ms:
            return
        reach_ms = edge_ms - REACH_MS + window_ms
        if learned.next_ms < reach_ms:  # further back the panes are coarser than the windows
            learned.next_ms = -(-reach_ms // window_ms) * window_ms
        while learned.next_ms < edge_ms:
            at_ms = learned.next_ms
            learned.next_ms += window_ms
            then = reading.at(at_ms)
            if then.window_closed(rule.subject.activity, window_ms):
                value = self._value(rule, then)
                if value is not None:
                    self._learn(learned, sample_of(value, rule.unit), at_ms)
        self._dirty[key] = None

    def _learn(self, learned: Learned, sample: int, at_ms: int) -> None:
        usual = self._usual
        if usual.centre != "ewma":
            learned.samples.append(sample)
            del learned.samples[: -usual.samples]
            return
        # the window that ends at an hour belongs to the hour before it
        place = (at_ms - 1) // HOUR_MS % HOURS if usual.hourly else 0
        if not learned.counts[place]:
            learned.centres[place] = sample
        else:
            moved = weighted(learned.centres[place], learned.spreads[place], sample, usual.samples)
            learned.centres[place], learned.spreads[place] = moved
        learned.counts[place] += 1

    def _limit(self, learned: Learned, now_ms: int) -> tuple[float | None, int]:
        usual, rule = self._usual, self._rule
        if usual.centre == "ewma":
            place = (now_ms - 1) // HOUR_MS % HOURS if usual.hourly else 0
            count, found = learned.counts[place], (learned.centres[place], learned.spreads[place])
        else:
            count = len(learned.samples)
        if count < usual.cold_start:
            return None, count
        if usual.centre != "ewma":
            found = (mean_sigma if usual.centre == "mean" else median_mad)(learned.samples)
        fixed = fixed_of(rule.unit)
        return limit_of(usual, found[0] / fixed, found[1] / fixed, above=rule.above), count

    # ---- storage ------------------------------------------------------------------------------------------------

    def forget(self, key: Key) -> None:
        """Let go of a key whose row is gone."""
        if self._known.pop(key, None) is not None:
            self._dirty[key] = None

    def drain(self) -> Iterator[tuple[Key, bytes | None]]:
        """Yield what changed since the last call; None for what is gone."""
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            learned = self._known.get(key)
            yield key, None if learned is None else encode_learned(learned)

    def inherit(self, before: "Learning") -> None:
        """Take over what an earlier rule of the same name has learned, as a restart would."""
        for key, learned in before._known.items():  # noqa: SLF001  of its own kind
            self.load(key, learned)
        self._dirty.update(before._dirty)  # noqa: SLF001  as above

    def load(self, key: Key, learned: Learned) -> None:
        """Take a stored row; what was learned for another question is let go."""
        if learned.of == self._of:
            self._known[key] = learned
        else:
            self._dirty[key] = None


def question(rule: Rule, usual: Usual) -> str:
    """Name what is learned: the same value over the same window, in the same manner."""
    text = repr((rule.over, rule.value, rule.window_ms, rule.unit, usual.centre, usual.hourly, usual.samples))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _baseline(rule: Rule, usual: Usual, reading: Reading) -> tuple[float | None, int]:
    """Return the limit that the rest of a trailing window gives, and what that rest counted."""
    if reading.age_ms() < usual.baseline_ms:
        return None, 0
    whole_ms, part_ms = usual.baseline_ms, rule.window_ms

    def rest(fields: tuple[str, ...]) -> int:
        return sum([reading.window_closed(each, whole_ms) - reading.window_closed(each, part_ms) for each in fields])

    value = rule.value
    if isinstance(value, Ratio):
        count = rest(value.to)
        centre = rest(value.of) / count if count else 0.0
    else:
        assert isinstance(value, Sum), value
        count = rest(value.fields)
        centre = count * part_ms / (whole_ms - part_ms)
    if not centre and usual.floor is None:
        return None, count  # twice nothing is no limit
    return limit_of(usual, centre, 0, above=rule.above), count
