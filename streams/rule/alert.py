"""How does an alert live?  A table of transitions, with Prometheus's meaning of `for` and `keep_firing_for`.

Never looks at a row and never keeps more than one alert: `streams.rule.book` holds those of a partition.

    breached    the limit is broken, but not yet for as long as `for` asks
    held        the limit is broken and has been for at least `for` (at once when there is no `for`)
    cleared     the limit is not broken, and `keep_firing_for` has not passed since it first was not
    cooled      the same, and it has
    ended       the row is gone: its session ended, its key expired, or its rule was removed
    expired     a resolved alert has been kept for long enough

"Too few" counts as not broken: Prometheus knows no such alert either, the series would be absent.
A pending alert that clears is forgotten: nobody is told.  A firing one whose rule got a longer `for` is pending again.
"""

from collections.abc import Mapping
from enum import IntEnum
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from streams.fold.session import Finding
from streams.rule.budget import period_ended
from streams.rule.model import Rule
from streams.rule.reading import Key
from streams.rule.threshold import BREACHED as OUTCOME_BREACHED
from streams.rule.threshold import TOO_FEW, Verdict


class Phase(IntEnum):
    """Where an alert is in its life; INACTIVE is never stored."""

    INACTIVE = 0
    PENDING = 1
    FIRING = 2
    KEPT = 3  # still firing for everybody else: the limit is no longer broken, keep_firing_for runs
    RESOLVED = 4


class Signal(IntEnum):
    """What may happen to an alert; the head of this file says when."""

    BREACHED = 0
    HELD = 1
    CLEARED = 2
    COOLED = 3
    ENDED = 4
    EXPIRED = 5


INACTIVE, PENDING, FIRING, KEPT, RESOLVED = Phase
BREACHED, HELD, CLEARED, COOLED, ENDED, EXPIRED = Signal

NEXT: Final = {
    (INACTIVE, BREACHED): PENDING,
    (INACTIVE, HELD):     FIRING,
    (PENDING,  BREACHED): PENDING,
    (PENDING,  HELD):     FIRING,
    (PENDING,  CLEARED):  INACTIVE,
    (PENDING,  COOLED):   INACTIVE,
    (PENDING,  ENDED):    INACTIVE,
    (FIRING,   BREACHED): PENDING,
    (FIRING,   HELD):     FIRING,
    (FIRING,   CLEARED):  KEPT,
    (FIRING,   COOLED):   RESOLVED,
    (FIRING,   ENDED):    RESOLVED,
    (KEPT,     BREACHED): PENDING,
    (KEPT,     HELD):     FIRING,
    (KEPT,     CLEARED):  KEPT,
    (KEPT,     COOLED):   RESOLVED,
    (KEPT,     ENDED):    RESOLVED,
    (RESOLVED, BREACHED): PENDING,
    (RESOLVED, HELD):     FIRING,
    (RESOLVED, EXPIRED):  INACTIVE,
}  # fmt: skip

# What everybody else sees: a move within one of these is silent.
SEEN: Final = {INACTIVE: "inactive", PENDING: "pending", FIRING: "firing", KEPT: "firing", RESOLVED: "resolved"}

RECOVERED: Final = "recovered"
PERIOD_ENDED: Final = "period_ended"  # of a budget: the next one has begun
NO_LONGER_ENOUGH: Final = "too_few"
FOR_RAISED: Final = "for_raised"
SESSION_ENDED: Final = "session_ended"
KEY_EXPIRED: Final = "key_expired"
RULE_REMOVED: Final = "rule_removed"

ID_BYTES: Final = 16


class AlertState(Struct, array_like=True, gc=False):
    """What is stored of one alert; severity and labels are those last published, so that its end matches its start.

    `incarnation` grows from one life of an alert to the next, `transition` counts what was published within a life.
    """

    phase: Phase
    incarnation: int
    transition: int
    active_since_ms: int
    changed_ms: int
    severity: str
    labels: dict[str, str]
    value: int | float | None = None
    count: int = 0
    fired_ms: int | None = None
    absent_since_ms: int | None = None
    resolved_ms: int | None = None
    facts: dict[str, int] | None = None
    why: Finding | None = None  # what a detector had found when this was published
    limit: int | float | None = None  # what the value was compared with, where the rule names no number


class Transition(Struct, frozen=True, gc=False):
    """Something that others must be told: `state` is the alert as it is after it, INACTIVE means forget it."""

    rule: Rule
    key: Key
    origin: str
    before: Phase
    after: Phase
    state: AlertState
    reason: str | None
    removed: bool = False  # the rule is no longer there: its limit and window are unknown


