"""A stretch of the log under rules: in the order of its time, and the same whatever it is read in."""

import json
from collections.abc import Iterable
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage import T0

from streams.rule.defaults import default_rules
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage.lives import Life, by_rule, compare
from streams.stage.replay import STEP_MS, Merge, Pace, Read, Replay, read_line

RULES: Final = parse_rules("""
groups:
  - name: g
    rules:
      - {alert: Failing, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 3, severity: critical}
      - {alert: Quiet, over: tool, value: {sum: events}, window: 1m, below: 1, min_count: 1, severity: info}
      - {alert: Waits, over: session, value: {gauge: oldest_in_flight_ms}, above: 10m, severity: info}
      - {alert: Held, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 1, for: 10m, severity: info}
""")


def record(number: int, at_ms: int, **fields: Any) -> Read:
    event = {"kind": "tool_end", "id": f"e{number}", "time": T0 + at_ms, "agent": "a", "session_id": "s",
             "tool": "search", "status": "error", **fields}  # fmt: skip
    return Read(number, T0 + at_ms, None, json.dumps(event).encode())


def play(
    parts: list[list[Read]], end_ms: int, rules: RuleSet = RULES, *, at_once: int = 3, step_ms: int = STEP_MS
) -> Replay:
    """Replay partitions, of which so many records are read at once; `end_ms` is after T0."""
    replay, merge = Replay(rules, partitions=len(parts), rollup_partitions=2), Merge(len(parts))
    pace = Pace([replay], merge, step_ms=step_ms)
    at = [0] * len(parts)
    while wanted := pace.wants():
        for number in wanted:
            some = parts[number][at[number] : at[number] + at_once]
            at[number] += len(some)
            merge.push(number, some)
            if not some:
                merge.end(number)
        pace.go()
    pace.finish(T0 + end_ms)
    assert sum(map(len, parts)) == pace.records
    return replay


def times(lives: Iterable[Life]) -> list[tuple[str, int | None, int | None]]:
    """Return names, and when each fired and ended, after T0."""
    return [
        (one.alert, one.fired_ms and one.fired_ms - T0, one.resolved_ms and one.resolved_ms - T0) for one in lives
    ]  # fmt: skip


def test_alerts_fire_and_end_at_the_time_of_the_records() -> None:
    """Four errors, then silence: the sum fires with the fourth and ends with its window, silence fires a pane later."""
    replay = play([[record(number, number * 1_000) for number in range(4)]], 300_000)

    # a window of a minute is six panes, the open one included; silence waits for six closed ones
    found = times(replay.lives.all())
    assert found[0][:2] == ("Failing", 3_000)
    assert found[0][2] is not None
    assert found[0][2] % 10_000 == 0
    assert 50_000 <= found[0][2] <= 60_000
    assert [name for name, *_ in found] == ["Failing", "Quiet"]
    assert {"received": 4, "applied": 4} == {name: replay.counters()[name] for name in ("received", "applied")}


def test_the_worst_value_is_seen_although_it_is_no_transition() -> None:
    (failing,) = [
        one
        for one in play([[record(number, number * 500) for number in range(9)]], 60_000).lives.all()
        if one.alert == "Failing"
    ]

    assert (9, "9") == (failing.peak, failing.peak_text)


def test_what_was_only_pending_is_no_alert() -> None:
    replay = play([[record(number, number) for number in range(3)]], 600_000)

    assert "Held" not in {one.alert for one in replay.lives.all()}


@pytest.mark.parametrize(("rules", "fired_ms"), [(RULES, 601_000), (RuleSet(RULES.rules[2:3]), 610_000)])
def test_ages_pass_in_silence(rules: RuleSet, fired_ms: int) -> None:
    """Nothing comes for a quarter of an hour: time is walked through, by panes while no alert is alive."""
    started = record(0, 0, kind="tool_start", call_id="c")
    later = record(1, 900_000, session_id="other", status="success")
    waits = [one for one in play([[started, later]], 1_000_000, rules).lives.all() if one.alert == "Waits"]

    assert [("Waits", fired_ms)] == [each[:2] for each in times(waits)]


