"""Alerts that stay until a value is well back, wait for whole numbers or speak of silence, and a group's limit."""

import pytest
from rule.rows import NOW_MS, PANE_MS, Row, rule_of
from rule.test_book import recheck, reload, seen

from streams.rule.alert import FIRING, NO_LONGER_ENOUGH, PENDING, RECOVERED, RESOLVED
from streams.rule.book import AlertBook
from streams.rule.model import RuleSet
from streams.rule.reading import Key
from streams.rule.threshold import BREACHED, CLEAR, TOO_FEW, Verdict

KEY = ("search",)
HYSTERESIS = "over: tool; value: {total: errors}; above: 10; clear_below: 5"
FEW = "over: tool; value: {sum: errors}; window: 1m; above: 2"


def book_of(*texts: str) -> AlertBook:
    return AlertBook(RuleSet(tuple(rule_of(text, name=f"R{at}") for at, text in enumerate(texts))))


# ---- the way back ----------------------------------------------------------------------------------------------


def follow(text: str, *values: float | None) -> str:
    """Return the phase of one alert as values come in, ten seconds apart."""
    rule = rule_of(text)
    book = AlertBook(RuleSet((rule,)))
    phases = ""
    for step, value in enumerate(values):
        broken = value is not None and (value > rule.limit if rule.above else value < rule.limit)
        outcome = TOO_FEW if value is None else BREACHED if broken else CLEAR
        book.judge(rule, KEY, Verdict(outcome, value), NOW_MS + step * 10_000)
        live = [state.phase.name[0] for _, _, state in book.live()]
        phases += live[0] if live else "."
    return phases


@pytest.mark.parametrize(
    ("extra", "values", "phases"),
    [
        ("", (11, 9, 5, 4, 9, 11), "FFF..F"),
        ("; for: 10s", (11, 9, 11, 11, 9, 4), "P.PFF."),  # pending asks for the limit itself
        ("; keep_firing_for: 20s", (11, 4, 9, 4, 4, 4), "FKK..."),  # kept: what is not broken is not broken
        ("; keep_firing_for: 20s", (11, 4, 11, 9, 4, 4, 4), "FKFFKK."),
        ("", (11, None, 9), "F.."),
    ],
)
def test_a_firing_alert_stays_until_its_value_is_back_below_clear(
    extra: str, values: tuple[float | None, ...], phases: str
) -> None:
    assert phases == follow(HYSTERESIS + extra, *values)


def test_from_below_the_way_back_is_up() -> None:
    text = "over: tool; value: {sum: events}; window: 1m; below: 5; clear_above: 10; min_count: 1"

    assert follow(text, 4, 6, 10, 11, 9, 4) == "FFF..F"


def test_the_way_back_holds_for_an_expression_too() -> None:
    rule = rule_of('over: tool; expr: "tool_calls_error[1m] / tool_calls_started[1m] > 50%"; clear_below: 20%')
    book = AlertBook(RuleSet((rule,)))
    row = Row()
    told = []
    for step, failed in enumerate((6, 3, 1)):
        at_ms = NOW_MS + step * 60_000
        row.add(at_ms, tool_calls_error=failed, tool_calls_started=10)
        book.touch("tool", KEY, row.at(at_ms), at_ms)
        told.append(seen(recheck(book, {KEY: row}, at_ms + PANE_MS)))

    assert told == [["firing"], [], ["resolved"]]


# ---- whole numbers ---------------------------------------------------------------------------------------------


def test_a_rule_that_demands_whole_numbers_neither_fires_nor_resolves_without_them() -> None:
    book, row = book_of(f"{FEW}; complete: 95%", FEW), Row()
    book.complete_ppm = 949_999
    row.add(NOW_MS, errors=3)
    told = [moved.rule.name for moved in book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)]
    assert told == ["R1"]

    book.complete_ppm = 950_000
    (fired,) = recheck(book, {KEY: row}, NOW_MS + PANE_MS)
    assert (fired.rule.name, fired.after) == ("R0", FIRING)

    book.complete_ppm = 0
    later_ms = NOW_MS + 120_000
    assert [moved.rule.name for moved in recheck(book, {KEY: row}, later_ms)] == ["R1"]
    book.complete_ppm = 1_000_000
    (resolved,) = recheck(book, {KEY: row}, later_ms + PANE_MS)
    assert (resolved.rule.name, resolved.after, resolved.reason) == ("R0", RESOLVED, RECOVERED)


def test_a_row_that_ends_ends_its_alert_however_whole_the_numbers_are() -> None:
    book, row = book_of(f"{FEW}; complete: 95%"), Row()
    row.add(NOW_MS, errors=3)
    book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    book.complete_ppm = 0

    assert seen(book.end("tool", KEY, NOW_MS, "gone")) == ["resolved"]


# ---- silence ---------------------------------------------------------------------------------------------------


