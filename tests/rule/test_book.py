"""The alerts of a partition: who is judged when, limits, ends, and what is stored."""

import gc
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule.rows import NOW_MS, PANE_MS, Row, rule_of

from streams.fold.session import Finding
from streams.rule import book as book_module
from streams.rule.alert import FIRING, INACTIVE, PENDING, RESOLVED, SEEN, Transition, fingerprint, transition_id
from streams.rule.book import RESOLVED_KEPT_MS, AlertBook
from streams.rule.model import Pace, Rule, RuleSet
from streams.rule.reading import Key
from streams.rule.threshold import BREACHED, CLEAR, Verdict, judge

SUM = "over: tool; value: {sum: errors}; window: 1m; above: 2"
RATIO = "over: tool; value: {ratio: {of: errors, to: events}}; window: 1m; above: 50%; min_count: 2"
AGE = "over: session; value: {gauge: oldest_in_flight_ms}; above: 10m"
BREACH, FINE = Verdict(BREACHED, 3), Verdict(CLEAR, 0)
KEY = ("search",)


def book_of(*rules: Rule) -> AlertBook:
    return AlertBook(RuleSet(rules))


def seen(moves: Iterable[Transition | None]) -> list[str]:
    return [SEEN[moved.after] for moved in moves if moved]


def reload(book: AlertBook, rows: dict[bytes, bytes], *rules: Rule) -> AlertBook:
    """Store what changed, and load a new book from all that is stored."""
    for names, stored in book.drain():
        if stored is None:
            rows.pop(names, None)
        else:
            rows[names] = stored
    again = AlertBook(RuleSet(rules))
    for names, stored in rows.items():
        again.load(names, stored)
    again.loaded()
    return again


def recheck(book: AlertBook, rows: dict[Key, Row], now_ms: int) -> list[Transition]:
    """Do what a stage does on every tick."""
    moves = [book.recheck(rule, key, rows[key].at(now_ms), now_ms) for rule, key in book.due(now_ms)]
    return [moved for moved in moves if moved]


# ---- who is judged when ----------------------------------------------------------------------------------------


def test_a_sum_alerts_on_the_touch_that_passes_its_limit() -> None:
    book, row = book_of(rule_of(SUM)), Row()
    row.add(NOW_MS, errors=2)
    assert not book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)

    row.add(NOW_MS, errors=1)
    (moved,) = book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)

    assert (moved.before, moved.after, moved.state.value) == (INACTIVE, FIRING, 3)
    assert moved.state.labels == {"tool": "search"}


def test_a_firing_sum_resolves_when_its_window_has_moved_on_although_nobody_touches_it() -> None:
    book, row = book_of(rule_of(SUM)), Row()
    row.add(NOW_MS + 1, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS + 1), NOW_MS + 1)
    told = {
        now_ms: seen(moves)
        for now_ms in range(NOW_MS, NOW_MS + 120_000, 500)
        if (moves := recheck(book, {KEY: row}, now_ms))
    }

    assert told == {NOW_MS + 60_000: ["resolved"]}
    assert not book.due(NOW_MS + 10**9)


def test_a_ratio_is_judged_when_its_pane_closes_and_not_before() -> None:
    book, row = book_of(rule_of(RATIO)), Row()
    for second in range(5):
        row.add(NOW_MS + second * 1_000, errors=1)
        assert not book.touch("tool", KEY, row.at(NOW_MS + second * 1_000), NOW_MS + second * 1_000)
    assert not book.due(NOW_MS + PANE_MS - 1)

    assert seen(recheck(book, {KEY: row}, NOW_MS + PANE_MS)) == ["firing"]


def test_an_age_passes_its_limit_without_any_event() -> None:
    book, row = book_of(rule_of(AGE)), Row(started_ms={"oldest_in_flight_ms": NOW_MS})
    book.touch("session", KEY, row.at(NOW_MS + 5), NOW_MS + 5)

    assert not recheck(book, {KEY: row}, NOW_MS + 600_000)
    assert seen(recheck(book, {KEY: row}, NOW_MS + 600_100)) == ["firing"]


