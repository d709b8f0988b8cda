"""Is a session running in circles?  Its latest calls and errors as a few machine integers, and what repeats in them.

Never keeps an argument, a result or a message: of a call there are 10 bytes, of its result 5.  Names
of tools are kept for the few things that repeat.  What ends a loop is something new, so repeats are scored, not listed:
a plain one adds UNIT, one that says less adds less (after a pause, without a hash, with other calls in between), and
something new takes some away.  Everything is O(1) per event and sessions without tools and errors have no trail.
"""

import re
from typing import Any, Final
from zlib import crc32

from streams.fold.session import Loop, Trail

CALLS_KEPT: Final = 12  # two rounds of a cycle of five, and two strangers
CYCLE_MAX: Final = 5
LOOPS_MAX: Final = 6  # calls with a score: those of a cycle, and one more
SAME_MAX: Final = 2  # results that different calls had in common
FAULTS_MAX: Final = 4  # errors with a score

UNIT: Final = 4  # what a plain repeat adds; `score // UNIT + 1` is how often something happened
NEWS: Final = 3 * UNIT  # what something new takes from a cycle: one new call in four is work
AMENDS: Final = 2 * UNIT  # what a success takes from an error of the same tool
CUTS: Final = UNIT  # what it takes from a result in common
ACKNOWLEDGED_MAX: Final = 4  # repeats of a result in one row that teach something about the tool

PAUSE_MS: Final = 10_000  # who waits between two calls waits for something: such a repeat says half
BACK_OFF_MS: Final = 1_000  # a gap half as long again as any before, and at least this long, is backing off
RETRIES_MAX: Final = 8  # attempts of one call that a framework makes; they are no calls of the agent
STALE_MS: Final = 10 * 60_000  # what has not happened again for so long is over
FAULT_REACH: Final = 24  # calls between two equal errors; more is no row
CLUSTER_GAP_MS: Final = 60_000  # errors further apart are no cluster
CLUSTER_CALLS: Final = 5  # neither are errors with so many good calls between them

_VARYING: Final = re.compile(r"\S*\d\S*")
MESSAGE_CHARS_MAX: Final = 200  # of an error's text that tell it from others

CODE_BYTES: Final = 2  # of a tool's name, in front of what is kept of its calls
CALL_BYTES: Final = 6  # these and 32 bits of the arguments' hash: what tells calls apart
SIGN_BYTES: Final = 10  # and the first characters of that hash, for people
RESULT_BYTES: Final = 5  # of its result: one of these, and 32 bits
KNOWN: Final = b"\0"  # its hash
SIZED: Final = b"\1"  # its size: the publisher told no hash
FAILED: Final = b"\2"  # its error

STRAYS_KEPT: Final = 8  # ends that came before their starts, 4 bytes each


def code_of(name: str) -> bytes:
    """Return what stands for a tool's name."""
    return (crc32(name.encode()) & 0xFFFF).to_bytes(CODE_BYTES, "big")


def sign_of(code: bytes, hashed: str) -> bytes:
    """Return what is kept of a call: of the whole hash, for publishers hash as they like."""
    text = hashed.encode()
    return code + crc32(text).to_bytes(4, "big") + text[:4].ljust(4)


def number_of(sign: bytes) -> int:
    """Return the number of a call."""
    return int.from_bytes(sign[:CALL_BYTES], "big")


def result_of(hashed: str | None, size_bytes: int) -> bytes:
    """Return what is kept of a good call's result."""
    if hashed is None:
        return SIZED + (size_bytes & 0xFFFFFFFF).to_bytes(4, "big")
    return KNOWN + crc32(hashed.encode()).to_bytes(4, "big")


def error_of(number: int) -> bytes:
    """Return what is kept in place of a failed call's result."""
    return FAILED + (number & 0xFFFFFFFF).to_bytes(4, "big")


def error_number(name: str, kind: str, message: str | None) -> int:
    """Return the number of an error: words with digits in them (ids, times, sizes) do not tell errors apart."""
    words = name if message is None else name + " " + _VARYING.sub("#", message[:MESSAGE_CHARS_MAX])
    return crc32((kind + " " + words).encode("utf-8", "replace"))


