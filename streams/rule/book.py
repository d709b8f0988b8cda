"""Which alerts of one partition are alive, and which rows must be judged when?

Never makes a reading and never writes a record: rows are judged as the stage hands them in, transitions go back to it.

    touch(over, key, reading, now_ms)     for every row a flush has touched
    due(now_ms) → recheck(…)              on every flush and tick, for rows that time alone may have changed
    end(over, key, now_ms, reason)        when a row goes
    expire(now_ms)                        on every tick: old resolved alerts, alerts of removed rules
    use(rules) → arm_fresh(…)             when the rules change: between two flushes, as after a restart with them
    drain() → changelog rows              when the flush is planned

`now_ms` is the partition's clock and the end of the reading.  A rule over closed panes is not judged on touch: nothing
that touches a row changes them.  Touching only makes sure that the row is looked at when its open pane closes.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Final

from streams.fold.norms import FLOOR_MS
from streams.rule.alert import (
    ENDED,
    EXPIRED,
    FIRING,
    INACTIVE,
    KEPT,
    PENDING,
    RESOLVED,
    RULE_REMOVED,
    AlertState,
    Phase,
    Signal,
    Transition,
    advance,
    begin,
    decode_names,
    decode_state,
    encode_names,
    encode_state,
    pack_state,
    reason_of,
    sense,
)
from streams.rule.learn import Learned, Learning, decode_learned
from streams.rule.model import Gauge, Pace, Rule, RuleSet, Silence, Sum, Total
from streams.rule.reading import LOOPING, MOVING, SESSION, Key, Reading
from streams.rule.threshold import (
    BREACHED,
    Verdict,
    edge_after,
    held_back,
    judge,
    judge_against,
    recheck_ms,
    value_of,
)
from streams.rule.watch import Watch

LIVE_PER_RULE_MAX: Final = 1_000  # pending or firing, per partition; nobody reads the 1,001st, and each is a row
RESOLVED_PER_RULE_MAX: Final = 10_000  # per partition, about 5 MB; older ones are let go before their time
RESOLVED_KEPT_MS: Final = 30 * 24 * 60 * 60 * 1000  # then the topic is told to forget them too
COMPLETE_PPM: Final = 1_000_000
RECHECKS_PER_RULE_MAX: Final = 500  # per call of due(): a pane's end must not hold the loop

_NONE: Final[tuple[Transition, ...]] = ()


class _Lane:
    """One rule and its alerts."""

    __slots__ = (
        "ages", "at_edges", "bounded", "demanded_ppm", "detects", "fresh", "learning", "live", "live_max", "moves",
        "overflowed", "ranges", "removed", "resolved", "rule", "watch",
    )  # fmt: skip

    def __init__(self, rule: Rule, *, removed: bool = False) -> None:
        self.rule = rule
        self.removed = removed
        self.fresh = False  # it came while rows were there, which it has not been armed for
        self.live: dict[Key, AlertState] = {}
        self.resolved: dict[Key, bytes] = {}  # as stored: half of an object; the one resolved first stands first
        self.watch: Watch[Key] = Watch()
        self.overflowed = 0
        self.at_edges = rule.pace is Pace.EDGE
        self.ages = rule.pace is Pace.AGE
        field = rule.value.field if isinstance(rule.value, Gauge) else ""
        self.moves = field in MOVING
        self.detects = field in LOOPING
        # fields whose total bounds the value from above, when that can clear a row without looking at its panes
        known = rule.above and rule.usual is None
        self.bounded: tuple[str, ...] = rule.value.fields if isinstance(rule.value, Sum | Total) and known else ()
        # Its value falls with time.  A gauge's too, when its sources fall silent; a session has but one source.
        self.ranges = not isinstance(rule.value, Total | Silence) and not (
            isinstance(rule.value, Gauge) and rule.over == SESSION
        )
        self.demanded_ppm = rule.complete_ppm
        self.live_max = min(rule.alerts_max or LIVE_PER_RULE_MAX, LIVE_PER_RULE_MAX)
        self.learning = None if rule.usual is None else Learning(rule, rule.usual, value_of)

    def moved_by_time(self, in_flight: bool) -> bool:
        """May time alone move a row's verdict; a row with nothing in flight has no age, but may be silent."""
        if self.at_edges:
            return True
        return self.ages and (in_flight or isinstance(self.rule.value, Silence))

    def judge(self, key: Key, reading: Reading, now_ms: int) -> Verdict:
        """Compare a row with the rule's limit, or with what is usual for it."""
        if self.learning is None:
            return judge(self.rule, reading)
        limit, samples = self.learning.limit(key, reading, now_ms)
        return judge_against(self.rule, reading, limit, samples)

    def under(self, rule: Rule, *, removed: bool = False) -> "_Lane":
        """Return these alerts under another rule of the same name: each is judged anew at the next call of `due`."""
        lane = _Lane(rule, removed=removed)
        lane.live, lane.resolved, lane.overflowed = self.live, self.resolved, self.overflowed
        for key in lane.live:
            lane.watch.add(key, 0)
        if lane.learning is not None and self.learning is not None:
            lane.learning.inherit(self.learning)
        return lane