def test_an_age_that_begins_anew_is_watched_again() -> None:
    book, row = book_of(rule_of(AGE)), Row(started_ms={"oldest_in_flight_ms": NOW_MS})
    book.touch("session", KEY, row.at(NOW_MS), NOW_MS)
    later_ms = NOW_MS + 700_000
    (fired,) = recheck(book, {KEY: row}, later_ms)
    row.started_ms["oldest_in_flight_ms"] = later_ms
    (resolved,) = book.touch("session", KEY, row.at(later_ms), later_ms)

    assert seen([fired, resolved]) == ["firing", "resolved"]
    assert seen(recheck(book, {KEY: row}, later_ms + 600_100)) == ["firing"]


def test_due_hands_out_no_more_than_its_limit_per_rule_and_loses_none() -> None:
    book = book_of(rule_of(RATIO))
    row = Row()
    row.add(NOW_MS)
    for number in range(25):
        book.touch("tool", (str(number),), row.at(NOW_MS), NOW_MS)
    rounds = [len(book.due(NOW_MS + PANE_MS, 10)) for _ in range(4)]

    assert rounds == [10, 10, 5, 0]


def test_a_loaded_row_is_looked_at_once_it_is_armed() -> None:
    book, row = book_of(rule_of(SUM, name="S"), rule_of(RATIO, name="Q"), rule_of(AGE, name="A")), Row()
    row.add(NOW_MS - 1, errors=1)
    row.add(NOW_MS - 1, errors=1)
    assert book.arms("tool")
    assert book.arms("session", in_flight=True)
    assert not book.arms("session", in_flight=False)
    assert not book.arms("model")
    book.arm("tool", [KEY], NOW_MS)

    assert [rule.name for rule, _ in book.due(NOW_MS)] == ["Q"]


WORLD = [
    rule_of(f"{SUM}; for: 5s", name="SumFor"),
    rule_of(f"{SUM}; keep_firing_for: 15s", name="SumKept"),
    rule_of(f"{RATIO}; for: 20s; keep_firing_for: 7s", name="Ratio"),
    rule_of("over: tool; value: {sum: events}; window: 20s; below: 2; min_count: 3; for: 10s", name="Silence"),
    rule_of(
        "over: tool; value: {quantile: {of: tool_duration, q: 0.5}}; window: 30s; above: 2s; min_count: 2", name="Slow"
    ),
    rule_of("over: tool; value: {total: errors}; above: 6; for: 3s", name="Total"),
]
EVENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.sampled_from([1, 3])), max_size=20)


@settings(deadline=None, max_examples=60)
@given(EVENTS)
def test_looking_only_when_due_tells_the_same_as_looking_all_the_time(events: list[tuple[int, int, int]]) -> None:
    """The oracle judges every rule at every half second; the book only what was touched or is due.

    Rules over closed panes are asked, by both, from the first edge after the row began.
    """
    lazy, eager = AlertBook(RuleSet(tuple(WORLD))), AlertBook(RuleSet(tuple(WORLD)))
    row = Row()
    told_lazy: list[Transition] = []
    told_eager: list[Transition] = []
    happens: dict[int, list[tuple[int, int]]] = {}
    at = 0
    for gap, errors, seconds in events:
        at += gap
        happens.setdefault(at, []).append((errors, seconds))
    for step in range(at + 160):
        now_ms = NOW_MS + 500 * step
        for errors, seconds in happens.get(step, ()):
            row.add(now_ms, errors=errors)
            row.observe(now_ms, "tool_duration", seconds * 1_000_000)
        if step in happens:
            told_lazy += lazy.touch("tool", KEY, row.at(now_ms), now_ms)
        told_lazy += recheck(lazy, {KEY: row}, now_ms)
        at_edge = bool(happens) and step > min(happens) and now_ms % PANE_MS == 0
        alive = {rule.name for rule, _, _ in eager.live()}
        for rule in WORLD:
            if row.entries and (rule.pace is Pace.TOUCH or at_edge or rule.name in alive):
                moved = eager.judge(rule, KEY, judge(rule, row.at(now_ms)), now_ms)
                told_eager += [moved] if moved else []

    def facts(moves: list[Transition]) -> list[tuple[str, int, str, float | None, str | None]]:
        return sorted((m.rule.name, m.state.changed_ms, SEEN[m.after], m.state.value, m.reason) for m in moves)

    assert facts(told_lazy) == facts(told_eager)


