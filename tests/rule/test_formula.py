"""What expressions come to: arithmetic, units, open and closed panes, and values that cannot be said."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from rule.rows import NOW_MS, PANE_MS, Row, rule_of

from streams.rule.faults import Faults
from streams.rule.formula import Formula, check_condition, check_value
from streams.rule.model import Pace
from streams.rule.reading import SUBJECTS
from streams.rule.threshold import BREACHED, CLEAR, judge


def row(**closed: int) -> Row:
    """Make a row with something in the last closed pane."""
    made = Row()
    made.add(NOW_MS - 1, **closed)
    return made


def value(text: str, made: Row, over: str = "agent", *, closed: bool = True) -> Any:
    faults = Faults()
    checked = check_value(faults, "here", text, SUBJECTS[over])
    assert checked is not None, faults
    return Formula(text, over, checked.term, closed=closed, node=checked.node).look(made.at(NOW_MS))


def holds(text: str, made: Row, over: str = "agent") -> Any:
    faults = Faults()
    checked = check_condition(faults, "here", text, SUBJECTS[over])
    assert checked is not None, faults
    return Formula(text, over, checked.term, closed=True, node=checked.node).look(made.at(NOW_MS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("errors[1m]", 6),
        ("errors[1m] + requests_error[1m] - 1", 8),
        ("errors[1m] * 2 + 1", 13),
        ("1 + 2 * errors[1m]", 13),
        ("-errors[1m]", -6),
        ("errors[1m] / events[1m]", 6.0),
        ("errors[1m] / requests_error[1m]", 2.0),
        ("min(errors[1m], requests_error[1m])", 3),
        ("max(errors[1m], requests_error[1m], 7)", 7),
        ("abs(requests_error[1m] - errors[1m])", 3),
        ("errors", 6),
        ("(errors[1m] + requests_error[1m]) / 3", 3.0),
        ("errors[1m] / requests_timeout[1m]", None),
        ("1 / requests_timeout[1m] + errors[1m]", None),
        ("queue_depth", None),
        ("queue_depth + errors[1m]", None),
    ],
)
def test_numbers_are_what_arithmetic_says(text: str, expected: float | None) -> None:
    assert expected == value(text, row(errors=6, requests_error=3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("errors[1m] > 5", True),
        ("errors[1m] > 6", False),
        ("errors[1m] >= 6 and errors[1m] <= 6 and errors[1m] == 6", True),
        ("errors[1m] != 6 or errors[1m] < 6", False),
        ("not errors[1m] > 6", True),
        # a division by zero says nothing, unless the other side decides
        ("errors[1m] / requests_timeout[1m] > 1", None),
        ("not errors[1m] / requests_timeout[1m] > 1", None),
        ("errors[1m] / requests_timeout[1m] > 1 and errors[1m] > 6", False),
        ("errors[1m] > 6 and errors[1m] / requests_timeout[1m] > 1", False),
        ("errors[1m] > 5 and errors[1m] / requests_timeout[1m] > 1", None),
        ("errors[1m] / requests_timeout[1m] > 1 or errors[1m] > 5", True),
        ("errors[1m] > 5 or errors[1m] / requests_timeout[1m] > 1", True),
        ("errors[1m] / requests_timeout[1m] > 1 or errors[1m] > 6", None),
    ],
)
def test_conditions_know_true_false_and_unsaid(text: str, expected: bool | None) -> None:
    assert expected is holds(text, row(errors=6))


def test_an_offset_looks_at_the_time_before() -> None:
    made = Row()
    for minutes in range(1, 11):
        made.add(NOW_MS - minutes * 60_000, errors=minutes)

    assert value("errors[5m]", made) == 1 + 2 + 3 + 4 + 5
    assert value("errors[5m] offset 5m", made) == 6 + 7 + 8 + 9 + 10


def test_durations_are_durations_whatever_they_are_stored_in() -> None:
    """A session's gauge is in ms, histograms in µs; both are compared with 10m."""
    session = Row(started_ms={"oldest_in_flight_ms": NOW_MS - 600_001})
    slow = Row()
    slow.observe(NOW_MS - 1, "model_duration", 2_000_001)

    assert holds("oldest_in_flight_ms > 10m", session, "session") is True
    assert holds("oldest_in_flight_ms > 11m", session, "session") is False
    assert holds("p50(model_duration[1m]) > 2s and count(model_duration[1m]) == 1", slow, "model") is True