class LiveLoop:
    """Something that happens again; the fields of `session.Loop`."""

    __slots__ = ("at", "cost_nano_usd", "count", "gap_ms", "last_ms", "name", "score", "since_ms", "tokens")

    def __init__(self, name: str, count: int, at: int, event_ms: int, tokens: int, cost_nano_usd: int) -> None:
        self.name: str = name
        self.count: int = count
        self.score: int = 0
        self.at: int = at  # how many calls and errors the trail had seen
        self.since_ms: int = event_ms
        self.last_ms: int = event_ms
        self.gap_ms: int = 0  # the longest between two
        self.tokens: int = tokens  # of the session, when it began to happen again
        self.cost_nano_usd: int = cost_nano_usd

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the order they are stored in."""
        return (
            self.name, self.count, self.score, self.at, self.since_ms, self.last_ms, self.gap_ms, self.tokens,
            self.cost_nano_usd,
        )  # fmt: skip


class LiveTrail:
    """The trail of one session; the fields of `session.Trail`."""

    __slots__ = (
        "cluster", "cycle", "fine", "group", "hot", "last_ms", "loops", "results", "same", "signs", "steps", "strays",
        "wrong",
    )  # fmt: skip

    def __init__(self) -> None:
        self.steps: int = 0  # calls and errors seen
        self.hot: int = 0  # until so many of them, something may be wrong
        self.group: int = 0  # of the latest call: those made together
        self.signs: bytes = b""  # SIGN_BYTES for each of the latest calls
        self.results: bytes = b""  # RESULT_BYTES for the result of each
        self.loops: dict[int, LiveLoop] = {}  # by the call's number
        self.same: dict[int, LiveLoop] = {}  # by the result's
        self.wrong: dict[int, LiveLoop] = {}  # by the error's
        self.cycle: LiveLoop | None = None
        self.cluster: LiveLoop | None = None
        self.fine: int = 0  # good calls since the latest error
        self.strays: bytes = b""
        self.last_ms: int = 0  # when the latest call ended

    def values(self) -> tuple[Any, ...]:
        """Return the fields in the order they are stored in."""
        return (
            self.steps, self.hot, self.group, self.signs, self.results,
            _values(self.loops), _values(self.same), _values(self.wrong),
            None if self.cycle is None else self.cycle.values(),
            None if self.cluster is None else self.cluster.values(),
            self.fine, self.strays, self.last_ms,
        )  # fmt: skip

    @property
    def alarmed(self) -> bool:
        """Has something happened again of late?"""
        return self.steps < self.hot

    # ---- calls --------------------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        code: bytes,
        arguments: str,
        result: bytes,
        group: str | None,
        failed: bool,
        acknowledges: bool,
        duration_ms: int,
        event_ms: int,
        tokens: int,
        cost_nano_usd: int,
    ) -> bool:
        """Take in a call that has ended; tokens and cost are the session's. Does its result teach of its tool?"""
        sign = sign_of(code, arguments)
        together = False
        if group is None:
            self.group = 0
        else:
            gathered = crc32(group.encode()) + 1
            together = gathered == self.group
            self.group = gathered
        signs = self.signs
        at = signs.rfind(sign)
        teaches = False
        paused = event_ms - duration_ms - self.last_ms >= PAUSE_MS
        self.last_ms = event_ms
        self.steps += 1
        if at >= 0 and at % SIGN_BYTES == 0:
            if together:  # asked several times at once, to compare the answers
                return False
            place = at // SIGN_BYTES * RESULT_BYTES
            before = self.results[place : place + RESULT_BYTES]
            half_known = (before[0] == 1) != (result[0] == 1)
            if before == result or half_known:
                weak = paused or half_known or result[0] == 1
                distance = (len(signs) - at) // SIGN_BYTES
                self._again(sign, name, distance, failed, weak, event_ms, tokens, cost_nano_usd)
                result = min(before, result)  # the one that is known, if one is
            else:
                self.loops.pop(number_of(sign), None)  # it moves: somebody waits for something
                self._news()
        else:
            if self.loops:
                self.loops.pop(number_of(sign), None)
            if self.cycle is not None:
                self._news()
            if result[0] == 0 and not together:
                teaches = self._answered(name, code, result, acknowledges, event_ms, tokens, cost_nano_usd)
        if len(signs) >= SIGN_BYTES * CALLS_KEPT:
            self.signs = signs[SIGN_BYTES:] + sign
            self.results = self.results[RESULT_BYTES:] + result
        else:
            self.signs = signs + sign
            self.results += result
        return teaches

    def _again(
        self,
        sign: bytes,
        name: str,
        distance: int,
        failed: bool,
        weak: bool,
        event_ms: int,
        tokens: int,
        cost_nano_usd: int,
    ) -> None:
        """The same call had the same result."""
        number = number_of(sign)
        loop = self.loops.get(number)
        if loop is None:
            if len(self.loops) >= LOOPS_MAX:
                del self.loops[next(iter(self.loops))]
            loop = self.loops[number] = LiveLoop(name, 1, self.steps, event_ms, tokens, cost_nano_usd)
        loop.count += 1
        loop.at = self.steps
        loop.last_ms = event_ms
        if distance > 1:
            cycle = self.cycle
            if cycle is None:
                cycle = self.cycle = LiveLoop("", 1, self.steps, event_ms, tokens, cost_nano_usd)
            cycle.count += 1
            cycle.at = self.steps
            cycle.last_ms = event_ms
            cycle.score += UNIT // 2 if weak else UNIT
        if not failed:  # equal failures are another matter
            gain = UNIT if distance == 1 else UNIT // 2 if distance == 2 else 0
            loop.score += gain // 2 if weak else gain
        self.hot = self.steps + CALLS_KEPT

    def _news(self) -> None:
        """Something new was done, or something old had another result."""
        cycle = self.cycle
        if cycle is not None:
            cycle.score -= NEWS
            if cycle.score <= 0:
                self.cycle = None

    def _answered(
        self,
        name: str,
        code: bytes,
        result: bytes,
        acknowledges: bool,
        event_ms: int,
        tokens: int,
        cost_nano_usd: int,
    ) -> bool:
        """A call that was not made before had a result: its own, or one that another call of its tool had."""
        at = self.results.rfind(result)
        place = at // RESULT_BYTES * SIGN_BYTES
        if at < 0 or at % RESULT_BYTES or self.signs[place : place + CODE_BYTES] != code:
            if self.same:
                for loop in self.same.values():
                    loop.score = max(loop.score - CUTS, 0)
            return True
        if acknowledges:
            return True
        distance = (len(self.results) - at) // RESULT_BYTES
        number = int.from_bytes(code + result[1:], "big")
        known = self.same.get(number)
        if known is None:
            if len(self.same) >= SAME_MAX:
                del self.same[next(iter(self.same))]
            known = self.same[number] = LiveLoop(name, 1, self.steps, event_ms, tokens, cost_nano_usd)
        elif self.steps - known.at > CALLS_KEPT:
            known = self.same[number] = LiveLoop(name, 1, self.steps, event_ms, tokens, cost_nano_usd)
        known.count += 1
        known.at = self.steps
        known.last_ms = event_ms
        known.score += UNIT if distance == 1 else UNIT // 2 if distance == 2 else 0
        self.hot = self.steps + CALLS_KEPT
        return known.count <= ACKNOWLEDGED_MAX

    # ---- errors -------------------------------------------------------------------------------------------------

    def error(self, name: str, number: int, duration_ms: int, event_ms: int, tokens: int, cost_nano_usd: int) -> None:
        """Take in a failure of a tool, a model or a component; equal ones have equal numbers."""
        self.steps += 1
        wrong = self.wrong.get(number)
        if wrong is not None and (event_ms - wrong.last_ms > STALE_MS or self.steps - wrong.at > FAULT_REACH):
            del self.wrong[number]
            wrong = None
        if wrong is None:
            if len(self.wrong) >= FAULTS_MAX:
                del self.wrong[next(iter(self.wrong))]
            self.wrong[number] = LiveLoop(name, 1, self.steps, event_ms, tokens, cost_nano_usd)
        else:
            gap_ms = max(event_ms - wrong.last_ms, 0)
            if wrong.count == 1:  # tokens and cost count from the first repeat
                wrong.since_ms, wrong.tokens, wrong.cost_nano_usd = event_ms, tokens, cost_nano_usd
            wrong.count += 1
            if gap_ms < BACK_OFF_MS or 2 * gap_ms < 3 * wrong.gap_ms or not wrong.gap_ms:
                wrong.score += UNIT // 2 if gap_ms - duration_ms >= PAUSE_MS else UNIT
            wrong.gap_ms = max(wrong.gap_ms, gap_ms)
            wrong.at = self.steps
            wrong.last_ms = event_ms
            self.hot = self.steps + CALLS_KEPT
        self._gather(event_ms, tokens, cost_nano_usd)

    def _gather(self, event_ms: int, tokens: int, cost_nano_usd: int) -> None:
        """Add an error to those close before it."""
        cluster = self.cluster
        if cluster is None or self.fine >= CLUSTER_CALLS or event_ms - cluster.last_ms > CLUSTER_GAP_MS:
            self.cluster = LiveLoop("", 1, self.steps, event_ms, tokens, cost_nano_usd)
        else:
            cluster.count += 1
            cluster.score += UNIT
            cluster.at = self.steps
            cluster.last_ms = event_ms
            self.hot = max(self.hot, self.steps + CALLS_KEPT)
        self.fine = 0

    def went_well(self, name: str) -> None:
        """A call of a tool or a model has succeeded: its errors were not for ever."""
        self.fine += 1
        if self.wrong:
            self.forgive(name)

    def forgive(self, name: str) -> None:
        """Let a success speak against the errors of the same tool or model."""
        for number, wrong in list(self.wrong.items()):
            if wrong.name == name:
                wrong.score -= AMENDS
                if wrong.score < 0:
                    del self.wrong[number]

    # ---- ends without a start -----------------------------------------------------------------------------------

    def stray(self, call_id: str) -> None:
        """Note an end whose start has not been seen."""
        strays = self.strays + crc32(call_id.encode()).to_bytes(4, "big")
        self.strays = strays[-4 * STRAYS_KEPT :]

    def strayed(self, call_id: str) -> bool:
        """Return whether the end of a call that starts now has been seen."""
        at = self.strays.find(crc32(call_id.encode()).to_bytes(4, "big"))
        return at >= 0 and at % 4 == 0


