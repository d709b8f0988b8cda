"""Rules through the second stage: gauges of keys, what was learned in the changelog, silence, and whole numbers."""

from typing import Any

import pytest
from one_stage import T0, One
from stage.test_gauges import Upstream as GaugeUpstream
from stage.test_gauges import said
from stage.test_rollups import Upstream, tool

from streams.fold.streamtime import MINUTE_MS, PANE_MS
from streams.rule.parse import parse_rules
from streams.stage.judging import LEARNED_ROW
from streams.stage.rollups import RollupsPartition
from streams.stage.trust import WHOLE_PPM, Trust
from streams.topology import ALERTS


def second(rule: str) -> One[RollupsPartition]:
    rules = parse_rules(f"groups: [{{name: g, rules: [{{alert: R, {rule}}}]}}]")
    return One(lambda: RollupsPartition(0, 1, rules))


def told(one: One[Any]) -> list[tuple[str, Any]]:
    return [(record["state"], record["value"]) for record in one.told(ALERTS.suffix)]


def at(one: One[Any], at_ms: int) -> None:
    one.state.tick(T0 + at_ms)
    one.flush()


# ---- gauges ----------------------------------------------------------------------------------------------------


def test_a_gauge_of_a_key_is_judged_as_its_sources_say_together() -> None:
    one = second("over: agent, value: {gauge: memory_bytes}, above: 100")
    upstream = GaugeUpstream(one)
    upstream.send(said("a", ("p1", 60, 0), ("p2", 40, 0)))
    one.flush()
    upstream.send(said("a", ("p2", 41, 1_000), offset=1), at_ms=1_000)
    one.flush()
    one.reload()
    upstream.send(said("a", ("p2", 30, 2_000), offset=2), at_ms=2_000)
    one.flush()

    assert told(one) == [("firing", 101), ("resolved", 90)]


def test_an_alert_on_a_gauge_ends_when_nobody_says_anything_any_more() -> None:
    one = second("over: agent, value: {gauge: memory_bytes}, above: 100")
    GaugeUpstream(one).send(said("a", ("p1", 160, 0)))
    for second_ms in range(0, 6 * MINUTE_MS, PANE_MS):
        at(one, second_ms)

    assert told(one) == [("firing", 160), ("resolved", None)]


def test_an_expression_may_ask_for_gauges_and_numbers_of_one_key() -> None:
    one = second('over: agent, expr: "memory_bytes / 2 > 50 and errors > 1"')
    upstream = GaugeUpstream(one)
    upstream.send(said("a", ("p1", 160, 0)))
    one.flush()
    assert told(one) == []
    delta = said("a", ("p1", 170, 1), offset=1)
    delta.sums = {"errors": 2, "events": 2}
    upstream.send(delta, at_ms=1)
    one.flush()

    assert told(one) == [("firing", 85.0)]


def test_what_is_in_flight_is_an_expression_of_totals() -> None:
    one = second('over: tool, value: "tool_calls_started - tool_calls_ended - tool_calls_abandoned", above: 2')
    upstream = Upstream(one)
    upstream.send(tool("t", tool_calls_started=3, events=3))
    one.flush()
    upstream.send(tool("t", tool_calls_ended=1, events=1))
    one.flush()

    assert told(one) == [("firing", 3), ("resolved", 2)]


# ---- what was learned ------------------------------------------------------------------------------------------

LEARN = "over: tool, value: events, window: 1m, above: mean + 3 sigma, samples: 10, cold_start: 3"


def minute_by_minute(one: One[RollupsPartition], counts: list[int], *, restarts: bool = False) -> None:
    upstream = Upstream(one)
    for minute, count in enumerate(counts):
        upstream.send(tool("t", minute * MINUTE_MS, events=count), at_ms=minute * MINUTE_MS)
        for pane in range(6):
            at(one, minute * MINUTE_MS + pane * PANE_MS + 1)
        if restarts:
            one.reload()