# ---- limits ----------------------------------------------------------------------------------------------------


def test_alerts_beyond_the_limit_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "LIVE_PER_RULE_MAX", 3)
    rule = rule_of(SUM)
    book = book_of(rule)
    moves = [book.judge(rule, (str(number),), BREACH, NOW_MS) for number in range(5)]

    assert len(seen(moves)) == 3
    assert book.overflowed() == {"R": 2}
    assert len(list(book.live())) == 3

    book.judge(rule, ("0",), FINE, NOW_MS + 1)
    assert seen([book.judge(rule, ("4",), BREACH, NOW_MS + 2)]) == ["firing"]


def test_too_many_resolved_alerts_are_let_go_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "RESOLVED_PER_RULE_MAX", 2)
    rule = rule_of(SUM)
    book = book_of(rule)
    for number in range(4):
        book.judge(rule, (str(number),), BREACH, NOW_MS + number)
        book.judge(rule, (str(number),), FINE, NOW_MS + number)
    moves = book.expire(NOW_MS + 10)

    assert [(moved.key, moved.before, moved.after) for moved in moves] == [
        (("0",), RESOLVED, INACTIVE),
        (("1",), RESOLVED, INACTIVE),
    ]


def test_a_resolved_alert_takes_some_half_a_kilobyte() -> None:
    rule, count = rule_of(SUM), 2_000
    book = book_of(rule)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        why = Finding(7, f"tool-{number}(args {number:08x}…) ×7", 12, NOW_MS, 3_000 + number, 7_000_000 + number)
        breach = Verdict(BREACHED, 7.5 + number, 1_000 + number, why=why)
        book.judge(rule, (f"session-{number:012d}",), breach, NOW_MS + number)
        book.judge(rule, (f"session-{number:012d}",), FINE, NOW_MS + number)
    book.drain()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert not list(book.live())
    assert (after - before) / count < 640  # bytes; as an object it took a thousand


def test_a_resolved_alert_is_let_go_after_thirty_days() -> None:
    rule = rule_of(SUM)
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    book.judge(rule, KEY, FINE, NOW_MS + 1)

    assert not book.expire(NOW_MS + RESOLVED_KEPT_MS)
    assert seen(book.expire(NOW_MS + RESOLVED_KEPT_MS + 1)) == ["inactive"]
    assert [stored for _, stored in book.drain()] == [None]


def test_an_alert_that_fires_again_is_not_let_go_with_its_past() -> None:
    rule = rule_of(SUM)
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    book.judge(rule, KEY, FINE, NOW_MS + 1)
    again = book.judge(rule, KEY, BREACH, NOW_MS + 2)
    assert again

    assert (again.before, again.after) == (RESOLVED, FIRING)
    assert not book.expire(NOW_MS + 2 * RESOLVED_KEPT_MS)
    assert len(list(book.live())) == 1


def test_resolved_alerts_are_let_go_in_order_after_a_reload() -> None:
    rule = rule_of(SUM)
    book = book_of(rule)
    for number in (3, 1, 2):
        book.judge(rule, (str(number),), BREACH, NOW_MS)
    for number in (2, 3, 1):
        book.judge(rule, (str(number),), FINE, NOW_MS + 10 - number)
    again = reload(book, {}, rule)

    assert [moved.key for moved in again.expire(NOW_MS + RESOLVED_KEPT_MS + 100)] == [("2",), ("3",), ("1",)]


