"""What rules learn of their keys: when, from which windows, how it is stored, and that replays learn the same."""

from random import Random
from typing import Any

import pytest
from rule.rows import PANE_MS, Row, rule_of

from streams.rule import learn
from streams.rule.alert import FIRING, decode_names
from streams.rule.book import AlertBook
from streams.rule.learn import Learning, decode_learned
from streams.rule.model import Rule, RuleSet
from streams.rule.threshold import value_of

HOUR_MS = 3_600_000
BEGIN_MS = 24 * HOUR_MS * 20_000
MINUTE_MS = 60_000
KEY = ("search",)
MEAN = "over: tool; value: errors; window: 1m; above: mean + 3 sigma; samples: 10; cold_start: 3"


def learning(rule: Rule) -> Learning:
    assert rule.usual is not None
    return Learning(rule, rule.usual, value_of)


def minutes(*errors: int | None) -> Row:
    """Make a row with so many errors in each minute; in those of None nothing happened at all."""
    row = Row()
    row.add(BEGIN_MS)
    for minute, count in enumerate(errors):
        if count is not None:
            row.add(BEGIN_MS + minute * MINUTE_MS + 5_000, errors=count)
    return row


def walk(rule: Rule, row: Row, until: int, *, step_ms: int = PANE_MS, kept: Learning | None = None) -> Learning:
    """Let a rule look at a row at every step for so many minutes."""
    found = kept or learning(rule)
    for now_ms in range(BEGIN_MS, BEGIN_MS + until * MINUTE_MS + PANE_MS + 1, step_ms):
        found.limit(KEY, row.at(now_ms), now_ms)
    return found


def stored(found: Learning) -> learn.Learned:
    ((key, raw),) = found.drain()
    assert key == KEY
    assert raw is not None
    return decode_learned(raw)


def test_every_window_is_learned_once_it_has_closed_and_the_next_pane_too() -> None:
    row = minutes(5, 7, 9, 11)
    found = walk(rule_of(MEAN), row, 2)
    assert stored(found).samples == [5_000, 7_000]

    at_ms = BEGIN_MS + 3 * MINUTE_MS
    found.limit(KEY, row.at(at_ms), at_ms)
    assert list(found.drain()) == []  # what is compared now is not yet part of what it is compared with
    found.limit(KEY, row.at(at_ms + PANE_MS), at_ms + PANE_MS)
    assert stored(found).samples == [5_000, 7_000, 9_000]


def test_silence_teaches_nothing_and_a_zero_does() -> None:
    assert stored(walk(rule_of(MEAN), minutes(5, None, 0, None, 8), 5)).samples == [5_000, 0, 8_000]


def test_only_so_many_samples_are_kept_the_newest() -> None:
    rule = rule_of(MEAN.replace("samples: 10", "samples: 3"))

    assert stored(walk(rule, minutes(1, 2, 3, 4, 5), 5)).samples == [3_000, 4_000, 5_000]


def test_nothing_is_said_before_there_are_enough_samples() -> None:
    found, row = learning(rule_of(MEAN)), minutes(4, 4, 4, 4)
    said = [
        found.limit(KEY, row.at(now_ms), now_ms)
        for now_ms in range(BEGIN_MS + PANE_MS, BEGIN_MS + 4 * MINUTE_MS + PANE_MS, MINUTE_MS)
    ]

    assert said == [(None, 0), (None, 1), (None, 2), (4.0, 3)]


@pytest.mark.parametrize("step_ms", [PANE_MS, MINUTE_MS, 7 * MINUTE_MS, 31 * MINUTE_MS + PANE_MS])
@pytest.mark.parametrize(
    "limit", ["mean + 3 sigma", "median + 5 mad", "ewma + 3 sigma", "ewma + 3 sigma by hour of day"]
)
def test_it_is_all_the_same_in_which_steps_time_moves(limit: str, step_ms: int) -> None:
    """A replay leaps where the first run crept, and has learned the same."""
    random = Random(3)
    row = minutes(*(random.choice((None, 0, 3, 4, 5, 9)) for _ in range(95)))
    rule = rule_of(MEAN.replace("mean + 3 sigma", limit))
    end_ms = BEGIN_MS + 94 * MINUTE_MS + PANE_MS
    found = []
    for step in (PANE_MS, step_ms):
        one = learning(rule)
        for now_ms in (*range(BEGIN_MS, end_ms, step), end_ms):
            one.limit(KEY, row.at(now_ms), now_ms)
        found.append((stored(one), one.limit(KEY, row.at(end_ms), end_ms)))

    assert found[0] == found[1]