@pytest.mark.parametrize(
    "limit", ["mean + 3 sigma", "median + 5 mad", "ewma + 3 sigma", "ewma + 3 sigma by hour of day"]
)
def test_what_was_learned_is_in_the_changelog_and_a_restart_changes_nothing(limit: str) -> None:
    counts = [4, 6, 4, 6, 4, 6, 40, 5, 5]
    lives = []
    for restarts in (False, True):
        one = second(LEARN.replace("mean + 3 sigma", limit))
        minute_by_minute(one, counts, restarts=restarts)
        lives.append(([record["limit"] for record in one.told(ALERTS.suffix)], told(one), one.rows))

    assert lives[0][:2] == lives[1][:2]
    assert [state for state, _ in lives[0][1]][:2] == ["firing", "resolved"]
    learned = [{key: value for key, value in rows.items() if key[:1] == LEARNED_ROW} for *_, rows in lives]
    assert len(learned[0]) == 1
    assert learned[0] == learned[1]


def test_the_record_names_the_limit_that_was_usual() -> None:
    one = second(LEARN)
    minute_by_minute(one, [4, 6, 4, 6, 40])
    (record,) = one.told(ALERTS.suffix)

    assert record["limit"] == pytest.approx(8.0)
    assert record["limit_text"] == "8"
    assert "limit 8" in record["description"]


# ---- silence ---------------------------------------------------------------------------------------------------


def test_a_key_that_falls_silent_is_noticed_after_a_restart_too() -> None:
    one = second("over: tool, absent: 1m")
    upstream = Upstream(one)
    upstream.send(tool("t"))
    one.flush()
    one.reload()
    at(one, 30_000)
    one.reload()
    at(one, MINUTE_MS + 1)
    upstream.send(tool("t", 2 * MINUTE_MS), at_ms=2 * MINUTE_MS)
    one.flush()

    assert told(one) == [("firing", MINUTE_MS + 1), ("resolved", 0)]


# ---- whole numbers ---------------------------------------------------------------------------------------------


def test_a_rule_waits_until_nearly_everything_comes_in_time() -> None:
    one = second("over: tool, value: events, window: 1m, above: 2, complete: 90%")
    upstream = Upstream(one)
    late = 0

    def send(at_ms: int, events: int, late_now: int) -> None:
        nonlocal late
        late += late_now
        record = upstream.record(tool("t", at_ms, events=events), at_ms=at_ms)
        body = record.value.replace(b'"deltas"', b'"late":%d,"deltas"' % late)
        one.log[-1] = record._replace(value=body)
        one.state.feed([one.log[-1]])
        one.flush()

    send(0, 8, 2)
    assert told(one) == []
    one.reload()
    at(one, PANE_MS)
    assert told(one) == []
    send(7 * MINUTE_MS, 100, 0)  # the bad minutes are past

    assert told(one) == [("firing", 100)]


def test_the_share_is_of_the_last_minutes_only() -> None:
    trust = Trust()

    assert trust.note(0, applied=0, lost=0) == WHOLE_PPM
    assert trust.note(1_000, applied=75, lost=25) == 750_000
    assert trust.note(4 * MINUTE_MS, applied=175, lost=25) == 875_000
    assert trust.note(5 * MINUTE_MS, applied=175, lost=25) == 875_000
    assert trust.note(6 * MINUTE_MS, applied=275, lost=25) == WHOLE_PPM
    assert trust.note(60 * MINUTE_MS, applied=275, lost=35) == 0


def test_it_goes_on_after_a_restart() -> None:
    random_ms = [7 * MINUTE_MS // 3 * step for step in range(12)]
    through, again = Trust(), Trust()
    for step, now_ms in enumerate(random_ms):
        counts = {"applied": step * 10, "lost": step * step}
        expected = through.note(now_ms, **counts)
        assert expected == again.note(now_ms, **counts)
        marks, again = again.marks, Trust()
        again.load(marks, **counts)
