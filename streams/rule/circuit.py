"""When does a circuit open and close?  A table of transitions with resilience4j's meaning; look, judge, act apart.

Never stops a call: breakers watch finished calls and publish what they see, guards in agent processes act on it.

    failure rate exceeded    enough calls in the window, and failures / calls ≥ the policy's rate
    slow call rate exceeded  the same for calls that took longer than the policy allows
    wait elapsed     open for as long as the policy says; noticed by tick, or by the first request after it
    probes passed    enough calls finished since half-open, and both rates are below the policy's
    probes failed    the same, and one of them is not
    probes overdue, probes waived   too few finished in time; the policy says whether it opens again or closes
    force open, force close, disable, metrics only, reset    somebody said so
    key expired, policy removed    nobody watches the circuit any more: it closes and is forgotten

Open circuits take no notice of calls; disabled and forced-open ones take notice of nothing but commands.  One that is
metrics-only measures as a closed one does and tells once that a rate is exceeded, but stays as it is.
"""

from collections import deque
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from streams.fold.circuits import FAILED, SLOW, pack_codes, unpack_codes
from streams.rule.model import BreakerPolicy

PPM: Final = 1_000_000
TOO_FEW_PPM: Final = -PPM  # a rate of −1, as everybody knows it from resilience4j
FAILURE_RATE: Final = 1  # of what is exceeded
SLOW_RATE: Final = 2


class State(IntEnum):
    """State of a circuit; the codes are resilience4j's."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2
    DISABLED = 3
    FORCED_OPEN = 4
    METRICS_ONLY = 5


class Signal(IntEnum):
    """What may happen to a circuit; the head of this file says when. INITIAL_STATE is where one begins that is told."""

    FAILURE_RATE_EXCEEDED = 0
    SLOW_CALL_RATE_EXCEEDED = 1
    WAIT_ELAPSED = 2
    PROBES_PASSED = 3
    PROBES_FAILED = 4
    PROBES_OVERDUE = 5
    PROBES_WAIVED = 6
    FORCE_OPEN = 7
    FORCE_CLOSE = 8
    DISABLE = 9
    METRICS_ONLY = 10
    RESET = 11
    KEY_EXPIRED = 12
    POLICY_REMOVED = 13
    INITIAL_STATE = 14


CLOSED, OPEN, HALF_OPEN, DISABLED, FORCED_OPEN, METRICS_ONLY = State
ORDERED: Final = {
    "force-open": Signal.FORCE_OPEN,
    "force-close": Signal.FORCE_CLOSE,
    "disable": Signal.DISABLE,
    "metrics-only": Signal.METRICS_ONLY,
    "reset": Signal.RESET,
}

NEXT: Final = {
    (CLOSED,       Signal.FAILURE_RATE_EXCEEDED):   OPEN,
    (CLOSED,       Signal.SLOW_CALL_RATE_EXCEEDED): OPEN,
    (OPEN,         Signal.WAIT_ELAPSED):            HALF_OPEN,
    (HALF_OPEN,    Signal.PROBES_PASSED):           CLOSED,
    (HALF_OPEN,    Signal.PROBES_FAILED):           OPEN,
    (HALF_OPEN,    Signal.PROBES_OVERDUE):          OPEN,
    (HALF_OPEN,    Signal.PROBES_WAIVED):           CLOSED,
    (METRICS_ONLY, Signal.FAILURE_RATE_EXCEEDED):   METRICS_ONLY,
    (METRICS_ONLY, Signal.SLOW_CALL_RATE_EXCEEDED): METRICS_ONLY,
    **{(state, Signal.FORCE_OPEN):     FORCED_OPEN  for state in State},
    **{(state, Signal.FORCE_CLOSE):    CLOSED       for state in State},
    **{(state, Signal.DISABLE):        DISABLED     for state in State},
    **{(state, Signal.METRICS_ONLY):   METRICS_ONLY for state in State},
    **{(state, Signal.RESET):          CLOSED       for state in State},
    **{(state, Signal.KEY_EXPIRED):    CLOSED       for state in State},
    **{(state, Signal.POLICY_REMOVED): CLOSED       for state in State},
}  # fmt: skip
EXCEEDED: Final = (Signal.FAILURE_RATE_EXCEEDED, Signal.SLOW_CALL_RATE_EXCEEDED)


class BreakerState(Struct, array_like=True, gc=False):
    """What is stored of one circuit that has moved at least once, or that has a window of calls.

    `rate_ppm`, `slow_ppm`, `calls`, `failures` and `slow` are what the last transition was decided on.  The baselines
    are what does not count: of lifetime totals while half-open, of the pane in which the circuit closed while closed.
    `recent` are the calls of its window, `stamp` the offset of the last record that is in it.
    """

    state: State = CLOSED
    since_ms: int = -1
    transition: int = 0
    rate_ppm: int = 0
    calls: int = 0
    failures: int = 0
    baseline_calls: int = 0
    baseline_failures: int = 0
    baseline_slow: int = 0
    slow_ppm: int = 0
    slow: int = 0
    attempts: int = 0  # how often it has opened since it was last closed
    exceeded: int = 0  # which rates have been told of, since it is metrics-only
    asked: int = -1  # requests when the wait was over, −1 before
    stamp: int = -1
    recent: bytes = b""
    command: str = ""  # whose doing the state is, when it is somebody's
    by: str = ""
    note: str = ""
    live_ms: int = -1  # when the following three were looked at: the window as it is now
    live_calls: int = 0
    live_failures: int = 0
    live_slow: int = 0
    least: int = 0  # calls that a rate needs
    moved_ms: int = -1  # of the last transition; `since_ms` is older when that left the state as it was


class Snapshot(Struct, frozen=True, gc=False):
    """Finished calls that count at one moment."""

    calls: int
    failures: int
    slow: int = 0


NOTHING: Final = Snapshot(0, 0)


class Recent:
    """The last calls of a circuit, at most `size` of them."""

    __slots__ = ("_codes", "failures", "slow")

    def __init__(self, size: int, packed: bytes = b"") -> None:
        self._codes: deque[int] = deque(maxlen=size)
        self.failures = 0
        self.slow = 0
        for code in unpack_codes(packed):
            self.add(code)

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, code: int) -> None:
        """Take one call; the oldest goes when there are too many."""
        codes = self._codes
        if len(codes) == codes.maxlen:
            oldest = codes[0]
            self.failures -= oldest & FAILED
            self.slow -= oldest >> 1
        codes.append(code)
        self.failures += code & FAILED
        self.slow += code >> 1

    def snapshot(self) -> Snapshot:
        """Count them."""
        return Snapshot(len(self._codes), self.failures, self.slow)

    def pack(self) -> bytes:
        """Return them as stored."""
        return pack_codes(list(self._codes)) if self._codes else b""


assert SLOW >> 1 == 1, "what `add` counts with"


def initial_state(policy: BreakerPolicy) -> State:
    """Return the state of a circuit that nothing has happened to."""
    return State[policy.initial.upper()]


def room(policy: BreakerPolicy, state: State) -> int:
    """Return how many calls the window of a circuit holds."""
    return policy.half_open_calls if state is HALF_OPEN else policy.window_calls


def least(policy: BreakerPolicy, state: State) -> int:
    """Return how many calls a rate needs."""
    return policy.least_probes if state is HALF_OPEN else policy.least_calls


def judge(policy: BreakerPolicy, state: BreakerState | None, seen: Snapshot, now_ms: int) -> Signal | None:
    """Name what a snapshot means; None: nothing. Rates compare with ≥, as resilience4j's do."""
    match initial_state(policy) if state is None else state.state:
        case State.CLOSED:
            return _first(exceeded(policy, seen, policy.least_calls))
        case State.METRICS_ONLY:
            told = 0 if state is None else state.exceeded
            return _first(exceeded(policy, seen, policy.least_calls) & ~told)
        case State.OPEN:
            waited = state is not None and now_ms - state.since_ms >= policy.wait_ms(state.attempts)
            return Signal.WAIT_ELAPSED if waited else None
        case State.HALF_OPEN:
            if seen.calls >= policy.least_probes:
                failed = exceeded(policy, seen, policy.least_probes)
                return Signal.PROBES_FAILED if failed else Signal.PROBES_PASSED
            overdue = state is not None and 0 < policy.half_open_for_ms <= now_ms - state.since_ms
            if not overdue:
                return None
            return Signal.PROBES_OVERDUE if policy.after_half_open == "open" else Signal.PROBES_WAIVED
        case _:
            return None