def test_a_rule_that_is_new_begins_with_what_the_last_hour_holds() -> None:
    row = minutes(*range(90))
    now_ms = BEGIN_MS + 89 * MINUTE_MS + PANE_MS
    found = learning(rule_of(MEAN.replace("samples: 10", "samples: 120")))
    found.limit(KEY, row.at(now_ms), now_ms)

    assert stored(found).samples == [count * 1_000 for count in range(30, 89)]


def test_what_lies_further_back_than_the_panes_is_left_out() -> None:
    row = minutes(*range(90))
    rule = rule_of(MEAN.replace("samples: 10", "samples: 120"))
    found = walk(rule, row, 2)
    now_ms = BEGIN_MS + 89 * MINUTE_MS + PANE_MS
    found.limit(KEY, row.at(now_ms), now_ms)

    assert stored(found).samples == [0, 1_000, *(count * 1_000 for count in range(30, 89))]


def test_every_hour_of_the_day_has_an_average_of_its_own() -> None:
    rule = rule_of("over: tool; value: errors; window: 30m; above: 2x ewma by hour of day; samples: 3; cold_start: 2")
    row = Row()
    for half in range(24 * 2 * 3):
        row.add(BEGIN_MS + half * HOUR_MS // 2 + 1_000, errors=half // 2 % 24)
    found = learning(rule)
    limits = {}
    for now_ms in range(BEGIN_MS, BEGIN_MS + 3 * 24 * HOUR_MS, HOUR_MS // 2):
        limits[now_ms] = found.limit(KEY, row.at(now_ms + PANE_MS), now_ms + PANE_MS)

    last_day = {now_ms: limit for now_ms, limit in limits.items() if now_ms >= BEGIN_MS + 48 * HOUR_MS}
    assert all(limit == pytest.approx((now_ms // HOUR_MS % 24) * 2) for now_ms, (limit, _) in last_day.items())
    learned = stored(found)
    assert [round(centre / 1_000) for centre in learned.centres] == list(range(24))
    assert len(learned.counts) == 24


def test_a_ratio_is_learned_as_a_share_and_nothing_of_too_few() -> None:
    rule = rule_of(
        "over: tool; value: {ratio: {of: errors, to: events}}; window: 1m; above: mean + 3 sigma; min_count: 2"
    )
    row = Row()
    for minute, (events, errors) in enumerate(((4, 1), (1, 1), (2, 1))):
        for _ in range(events):
            row.add(BEGIN_MS + minute * MINUTE_MS, errors=0)
        row.add(BEGIN_MS + minute * MINUTE_MS, errors=errors, events=0)

    assert stored(walk(rule, row, 3)).samples == [250_000, 500_000]


def test_there_is_room_for_so_many_keys_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "KEYS_MAX", 1)
    found, row = learning(rule_of(MEAN)), minutes(1)
    for name in ("a", "b", "c"):
        assert found.limit((name,), row.at(BEGIN_MS), BEGIN_MS) == (None, 0)

    assert (len(found), found.overflowed) == (1, 2)


# ---- in the book -----------------------------------------------------------------------------------------------


def run(book: AlertBook, row: Row, first: int, last: int) -> list[tuple[int, str, Any, Any]]:
    """Do what a stage does, minute by minute: touch and look at what is due, pane by pane."""
    told = []
    for now_ms in range(BEGIN_MS + first * MINUTE_MS, BEGIN_MS + last * MINUTE_MS, PANE_MS):
        reading = row.at(now_ms)
        moves = list(book.touch("tool", KEY, reading, now_ms))
        moves += [moved for rule, key in book.due(now_ms) if (moved := book.recheck(rule, key, reading, now_ms))]
        minute = (now_ms - BEGIN_MS) // MINUTE_MS
        told += [(minute, moved.after.name, moved.state.value, moved.state.limit) for moved in moves]
    return told


def reloaded(book: AlertBook, rows: dict[bytes, bytes], *rules: Rule) -> AlertBook:
    for names, raw in book.drain_learned():
        if raw is None:
            rows.pop(names, None)
        else:
            rows[names] = raw
    again = AlertBook(RuleSet(rules))
    for names, raw in rows.items():
        again.load_learned(names, raw)
    return again


def test_an_alert_names_the_limit_that_was_usual() -> None:
    told = run(AlertBook(RuleSet((rule_of(MEAN),))), minutes(4, 6, 4, 6, 4, 30, 5, 5), 0, 9)

    assert [(when, state) for when, state, _, _ in told] == [(5, "FIRING"), (6, "RESOLVED")]
    _, _, value, limit = told[0]
    assert value == 30
    assert limit == pytest.approx(4.8 + 3 * 0.979, abs=0.01)


def test_what_was_learned_outlives_a_restart() -> None:
    row = minutes(4, 6, 4, 6, 4, 6, 4, 30, 5, 5)
    whole = run(AlertBook(RuleSet((rule_of(MEAN),))), row, 0, 11)
    rows: dict[bytes, bytes] = {}
    book = AlertBook(RuleSet((rule_of(MEAN),)))
    told = run(book, row, 0, 5)
    told += run(reloaded(book, rows, rule_of(MEAN)), row, 5, 11)

    assert [moved[1] for moved in whole] == ["FIRING", "RESOLVED"]
    assert whole == told


def test_another_question_begins_anew_and_what_was_learned_for_the_old_one_goes() -> None:
    rows: dict[bytes, bytes] = {}
    book = AlertBook(RuleSet((rule_of(MEAN),)))
    run(book, minutes(4, 6, 4), 0, 4)
    other = rule_of(MEAN.replace("value: errors", "value: events"))
    again = reloaded(book, rows, other)
    assert len(rows) == 1
    assert again.learned
    reloaded(again, rows, other)

    assert rows == {}


@pytest.mark.parametrize(("value", "kept"), [("errors", True), ("events", False)])
def test_a_rule_that_takes_another_s_place_inherits_what_answers_its_question(value: str, kept: bool) -> None:
    before = walk(rule_of(MEAN), minutes(4, 6, 4), 3)
    after = learning(rule_of(MEAN.replace("value: errors", f"value: {value}") + "; for: 1m"))
    after.inherit(before)
    ((_, raw),) = after.drain()

    assert (len(after), raw is not None) == (kept, kept)


@pytest.mark.parametrize("rules", [(), (rule_of("over: tool; value: errors; window: 1m; above: 3"),)])
def test_what_no_rule_asks_for_any_more_goes(rules: tuple[Rule, ...]) -> None:
    rows: dict[bytes, bytes] = {}
    book = AlertBook(RuleSet((rule_of(MEAN),)))
    run(book, minutes(4, 6, 4), 0, 4)
    again = reloaded(book, rows, *rules)
    reloaded(again, rows, *rules)

    assert rows == {}


def test_what_was_learned_of_a_row_goes_with_it() -> None:
    rows: dict[bytes, bytes] = {}
    book = AlertBook(RuleSet((rule_of(MEAN),)))
    run(book, minutes(4, 6, 4), 0, 4)
    reloaded(book, rows, rule_of(MEAN))
    assert [decode_names(names) for names in rows] == [("R", "tool", KEY)]
    book.end("tool", KEY, BEGIN_MS + HOUR_MS, "gone")
    reloaded(book, rows, rule_of(MEAN))

    assert rows == {}


# ---- baselines -------------------------------------------------------------------------------------------------


def baseline(text: str, row: Row, minute: int) -> object:
    rule, now_ms = rule_of(text), BEGIN_MS + minute * MINUTE_MS
    book = AlertBook(RuleSet((rule,)))
    moved = book.recheck(rule, KEY, row.at(now_ms), now_ms)
    return None if moved is None else (moved.after, moved.state.value, moved.state.limit)


def test_a_sum_is_compared_with_the_rest_of_the_hour() -> None:
    text = "over: tool; value: errors; window: 5m; above: 2x baseline 1h"
    usual = [2] * 55

    assert baseline(text, minutes(*usual, 4, 4, 4, 4, 4), 60) is None
    assert baseline(text, minutes(*usual, 4, 4, 4, 4, 5), 60) == (FIRING, 21, 20.0)


def test_a_ratio_is_compared_with_that_of_the_rest() -> None:
    text = "over: tool; value: {ratio: {of: errors, to: events}}; window: 5m; above: 2x baseline 20m; min_count: 1"
    row = minutes(*[1] * 15, 3, 3, 3, 3, 3)
    row.entries += [(BEGIN_MS + minute * MINUTE_MS, "events", 9) for minute in range(20)]

    found = baseline(text, row, 20)

    assert isinstance(found, tuple)
    assert found[0] is FIRING
    assert found[1:] == (pytest.approx(15 / 50), pytest.approx(2 * 15 / 151))


def test_a_young_row_has_no_baseline() -> None:
    text = "over: tool; value: errors; window: 5m; above: 2x baseline 1h"

    assert baseline(text, minutes(*[2] * 50, 99), 51) is None
    assert baseline(text, minutes(*[2] * 59, 99), 60) is not None


def test_twice_nothing_is_no_limit_unless_there_is_a_floor() -> None:
    text = "over: tool; value: errors; window: 5m; above: 2x baseline 1h"
    quiet = [0] * 58

    assert baseline(text, minutes(*quiet, 9, 9), 60) is None
    assert baseline(f"{text}; at_least: 10", minutes(*quiet, 9, 9), 60) == (FIRING, 18, 10)
    assert baseline(f"{text}; at_least: 20", minutes(*quiet, 9, 9), 60) is None
