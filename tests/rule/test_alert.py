"""The life of one alert: the table walked whole, and Prometheus's meaning of `for` and `keep_firing_for`."""

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule.rows import NOW_MS, rule_of

from streams.rule.alert import (
    BREACHED,
    CLEARED,
    COOLED,
    ENDED,
    EXPIRED,
    FIRING,
    HELD,
    INACTIVE,
    KEPT,
    NEXT,
    PENDING,
    RESOLVED,
    SEEN,
    AlertState,
    Phase,
    Signal,
    advance,
    decode_names,
    decode_state,
    encode_names,
    encode_state,
    fingerprint,
)
from streams.rule.book import AlertBook
from streams.rule.model import Rule, RuleSet
from streams.rule.threshold import BREACHED as BREACH
from streams.rule.threshold import CLEAR, TOO_FEW, Outcome, Verdict

RULE = "over: tool; value: {sum: errors}; window: 1m; above: 10"


def state_in(phase: Phase) -> AlertState:
    """Make a state in the middle of its life."""
    return AlertState(phase, 7, 3, 1_000, 2_000, "warning", {}, fired_ms=1_500, absent_since_ms=1_800)


# ---- the table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("phase", Phase)
def test_the_table_is_all_there_is(phase: Phase, signal: Signal) -> None:
    """What stands in the table happens; what does not, raises."""
    state = state_in(phase)
    if (phase, signal) not in NEXT:
        with pytest.raises(KeyError):
            advance(state, signal, None, 5_000)
        return
    told = advance(state, signal, None, 5_000)

    assert state.phase is NEXT[phase, signal]
    assert told == (SEEN[phase] != SEEN[state.phase])
    assert state.transition == (4 if told else 3)
    assert state.changed_ms == (5_000 if told else 2_000)


def test_a_live_alert_has_an_answer_to_everything_but_expiry() -> None:
    for phase in (PENDING, FIRING, KEPT):
        assert {signal for signal in Signal if (phase, signal) not in NEXT} == {EXPIRED}


def test_only_what_nobody_can_tell_apart_is_silent() -> None:
    silent = {(before, signal) for (before, signal), after in NEXT.items() if SEEN[before] == SEEN[after]}

    assert silent == {
        (PENDING, BREACHED),
        (FIRING, HELD),
        (FIRING, CLEARED),
        (KEPT, HELD),
        (KEPT, CLEARED),
    }


def test_inactive_is_reached_from_pending_and_resolved_alone() -> None:
    assert {before for (before, _), after in NEXT.items() if after is INACTIVE} == {PENDING, RESOLVED}
    assert {signal for (before, signal), after in NEXT.items() if before is PENDING and after is INACTIVE} == {
        CLEARED,
        COOLED,
        ENDED,
    }


def test_an_alert_that_breaks_its_limit_again_forgets_that_it_was_absent() -> None:
    state = state_in(KEPT)
    advance(state, HELD, None, 5_000)
    assert state.absent_since_ms is None

    advance(state, CLEARED, None, 6_000)
    assert state.absent_since_ms == 6_000


# ---- Prometheus's semantics, one story a line --------------------------------------------------------------------

STORIES = {
    # name: (for s, keep_firing_for s, [(second, breached?)], expected [(second, what is told)])
    "no for fires at once": (0, 0, [(0, 1)], [(0, "firing")]),
    "no for resolves at once": (0, 0, [(0, 1), (10, 0)], [(0, "firing"), (10, "resolved")]),
    "pending first": (30, 0, [(0, 1), (29, 1)], [(0, "pending")]),
    "firing at exactly for": (30, 0, [(0, 1), (30, 1)], [(0, "pending"), (30, "firing")]),
    "firing late when nobody looked": (30, 0, [(0, 1), (95, 1)], [(0, "pending"), (95, "firing")]),
    "a pending that vanishes is forgotten": (30, 0, [(0, 1), (20, 0)], [(0, "pending"), (20, "inactive")]),
    "pending starts anew": (30, 0, [(0, 1), (20, 0), (25, 1), (50, 1), (55, 1)],
                            [(0, "pending"), (20, "inactive"), (25, "pending"), (55, "firing")]),
    "it is gone at the moment it would have fired": (30, 0, [(0, 1), (30, 0)], [(0, "pending"), (30, "inactive")]),
    "kept firing": (0, 60, [(0, 1), (10, 0), (69, 0)], [(0, "firing")]),
    "resolved once keep_firing_for has passed since the first absence": (
        0, 60, [(0, 1), (10, 0), (40, 0), (70, 0)], [(0, "firing"), (70, "resolved")]),
    "coming back clears the timer": (0, 60, [(0, 1), (10, 0), (60, 1), (69, 0), (128, 0), (129, 0)],
                                     [(0, "firing"), (129, "resolved")]),
    "keep_firing_for is nothing to a pending one": (30, 60, [(0, 1), (20, 0)], [(0, "pending"), (20, "inactive")]),
    "coming back while kept needs no new for": (30, 60, [(0, 1), (30, 1), (40, 0), (50, 1), (51, 1)],
                                                [(0, "pending"), (30, "firing")]),
    "after resolving, for counts anew": (30, 0, [(0, 1), (30, 1), (40, 0), (50, 1), (79, 1), (80, 1)],
                                         [(0, "pending"), (30, "firing"), (40, "resolved"),
                                          (50, "pending"), (80, "firing")]),
    "nothing comes of nothing": (0, 0, [(0, 0), (10, 0)], []),
}  # fmt: skip