def exceeded(policy: BreakerPolicy, seen: Snapshot, enough: int) -> int:
    """Return which rates are at their threshold or above, as bits; none of them while there are too few calls."""
    if seen.calls < max(enough, 1):
        return 0
    failing = seen.failures / seen.calls >= policy.failure_rate
    slow = policy.slow_us >= 0 and seen.slow / seen.calls >= policy.slow_rate
    return failing * FAILURE_RATE | slow * SLOW_RATE


def _first(rates: int) -> Signal | None:
    return EXCEEDED[0] if rates & FAILURE_RATE else EXCEEDED[1] if rates else None


def advance(policy: BreakerPolicy, state: BreakerState, signal: Signal, seen: Snapshot, now_ms: int) -> None:
    """Move a circuit along the table, in place; time never goes back. KeyError: not in the table."""
    before = state.state
    state.state = NEXT[before, signal]
    state.transition += 1
    state.moved_ms = max(now_ms, state.moved_ms, state.since_ms)
    if signal not in EXCEEDED or before is not METRICS_ONLY:
        state.since_ms = state.moved_ms
        state.command, state.by, state.note = "", "", ""
    state.asked = -1
    if signal in EXCEEDED:
        rates = exceeded(policy, seen, policy.least_calls)
        state.exceeded = state.exceeded | rates if before is METRICS_ONLY else rates
    else:
        state.exceeded = 0
    if state.state is OPEN:
        state.attempts += 1
    elif state.state is not HALF_OPEN:
        state.attempts = 0
    if signal is not Signal.WAIT_ELAPSED:  # which says nothing about calls: what opened the circuit stays on show
        few = seen.calls < max(least(policy, before), 1)
        state.calls, state.failures, state.slow = seen.calls, seen.failures, seen.slow
        state.rate_ppm = TOO_FEW_PPM if few else seen.failures * PPM // seen.calls
        state.slow_ppm = TOO_FEW_PPM if few else seen.slow * PPM // seen.calls


def live_rates(state: BreakerState) -> tuple[float, float]:
    """Return the shares of failed and of slow calls in the window as it is now; −1 while there are too few."""
    if state.live_calls < max(state.least, 1):
        return -1.0, -1.0
    return state.live_failures / state.live_calls, state.live_slow / state.live_calls


_encode_state: Final = msgspec.msgpack.Encoder().encode
_decode_state: Final = msgspec.msgpack.Decoder(BreakerState).decode


def encode_state(state: BreakerState) -> bytes:
    """Return a circuit as stored."""
    return _encode_state(state)


def decode_state(stored: bytes) -> BreakerState:
    """Read a stored circuit."""
    return _decode_state(stored)