def test_money_and_shares_have_their_own_words() -> None:
    made = row(cost_nano_usd=3_000_000_000, model_calls_started=2, errors=1)

    assert holds("cost_nano_usd[1m] / model_calls_started[1m] == 1.5 USD", made, "model") is True
    assert holds("errors[1m] / model_calls_started[1m] >= 50%", made, "model") is True
    assert holds("cost_nano_usd[1m] > 0", made, "model") is True


def test_a_score_is_compared_as_people_write_it() -> None:
    made = Row(gauges={"context_used": 800_001, "cpu": 1_500_000})

    assert holds("context_used > 80% and cpu == 1.5", made) is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("errrors[5m] > 1", ["'errrors'", "write one of errors"]),
        ("model_duration[5m] > 1", ["a function of this histogram", "p95(model_duration[5m])"]),
        ("p95(errors[5m]) > 1s", ["a histogram that these rows have"]),
        ("errors[7s] > 1", ["errors[7s]", "multiples of 10s, together at most 1h"]),
        ("errors[50m] offset 15m > 1", ["errors[50m] offset 15m", "together at most 1h"]),
        ("errors[5m] > 30s", ["count and us", "one unit on both sides", "30s"]),
        ("cost_nano_usd[5m] > 5", ["nano_usd and number", "5 USD"]),
        ("errors[5m] * events[5m] > 5", ["a number or a share"]),
        ("events[5m] / cost_nano_usd[5m] > 1", ["a share of one unit"]),
        ("errors[5m] / 0 > 1", ["something to divide by"]),
        ("errors[5m]", ["a comparison"]),
        ("errors[5m] and events[5m] > 1", ["a comparison on both sides"]),
        ("(errors[5m] > 1) + 1 > 2", ["a number at this place"]),
        ("sum(errors[5m]) > 1", ["one of p50", "quantile"]),
        ("quantile(95, model_duration[5m]) > 1s", ["quantile(…)"]),
        ("1h99m > errors[5m]", ["one unit"]),
    ],
)
def test_faults_name_what_is_wrong(text: str, says: list[str]) -> None:
    faults = Faults()

    assert check_condition(faults, "here", text, SUBJECTS["agent"]) is None
    assert all(word in str(faults[0]) for word in says), faults


def test_all_faults_of_an_expression_are_found_at_once() -> None:
    faults = Faults()
    check_condition(faults, "here", "a[5m] > 1 and b[7s] > 2 or not errors[5m] > 1 USD", SUBJECTS["agent"])

    assert {"'a'", "'b'", "'b[7s]'"} <= {fault.value for fault in faults}
    assert any("count and nano_usd" in fault.value for fault in faults)


# ---- open panes and closed ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("errors[1m] > 3", Pace.TOUCH),
        ("errors[1m] + 2 * requests_error[5m] >= 3", Pace.TOUCH),
        ("errors[1m] > 3 and requests_error[5m] > 1 or max(errors[1m], 2) > 5", Pace.TOUCH),
        ("3 < errors[1m]", Pace.TOUCH),
        ("errors > 3", Pace.TOUCH),
        ("requests_started - requests_ended - requests_abandoned > 5", Pace.TOUCH),
        ("memory_bytes > 3 and errors[1m] > 1", Pace.TOUCH),
        ("errors[1m] / 60 > 3", Pace.TOUCH),
        ("errors[1m] / events[1m] > 3", Pace.EDGE),
        ("errors[1m] < 3", Pace.EDGE),
        ("errors[1m] == 3", Pace.EDGE),
        ("errors[1m] > requests_error[1m]", Pace.EDGE),
        ("errors[1m] - requests_error[1m] > 3", Pace.EDGE),
        ("errors[1m] > 3 and not requests_error[5m] > 1", Pace.EDGE),
        ("errors[5m] offset 5m > 3", Pace.EDGE),
        ("p95(model_duration[5m]) > 3s", Pace.EDGE),
        ("-1 * errors[1m] > -3", Pace.EDGE),
        ("errors > 3 and age > 1h", Pace.EDGE),
    ],
)
def test_only_what_can_but_grow_is_looked_at_before_its_pane_closes(text: str, pace: Pace) -> None:
    assert rule_of(f'over: agent; expr: "{text}"').pace is pace


