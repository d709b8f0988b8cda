"""The view: which rows share a set of labels, and that nothing is lost or counted twice by sharing."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from fleet import Fleet
from hypothesis import given
from hypothesis import strategies as st
from through_stages import Stages, event, of_every_kind

from streams.errors import StateRefused
from streams.fold.measure import DIMENSIONS
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, encode_row
from streams.fold.session import OVERFLOW
from streams.rule.parse import parse_rules
from streams.sink.metric import BREAKERS_MAX, KEYS_MAX
from streams.sink.verdicts import CIRCUIT_STATES
from streams.sink.view import BUCKETS, LIFETIME, META, META_CODEC, PANE, View
from streams.stage import rollup_rows
from streams.stage.keys import dimension_key
from streams.topology import ALERTS, BREAKERS

RULES = parse_rules(
    """
groups:
  - name: tests
    rules:
      - {alert: ToolFails, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 2, severity: critical}
      - {alert: Slow, over: agent, value: {sum: events}, window: 1m, above: 1, for: 1h}
breakers:
  - {over: tool, failure_rate: 0.5, min_calls: 3, open_for: 30s}
"""
)


def settled(view: View) -> View:
    for _ in view.settle():
        pass
    return view


def row(
    dimension: str, labels: tuple[str, ...], ordinal: int, *, count: int = 1, created_ms: int = 1_000
) -> LifetimeRow:
    buckets = [0] * BUCKETS
    buckets[count % BUCKETS] = count
    return LifetimeRow(
        dimension, labels, ordinal, created_ms, 2_000, 5, {"tool_calls_success": count},
        {"tool_duration": LifetimeHistogram(3 * count, buckets)},
    )  # fmt: skip


def stored(*rows: LifetimeRow) -> list[tuple[bytes, bytes]]:
    return [(LIFETIME + dimension_key(each.dimension, each.labels).encode(), encode_row(each)) for each in rows]


def calls(view: View, dimension: str = "tool") -> dict[tuple[str, ...], int]:
    return {group.labels: group.row.sums.get("tool_calls_success", 0) for group in view.groups(dimension)}


# ---- what it reads ---------------------------------------------------------------------------------------------


def test_the_view_knows_the_keys_that_the_second_stage_writes() -> None:
    """The folder of stages comes after this one, so the letters stand here again."""
    assert (rollup_rows.LIFETIME, rollup_rows.PANE, rollup_rows.META_KEY) == (LIFETIME, PANE, META)
    assert META_CODEC == rollup_rows.META_CODEC


def test_rows_of_real_stages_add_up_to_what_the_stages_hold() -> None:
    stages = Stages()
    events = Fleet(1, sessions=40, step_ms=50).events(3_000)
    batch = []
    for each in events:
        batch.append(each)
        if len(batch) == 500:
            stages.publish(batch)
            batch = []
    view = View(len(stages.rollups))
    for number, rows in stages.changelog():
        view.feed(number, rows)
    settled(view)

    held = {keyed.key: keyed.row for partition in stages.rollups for keyed in partition.keyed()}
    shown = {dimension_key(name, group.labels): group.row for name in DIMENSIONS for group in view.groups(name)}
    assert held == shown
    assert view.rows == len(held) > 50


def test_a_row_that_changed_often_counts_once() -> None:
    view = View(1)
    view.feed(0, stored(row("tool", ("a",), 0, count=1)))
    settled(view)
    view.feed(0, stored(row("tool", ("a",), 0, count=7)) + stored(row("tool", ("a",), 0, count=9)))

    assert {("a",): 1} == calls(view), "what is fed shows only once it is settled"
    assert {("a",): 9} == calls(settled(view))


def test_a_tombstone_takes_the_row_away() -> None:
    view = View(1)
    one, other = stored(row("tool", ("a",), 0), row("tool", ("b",), 1))
    view.feed(0, [one, other])
    settled(view)
    view.feed(0, [(one[0], None)])
    settled(view)

    assert {("b",): 1} == calls(view)
    assert view.rows == 1


def test_settling_goes_on_where_it_was_left() -> None:
    """A reader that goes away in the middle of a page loses nothing, and what came later wins."""
    view = View(1)
    rows = [row("tool", (f"t{number:03d}",), number, count=number + 1) for number in range(200)]
    view.feed(0, stored(*rows))
    next(iter(view.settle()))
    view.feed(0, stored(row("tool", ("t000",), 0, count=5_000)))
    settled(view)

    assert {(f"t{number:03d}",): number + 1 for number in range(1, 200)} | {("t000",): 5_000} == calls(view)


def test_groups_stand_in_the_order_of_their_labels_whatever_came_first() -> None:
    view = View(1)
    view.feed(0, stored(row("tool", ("b",), 0), row("tool", ("a",), 1), row("tool", ("ä",), 2)))
    settled(view)
    view.feed(0, stored(row("tool", ("aa",), 3)))
    settled(view)

    assert [("a",), ("aa",), ("b",), ("ä",)] == [group.labels for group in view.groups("tool")]


def test_panes_are_kept_only_when_asked_for() -> None:
    stages = Stages()
    stages.publish([event("tool_end", 1, tool="search", session_id="s")])
    kept, not_kept = View(2, keep_panes=True), View(2)
    for number, rows in stages.changelog():
        kept.feed(number, rows)
        not_kept.feed(number, rows)

    assert ["tool|search"] == [
        key for key, pane in kept.panes() if key.startswith("tool|") and pane.sums["events"] == 1
    ]
    assert [] == list(not_kept.panes())


# ---- what it refuses -------------------------------------------------------------------------------------------


def meta(next_offset: int, codec: int = META_CODEC) -> tuple[bytes, bytes]:
    return META, rollup_rows.encode_meta(
        rollup_rows.Meta(next_offset, 0, {0: rollup_rows.Upstream(1, 10, 5_000)}, codec=codec)
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([meta(1, META_CODEC + 1)], f"version {META_CODEC + 1}"),
        ([(META, b"\xc1")], "meta row cannot be read"),
        ([(LIFETIME + b"all", b"\xc1")], "cannot be read"),
        (
            stored(LifetimeRow("all", (), 0, 0, 0, 0, {}, {"first_token": LifetimeHistogram(0, [1, 2])})),
            "other histogram buckets",
        ),
    ],
)
def test_rows_of_another_release_are_refused(rows: list[tuple[bytes, bytes]], said: str) -> None:
    view = View(1)
    view.feed(0, rows)

    with pytest.raises(StateRefused, match=said):
        settled(view)


def test_a_state_that_goes_back_is_refused() -> None:
    """Offsets of the source only grow: when they fall, the topics are new ones."""
    view = View(1)
    for next_offset in (7, 9):
        view.feed(0, [meta(next_offset)])
        settled(view)
    view.feed(0, [meta(3)])

    with pytest.raises(StateRefused, match="offset 3, after it had reached 9"):
        settled(view)


def test_a_dimension_of_a_later_release_is_left_out() -> None:
    view = View(1)
    view.feed(0, stored(row("planet", ("mars",), 0), row("tool", ("a",), 0)))

    assert {("a",): 1} == calls(settled(view))


# ---- caps ------------------------------------------------------------------------------------------------------


BEGINNINGS = st.sampled_from([-1, 5, 6, 7])  # −1: nothing had a time yet


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, dict[int, list[LifetimeRow]]]:
    """Partitions, the cap, and rows by partition: ordinals without gaps, an overflow row where the stage made one."""
    partitions = draw(st.integers(1, 4))
    cap = draw(st.integers(1, 12))
    rows: dict[int, list[LifetimeRow]] = {}
    for number in range(partitions):
        counts = draw(st.lists(st.integers(0, 10**12), max_size=8))
        rows[number] = [
            row("agent_tool", (f"p{number}", f"t{at}"), at, count=count, created_ms=draw(BEGINNINGS))
            for at, count in enumerate(counts)
        ]
        if draw(st.booleans()):
            count = draw(st.integers(1, 10**12))
            rows[number].append(row("agent_tool", (OVERFLOW, OVERFLOW), -1, count=count, created_ms=draw(BEGINNINGS)))
    return partitions, cap, rows


@given(tables(), st.data())
def test_named_and_overflow_are_all_there_is(
    made: tuple[int, int, dict[int, list[LifetimeRow]]], data: st.DataObject
) -> None:
    """Each partition names the first ceil(cap / partitions) of its keys; the rest is the overflow, to the last unit."""
    partitions, cap, rows = made
    view = View(partitions, {"agent_tool": cap})
    earlier = [
        (
            number,
            row(
                each.dimension,
                each.labels,
                each.ordinal,
                count=data.draw(st.integers(0, 99)),
                created_ms=each.created_ms,
            ),
        )
        for number, some in rows.items()
        for each in some
        if data.draw(st.booleans())
    ]
    for number, each in data.draw(st.permutations(earlier)):
        view.feed(number, stored(each))
        if data.draw(st.booleans()):
            settled(view)
    for number, some in rows.items():
        view.feed(number, stored(*some))
    settled(view)

    share = -(-cap // partitions)
    expected: dict[tuple[str, ...], list[LifetimeRow]] = {}
    for each in (each for some in rows.values() for each in some):
        named = 0 <= each.ordinal < share
        expected.setdefault(each.labels if named else (OVERFLOW, OVERFLOW), []).append(each)
    assert {labels: sum(counts(some)) for labels, some in expected.items()} == calls(view, "agent_tool")
    for group in view.groups("agent_tool"):
        parts = [each.histograms["tool_duration"] for each in expected[group.labels]]
        total = group.row.histograms["tool_duration"]
        assert sum(part.sum_us for part in parts) == total.sum_us
        assert [sum(column) for column in zip(*(part.buckets for part in parts), strict=True)] == total.buckets
        known = [each.created_ms for each in expected[group.labels] if each.created_ms >= 0]
        assert min(known, default=-1) == group.row.created_ms


def counts(rows: Iterable[LifetimeRow]) -> Iterator[int]:
    return (each.sums["tool_calls_success"] for each in rows)


def test_a_key_keeps_its_name_for_ever() -> None:
    """Admission goes by the order of first arrival, which the row itself remembers: it survives every restart."""
    stages = Stages(rollups=1)
    for number in range(30):
        stages.publish([event("tool_end", number, tool=f"tool-{29 - number:02d}", session_id="s")])
    early, late = View(1, {"tool": 5}), View(1, {"tool": 5})
    seen = []
    for number, rows in stages.changelog():
        early.feed(number, rows)
        seen.append({group.labels for group in settled(early).groups("tool")})
    for number, rows in reversed(stages.changelog()):  # as compaction might leave them
        late.feed(number, [each for each in rows if each[0][:1] == LIFETIME])

    assert all(before <= after for before, after in pairwise(seen))
    assert {(f"tool-{number}",) for number in (29, 28, 27, 26, 25)} | {(OVERFLOW,)} == seen[-1]
    assert seen[-1] == {group.labels for group in settled(late).groups("tool")}
    assert {"tool": 25} == {name: count for (name,), count, _ in early.samples()["agent_series_overflow_keys"] if count}


def test_a_tool_that_calls_itself_overflow_shares_that_series() -> None:
    view = View(1, {"tool": 1})
    view.feed(0, stored(row("tool", (OVERFLOW,), 0, count=2), row("tool", ("b",), 1, count=3)))

    assert {(OVERFLOW,): 5} == calls(settled(view))


def test_a_group_of_one_again_is_that_one() -> None:
    view = View(1, {"tool": 1})
    rows = stored(row("tool", ("a",), 0), row("tool", ("b",), 1, count=3), row("tool", ("c",), 2, count=4))
    view.feed(0, rows)
    settled(view)
    view.feed(0, [(rows[1][0], None)])

    assert {("a",): 1, (OVERFLOW,): 4} == calls(settled(view))
    view.feed(0, stored(row("tool", ("b",), 1, count=6)))
    assert {("a",): 1, (OVERFLOW,): 10} == calls(settled(view))


def test_every_dimension_has_a_cap() -> None:
    assert DIMENSIONS.keys() == KEYS_MAX.keys()
    assert all(KEYS_MAX[name] <= dimension.rows_max for name, dimension in DIMENSIONS.items())


# ---- the stream as a whole -------------------------------------------------------------------------------------


def through(stages: Stages) -> View:
    view = View(len(stages.rollups))
    for number, rows in stages.changelog():
        view.feed(number, rows)
    for key, value in stages.sent(ALERTS.suffix):
        view.alerts.take(key, value)
    for key, value in stages.sent(BREAKERS.suffix):
        view.breakers.take(key, value)
    return settled(view)


def test_nothing_is_unreconciled_once_the_second_stage_has_read_everything() -> None:
    stages = Stages()
    stages.publish(of_every_kind())
    samples = through(stages).samples()

    assert [0] == [value for _, value, _ in samples["agent_stream_events_unreconciled"]]
    assert max(value for _, value, _ in samples["agent_stream_watermark_timestamp_seconds"]) > 1_763_724_000


def test_what_is_missing_in_the_tables_is_unreconciled() -> None:
    stages = Stages()
    stages.publish(of_every_kind())
    view = View(len(stages.rollups))
    for number, rows in stages.changelog():
        view.feed(number, [each for each in rows if each[0] != LIFETIME + b"all"])
    applied = sum(partition.counters().get("applied", 0) for partition in stages.sessions)

    assert [applied] == [value for _, value, _ in settled(view).samples()["agent_stream_events_unreconciled"]]


def failing(count: int) -> list[dict[str, object] | bytes]:
    return [
        event(
            "tool_end", number, tool="search", status="error", session_id=f"s{number}", time=1_763_724_000_000 + number
        )
        for number in range(count)
    ]


def test_alerts_are_counted_by_what_they_do_now() -> None:
    stages = Stages(RULES)
    stages.publish(failing(5))
    alerts = {labels: value for labels, value, _ in through(stages).samples()["agent_alerts"]}

    assert 1 == alerts["ToolFails", "critical", "firing"]
    assert 0 == alerts["ToolFails", "critical", "resolved"]
    assert 1 == alerts["Slow", "warning", "pending"]


def test_transitions_count_from_the_moment_the_exporter_has_caught_up() -> None:
    """What a restart reads again is no transition: rates would show it as one."""
    stages = Stages(RULES)
    stages.publish(failing(5))
    view = through(stages)
    view.alerts.counting = True
    before = view.samples()["agent_alert_transitions_total"]
    seen = len(stages.plans)
    stages.tick(1_763_724_000_000 + 600_000)
    for _, plan in stages.plans[seen:]:
        for send in plan.sends:
            if send.topic == ALERTS.suffix:
                view.alerts.take(send.key or b"", send.value)
    after = {labels: value for labels, value, _ in view.samples()["agent_alert_transitions_total"]}

    assert {0} == {value for _, value, _ in before}
    assert 1 == after["ToolFails", "critical", "resolved"]
    assert 0 == after["ToolFails", "critical", "firing"]


def test_a_forgotten_alert_is_counted_no_more() -> None:
    stages = Stages(RULES)
    stages.publish(failing(5))
    view = through(stages)
    for key, _ in stages.sent(ALERTS.suffix):
        view.alerts.take(key, None)

    assert {0} == {value for _, value, _ in view.samples()["agent_alerts"]}


def test_a_circuit_shows_its_state_and_how_often_it_has_moved() -> None:
    stages = Stages(RULES)
    stages.publish(failing(5))
    samples = through(stages).samples()

    assert [(("tool", "search"), 1)] == [each[:2] for each in samples["agent_circuit_breaker_state"]]
    assert [(("tool", "search"), 1)] == [each[:2] for each in samples["agent_circuit_breaker_transitions_total"]]
    assert {("tool", state): int(state == "open") for state in CIRCUIT_STATES} == dict(
        each[:2] for each in samples["agent_circuit_breakers"]
    )
    stages.tick(1_763_724_000_000 + 60_000)
    assert [2] == [value for _, value, _ in through(stages).samples()["agent_circuit_breaker_state"]]


def test_a_circuit_shows_its_window_and_what_was_denied() -> None:
    """The window of a circuit that is still closed, too; and -1 where too few calls say something."""
    rules = parse_rules(
        "breakers: [{over: tool, window: 9 calls, min_calls: 4, slow_call: 10ms}, {over: agent, window: 9 calls}]"
    )
    stages = Stages(rules)
    ends = enumerate([("success", 5), ("success", 11), ("success", 5), ("error", 11)])
    stages.publish([event("tool_end", at, tool="a|b", status=status, duration_ms=ms) for at, (status, ms) in ends])
    denied = event("guard", 9, target="tool|a\\|b", denied_by="breaker")
    stages.publish([denied, event("agent_end", 10, status="error")])
    samples = {name: {each[0]: each[1] for each in some} for name, some in through(stages).samples().items()}

    assert {("tool", "a|b"): 0.25, ("agent", "planner"): -1.0} == samples["agent_circuit_breaker_failure_ratio"]
    assert {("tool", "a|b"): 0.5, ("agent", "planner"): -1.0} == samples["agent_circuit_breaker_slow_call_ratio"]
    assert {("tool", "a|b"): 2, ("agent", "planner"): 0} == samples["agent_circuit_breaker_slow_calls"]
    assert {
        ("tool", "a|b", "successful"): 3, ("tool", "a|b", "failed"): 1,
        ("agent", "planner", "successful"): 0, ("agent", "planner", "failed"): 1,
    } == samples["agent_circuit_breaker_buffered_calls"]  # fmt: skip
    assert {("tool", "a|b"): 1} == samples["agent_circuit_breaker_not_permitted_calls_total"]


def test_circuits_beyond_the_cap_are_counted_but_have_no_series() -> None:
    """Until one of those with a series is forgotten."""
    view = View(1)

    def circuit(number: int, state: str, code: int) -> bytes:
        labels = f'{{"tool": "t{number:04d}"}}'
        return f'{{"over": "tool", "labels": {labels}, "state": "{state}", "code": {code}, "transition": 1}}'.encode()

    for number in range(BREAKERS_MAX + 2):
        view.breakers.take(b"tool|%d" % number, circuit(number, "open", 1))
    view.breakers.take(b"tool|0", circuit(0, "closed", 0))
    before = {labels: value for labels, value, _ in view.samples()["agent_circuit_breaker_state"]}
    counts = {labels: value for labels, value, _ in view.samples()["agent_circuit_breakers"]}
    view.breakers.take(b"tool|0", None)
    after = {labels: value for labels, value, _ in view.samples()["agent_circuit_breaker_state"]}

    assert BREAKERS_MAX == len(before) == len(after)
    assert 0 == before["tool", "t0000"]
    assert {("tool", "t0000")} == before.keys() - after.keys()
    others = {("tool", state): 0 for state in CIRCUIT_STATES}
    assert {**others, ("tool", "open"): BREAKERS_MAX + 1, ("tool", "closed"): 1} == counts
    assert 0 == dict(each[:2] for each in view.samples()["agent_circuit_breakers"])["tool", "closed"]


def test_a_verdict_that_cannot_be_read_is_counted_and_left_out() -> None:
    view = View(1)
    view.alerts.take(b"k", b"{")
    view.alerts.take(b"k", b'{"alert": 3}')
    view.breakers.take(b"k", b"[]")

    assert (2, 1) == (view.alerts.unreadable, view.breakers.unreadable)
    assert [] == view.samples()["agent_alerts"]