# ---- ends ------------------------------------------------------------------------------------------------------


def test_a_session_that_ends_resolves_what_fires_and_forgets_what_is_pending() -> None:
    fires = rule_of("over: session; value: {sum: tokens}; window: 5m; above: 1", name="Fires")
    waits = rule_of("over: session; value: {sum: errors}; window: 5m; above: 1; for: 1m", name="Waits")
    quiet = rule_of(AGE, name="Quiet")
    book = book_of(fires, waits, quiet)
    for rule in (fires, waits):
        book.judge(rule, KEY, BREACH, NOW_MS)
    moves = book.end("session", KEY, NOW_MS + 5, "session_ended")

    assert [(m.rule.name, SEEN[m.after], m.reason) for m in moves] == [
        ("Fires", "resolved", "session_ended"),
        ("Waits", "inactive", "session_ended"),
    ]
    assert moves[0].state.value == 3
    assert moves[0].state.resolved_ms == NOW_MS + 5
    assert not list(book.live())
    assert not book.due(NOW_MS + 10**9)
    assert not book.end("session", KEY, NOW_MS + 6, "session_ended")


def test_alerts_of_a_removed_rule_end_with_the_labels_they_began_with() -> None:
    gone = rule_of(f"{SUM}; severity: critical; labels: {{team: a}}", name="Gone")
    stays = rule_of(SUM, name="Stays")
    rows: dict[bytes, bytes] = {}
    book = book_of(gone, stays)
    for rule in (gone, stays):
        book.judge(rule, KEY, BREACH, NOW_MS)
    again = reload(book, rows, stays)
    (moved,) = again.expire(NOW_MS + 1)

    assert (moved.rule.name, moved.reason, SEEN[moved.after], moved.removed) == (
        "Gone",
        "rule_removed",
        "resolved",
        True,
    )
    assert (moved.state.severity, moved.state.labels) == ("critical", {"team": "a", "tool": "search"})
    assert not again.expire(NOW_MS + 2)
    assert seen(reload(again, rows, stays).expire(NOW_MS + 1 + RESOLVED_KEPT_MS)) == ["inactive"]


def test_a_row_that_is_forgotten_takes_the_alerts_of_removed_rules_with_it() -> None:
    rule = rule_of(SUM)
    book, rows = book_of(rule), dict[bytes, bytes]()
    for key in (KEY, ("other",)):
        book.judge(rule, key, BREACH, NOW_MS)
    assert book.kept_keys("tool") == {KEY, ("other",)}, "a live alert may have no row until it is due"
    again = reload(book, rows)

    assert again.kept_keys("tool") == {KEY, ("other",)}
    assert seen(again.forget("tool", KEY, NOW_MS + 1, "key_expired")) == ["resolved", "inactive"]
    assert reload(again, rows).kept_keys("tool") == {("other",)}


def test_a_rule_that_judges_other_rows_now_is_another_rule() -> None:
    before = rule_of(SUM)
    after = rule_of(SUM.replace("tool;", "agent;"))
    book = book_of(before)
    book.judge(before, KEY, BREACH, NOW_MS)
    again = reload(book, {}, after)

    assert [moved.reason for moved in again.expire(NOW_MS + 1)] == ["rule_removed"]
    assert seen([again.judge(after, KEY, BREACH, NOW_MS + 2)]) == ["firing"]


# ---- storage ---------------------------------------------------------------------------------------------------


def test_only_what_changed_is_written_and_each_alert_once() -> None:
    rule = rule_of(f"{SUM}; for: 10s")
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    book.judge(rule, KEY, BREACH, NOW_MS + 10_000)
    assert len(book.drain()) == 1

    book.judge(rule, KEY, BREACH, NOW_MS + 11_000)
    assert book.drain() == []

    book.judge(rule, KEY, FINE, NOW_MS + 12_000)
    assert len(book.drain()) == 1