def tell(rule: Rule, history: list[tuple[int, bool]]) -> list[tuple[int, str]]:
    """Return what is told along a history of (second, breached)."""
    book = AlertBook(RuleSet((rule,)))
    told = []
    for second, breached in history:
        moved = book.judge(rule, ("t",), Verdict(BREACH if breached else CLEAR, 11), NOW_MS + second * 1_000)
        if moved is not None:
            told.append((second, SEEN[moved.after]))
    return told


@pytest.mark.parametrize("story", STORIES)
def test_prometheus_semantics(story: str) -> None:
    for_s, keep_s, history, expected = STORIES[story]
    rule = rule_of(f"{RULE}; for: {for_s}s; keep_firing_for: {keep_s}s")

    assert tell(rule, [(second, bool(breached)) for second, breached in history]) == expected


def test_too_few_is_absence_to_a_pending_and_to_a_firing_alert() -> None:
    rule = rule_of(f"{RULE}; for: 30s")
    book = AlertBook(RuleSet((rule,)))
    few, breach = Verdict(TOO_FEW, None), Verdict(BREACH, 11)

    def told(verdict: Verdict, second: int) -> tuple[str, str | None] | None:
        moved = book.judge(rule, ("t",), verdict, NOW_MS + second * 1_000)
        return None if moved is None else (SEEN[moved.after], moved.reason)

    assert told(breach, 0) == ("pending", None)
    assert told(few, 10) == ("inactive", "too_few")
    assert told(breach, 20) == ("pending", None)
    assert told(breach, 50) == ("firing", None)
    assert told(few, 60) == ("resolved", "too_few")


def test_a_firing_alert_whose_rule_got_a_longer_for_is_pending_again() -> None:
    short, long = rule_of(f"{RULE}; for: 30s"), rule_of(f"{RULE}; for: 2m")
    before = AlertBook(RuleSet((short,)))
    for second in (0, 30):
        before.judge(short, ("t",), Verdict(BREACH, 11), NOW_MS + second * 1_000)
    after = AlertBook(RuleSet((long,)))
    for names, stored in before.drain():
        assert stored is not None
        after.load(names, stored)
    moved = after.judge(long, ("t",), Verdict(BREACH, 12), NOW_MS + 60_000)
    assert moved is not None
    again = after.judge(long, ("t",), Verdict(BREACH, 12), NOW_MS + 120_000)
    assert again is not None

    assert (moved.after, moved.reason, moved.state.fired_ms) == (PENDING, "for_raised", None)
    assert moved.state.active_since_ms == NOW_MS
    assert (again.after, again.state.fired_ms) == (FIRING, NOW_MS + 120_000)
    assert (again.state.incarnation, again.state.transition) == (moved.state.incarnation, moved.state.transition + 1)


# ---- against a brute-force oracle that knows no states -----------------------------------------------------------


class Look(NamedTuple):
    """What an evaluation saw at a moment."""

    at_ms: int
    breached: bool


def is_firing(history: list[Look], for_ms: int, keep_ms: int) -> bool:
    """Say from the whole history: some stretch was broken for long enough, and no absence since lasted long enough."""
    for fired in range(len(history)):
        start = fired
        while start >= 0 and history[start].breached:
            start -= 1
        if not history[fired].breached or history[fired].at_ms - history[start + 1].at_ms < for_ms:
            continue
        absent_ms: int | None = None
        for look in history[fired + 1 :]:
            if look.breached:
                absent_ms = None
                continue
            absent_ms = look.at_ms if absent_ms is None else absent_ms
            if look.at_ms - absent_ms >= keep_ms:
                break
        else:
            return True
    return False


def seen_after(history: list[Look], for_ms: int, keep_ms: int) -> str:
    """Name what the world sees after a history."""
    if history and is_firing(history, for_ms, keep_ms):
        return "firing"
    if history and history[-1].breached:
        return "pending"
    fired = any(is_firing(history[:end], for_ms, keep_ms) for end in range(1, len(history)))
    return "resolved" if fired else "inactive"


STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([BREACH, BREACH, CLEAR, TOO_FEW])), max_size=25)