def test_alerts_that_were_over_before_the_range_are_left_out() -> None:
    replay = play([[record(number, number * 1_000) for number in range(4)]], 300_000)

    assert ["Quiet"] == [one.alert for one in replay.lives.all(T0 + 200_000)]


@given(st.integers(0, 10_000), st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_it_does_not_matter_how_much_is_read_at_once(seed: int, at_once: int) -> None:
    random = Random(seed)
    parts = [
        [
            record(number, at_ms, session_id=f"s{part}", tool=random.choice(("a", "b")))
            for number, at_ms in enumerate(sorted(random.randrange(200_000) for _ in range(random.randrange(60))))
        ]
        for part in range(3)
    ]
    one, other = (play(parts, 400_000, at_once=count) for count in (at_once, 1_000))

    assert times(one.lives.all()) == times(other.lives.all())
    assert one.counters() == other.counters()


def test_a_partition_that_is_not_read_yet_holds_the_others_back() -> None:
    merge = Merge(2)
    pace = Pace([Replay(RULES, partitions=2)], merge)
    merge.push(0, [record(number, number * 10_000) for number in range(5)])
    pace.go()

    assert [1] == pace.wants()
    assert 0 == pace.records


def test_a_clock_that_goes_back_takes_no_record_out_of_order() -> None:
    back = [record(0, 5_000), record(1, 1_000), record(2, 9_000)]
    replay = play([back, [record(0, 3_000, session_id="x", id="x")]], 20_000)

    assert 4 == replay.counters()["applied"]


def test_lines_are_records_of_their_own_time() -> None:
    line = record(0, 7_000).value or b""

    assert T0 + 7_000 == read_line(0, line, 5).timestamp
    assert T0 + 7_000 == read_line(0, b"[" + line + b"]", 5).timestamp
    assert [5, 5, 5] == [read_line(0, bad, 5).timestamp for bad in (b"{", b"[]", b'{"time": "soon"}')]


# ---- comparing -------------------------------------------------------------------------------------------------


def life(fired_ms: int, resolved_ms: int | None, *, alert: str = "A", tool: str = "t") -> Life:
    return Life(alert, "tool", {"tool": tool}, "info", "count", "", fired_ms, fired_ms, resolved_ms)


def test_lives_at_the_same_time_are_one_alert_under_two_rule_sets() -> None:
    early, late, lasting, other = life(0, 10), life(100, 120), life(5, None), life(0, 10, tool="u")

    assert ([], [], [], 1) == compare([early], [life(0, 10)])
    assert ([], [], [(early, lasting)], 0) == compare([early], [lasting])
    assert ([early], [late], [], 0) == compare([early], [late])
    assert ([early], [other], [], 0) == compare([early], [other])


def test_one_long_alert_and_two_short_ones_share_one_pair() -> None:
    long, first, second = life(0, 100), life(0, 10), life(50, 60)

    assert ([], [second], [(long, first)], 0) == compare([long], [first, second])


def test_rules_that_never_fired_are_counted_with_nothing() -> None:
    replay = play([[record(number, number * 1_000) for number in range(4)]], 100_000)
    counted = {one.alert: (one.fired, one.keys) for one in by_rule(replay.lives.all(), RULES.rules)}

    assert {"Failing": (1, 1), "Quiet": (1, 1), "Waits": (0, 0), "Held": (0, 0)} == counted


@pytest.mark.parametrize("step_ms", [250, 1_000, 10_000])
def test_times_are_right_to_a_step(step_ms: int) -> None:
    parts = [[record(number, number * 1_000) for number in range(4)]]
    fired = [one.fired_ms for one in play(parts, 60_000, default_and_own(), step_ms=step_ms).lives.all()]

    assert fired[0] is not None
    assert 3_000 <= fired[0] - T0 <= 3_000 + step_ms


def default_and_own() -> RuleSet:
    return RuleSet((*RULES.rules[:1], *default_rules().rules))