def test_a_silent_move_is_stored_too() -> None:
    """That keep_firing_for has begun is told to nobody, but a crash must not forget it."""
    rule = rule_of(f"{SUM}; keep_firing_for: 1m")
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    rows: dict[bytes, bytes] = {}
    book = reload(book, rows, rule)
    changed = [book.changed]
    assert book.judge(rule, KEY, FINE, NOW_MS + 1) is None
    changed.append(book.changed)
    book = reload(book, rows, rule)

    assert changed == [False, True]
    assert book.due(NOW_MS + 60_001) == [(rule, KEY)]
    assert seen([book.recheck(rule, KEY, Row().at(NOW_MS + 60_001), NOW_MS + 60_001)]) == ["resolved"]


def test_a_forgotten_pending_alert_leaves_a_tombstone() -> None:
    rule = rule_of(f"{SUM}; for: 10s")
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    ((names, stored),) = book.drain()
    book.judge(rule, KEY, FINE, NOW_MS + 1)

    assert stored
    assert book.drain() == [(names, None)]


def test_a_live_alert_is_judged_again_as_soon_as_it_is_loaded() -> None:
    rule = rule_of(SUM)
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    again = reload(book, {}, rule)

    assert again.due(NOW_MS) == [(rule, KEY)]
    assert seen([again.recheck(rule, KEY, Row().at(NOW_MS), NOW_MS)]) == ["resolved"]


def test_for_counts_on_through_a_restart() -> None:
    rule = rule_of(f"{SUM}; for: 1m")
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    again = reload(book, {}, rule)

    assert again.judge(rule, KEY, BREACH, NOW_MS + 59_999) is None
    assert seen([again.judge(rule, KEY, BREACH, NOW_MS + 60_000)]) == ["firing"]


def test_a_clock_that_runs_backwards_stands_still() -> None:
    rule = rule_of(f"{SUM}; for: 10s")
    book = book_of(rule)
    book.judge(rule, KEY, BREACH, NOW_MS)
    book.judge(rule, KEY, BREACH, NOW_MS + 10_000)

    assert book.judge(rule, KEY, BREACH, NOW_MS + 5_000) is None
    assert next(iter(book.live()))[2].phase is FIRING
    assert reload(book, {}, rule).judge(rule, KEY, BREACH, NOW_MS + 5_000) is None


def test_what_was_told_does_not_change_afterwards() -> None:
    rule = rule_of(f"{SUM}; for: 10s")
    book = book_of(rule)
    first = book.judge(rule, KEY, BREACH, NOW_MS)
    assert first
    told = transition_id(first)
    book.judge(rule, KEY, BREACH, NOW_MS + 10_000)

    assert (first.after, first.state.phase, first.state.transition) == (PENDING, PENDING, 1)
    assert transition_id(first) == told


def test_partitions_that_both_know_a_key_have_alerts_of_their_own() -> None:
    rule = rule_of(SUM)
    moves = [AlertBook(RuleSet((rule,)), origin).judge(rule, KEY, BREACH, NOW_MS) for origin in ("0", "1")]

    assert len({transition_id(moved) for moved in moves if moved}) == 2
    assert fingerprint("0", "R", "tool", KEY) != fingerprint("1", "R", "tool", KEY)


# ---- other rules -----------------------------------------------------------------------------------------------