def test_what_is_looked_at_early_is_never_taken_back_by_the_rest_of_the_pane() -> None:
    """The open pane may fill with anything: a rule that fired early has fired when the pane closes."""
    random = Random(5)
    texts = [
        "errors[1m] + 2 * requests_error[1m] > 9",
        "errors[1m] > 4 and requests_error[20s] >= 1 or max(errors[10s], requests_error[1m]) > 7",
        "3 < errors[30s] and (requests_error[1m] + 1) / 2 > 1",
    ]
    fired = 0
    for _ in range(300):
        rule = rule_of(f'over: agent; expr: "{random.choice(texts)}"')
        made = Row()
        for _ in range(random.randint(1, 9)):
            field = random.choice(("errors", "requests_error"))
            made.add(NOW_MS - random.randint(0, 40_000), **{field: random.randint(0, 4)})
        early = judge(rule, made.at(NOW_MS)).outcome
        for _ in range(random.randint(0, 5)):
            made.add(NOW_MS + random.randint(0, PANE_MS - 1), **{random.choice(("errors", "requests_error")): 1})
        fired += early is BREACHED

        assert early is not BREACHED or judge(rule, made.at(NOW_MS + PANE_MS - 1)).outcome is BREACHED
    assert fired > 30


def test_a_ratio_of_an_expression_waits_for_its_pane() -> None:
    rule = rule_of('over: agent; expr: "errors[1m] / events[1m] > 50% and events[1m] >= 4"')
    made = Row()
    for _ in range(4):
        made.add(NOW_MS + 1, errors=1)

    assert judge(rule, made.at(NOW_MS + 9_999)).outcome is CLEAR
    verdict = judge(rule, made.at(NOW_MS + PANE_MS))
    assert (verdict.outcome, verdict.value) == (BREACHED, 1.0)


def test_an_alert_shows_both_sides_of_the_first_comparison() -> None:
    text = 'over: agent; expr: "errors[1m] / events[1m] > 2 * errors[5m] / events[5m] and events[1m] > 1"'
    made = Row()
    for minutes in range(5):
        made.add(NOW_MS - 1 - minutes * 60_000, errors=10 if not minutes else 1)
        made.add(NOW_MS - 1 - minutes * 60_000)

    verdict = judge(rule_of(text), made.at(NOW_MS))

    assert (verdict.value, verdict.limit) == (5.0, 2 * 14 / 10)
    assert rule_of('over: agent; expr: "errors[1m] / events[1m] > 30%"').limit == 0.3


@pytest.mark.parametrize(("calls", "outcome"), [(3, CLEAR), (4, BREACHED)])
def test_a_guard_must_be_true_besides(calls: int, outcome: int) -> None:
    rule = rule_of('over: agent; value: {sum: errors}; window: 1m; above: 2; when: "requests_started[1m] >= 4"')

    assert judge(rule, row(errors=3, requests_started=calls).at(NOW_MS)).outcome == outcome


def test_a_field_with_a_window_beside_it_is_its_sum() -> None:
    assert rule_of("over: agent; value: errors; window: 1m; above: 2") == rule_of(
        "over: agent; value: {sum: errors}; window: 1m; above: 2"
    )


def test_rules_that_say_the_same_are_equal() -> None:
    text = 'over: agent; expr: "errors[1m] > 2"'

    assert rule_of(text) == rule_of(text)
    assert hash(rule_of(text).condition) == hash(rule_of(text).condition)
    assert rule_of(text) != rule_of(text.replace("2", "3"))


def test_infinity_is_not_a_value() -> None:
    grow: Callable[[int], str] = lambda times: " * ".join(["errors"] + ["9000000000000000000"] * times)  # noqa: E731  a line

    assert value(grow(2), row(errors=5)) == pytest.approx(4.05e38)
    assert value(grow(17), row(errors=5)) is None
