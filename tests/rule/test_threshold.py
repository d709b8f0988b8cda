"""Verdicts: strict limits, closed panes, minimum counts, and when a row must be looked at again."""

import pytest
from rule.rows import NOW_MS, PANE_MS, Row, rule_of

from streams.rule.threshold import BREACHED, CLEAR, TOO_FEW, Verdict, edge_after, judge, recheck_ms

RATIO = "over: tool; value: {ratio: {of: errors, to: events}}; window: 1m; above: 50%; min_count: 4"
SILENCE = "over: all; value: {sum: events}; window: 1m; below: 3; min_count: 10"
P95 = "over: model; value: {quantile: {of: model_duration, q: 0.95}}; window: 1m; above: 2s; min_count: 3"
AGE = "over: session; value: {gauge: oldest_in_flight_ms}; above: 10m"


@pytest.mark.parametrize(("amount", "outcome"), [(9, CLEAR), (10, CLEAR), (11, BREACHED)])
def test_above_is_strict(amount: int, outcome: int) -> None:
    row = Row()
    row.add(NOW_MS, errors=amount)

    assert judge(rule_of("over: tool; value: {sum: errors}; window: 1m; above: 10"), row.at(NOW_MS)).outcome == outcome


@pytest.mark.parametrize(("count", "outcome"), [(2, BREACHED), (3, CLEAR), (4, CLEAR)])
def test_below_is_strict_and_looks_at_closed_panes(count: int, outcome: int) -> None:
    row = Row()
    row.add(NOW_MS - 600_000, events=100)
    row.add(NOW_MS - PANE_MS, events=count)
    row.add(NOW_MS, events=50)

    assert judge(rule_of(SILENCE), row.at(NOW_MS + 5_000)).outcome == outcome


def test_a_sum_above_takes_the_open_pane_in() -> None:
    row = Row()
    row.add(NOW_MS + 5_000, errors=2)

    verdict = judge(rule_of("over: tool; value: {sum: errors}; window: 1m; above: 1"), row.at(NOW_MS + 5_000))

    assert verdict == Verdict(BREACHED, 2, 0)


def test_a_sum_of_several_fields_adds_them_up() -> None:
    row = Row()
    row.add(NOW_MS, tool_calls_error=2, tool_calls_timeout=3)
    rule = rule_of("over: tool; value: {sum: [tool_calls_error, tool_calls_timeout]}; window: 1m; above: 4")

    assert judge(rule, row.at(NOW_MS)) == Verdict(BREACHED, 5, 0)


def test_a_ratio_waits_for_its_pane_to_close() -> None:
    row = Row()
    for _ in range(4):
        row.add(NOW_MS + 1_000, errors=1)

    assert judge(rule_of(RATIO), row.at(NOW_MS + 9_999)) == Verdict(TOO_FEW, None, 0)
    assert judge(rule_of(RATIO), row.at(NOW_MS + PANE_MS)) == Verdict(BREACHED, 1.0, 4)


def test_a_ratio_of_too_few_calls_is_neither_breached_nor_clear() -> None:
    row = Row()
    for _ in range(3):
        row.add(NOW_MS - 1, errors=1)

    assert judge(rule_of(RATIO), row.at(NOW_MS)) == Verdict(TOO_FEW, 1.0, 3)


def test_a_ratio_equal_to_its_limit_is_clear() -> None:
    row = Row()
    for number in range(4):
        row.add(NOW_MS - 1, errors=number % 2)

    assert judge(rule_of(RATIO), row.at(NOW_MS)) == Verdict(CLEAR, 0.5, 4)


def test_a_quantile_needs_its_observations() -> None:
    row = Row()
    row.observe(NOW_MS - 1, "model_duration", 1_000_000, 3_000_000)
    assert judge(rule_of(P95), row.at(NOW_MS)) == Verdict(TOO_FEW, None, 2)

    row.observe(NOW_MS - 1, "model_duration", 3_000_000)
    assert judge(rule_of(P95), row.at(NOW_MS)) == Verdict(BREACHED, 3_000_000.0, 3)


def test_a_new_row_is_not_silent_until_it_has_spoken_enough() -> None:
    row = Row()
    row.add(NOW_MS - 600_000, events=9)
    assert judge(rule_of(SILENCE), row.at(NOW_MS)).outcome is TOO_FEW

    row.add(NOW_MS - 600_000, events=1)
    assert judge(rule_of(SILENCE), row.at(NOW_MS)) == Verdict(BREACHED, 0, 10)


def test_totals_reach_back_to_the_beginning() -> None:
    row = Row()
    row.add(0, cost_nano_usd=3 * 10**9)
    row.add(NOW_MS, cost_nano_usd=3 * 10**9)

    assert (
        judge(rule_of("over: session; value: {total: cost_nano_usd}; above: 5 USD"), row.at(NOW_MS)).outcome is BREACHED
    )


def test_an_age_counts_up_to_the_moment_of_the_reading() -> None:
    row = Row(started_ms={"oldest_in_flight_ms": NOW_MS})

    assert judge(rule_of(AGE), row.at(NOW_MS + 600_000)) == Verdict(CLEAR, 600_000)
    assert judge(rule_of(AGE), row.at(NOW_MS + 600_001)) == Verdict(BREACHED, 600_001)
    assert judge(rule_of(AGE), Row().at(NOW_MS)) == Verdict(TOO_FEW, None)


def test_an_age_is_due_at_the_very_millisecond_it_passes_the_limit() -> None:
    rule, row = rule_of(AGE), Row(started_ms={"oldest_in_flight_ms": NOW_MS})
    now_ms = NOW_MS + 123_456
    again_ms = recheck_ms(rule, row.at(now_ms), judge(rule, row.at(now_ms)), now_ms)

    assert again_ms == NOW_MS + 600_001
    assert recheck_ms(rule, Row().at(now_ms), judge(rule, Row().at(now_ms)), now_ms) is None


def test_a_closed_window_is_due_at_the_next_edge_as_long_as_anything_happens() -> None:
    rule, row = rule_of(RATIO), Row()
    row.add(NOW_MS + 1)

    def again(now_ms: int) -> int | None:
        return recheck_ms(rule, row.at(now_ms), judge(rule, row.at(now_ms)), now_ms)

    assert again(NOW_MS + 1) == NOW_MS + PANE_MS
    assert again(NOW_MS + PANE_MS) == NOW_MS + 2 * PANE_MS
    assert again(NOW_MS + 60_000) == NOW_MS + 70_000  # the last closed pane with something in it
    assert again(NOW_MS + 70_000) is None


def test_a_rule_that_waits_for_silence_is_due_at_every_edge() -> None:
    rule, row = rule_of(SILENCE), Row()

    assert recheck_ms(rule, row.at(NOW_MS), judge(rule, row.at(NOW_MS)), NOW_MS) == NOW_MS + PANE_MS


def test_a_sum_above_a_limit_never_breaks_it_by_itself() -> None:
    rule, row = rule_of("over: tool; value: {sum: errors}; window: 1m; above: 10"), Row()

    assert recheck_ms(rule, row.at(NOW_MS), judge(rule, row.at(NOW_MS)), NOW_MS) is None


@pytest.mark.parametrize(("now_ms", "edge_ms"), [(0, 60_000), (59_999, 60_000), (60_000, 120_000)])
def test_panes_of_sessions_are_minutes(now_ms: int, edge_ms: int) -> None:
    assert edge_after(rule_of("over: session; value: {sum: tokens}; window: 5m; above: 1"), now_ms) == edge_ms
