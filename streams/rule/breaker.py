"""Which circuits does a partition have, and what do calls, time and commands do to them?

Never reads a row by itself: whoever holds the rows brings a reading, outcomes in their order, or a command.  What that
means for one circuit is judged in `streams.rule.circuit`.

A circuit with a count window goes through its calls one by one in the order of the log, so that it does not matter
which of them came in one flush.  One with a time window looks at whole panes whenever its row was touched: a flush may
bring more than `half_open_calls` at once, and all that finished since half-open are then judged.  Its probes are
counted by lifetime totals, so that few calls an hour suffice.  After closing, the window begins where the circuit
closed: what opened it never opens it again.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from streams.fold.circuits import named_circuit, unpack_codes
from streams.fold.measure import CIRCUIT_CALLS, CIRCUIT_DENIED, CIRCUIT_FAILURES, CIRCUIT_SLOW
from streams.fold.rollup import BreakerOrder
from streams.rule.circuit import (
    CLOSED,
    DISABLED,
    EXCEEDED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    NOTHING,
    OPEN,
    ORDERED,
    BreakerState,
    Recent,
    Signal,
    Snapshot,
    State,
    advance,
    decode_state,
    encode_state,
    initial_state,
    judge,
    least,
    room,
)
from streams.rule.model import NOUNS, BreakerPolicy, RuleSet
from streams.rule.reading import SUBJECTS, Key, Reading
from streams.rule.watch import Watch

BREAKERS_MAX: Final = 10_000  # with a state, per partition and kind; as many as there can be rows
RECHECKS_MAX: Final = 500  # per call of due()
ID_BYTES: Final = 16
_DEAF: Final = (OPEN, DISABLED, FORCED_OPEN)  # take no notice of calls
_GLOB: Final = str.maketrans({"[": "[[]", "?": "[?]"})  # only * is special in the name that a command gives


class BreakerTransition(Struct, frozen=True, gc=False):
    """A circuit moved: `state` is as after it; `told` are the rates that are newly exceeded; `gone`: forget it."""

    policy: BreakerPolicy
    key: Key
    before: State
    state: BreakerState
    signal: Signal
    gone: bool = False
    told: int = 0


class Circuit:
    """What is known of one circuit, and the calls of its window when those are counted."""

    __slots__ = ("recent", "state")

    def __init__(self, policy: BreakerPolicy, state: BreakerState) -> None:
        self.state = state
        self.recent = Recent(room(policy, state.state), state.recent) if policy.window_calls else None


# ---- looking at rows: time windows -------------------------------------------------------------------------------


def look(policy: BreakerPolicy, state: BreakerState | None, reading: Reading, now_ms: int) -> Snapshot:
    """Count the finished calls that a circuit in this state is judged by; `now_ms` is the end of the reading."""
    if state is None:
        return _window(policy, reading, policy.window_ms)
    if state.state in {CLOSED, METRICS_ONLY}:
        step_ms = SUBJECTS[policy.over].step_ms
        panes = max(now_ms // step_ms - state.since_ms // step_ms, 0) + 1  # from the one in which it closed
        if panes * step_ms > policy.window_ms:
            return _window(policy, reading, policy.window_ms)
        seen = _window(policy, reading, panes * step_ms)
    else:
        seen = _total(policy, reading)
    return Snapshot(
        seen.calls - state.baseline_calls, seen.failures - state.baseline_failures, seen.slow - state.baseline_slow
    )


def set_baseline(policy: BreakerPolicy, state: BreakerState, reading: Reading | None) -> None:
    """Note what does not count from here on; to be called at the moment of a transition."""
    old = NOTHING
    if reading is not None and state.state is HALF_OPEN:
        old = _total(policy, reading)
    elif reading is not None and state.state in {CLOSED, METRICS_ONLY}:
        old = _window(policy, reading, SUBJECTS[policy.over].step_ms)
    state.baseline_calls, state.baseline_failures, state.baseline_slow = old.calls, old.failures, old.slow


def requests(policy: BreakerPolicy, reading: Reading) -> int:
    """Count who has asked for a call: those that began one, and those that a guard denied.

    The start of a request does not name its endpoint, so there the end is what is seen.
    """
    noun = NOUNS[policy.over]
    asked = policy.calls if policy.over == "endpoint" else (f"{noun}_started",)
    return sum(map(reading.total, (*asked, CIRCUIT_DENIED)))


def _window(policy: BreakerPolicy, reading: Reading, window_ms: int) -> Snapshot:
    calls = sum([reading.window(field, window_ms) for field in _calls(policy)])
    return Snapshot(calls, _failures(policy, reading, window_ms), _slow(policy, reading, window_ms))


def _failures(policy: BreakerPolicy, reading: Reading, window_ms: int) -> int:
    failures = 0
    for field in (CIRCUIT_FAILURES,) if policy.by_codes else policy.failures:
        failures += reading.window(field, window_ms)
    return failures


def _slow(policy: BreakerPolicy, reading: Reading, window_ms: int) -> int:
    return reading.window(CIRCUIT_SLOW, window_ms) if policy.slow_us >= 0 else 0


def _total(policy: BreakerPolicy, reading: Reading) -> Snapshot:
    failures = (CIRCUIT_FAILURES,) if policy.by_codes else policy.failures
    slow = reading.total(CIRCUIT_SLOW) if policy.slow_us >= 0 else 0
    return Snapshot(sum(map(reading.total, _calls(policy))), sum(map(reading.total, failures)), slow)


def _calls(policy: BreakerPolicy) -> tuple[str, ...]:
    return (CIRCUIT_CALLS,) if policy.by_codes else policy.calls


# ---- names and storage -----------------------------------------------------------------------------------------

_encode_json: Final = msgspec.json.Encoder().encode
_decode_names: Final = msgspec.json.Decoder(list[str]).decode


def transition_id(moved: BreakerTransition) -> str:
    """Name one transition: the same again when a crash makes it happen again."""
    parts = (moved.policy.over, *moved.key, moved.state.transition, moved.state.since_ms)
    return blake2b(_encode_json(parts), digest_size=ID_BYTES).hexdigest()


def circuit_names(over: str, key: Key) -> bytes:
    """Write under which names a circuit is stored."""
    return _encode_json([over, *key])


def read_circuit_names(names: bytes) -> tuple[str, Key]:
    """Read them again."""
    over, *key = _decode_names(names)
    return over, tuple(key)


def breaker_name(over: str, key: Key) -> str:
    r"""Name a circuit: `tool|search`; `|` and `\` in values are escaped, so names never collide."""
    return "|".join([over, *(value.replace("\\", "\\\\").replace("|", "\\|") for value in key)])


class BreakerBook:
    """All circuits of one partition that have a state; the others are closed and cost nothing."""

    def __init__(self, rules: RuleSet) -> None:
        self._policies = {policy.over: policy for policy in rules.breakers}
        self._circuits: dict[str, dict[Key, Circuit]] = {over: {} for over in self._policies}
        self._strays: list[tuple[str, Key, BreakerState]] = []  # stored circuits whose policy is gone
        self._watch: Watch[tuple[str, Key]] = Watch()
        self._dirty: dict[tuple[str, Key], Circuit | None] = {}
        self._unwritten: set[tuple[str, Key]] = set()  # strays that have changed: the next rules may guard them again
        self.overflowed = 0

    def use(self, rules: RuleSet) -> None:
        """Go by these policies from now on: circuits stay as they are, and close when their policy is gone."""
        states = [(over, key, self._whole(over, circuit)) for over, key, circuit in self._every()] + self._strays
        self._policies = {policy.over: policy for policy in rules.breakers}
        self._circuits = {over: {} for over in self._policies}
        self._strays, self._watch = [], Watch()
        unwritten = self._unwritten | {names for names, circuit in self._dirty.items() if circuit is not None}
        self._dirty = {names: None for names, circuit in self._dirty.items() if circuit is None}
        for over, key, state in states:
            self._put(over, key, state)
        self._unwritten = {names for names in unwritten if names[0] not in self._policies}
        self._dirty |= {(over, key): self._circuits[over][key] for over, key in unwritten - self._unwritten}

    @property
    def changed(self) -> bool:
        """Is there a state to write?"""
        return bool(self._dirty)

    # ---- rows and time ---------------------------------------------------------------------------------------------

    def touch(self, over: str, key: Key, reading: Reading, now_ms: int) -> BreakerTransition | None:
        """Judge a row that was touched, or that is due; returns what others must be told."""
        policy = self._policies.get(over)
        if policy is None:
            return None
        circuit = self._circuits[over].get(key)
        if circuit is None and policy.initial != "closed":
            return self._begin(policy, key, reading, now_ms)
        if policy.window_calls:
            return None if circuit is None else self._on_time(policy, key, circuit, reading, now_ms)
        state = None if circuit is None else circuit.state
        if circuit is not None and circuit.state.state not in _DEAF:
            self._look_on(policy, key, circuit, reading, now_ms)
        if state is None or state.state in {CLOSED, METRICS_ONLY}:
            # The cheap half first: more calls than min_calls only make the rates smaller.
            failing = _failures(policy, reading, policy.window_ms) / policy.min_calls >= policy.failure_rate
            if not failing and not (
                policy.slow_us >= 0 and _slow(policy, reading, policy.window_ms) / policy.min_calls >= policy.slow_rate
            ):
                return None
        elif state.state is not HALF_OPEN:
            return None if circuit is None else self._on_time(policy, key, circuit, reading, now_ms)
        seen = look(policy, state, reading, now_ms)
        if state is not None and min(seen.calls, seen.failures, seen.slow) < 0:
            set_baseline(policy, state, reading)  # the policy counts other fields than it did
            self._dirty[over, key] = circuit
            return None
        signal = judge(policy, state, seen, now_ms)
        if signal is None:
            return None
        circuit = circuit or self._open(policy, key)
        return None if circuit is None else self._move(policy, key, circuit, signal, seen, reading, now_ms)

    def due(self, now_ms: int, limit: int = RECHECKS_MAX) -> list[tuple[str, Key]]:
        """Take the rows whose wait is over: each goes to `touch`, or to `end` when it is gone."""
        return self._watch.due(now_ms, limit) if len(self._watch) else []

    def _on_time(
        self, policy: BreakerPolicy, key: Key, circuit: Circuit, reading: Reading | None, now_ms: int
    ) -> BreakerTransition | None:
        """Do what only time does: an open circuit has waited, or too few probes have come for too long."""
        state = circuit.state
        if state.state not in {OPEN, HALF_OPEN}:
            return None
        seen = NOTHING if circuit.recent is None else circuit.recent.snapshot()
        signal = judge(policy, state, seen, now_ms)
        if signal is None or (signal is Signal.WAIT_ELAPSED and not self._asked(policy, key, circuit, reading)):
            return None
        return self._move(policy, key, circuit, signal, seen, reading, now_ms)

    def _asked(self, policy: BreakerPolicy, key: Key, circuit: Circuit, reading: Reading | None) -> bool:
        """May a circuit that has waited be tried?  Unless it is automatic, the next one who asks decides."""
        if policy.automatic:
            return True
        if reading is None:
            return False
        state, asked = circuit.state, requests(policy, reading)
        if 0 <= state.asked < asked:
            return True
        if state.asked < 0:
            state.asked = asked
            self._dirty[policy.over, key] = circuit
        return False

    def _look_on(self, policy: BreakerPolicy, key: Key, circuit: Circuit, reading: Reading, now_ms: int) -> None:
        """Keep what is shown of a circuit's window up to date, once per pane: every look is a row to write."""
        step_ms = SUBJECTS[policy.over].step_ms
        if now_ms // step_ms == circuit.state.live_ms // step_ms:
            return
        _show(policy, circuit.state, look(policy, circuit.state, reading, now_ms), now_ms)
        self._dirty[policy.over, key] = circuit

    # ---- calls in their order: count windows -----------------------------------------------------------------------

    def take(self, over: str, key: Key, outcomes: bytes, offset: int, now_ms: int) -> list[BreakerTransition]:
        """Go through calls in the order in which they were committed; those of a record taken before are skipped."""
        policy = self._policies.get(over)
        if policy is None or not policy.window_calls:
            return []
        moved: list[BreakerTransition] = []
        circuit = self._circuits[over].get(key)
        if circuit is None:
            if policy.initial != "closed":
                begun = self._begin(policy, key, None, now_ms)
                moved += [begun] if begun else []
            circuit = self._circuits[over].get(key) or self._open(policy, key)
        if circuit is None or offset <= circuit.state.stamp or circuit.recent is None:
            return moved
        self._dirty[over, key] = circuit
        on_time = self._on_time(policy, key, circuit, None, now_ms)
        moved += [on_time] if on_time else []
        for code in unpack_codes(outcomes):
            state, recent = circuit.state.state, circuit.recent
            if state in _DEAF:
                continue
            recent.add(code)
            if state is not HALF_OPEN and not recent.failures and not recent.slow:
                continue
            signal = judge(policy, circuit.state, recent.snapshot(), now_ms)
            if signal is not None:
                moved.append(self._move(policy, key, circuit, signal, recent.snapshot(), None, now_ms))
        return moved

    # ---- commands --------------------------------------------------------------------------------------------------

    def meant(self, order: BreakerOrder, rows: Iterable[tuple[str, Key]]) -> Iterator[tuple[str, Key]]:
        """Yield the circuits that a command is about, rows without a state of their own included."""
        exact = named_circuit(order.breaker)
        if exact is not None and "*" not in order.breaker:
            yield exact
            return
        pattern = order.breaker.translate(_GLOB)
        known = ((over, key) for over, circuits in self._circuits.items() for key in circuits)
        for over, key in dict.fromkeys((*known, *rows)):
            if over in self._policies and fnmatchcase(breaker_name(over, key), pattern):
                yield over, key

    def obey(
        self, order: BreakerOrder, over: str, key: Key, offset: int, reading: Reading | None, now_ms: int
    ) -> BreakerTransition | None:
        """Carry out a command at this place of the log; None: nobody guards such a key, or it was done before."""
        policy = self._policies.get(over)
        circuit = None if policy is None else self._circuits[over].get(key) or self._open(policy, key)
        if policy is None or circuit is None or offset <= circuit.state.stamp:
            return None
        seen = NOTHING
        if circuit.recent is not None:
            seen = circuit.recent.snapshot()
        elif reading is not None and circuit.state.state not in _DEAF:
            seen = look(policy, circuit.state, reading, now_ms)
        at_ms = now_ms if now_ms >= 0 else order.time_ms
        return self._move(policy, key, circuit, ORDERED[order.action], seen, reading, at_ms, order)

    # ---- moving ----------------------------------------------------------------------------------------------------

    def _open(self, policy: BreakerPolicy, key: Key) -> Circuit | None:
        """Give a circuit a state of its own, unless there are too many."""
        circuits = self._circuits[policy.over]
        if len(circuits) >= BREAKERS_MAX:
            self.overflowed += 1
            return None
        circuit = circuits[key] = Circuit(policy, BreakerState())
        return circuit

    def _begin(self, policy: BreakerPolicy, key: Key, reading: Reading | None, now_ms: int) -> BreakerTransition | None:
        """Open a circuit whose first state is not closed: others must be told."""
        circuit = self._open(policy, key)
        if circuit is None:
            return None
        state = circuit.state
        state.state, state.since_ms, state.transition = initial_state(policy), now_ms, 1
        state.moved_ms = now_ms
        state.attempts = int(state.state is OPEN)
        return self._arrived(policy, key, circuit, state.state, Signal.INITIAL_STATE, reading)

    def _move(
        self,
        policy: BreakerPolicy,
        key: Key,
        circuit: Circuit,
        signal: Signal,
        seen: Snapshot,
        reading: Reading | None,
        now_ms: int,
        order: BreakerOrder | None = None,
    ) -> BreakerTransition:
        state = circuit.state
        before, told = state.state, state.exceeded if state.state is METRICS_ONLY else 0
        advance(policy, state, signal, seen, now_ms)
        if order is not None:
            state.command, state.by, state.note = order.command, order.by, order.note
        return self._arrived(policy, key, circuit, before, signal, reading, told)

    def _arrived(
        self,
        policy: BreakerPolicy,
        key: Key,
        circuit: Circuit,
        before: State,
        signal: Signal,
        reading: Reading | None,
        told: int = 0,
    ) -> BreakerTransition:
        """Begin a state: with an empty window or a new baseline, and a deadline where time ends it."""
        state = circuit.state
        stays = before is METRICS_ONLY and signal in EXCEEDED
        if not stays:
            if policy.window_calls:
                circuit.recent = Recent(room(policy, state.state))
            else:
                set_baseline(policy, state, reading)
            _show(policy, state, NOTHING, state.moved_ms)
        self._dirty[policy.over, key] = circuit
        self._arm(policy, key, state)
        return BreakerTransition(policy, key, before, copy(state), signal, told=state.exceeded & ~told)

    def _arm(self, policy: BreakerPolicy, key: Key, state: BreakerState) -> None:
        self._watch.drop((policy.over, key))  # an earlier deadline that stands would win, and be of the state before
        if state.state is OPEN:
            self._watch.add((policy.over, key), state.since_ms + policy.wait_ms(state.attempts))
        elif state.state is HALF_OPEN and policy.half_open_for_ms:
            self._watch.add((policy.over, key), state.since_ms + policy.half_open_for_ms)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def end(self, over: str, key: Key, now_ms: int) -> BreakerTransition | None:
        """Close and forget the circuit of a row that goes."""
        policy = self._policies.get(over)
        circuit = None if policy is None else self._circuits[over].pop(key, None)
        if policy is None or circuit is None:
            return None
        self._watch.drop((over, key))
        return self._forget(policy, key, circuit.state, Signal.KEY_EXPIRED, now_ms)

    def expire(self, now_ms: int) -> list[BreakerTransition]:
        """Close and forget the circuits whose policy is gone."""
        strays, self._strays, self._unwritten = self._strays, [], set()
        gone = Signal.POLICY_REMOVED
        moved = [self._forget(_removed_policy(over), key, state, gone, now_ms) for over, key, state in strays]
        return [one for one in moved if one is not None]

    def _forget(
        self, policy: BreakerPolicy, key: Key, state: BreakerState, signal: Signal, now_ms: int
    ) -> BreakerTransition | None:
        """Forget a circuit; None: nobody was ever told of it."""
        before, told = state.state, state.transition > 0
        advance(policy, state, signal, NOTHING, now_ms)
        self._dirty[policy.over, key] = None
        if not told:
            return None
        return BreakerTransition(policy, key, before, state, signal, gone=True)

    # ---- storage ---------------------------------------------------------------------------------------------------

    def states(self) -> Iterable[tuple[str, Key, BreakerState]]:
        """Yield every circuit that has a state."""
        for over, key, circuit in self._every():
            yield over, key, circuit.state

    def _every(self) -> Iterator[tuple[str, Key, Circuit]]:
        for over, circuits in self._circuits.items():
            for key, circuit in circuits.items():
                yield over, key, circuit

    def drain(self, stamp: int = -1) -> list[tuple[bytes, bytes | None]]:
        """Return what changed since the last call as rows (names, state or None), each key once.

        `stamp` is the offset of the last record that is in them.
        """
        dirty, self._dirty = self._dirty, {}
        rows: list[tuple[bytes, bytes | None]] = []
        for (over, key), circuit in dirty.items():
            if circuit is None:
                rows.append((circuit_names(over, key), None))
                continue
            state = self._whole(over, circuit)
            state.stamp = max(stamp, state.stamp)
            rows.append((circuit_names(over, key), encode_state(state)))
        return rows

    def _whole(self, over: str, circuit: Circuit) -> BreakerState:
        """Return a circuit's state with all that is in its window."""
        state = circuit.state
        if circuit.recent is not None:
            state.recent = circuit.recent.pack()
            _show(self._policies[over], state, circuit.recent.snapshot(), state.live_ms)
        return state

    def load(self, names: bytes, stored: bytes) -> None:
        """Take one stored row; a circuit that time moves is looked at when its wait is over."""
        self._put(*read_circuit_names(names), decode_state(stored))

    def _put(self, over: str, key: Key, state: BreakerState) -> None:
        policy = self._policies.get(over)
        if policy is None:
            self._strays.append((over, key, state))
            return
        self._circuits[over][key] = Circuit(policy, state)
        self._arm(policy, key, state)


def _show(policy: BreakerPolicy, state: BreakerState, seen: Snapshot, now_ms: int) -> None:
    """Note what is in the window, for whoever looks at the row."""
    state.live_ms, state.least = now_ms, least(policy, state.state)
    state.live_calls, state.live_failures, state.live_slow = seen.calls, seen.failures, seen.slow


def _removed_policy(over: str) -> BreakerPolicy:
    """Stand in for a policy that is no longer there, so that its circuits can close."""
    return BreakerPolicy(over, 1.0, 0, 0, 0, 0, (), ())