@settings(deadline=None, max_examples=400)
@given(STEPS, st.sampled_from([0, 10, 30, 60]), st.sampled_from([0, 10, 30, 60]))
def test_a_life_is_what_a_replay_of_its_whole_history_says(
    steps: list[tuple[int, Outcome]], for_s: int, keep_s: int
) -> None:
    rule = rule_of(f"{RULE}; for: {for_s}s; keep_firing_for: {keep_s}s")
    book = AlertBook(RuleSet((rule,)))
    history: list[Look] = []
    seen, now_ms = "inactive", NOW_MS
    ids: set[tuple[int, int]] = set()
    for gap_s, outcome in steps:
        now_ms += gap_s * 1_000
        moved = book.judge(rule, ("t",), Verdict(outcome, 11), now_ms)
        history.append(Look(now_ms, outcome is BREACH))
        expected = seen_after(history, for_s * 1_000, keep_s * 1_000)
        if expected == "inactive" and seen == "resolved":
            expected = "resolved"  # nothing happened: what is resolved stays so
        if moved is None:
            assert expected == seen or (seen == "inactive" and expected == "resolved")
            continue
        told = SEEN[moved.after]
        assert told == expected or (told == "inactive" and expected == "resolved")  # forgotten, with a past
        assert told != seen
        assert (moved.state.incarnation, moved.state.transition) not in ids
        ids.add((moved.state.incarnation, moved.state.transition))
        if told in {"pending", "firing"}:
            assert moved.state.active_since_ms <= now_ms
        seen = told


@settings(deadline=None)
@given(STEPS, st.integers(0, 3))
def test_a_life_survives_being_stored_after_every_step(steps: list[tuple[int, Outcome]], for_steps: int) -> None:
    """A book that is thrown away and loaded again after every flush tells the same as one that lives on."""
    rule = rule_of(f"{RULE}; for: {10 * for_steps}s; keep_firing_for: 20s")
    rules = RuleSet((rule,))
    steady, fragile = AlertBook(rules), AlertBook(rules)
    rows: dict[bytes, bytes] = {}
    now_ms, newest = NOW_MS, -1
    for gap_s, outcome in steps:
        now_ms += gap_s * 1_000
        verdict = Verdict(outcome, 11)
        assert steady.judge(rule, ("t",), verdict, now_ms) == fragile.judge(rule, ("t",), verdict, now_ms)
        for names, stored in fragile.drain():
            if stored is None:
                del rows[names]
            else:
                rows[names] = stored
        newest = fragile.newest_incarnation
        fragile = AlertBook(rules)
        fragile.newest_incarnation = newest
        for names, stored in rows.items():
            fragile.load(names, stored)
        fragile.loaded()


# ---- names and storage -----------------------------------------------------------------------------------------


def test_a_stored_state_is_small_and_reads_back() -> None:
    state = AlertState(KEPT, NOW_MS, 2, NOW_MS, NOW_MS, "warning", {"tool": "search"}, 11, 0, NOW_MS, NOW_MS)
    stored = encode_state(state)
    assert stored is not None

    assert decode_state(stored) == state
    assert len(stored) < 100


@given(st.lists(st.text(max_size=5), max_size=3), st.lists(st.text(max_size=5), max_size=3))
def test_names_never_collide_whatever_is_in_a_key(one: list[str], other: list[str]) -> None:
    same = one == other

    assert decode_names(encode_names("R", "tool", tuple(one))) == ("R", "tool", tuple(one))
    assert (encode_names("R", "tool", tuple(one)) == encode_names("R", "tool", tuple(other))) == same
    assert (fingerprint("", "R", "tool", tuple(one)) == fingerprint("", "R", "tool", tuple(other))) == same


def test_the_same_transition_has_the_same_fingerprint_in_every_release() -> None:
    """Consumers remember fingerprints across upgrades: this text must never change."""
    assert fingerprint("", "ToolFailing", "tool", ("search",)) == "9b8e25c31a1714dc62dac2f0b751c15b"


def test_every_life_starts_where_the_last_one_ended() -> None:
    rule = rule_of(RULE)
    book = AlertBook(RuleSet((rule,)))
    lives = [
        moved.state
        for second, outcome in enumerate((BREACH, CLEAR, BREACH, CLEAR, BREACH))
        if (moved := book.judge(rule, ("t",), Verdict(outcome, 11), NOW_MS + second))
    ]

    assert [state.transition for state in lives] == [1, 2, 1, 2, 1]
    assert [state.incarnation for state in lives] == [NOW_MS, NOW_MS, NOW_MS + 2, NOW_MS + 2, NOW_MS + 4]
    assert all(earlier.incarnation <= later.incarnation for earlier, later in pairwise(lives))


def test_two_lives_within_one_millisecond_have_different_numbers() -> None:
    rule = rule_of(f"{RULE}; for: 30s")
    book = AlertBook(RuleSet((rule,)))
    moves = [book.judge(rule, ("t",), Verdict(outcome, 11), NOW_MS) for outcome in (BREACH, CLEAR, BREACH)]

    assert [moved.state.incarnation - NOW_MS for moved in moves if moved] == [0, 0, 1]