# ---- storage ----------------------------------------------------------------------------------------------------


_NOTHING: Final[dict[int, tuple[Any, ...]]] = {}


def _values(loops: dict[int, LiveLoop]) -> dict[int, tuple[Any, ...]]:
    return {number: loop.values() for number, loop in loops.items()} if loops else _NOTHING


def live_trail(stored: Trail) -> LiveTrail:
    """Make a stored trail one that can be added to."""
    found = LiveTrail()
    found.steps = stored.steps
    found.hot = stored.hot
    found.group = stored.group
    found.signs = stored.signs
    found.results = stored.results
    found.loops = _live_loops(stored.loops)
    found.same = _live_loops(stored.same)
    found.wrong = _live_loops(stored.wrong)
    found.cycle = None if stored.cycle is None else _live_loop(stored.cycle)
    found.cluster = None if stored.cluster is None else _live_loop(stored.cluster)
    found.fine = stored.fine
    found.strays = stored.strays
    found.last_ms = stored.last_ms
    return found


def _live_loops(stored: dict[int, Loop]) -> dict[int, LiveLoop]:
    return {number: _live_loop(loop) for number, loop in stored.items()}


def _live_loop(stored: Loop) -> LiveLoop:
    found = LiveLoop(stored.name, stored.count, stored.at, stored.since_ms, stored.tokens, stored.cost_nano_usd)
    found.score = stored.score
    found.last_ms = stored.last_ms
    found.gap_ms = stored.gap_ms
    return found