def _sum_of(reading: Reading, fields: Sequence[str]) -> int:
    total = 0
    for field in fields:
        total += reading.total(field)
    return total


class AlertBook:
    """All alerts of one partition; `origin` tells partitions apart that may both know a key."""

    def __init__(self, rules: RuleSet, origin: str = "") -> None:
        self._origin = origin
        self._lanes = {(rule.name, rule.over): _Lane(rule) for rule in rules.rules}
        self._learners: list[tuple[Rule, Learning]] = []
        self._over: dict[str, list[_Lane]] = {}
        self._sort()
        self._dirty: dict[tuple[str, str, Key], AlertState | None] = {}
        self._now_ms = -1
        self._gone: list[bytes] = []  # names of what was learned for rules that are no longer there
        self.complete_ppm = COMPLETE_PPM  # of the events that came lately; the stage says
        self.newest_incarnation = -1  # the stage keeps it in its meta row, so that no number is ever used twice

    # ---- rules --------------------------------------------------------------------------------------------------

    def use(self, rules: RuleSet) -> None:
        """Go by these rules from now on; an alert stays with the rule of its name, and ends when there is none.

        What is unchanged goes on, timers included.  The result is that of a restart with the new rules.
        """
        before, self._lanes = self._lanes, {}
        learned = {(rule.name, rule.over): learning for rule, learning in self._learners}
        for rule in rules.rules:
            name = rule.name, rule.over
            lane = before.pop(name, None)
            if lane is None or lane.removed or lane.rule != rule:
                lane = _Lane(rule) if lane is None else lane.under(rule)
                lane.fresh = True
            self._lanes[name] = lane
        for name, lane in before.items():
            if lane.live or lane.resolved:
                self._lanes[name] = lane if lane.removed else lane.under(_removed_rule(*name), removed=True)
        self._sort()
        for name in learned.keys() - {(rule.name, rule.over) for rule, _ in self._learners}:
            self._gone += [encode_names(*name, key) for key in learned[name].keys()]  # noqa: SIM118  a method of its own

    def _sort(self) -> None:
        self._learners = [(lane.rule, lane.learning) for lane in self._lanes.values() if lane.learning is not None]
        self._over = {}
        for lane in self._lanes.values():
            if not lane.removed:
                self._over.setdefault(lane.rule.over, []).append(lane)
        self._detecting = {over for over, lanes in self._over.items() if any(lane.detects for lane in lanes)}

    def fresh(self, over: str, *, in_flight: bool = True) -> bool:
        """Is there a rule of the last `use` that rows of this kind must be armed for; ages need something in flight."""
        return any(lane.fresh and lane.moved_by_time(in_flight) for lane in self._over.get(over, ()))

    def arm_fresh(self, over: str, key: Key, now_ms: int) -> None:
        """Do what `arm` does, for the rules that the last `use` brought or changed."""
        for lane in self._over.get(over, ()):
            if lane.fresh and lane.rule.pace is not Pace.TOUCH:
                lane.watch.add(key, now_ms)

    def armed(self) -> None:
        """All rows are armed for the rules of the last `use`."""
        for lane in self._lanes.values():
            lane.fresh = False

    # ---- judging ------------------------------------------------------------------------------------------------

    def touch(self, over: str, key: Key, reading: Reading, now_ms: int) -> Sequence[Transition]:
        """Judge a row that was touched by every rule over its kind; returns what others must be told."""
        moved: list[Transition] | None = None
        alarmed = over in self._detecting and reading.alarmed()
        for lane in self._over.get(over, ()):
            rule = lane.rule
            if lane.at_edges:
                if key not in lane.watch:
                    lane.watch.add(key, edge_after(rule, now_ms))
                continue
            if key not in lane.live:
                # The cheap ways to know that nothing is to be told: most rows leave here.
                if lane.detects and not alarmed:
                    continue
                if lane.moves:
                    if not self._overdue(lane, key, reading, now_ms):
                        continue
                elif lane.ages and key in lane.watch:  # an age only grows to what is watched for already
                    continue
                if lane.bounded and _sum_of(reading, lane.bounded) <= rule.limit:  # a window holds at most the total
                    continue
            if lane.demanded_ppm > self.complete_ppm:
                lane.watch.add(key, edge_after(rule, now_ms))
                continue
            verdict = judge(rule, reading)
            if verdict.outcome is BREACHED or key in lane.live:
                transition = self._settle(lane, key, verdict, now_ms)
                if transition is not None:
                    moved = [*moved, transition] if moved else [transition]
            if lane.ages and key not in lane.live:
                self._again(lane, key, reading, verdict, now_ms)
        return moved or _NONE

    def _overdue(self, lane: _Lane, key: Key, reading: Reading, now_ms: int) -> bool:
        """Has an age passed its limit that may begin sooner than was foreseen?  If not, note when it will have."""
        if lane.watch.stands(key, now_ms + FLOOR_MS):  # no new deadline comes sooner
            return False
        rule = lane.rule
        began_ms = reading.began_ms(rule.value.field) if isinstance(rule.value, Gauge) else None
        if began_ms is None:
            return False
        over_ms = began_ms + int(rule.limit) + 1
        if over_ms > now_ms:
            lane.watch.add(key, over_ms)
            return False
        return True

    def due(self, now_ms: int, limit: int = RECHECKS_PER_RULE_MAX) -> list[tuple[Rule, Key]]:
        """Take the rows to judge now, at most `limit` per rule: each goes to `recheck`, or to `end` when it is gone."""
        return [
            (lane.rule, key)
            for lane in self._lanes.values()
            if len(lane.watch) and not lane.removed
            for key in lane.watch.due(now_ms, limit)
        ]

    def recheck(self, rule: Rule, key: Key, reading: Reading, now_ms: int) -> Transition | None:
        """Judge a row that is due, by the rule it is due for, and note when it is due again."""
        lane = self._lanes[rule.name, rule.over]
        if lane.demanded_ppm > self.complete_ppm:  # neither fires nor resolves
            lane.watch.add(key, edge_after(rule, now_ms))
            return None
        verdict = lane.judge(key, reading, now_ms)
        transition = self._settle(lane, key, verdict, now_ms)
        if key not in lane.live:
            self._again(lane, key, reading, verdict, now_ms)
        return transition

    def judge(self, rule: Rule, key: Key, verdict: Verdict, now_ms: int) -> Transition | None:
        """Let a verdict act on an alert."""
        return self._settle(self._lanes[rule.name, rule.over], key, verdict, now_ms)

    def arm(self, over: str, keys: Sequence[Key], now_ms: int) -> None:
        """Have rows judged at the next calls of `due` by every rule that time can move; for rows just loaded."""
        for lane in self._over.get(over, ()):
            if lane.rule.pace is not Pace.TOUCH:
                lane.watch.add_all(keys, now_ms)

    def arms(self, over: str, *, in_flight: bool = True) -> bool:
        """Is there a rule that `arm` matters for; rows with nothing in flight have no age, but may be silent."""
        return any(lane.moved_by_time(in_flight) for lane in self._over.get(over, ()))

    def _settle(self, lane: _Lane, key: Key, verdict: Verdict, now_ms: int) -> Transition | None:
        now_ms = self._now(now_ms)
        state = lane.live.get(key)
        if state is None:
            return self._start(lane, key, verdict, now_ms) if verdict.outcome is BREACHED else None
        before, earlier = state.phase, state.facts
        if before is FIRING and held_back(lane.rule, verdict):
            verdict = Verdict(
                BREACHED, verdict.value, verdict.count, verdict.facts, why=verdict.why, limit=verdict.limit
            )
        told = advance(state, sense(lane.rule, state, verdict, now_ms), verdict, now_ms)
        if state.phase is not before:
            self._put(lane, key, state)
        if key in lane.live:
            self._watch(lane, key, state, now_ms)
        if not told:
            return None
        return self._tell(lane, key, before, state, reason_of(before, state.phase, verdict, earlier))

    def _start(self, lane: _Lane, key: Key, verdict: Verdict, now_ms: int) -> Transition | None:
        """Begin a new life, unless too many live already."""
        if len(lane.live) >= lane.live_max:
            lane.overflowed += 1
            lane.watch.add(key, edge_after(lane.rule, now_ms))  # there may be room by then
            return None
        self.newest_incarnation = max(self.newest_incarnation + 1, now_ms)
        state = begin(lane.rule, key, verdict, self.newest_incarnation, now_ms)
        before = RESOLVED if lane.resolved.pop(key, None) is not None else INACTIVE
        state.phase = before
        advance(state, sense(lane.rule, state, verdict, now_ms), verdict, now_ms)
        self._put(lane, key, state)
        self._watch(lane, key, state, now_ms)
        return self._tell(lane, key, before, state, None)

    def _put(self, lane: _Lane, key: Key, state: AlertState) -> None:
        """Keep a state where its phase says, and have it written."""
        stored: AlertState | None = state
        if state.phase is RESOLVED:
            lane.live.pop(key, None)
            lane.resolved[key] = pack_state(state)
        elif state.phase is INACTIVE:
            lane.live.pop(key, None)
            lane.resolved.pop(key, None)
            stored = None
        else:
            lane.live[key] = state
        self._dirty[lane.rule.name, lane.rule.over, key] = stored

    def _again(self, lane: _Lane, key: Key, reading: Reading, verdict: Verdict, now_ms: int) -> None:
        """Note when a row without a live alert must be judged again."""
        again_ms = recheck_ms(lane.rule, reading, verdict, now_ms)
        if again_ms is not None:
            lane.watch.add(key, again_ms)

    def _watch(self, lane: _Lane, key: Key, state: AlertState, now_ms: int) -> None:
        """Note when a live alert must be judged again: when its timer ends, and whenever its window moves."""
        rule = lane.rule
        if state.phase is PENDING:
            lane.watch.add(key, state.active_since_ms + rule.for_ms)
        elif state.phase is KEPT and state.absent_since_ms is not None:
            lane.watch.add(key, state.absent_since_ms + rule.keep_firing_for_ms)
        if lane.ranges:
            lane.watch.add(key, edge_after(rule, now_ms))

    def _tell(self, lane: _Lane, key: Key, before: Phase, state: AlertState, reason: str | None) -> Transition:
        # a copy: the state may move again before the record is written
        return Transition(lane.rule, key, self._origin, before, state.phase, copy(state), reason, lane.removed)

    def _now(self, now_ms: int) -> int:
        self._now_ms = max(self._now_ms, now_ms)
        return self._now_ms

    # ---- ends ---------------------------------------------------------------------------------------------------

    def end(self, over: str, key: Key, now_ms: int, reason: str) -> list[Transition]:
        """Resolve or forget every alert of a row that goes."""
        now_ms = self._now(now_ms)
        moved: list[Transition] = []
        for lane in self._over.get(over, ()):
            lane.watch.drop(key)
            if lane.learning is not None:
                lane.learning.forget(key)
            state = lane.live.get(key)
            if state is not None:
                moved.append(self._move(lane, key, state, ENDED, reason, now_ms))
        return moved

    def forget(self, over: str, key: Key, now_ms: int, reason: str) -> list[Transition]:
        """End every alert of a row and let go of it at once: topic and rows are told to forget it too."""
        moved = self.end(over, key, now_ms, reason)
        for lane in self._lanes.values():
            if lane.rule.over != over:
                continue
            if lane.removed and key in lane.live:
                moved.append(self._move(lane, key, lane.live[key], ENDED, RULE_REMOVED, self._now(now_ms)))
            packed = lane.resolved.get(key)
            if packed is not None:
                moved.append(self._move(lane, key, decode_state(packed), EXPIRED, None, self._now(now_ms)))
        return moved

    def kept_keys(self, over: str) -> set[Key]:
        """Return the keys of what is kept and may have no row: alerts, live ones until they are due, and lessons."""
        keys: set[Key] = set()
        for lane in [each for each in self._lanes.values() if each.rule.over == over]:
            keys.update(lane.resolved, lane.live)
            if lane.learning is not None:
                keys.update(lane.learning.keys())
        return keys

    def expire(self, now_ms: int) -> list[Transition]:
        """Let go of what was resolved long ago or is too much, and resolve the alerts of removed rules."""
        now_ms = self._now(now_ms)
        moved: list[Transition] = []
        for lane in self._lanes.values():
            if lane.removed:
                for key, state in list(lane.live.items()):
                    moved.append(self._move(lane, key, state, ENDED, RULE_REMOVED, now_ms))
            while lane.resolved:
                key, packed = next(iter(lane.resolved.items()))
                state = decode_state(packed)
                kept_ms = now_ms - (state.resolved_ms or 0)
                if kept_ms < RESOLVED_KEPT_MS and len(lane.resolved) <= RESOLVED_PER_RULE_MAX:
                    break
                moved.append(self._move(lane, key, state, EXPIRED, None, now_ms))
        return moved

    def _move(
        self, lane: _Lane, key: Key, state: AlertState, signal: Signal, reason: str | None, now_ms: int
    ) -> Transition:
        before = state.phase
        advance(state, signal, None, now_ms)
        self._put(lane, key, state)
        return self._tell(lane, key, before, state, reason)

    # ---- numbers ------------------------------------------------------------------------------------------------

    def live(self) -> Iterable[tuple[Rule, Key, AlertState]]:
        """Yield every alert that is pending or firing."""
        for lane in self._lanes.values():
            for key, state in lane.live.items():
                yield lane.rule, key, state

    def overflowed(self) -> dict[str, int]:
        """Count, by rule, how often a breach found as many alerts alive as may be, since this book was made."""
        return {lane.rule.name: lane.overflowed for lane in self._lanes.values() if lane.overflowed}

    # ---- storage ------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Is there something to store; silent moves count, or a timer that has begun would begin anew after a crash."""
        return bool(self._dirty)

    @property
    def learned(self) -> bool:
        """Is there something learned to store."""
        return bool(self._gone) or any(learning.changed for _, learning in self._learners)

    def drain_learned(self) -> list[tuple[bytes, bytes | None]]:
        """Return what was learned since the last call as rows (names, what is known or None)."""
        rows: list[tuple[bytes, bytes | None]] = [(names, None) for names in self._gone]
        self._gone = []
        for rule, learning in self._learners:
            rows += [(encode_names(rule.name, rule.over, key), row) for key, row in learning.drain()]
        return rows

    def load_learned(self, names: bytes, stored: bytes) -> None:
        """Take one stored row of what was learned; that of a rule which learns no more is let go."""
        rule, over, key = decode_names(names)
        learned: Learned = decode_learned(stored)
        lane = self._lanes.get((rule, over))
        if lane is None or lane.learning is None:
            self._gone.append(names)
        else:
            lane.learning.load(key, learned)

    def drain(self) -> list[tuple[bytes, bytes | None]]:
        """Return what changed since the last call as rows (names, state or None), each key once."""
        dirty, self._dirty = self._dirty, {}
        return [(encode_names(*names), encode_state(state)) for names, state in dirty.items()]

    def load(self, names: bytes, stored: bytes) -> None:
        """Take one stored row; live alerts are judged again at the next call of `due`."""
        rule, over, key = decode_names(names)
        state = decode_state(stored)
        lane = self._lanes.get((rule, over))
        if lane is None:
            lane = self._lanes[rule, over] = _Lane(_removed_rule(rule, over), removed=True)
        self.newest_incarnation = max(self.newest_incarnation, state.incarnation)
        self._now_ms = max(self._now_ms, state.changed_ms)
        if state.phase is RESOLVED:
            lane.resolved[key] = stored
        else:
            lane.live[key] = state
            lane.watch.add(key, 0)

    def loaded(self) -> None:
        """All rows are in: put the resolved ones into the order in which they go."""
        for lane in self._lanes.values():
            ends_ms = {key: decode_state(packed).resolved_ms or 0 for key, packed in lane.resolved.items()}
            lane.resolved = {key: lane.resolved[key] for key in sorted(ends_ms, key=lambda key: (ends_ms[key], key))}


def _removed_rule(name: str, over: str) -> Rule:
    """Stand in for a rule that is no longer there, so that its alerts can end."""
    return Rule(
        name=name,
        group="",
        over=over,
        value=Total(()),
        window_ms=0,
        above=True,
        limit=0,
        unit="count",
        min_count=0,
        for_ms=0,
        keep_firing_for_ms=0,
        severity="info",
        labels={},
        summary="{alert}",
        description="{alert}: the rule was removed",
        pace=Pace.TOUCH,
    )