def test_silence_fires_once_it_has_lasted_and_ends_with_the_next_event() -> None:
    book, row = book_of("over: tool; absent: 10m"), Row()
    row.add(NOW_MS)
    assert not book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
    told = {
        now_ms: moves for now_ms in range(NOW_MS, NOW_MS + 700_000, 100) if (moves := recheck(book, {KEY: row}, now_ms))
    }

    ((at_ms, (fired,)),) = told.items()
    assert at_ms == NOW_MS + 600_100  # longer than ten minutes, seen within a tenth of a second
    assert (fired.after, fired.state.value) == (FIRING, 600_100)
    row.add(at_ms + 5)
    (resolved,) = book.touch("tool", KEY, row.at(at_ms + 5), at_ms + 5)
    assert (resolved.after, resolved.reason) == (RESOLVED, RECOVERED)


def test_silence_is_looked_for_again_after_it_has_ended() -> None:
    book, row = book_of("over: tool; absent: 1m"), Row()
    told = []
    for at_ms in (NOW_MS, NOW_MS + 100_000):
        row.add(at_ms)
        told += seen(book.touch("tool", KEY, row.at(at_ms), at_ms))
        for now_ms in range(at_ms, at_ms + 90_000, 1_000):
            told += seen(recheck(book, {KEY: row}, now_ms))

    assert told == ["firing", "resolved", "firing"]


def test_rows_just_loaded_are_listened_to() -> None:
    """A restart falls into the silence: nothing touches the row, and it has nothing in flight."""
    book, row = book_of("over: session; absent: 5m"), Row(pane_ms=60_000)
    row.add(NOW_MS)
    assert book.arms("session", in_flight=False)
    book.arm("session", [KEY], NOW_MS + 1_000)

    assert recheck(book, {KEY: row}, NOW_MS + 2_000) == []
    assert seen(recheck(book, {KEY: row}, NOW_MS + 300_100)) == ["firing"]


def test_silence_may_be_asked_for_only_where_there_was_much_before() -> None:
    text = 'over: tool; absent: 1m; min_count: 3; when: "events[10m] >= 2"'
    for events, expected in ((1, []), (2, []), (3, ["firing"])):
        book, row = book_of(text), Row()
        for _ in range(events):
            row.add(NOW_MS)
        book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)
        told = [moved for step in range(10) for moved in recheck(book, {KEY: row}, NOW_MS + step * PANE_MS)]

        assert expected == seen(told)


# ---- a group's limit -------------------------------------------------------------------------------------------


def limited(limit: int) -> AlertBook:
    rule = rule_of(FEW)
    changed = type(rule)(**{name: getattr(rule, name) for name in rule.__struct_fields__} | {"alerts_max": limit})
    return AlertBook(RuleSet((changed,)))


def test_beyond_a_group_s_limit_nothing_begins_and_every_try_is_counted() -> None:
    book, rows = limited(1), {(name,): Row() for name in ("a", "b")}
    for key, row in rows.items():
        row.add(NOW_MS, errors=3)
        book.touch("tool", key, row.at(NOW_MS), NOW_MS)

    assert [key for _, key, _ in book.live()] == [("a",)]
    assert book.overflowed() == {"R": 1}


def test_who_found_no_room_is_looked_at_again_when_there_is() -> None:
    book = limited(1)
    rows: dict[Key, Row] = {("a",): Row(), ("b",): Row()}
    rows["a",].add(NOW_MS, errors=3)
    rows["b",].add(NOW_MS + 30_000, errors=3)
    for key, at_ms in ((("a",), NOW_MS), (("b",), NOW_MS + 30_000)):
        book.touch("tool", key, rows[key].at(at_ms), at_ms)
    told = [(moved.key[0], moved.after) for step in range(8) for moved in recheck(book, rows, NOW_MS + step * PANE_MS)]

    assert told == [("a", RESOLVED), ("b", FIRING)]


# ---- storage ---------------------------------------------------------------------------------------------------


def test_a_limit_that_the_rule_does_not_name_is_stored_with_the_alert() -> None:
    rule = rule_of('over: tool; expr: "errors[1m] > 2 * requests_error[1m]"; for: 10s')
    book, rows, row = AlertBook(RuleSet((rule,))), dict[bytes, bytes](), Row()
    row.add(NOW_MS - 1, errors=7, requests_error=3)
    book.touch("tool", KEY, row.at(NOW_MS - 1), NOW_MS - 1)
    (pending,) = recheck(book, {KEY: row}, NOW_MS)
    assert (pending.after, pending.state.limit) == (PENDING, 6.0)
    again = reload(book, rows, rule)

    assert [state.limit for _, _, state in again.live()] == [6.0]


def test_a_condition_that_cannot_be_said_any_more_resolves_as_too_few() -> None:
    rule = rule_of('over: tool; expr: "errors[1m] / events[1m] > 50%"')
    book, row = AlertBook(RuleSet((rule,))), Row()
    row.add(NOW_MS - 1, errors=1)
    book.touch("tool", KEY, row.at(NOW_MS - 1), NOW_MS - 1)
    assert seen(recheck(book, {KEY: row}, NOW_MS)) == ["firing"]
    (resolved,) = recheck(book, {KEY: row}, NOW_MS + 120_000)

    assert resolved.reason == NO_LONGER_ENOUGH
