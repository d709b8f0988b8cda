"""Is a session running away, and how does one say so?  Reads trails and calls in flight, in numbers and in words.

Never changes a row.  A finding holds only while its loop goes on: something new, a good call or time ends it.
"""

from collections.abc import Callable
from typing import Final

from streams.fold.live import LiveCall, LiveRow
from streams.fold.norms import DEFAULT_MS, Norms
from streams.fold.session import MODEL, REQUEST, TOOL, Finding
from streams.fold.trail import (
    CALL_BYTES,
    CLUSTER_CALLS,
    CLUSTER_GAP_MS,
    CYCLE_MAX,
    FAULT_REACH,
    SIGN_BYTES,
    STALE_MS,
    UNIT,
    LiveLoop,
    LiveTrail,
    number_of,
)

STRANGERS_MAX: Final = 3  # other calls after the last of a loop; then it is over
LOOPING: Final = 3  # how often something must happen before what it uses is its own


Find = Callable[[LiveTrail, int], tuple[int, LiveLoop, str] | None]  # value, loop, signature


def find(row: LiveRow, field: str, now_ms: int) -> Finding | None:
    """Return what a trail shows of one kind, the worst where there are several; None: nothing."""
    trail = row.trail
    if trail is None:
        return None
    found = _FIND[field](trail, now_ms)
    if found is None:
        return None
    value, loop, signature = found
    tokens = row.input_tokens + row.output_tokens - loop.tokens
    return Finding(value, signature, loop.count, loop.since_ms, tokens, row.cost_nano_usd - loop.cost_nano_usd)


def used(row: LiveRow, now_ms: int) -> Finding | None:
    """Return the finding that has used most since it began to happen again; errors in a heap are no loop."""
    found = [find(row, field, now_ms) for field in DETECTED[:-1]]
    looping = [one for one in found if one is not None and one.value >= LOOPING]
    return max(looping, key=lambda one: (one.cost_nano_usd, one.tokens), default=None)


# ---- loops ------------------------------------------------------------------------------------------------------


def _round(trail: LiveTrail) -> list[bytes]:
    """Return the calls from the last one of a loop back to its like before, the oldest first; strangers left out."""
    signs = trail.signs
    ring = [signs[at : at + SIGN_BYTES] for at in range(0, len(signs), SIGN_BYTES)]
    for end in range(len(ring), max(len(ring) - STRANGERS_MAX, 0), -1):
        last = ring[end - 1]
        if number_of(last) in trail.loops and last in ring[: end - 1]:
            before = end - 2 - ring[: end - 1][::-1].index(last)
            return list(dict.fromkeys(each for each in ring[before : end - 1] if number_of(each) in trail.loops))
    return []


def _repeated_call(trail: LiveTrail, now_ms: int) -> tuple[int, LiveLoop, str] | None:
    members = _round(trail)
    if len(members) != 1:
        return None
    loop, cycle = trail.loops[number_of(members[0])], trail.cycle
    if now_ms - loop.last_ms > STALE_MS or (cycle is not None and cycle.score > loop.score):
        return None  # over, or a cycle of which a call was not seen
    shown = members[0][CALL_BYTES:].decode("utf-8", "replace").rstrip()
    return loop.score // UNIT + 1, loop, f"{loop.name}(args {shown}…) ×{loop.count}"


def _cycle(trail: LiveTrail, now_ms: int) -> tuple[int, LiveLoop, str] | None:
    cycle, members = trail.cycle, _round(trail)
    if cycle is None or not 2 <= len(members) <= CYCLE_MAX or now_ms - cycle.last_ms > STALE_MS:
        return None
    rounds = cycle.score // (UNIT * len(members)) + 1
    names = [trail.loops[number_of(member)].name for member in (*members, members[0])]
    return rounds, cycle, f"{'→'.join(names)} ×{rounds}"


def _same_result(trail: LiveTrail, now_ms: int) -> tuple[int, LiveLoop, str] | None:
    going_on = [
        loop
        for loop in trail.same.values()
        if trail.steps - loop.at <= STRANGERS_MAX and now_ms - loop.last_ms <= STALE_MS
    ]
    loop = max(going_on, key=lambda one: one.score, default=None)
    if loop is None:
        return None
    return loop.score // UNIT + 1, loop, f"{loop.name}(different args) → the same result ×{loop.count}"


def _repeated_error(trail: LiveTrail, now_ms: int) -> tuple[int, LiveLoop, str] | None:
    going_on = [
        (loop.score, number)
        for number, loop in trail.wrong.items()
        if trail.steps - loop.at <= FAULT_REACH and now_ms - loop.last_ms <= STALE_MS
    ]
    if not going_on:
        return None
    _, number = max(going_on)
    loop = trail.wrong[number]
    return loop.score // UNIT + 1, loop, f"{loop.name} error {number:08x} ×{loop.count}"


def _cluster(trail: LiveTrail, now_ms: int) -> tuple[int, LiveLoop, str] | None:
    cluster = trail.cluster
    if cluster is None or trail.fine >= CLUSTER_CALLS or now_ms - cluster.last_ms > CLUSTER_GAP_MS:
        return None
    return cluster.count, cluster, f"{cluster.count} errors close together"


LOOPS: Final = ("repeated_calls", "cycle_repeats", "calls_without_result")
DETECTED: Final = (*LOOPS, "repeated_errors", "clustered_errors")
_FIND: Final[dict[str, Find]] = {
    "repeated_calls": _repeated_call,
    "cycle_repeats": _cycle,
    "calls_without_result": _same_result,
    "repeated_errors": _repeated_error,
    "clustered_errors": _cluster,
}


# ---- calls in flight --------------------------------------------------------------------------------------------


def deadline_ms(call: LiveCall, norms: Norms) -> int:
    """Return how long a call may go on without a sign of life: as its tool or model does, with room to spare."""
    known = norms.tools if call.family == TOOL else norms.models if call.family == MODEL else None
    norm = None if known is None else known.get(call.name or "")
    return DEFAULT_MS if norm is None else norm.deadline_ms


def first_due(row: LiveRow, norms: Norms) -> tuple[int, str] | None:
    """Return when the first call in flight is overdue, and its id; requests last as long as what they contain."""
    first: tuple[int, str] | None = None
    beats = row.beats
    for call_id, call in row.open.items():
        if call.family == REQUEST:
            continue
        sign_ms = max(call.started_ms, beats.get(call_id, 0)) if beats else call.started_ms
        due_ms = sign_ms + deadline_ms(call, norms)
        if first is None or due_ms < first[0]:
            first = due_ms, call_id
    return first


def overdue(row: LiveRow, norms: Norms, now_ms: int) -> Finding | None:
    """Return the call that has been overdue for longest; None: none is."""
    first = first_due(row, norms)
    if first is None or first[0] > now_ms:
        return None
    due_ms, call_id = first
    call = row.open[call_id]
    usual_s = deadline_ms(call, norms) // 1_000
    sign = f"{call.name}(call {call_id}) silent for more than {usual_s} s"
    return Finding(now_ms - due_ms, sign, 1, due_ms - deadline_ms(call, norms))
