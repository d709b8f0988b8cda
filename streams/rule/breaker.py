"""When does the circuit of a tool or a model open and close?  A table of transitions; look, judge, act apart.

Never stops a call: breakers watch finished calls and publish what they see, guards in agent processes act on it.

    rate exceeded    in the window, open pane included: enough calls, and failures / calls ≥ the policy's rate
    wait elapsed     open for `open_for`; noticed by tick
    probes passed    enough calls finished since half-open, and their rate is below the policy's
    probes failed    the same, and it is not
    key expired, policy removed    nobody watches the circuit any more: it closes and is forgotten

A flush may bring more than `half_open_calls` at once: all that finished since half-open are then judged.  Probes are
counted by lifetime totals, so that few calls an hour suffice.  After closing, the window begins where the circuit
closed: what opened it never opens it again.
"""

from collections.abc import Iterable
from copy import copy
from enum import IntEnum
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from streams.rule.model import BreakerPolicy, RuleSet
from streams.rule.reading import SUBJECTS, Key, Reading
from streams.rule.watch import Watch

BREAKERS_MAX: Final = 10_000  # with a history, per partition and kind; as many as there can be rows
RECHECKS_MAX: Final = 500  # per call of due()
PPM: Final = 1_000_000
ID_BYTES: Final = 16


class State(IntEnum):
    """State of a circuit; the codes are resilience4j's."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Signal(IntEnum):
    """What may happen to a circuit; the head of this file says when."""

    RATE_EXCEEDED = 0
    WAIT_ELAPSED = 1
    PROBES_PASSED = 2
    PROBES_FAILED = 3
    KEY_EXPIRED = 4
    POLICY_REMOVED = 5


CLOSED, OPEN, HALF_OPEN = State
RATE_EXCEEDED, WAIT_ELAPSED, PROBES_PASSED, PROBES_FAILED, KEY_EXPIRED, POLICY_REMOVED = Signal

NEXT: Final = {
    (CLOSED,    RATE_EXCEEDED):  OPEN,
    (OPEN,      WAIT_ELAPSED):   HALF_OPEN,
    (HALF_OPEN, PROBES_PASSED):  CLOSED,
    (HALF_OPEN, PROBES_FAILED):  OPEN,
    (CLOSED,    KEY_EXPIRED):    CLOSED,
    (OPEN,      KEY_EXPIRED):    CLOSED,
    (HALF_OPEN, KEY_EXPIRED):    CLOSED,
    (CLOSED,    POLICY_REMOVED): CLOSED,
    (OPEN,      POLICY_REMOVED): CLOSED,
    (HALF_OPEN, POLICY_REMOVED): CLOSED,
}  # fmt: skip


class BreakerState(Struct, array_like=True, gc=False):
    """What is stored of one circuit that has opened at least once.

    `rate_ppm`, `calls` and `failures` are what the last transition was decided on.  The baselines are what does not
    count: of lifetime totals while half-open, of the pane in which the circuit closed while closed.
    """

    state: State = CLOSED
    since_ms: int = -1
    transition: int = 0
    rate_ppm: int = 0
    calls: int = 0
    failures: int = 0
    baseline_calls: int = 0
    baseline_failures: int = 0


class Snapshot(Struct, frozen=True, gc=False):
    """Finished calls that count at one moment."""

    calls: int
    failures: int


class BreakerTransition(Struct, frozen=True, gc=False):
    """A circuit moved: `state` is as after it; `gone` means forget it."""

    policy: BreakerPolicy
    key: Key
    before: State
    state: BreakerState
    signal: Signal
    gone: bool = False


def look(policy: BreakerPolicy, state: BreakerState | None, reading: Reading, now_ms: int) -> Snapshot:
    """Count the finished calls that a circuit in this state is judged by; `now_ms` is the end of the reading."""
    if state is None:
        return _window(policy, reading, policy.window_ms)
    if state.state is CLOSED:
        step_ms = SUBJECTS[policy.over].step_ms
        panes = max(now_ms // step_ms - state.since_ms // step_ms, 0) + 1  # from the one in which it closed
        if panes * step_ms > policy.window_ms:
            return _window(policy, reading, policy.window_ms)
        seen = _window(policy, reading, panes * step_ms)
    else:
        seen = _total(policy, reading)
    return Snapshot(seen.calls - state.baseline_calls, seen.failures - state.baseline_failures)


def judge(policy: BreakerPolicy, state: BreakerState | None, seen: Snapshot, now_ms: int) -> Signal | None:
    """Name what a snapshot means; None: nothing. Rates compare with ≥, as resilience4j's do."""
    match CLOSED if state is None else state.state:
        case State.CLOSED:
            enough = seen.calls >= policy.min_calls
            return RATE_EXCEEDED if enough and seen.failures / seen.calls >= policy.failure_rate else None
        case State.OPEN:
            waited = state is not None and now_ms - state.since_ms >= policy.open_for_ms
            return WAIT_ELAPSED if waited else None
        case State.HALF_OPEN:
            if seen.calls < policy.half_open_calls:
                return None
            return PROBES_FAILED if seen.failures / seen.calls >= policy.failure_rate else PROBES_PASSED