def sense(rule: Rule, state: AlertState | None, verdict: Verdict, now_ms: int) -> Signal:
    """Name what a verdict means for an alert at this moment."""
    if verdict.outcome is OUTCOME_BREACHED:
        since_ms = now_ms if state is None else state.active_since_ms
        return HELD if not rule.for_ms or now_ms - since_ms >= rule.for_ms else BREACHED
    absent_ms = now_ms if state is None or state.absent_since_ms is None else state.absent_since_ms
    return COOLED if now_ms - absent_ms >= rule.keep_firing_for_ms else CLEARED


def begin(rule: Rule, key: Key, verdict: Verdict, incarnation: int, now_ms: int) -> AlertState:
    """Make the state of a new life, before its first transition."""
    return AlertState(
        phase=INACTIVE,
        incarnation=incarnation,
        transition=0,
        active_since_ms=now_ms,
        changed_ms=now_ms,
        severity=rule.severity,
        labels={**rule.labels, **dict(zip(rule.subject.columns, key, strict=True))},
        value=verdict.value,
        count=verdict.count,
        facts=verdict.facts,
        why=verdict.why,
        limit=verdict.limit,
    )


def advance(state: AlertState, signal: Signal, verdict: Verdict | None, now_ms: int) -> bool:
    """Move an alert along the table, in place; True when others must be told. KeyError: not in the table."""
    before = state.phase
    after = state.phase = NEXT[before, signal]
    if after is KEPT:
        if state.absent_since_ms is None:
            state.absent_since_ms = now_ms
    elif after is not RESOLVED:
        state.absent_since_ms = None
    if SEEN[before] == SEEN[after]:
        return False
    state.transition += 1
    state.changed_ms = now_ms
    if verdict is not None:
        state.value, state.count = verdict.value, verdict.count
        state.facts, state.limit = verdict.facts, verdict.limit
        state.why = verdict.why or state.why  # the end of a loop does not explain it
    if after is FIRING:
        state.fired_ms = now_ms
    elif after is PENDING:
        state.fired_ms = None
    elif after is RESOLVED:
        state.resolved_ms = now_ms
    return True


def reason_of(before: Phase, after: Phase, verdict: Verdict, earlier: Mapping[str, int] | None = None) -> str | None:
    """Say why a verdict moved an alert; None where the value speaks for itself. `earlier`: facts of its last one."""
    if after is RESOLVED or after is INACTIVE:
        if period_ended(earlier, verdict.facts):
            return PERIOD_ENDED
        return NO_LONGER_ENOUGH if verdict.outcome is TOO_FEW else RECOVERED
    return FOR_RAISED if after is PENDING and before in {FIRING, KEPT} else None


# ---- names and storage -----------------------------------------------------------------------------------------

_encode_json: Final = msgspec.json.Encoder().encode
_decode_names: Final = msgspec.json.Decoder(list[str]).decode
_encode_state: Final = msgspec.msgpack.Encoder().encode
_decode_state: Final = msgspec.msgpack.Decoder(AlertState).decode


def _digest(*parts: str | int) -> str:
    return blake2b(_encode_json(parts), digest_size=ID_BYTES).hexdigest()


def fingerprint(origin: str, rule: str, over: str, key: Key) -> str:
    """Name an alert for good: the same through all its lives, whatever its labels become."""
    return _digest(origin, rule, over, *key)


def transition_id(moved: Transition) -> str:
    """Name one transition: the same again when a crash makes it happen again."""
    state, rule = moved.state, moved.rule
    return _digest(moved.origin, rule.name, rule.over, *moved.key, state.incarnation, state.transition)


def encode_names(rule: str, over: str, key: Key) -> bytes:
    """Write which alert a stored row belongs to."""
    return _encode_json([rule, over, *key])


def decode_names(stored: bytes) -> tuple[str, str, Key]:
    """Read which alert a stored row belongs to: rule, kind of row, key."""
    rule, over, *key = _decode_names(stored)
    return rule, over, tuple(key)


def pack_state(state: AlertState) -> bytes:
    """Return a state as stored: a MessagePack array."""
    return _encode_state(state)


def encode_state(state: AlertState | None) -> bytes | None:
    """Return what is stored of a state: its bytes, or a tombstone for no state."""
    return None if state is None else _encode_state(state)


def decode_state(stored: bytes) -> AlertState:
    """Read a stored state."""
    return _decode_state(stored)