def test_an_unchanged_rule_keeps_its_timers_when_others_change() -> None:
    """Nothing is told, and `for` counts on from where it was."""
    rule, other = rule_of(f"{SUM}; for: 1m"), rule_of(AGE, name="Other")
    book, row = book_of(rule), Row()
    row.add(NOW_MS, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    book.use(RuleSet((other, rule)))

    assert not recheck(book, {KEY: row}, NOW_MS + 1_000)
    row.add(NOW_MS + 60_000, errors=3)
    assert seen(book.touch("tool", KEY, row.at(NOW_MS + 60_000), NOW_MS + 60_000)) == ["firing"]


def test_the_alerts_of_a_rule_that_is_gone_end_once() -> None:
    rule = rule_of(SUM)
    book, rows = book_of(rule), dict[bytes, bytes]()
    book.judge(rule, KEY, BREACH, NOW_MS)
    book.use(RuleSet())
    moves = book.expire(NOW_MS + 1)

    assert [(moved.after, moved.reason, moved.removed) for moved in moves] == [(RESOLVED, "rule_removed", True)]
    assert not book.expire(NOW_MS + 2)
    assert not reload(book, rows).expire(NOW_MS + 3)


def test_a_rule_that_comes_back_in_time_has_its_alert_back() -> None:
    rule = rule_of(SUM)
    book, row = book_of(rule), Row()
    row.add(NOW_MS, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    book.use(RuleSet())
    book.use(RuleSet((rule,)))

    assert not book.expire(NOW_MS + 1)
    assert not recheck(book, {KEY: row}, NOW_MS + 1)
    assert [state.phase for _, _, state in book.live()] == [FIRING]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [("for: 5m", ["pending"]), ("for: 10s", []), ("keep_firing_for: 1h", []), ("", [])],
)
def test_a_changed_rule_judges_its_alerts_anew(changed: str, expected: list[str]) -> None:
    """As in Prometheus: with a longer `for` than the alert is active, it is pending again."""
    book, row = book_of(rule_of(SUM)), Row()
    row.add(NOW_MS, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    book.use(RuleSet((rule_of(f"{SUM}; {changed}; severity: info"),)))

    assert seen(recheck(book, {KEY: row}, NOW_MS + 30_000)) == expected


def test_a_raised_limit_resolves_at_once() -> None:
    book, row = book_of(rule_of(SUM)), Row()
    row.add(NOW_MS, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    book.use(RuleSet((rule_of("over: tool; value: {sum: errors}; window: 1m; above: 20"),)))

    assert seen(recheck(book, {KEY: row}, NOW_MS + 1)) == ["resolved"]


def test_rows_are_armed_for_new_rules_that_time_can_move_and_for_no_others() -> None:
    old, new, touched = rule_of(RATIO, name="Old"), rule_of(RATIO, name="New"), rule_of(SUM, name="Touched")
    book = book_of(old)
    book.use(RuleSet((old, new, touched)))

    assert book.fresh("tool")
    assert not book.fresh("session")
    book.arm_fresh("tool", KEY, NOW_MS)
    book.armed()
    assert not book.fresh("tool")
    assert book.due(NOW_MS) == [(new, KEY)]


@given(st.lists(st.tuples(st.sampled_from(["breach", "fine", "time", "use"]), st.integers(0, 3)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_changing_rules_tells_what_a_restart_with_them_tells(story: list[tuple[str, int]]) -> None:
    """A book whose rules change, and one that is stored and loaded with the new rules instead."""
    sets = [
        (),
        (rule_of(f"{SUM}; for: 10s"),),
        (rule_of(f"{SUM}; for: 30s; keep_firing_for: 20s"),),
        (rule_of(SUM), rule_of(SUM, name="S")),
    ]
    rules: tuple[Rule, ...] = sets[1]
    lasting, restarted = book_of(*rules), book_of(*rules)
    rows: dict[bytes, bytes] = {}
    told: list[list[str]] = [[], []]
    now_ms = NOW_MS
    for what, number in story:
        if what == "use":
            rules = sets[number]
            lasting.use(RuleSet(rules))
            restarted = reload(restarted, rows, *rules)
        now_ms += number * 10_000
        for at, book in enumerate((lasting, restarted)):
            verdict = BREACH if what == "breach" else FINE
            moves = [book.judge(rule, KEY, verdict, now_ms) for rule in rules] if what in {"breach", "fine"} else []
            moves += book.expire(now_ms)
            told[at] += [transition_id(moved) for moved in moves if moved]

    assert told[0] == told[1]