def advance(state: BreakerState, signal: Signal, seen: Snapshot, now_ms: int) -> None:
    """Move a circuit along the table, in place. KeyError: not in the table."""
    state.state = NEXT[state.state, signal]
    state.since_ms = now_ms
    state.transition += 1
    if signal is not WAIT_ELAPSED:  # which says nothing about calls: what opened the circuit stays on show
        state.calls, state.failures = seen.calls, seen.failures
        state.rate_ppm = seen.failures * PPM // seen.calls if seen.calls else 0


def set_baseline(policy: BreakerPolicy, state: BreakerState, reading: Reading) -> None:
    """Note what does not count from here on; to be called at the moment of a transition."""
    old = Snapshot(0, 0)
    if state.state is HALF_OPEN:
        old = _total(policy, reading)
    elif state.state is CLOSED:
        old = _window(policy, reading, SUBJECTS[policy.over].step_ms)
    state.baseline_calls, state.baseline_failures = old.calls, old.failures


def _window(policy: BreakerPolicy, reading: Reading, window_ms: int) -> Snapshot:
    calls = sum([reading.window(field, window_ms) for field in policy.calls])
    return Snapshot(calls, _failures(policy, reading, window_ms))


def _failures(policy: BreakerPolicy, reading: Reading, window_ms: int) -> int:
    failures = 0
    for field in policy.failures:
        failures += reading.window(field, window_ms)
    return failures


def _total(policy: BreakerPolicy, reading: Reading) -> Snapshot:
    return Snapshot(sum(map(reading.total, policy.calls)), sum(map(reading.total, policy.failures)))


# ---- names and storage -----------------------------------------------------------------------------------------

_encode_json: Final = msgspec.json.Encoder().encode
_decode_names: Final = msgspec.json.Decoder(list[str]).decode
_encode_state: Final = msgspec.msgpack.Encoder().encode
_decode_state: Final = msgspec.msgpack.Decoder(BreakerState).decode


def transition_id(moved: BreakerTransition) -> str:
    """Name one transition: the same again when a crash makes it happen again."""
    parts = (moved.policy.over, *moved.key, moved.state.transition, moved.state.since_ms)
    return blake2b(_encode_json(parts), digest_size=ID_BYTES).hexdigest()


class BreakerBook:
    """All circuits of one partition that have ever opened; the others are closed and cost nothing."""

    def __init__(self, rules: RuleSet) -> None:
        self._policies = {policy.over: policy for policy in rules.breakers}
        self._states: dict[str, dict[Key, BreakerState]] = {over: {} for over in self._policies}
        self._strays: list[tuple[str, Key, BreakerState]] = []  # stored circuits whose policy is gone
        self._watch: Watch[tuple[str, Key]] = Watch()
        self._dirty: dict[tuple[str, Key], BreakerState | None] = {}
        self.overflowed = 0

    def use(self, rules: RuleSet) -> None:
        """Go by these policies from now on: circuits stay as they are, and close when their policy is gone."""
        self._policies = {policy.over: policy for policy in rules.breakers}
        for over in [over for over in self._states if over not in self._policies]:
            self._strays.extend((over, key, state) for key, state in self._states.pop(over).items())
        strays, self._strays = self._strays, []
        for over in self._policies:
            self._states.setdefault(over, {})
        for over, key, state in strays:
            if over in self._policies:
                self._states[over][key] = state
            else:
                self._strays.append((over, key, state))
        self._watch = Watch()
        for over, key, state in self.states():
            if state.state is OPEN:
                self._watch.add((over, key), state.since_ms + self._policies[over].open_for_ms)

    def touch(self, over: str, key: Key, reading: Reading, now_ms: int) -> BreakerTransition | None:
        """Judge a row that was touched, or that is due; returns what others must be told."""
        policy = self._policies.get(over)
        if policy is None:
            return None
        state = self._states[over].get(key)
        if state is None or state.state is CLOSED:
            # The cheap half first: more calls than min_calls only make the rate smaller.
            if _failures(policy, reading, policy.window_ms) / policy.min_calls < policy.failure_rate:
                return None
        elif state.state is OPEN and now_ms - state.since_ms < policy.open_for_ms:
            return None
        seen = look(policy, state, reading, now_ms)
        if state is not None and (seen.calls < 0 or seen.failures < 0):  # the policy counts other fields than it did
            set_baseline(policy, state, reading)
            self._dirty[over, key] = state
            return None
        signal = judge(policy, state, seen, now_ms)
        return None if signal is None else self._move(policy, key, state, signal, reading, seen, now_ms)

    def due(self, now_ms: int, limit: int = RECHECKS_MAX) -> list[tuple[str, Key]]:
        """Take the rows whose wait is over: each goes to `touch`, or to `end` when it is gone."""
        return self._watch.due(now_ms, limit) if len(self._watch) else []

    def end(self, over: str, key: Key, now_ms: int) -> BreakerTransition | None:
        """Close and forget the circuit of a row that goes."""
        policy = self._policies.get(over)
        state = None if policy is None else self._states[over].pop(key, None)
        if policy is None or state is None:
            return None
        self._watch.drop((over, key))
        return self._forget(policy, key, state, KEY_EXPIRED, now_ms)

    def expire(self, now_ms: int) -> list[BreakerTransition]:
        """Close and forget the circuits whose policy is gone."""
        strays, self._strays = self._strays, []
        return [self._forget(_removed_policy(over), key, state, POLICY_REMOVED, now_ms) for over, key, state in strays]

    def _forget(
        self, policy: BreakerPolicy, key: Key, state: BreakerState, signal: Signal, now_ms: int
    ) -> BreakerTransition:
        before = state.state
        advance(state, signal, Snapshot(0, 0), now_ms)
        self._dirty[policy.over, key] = None
        return BreakerTransition(policy, key, before, state, signal, gone=True)

    def _move(
        self,
        policy: BreakerPolicy,
        key: Key,
        state: BreakerState | None,
        signal: Signal,
        reading: Reading,
        seen: Snapshot,
        now_ms: int,
    ) -> BreakerTransition | None:
        states = self._states[policy.over]
        if state is None:
            if len(states) >= BREAKERS_MAX:
                self.overflowed += 1
                return None
            state = states[key] = BreakerState()
        before = state.state
        advance(state, signal, seen, now_ms)
        set_baseline(policy, state, reading)
        self._dirty[policy.over, key] = state
        if state.state is OPEN:
            self._watch.add((policy.over, key), now_ms + policy.open_for_ms)
        return BreakerTransition(policy, key, before, copy(state), signal)

    def states(self) -> Iterable[tuple[str, Key, BreakerState]]:
        """Yield every circuit that has ever opened."""
        for over, states in self._states.items():
            for key, state in states.items():
                yield over, key, state

    def drain(self) -> list[tuple[bytes, bytes | None]]:
        """Return what changed since the last call as rows (names, state or None), each key once."""
        dirty, self._dirty = self._dirty, {}
        return [
            (_encode_json([over, *key]), None if state is None else _encode_state(state))
            for (over, key), state in dirty.items()
        ]

    def load(self, names: bytes, stored: bytes) -> None:
        """Take one stored row; a circuit that is open is looked at when its wait is over."""
        over, *rest = _decode_names(names)
        key = tuple(rest)
        state = _decode_state(stored)
        policy = self._policies.get(over)
        if policy is None:
            self._strays.append((over, key, state))
            return
        self._states[over][key] = state
        if state.state is OPEN:
            self._watch.add((over, key), state.since_ms + policy.open_for_ms)


def _removed_policy(over: str) -> BreakerPolicy:
    """Stand in for a policy that is no longer there, so that its circuits can close."""
    return BreakerPolicy(over, 1.0, 0, 0, 0, 0, (), ())
