"""Stories of sessions: what counts, where it counts, when a session ends, and that a restart never shows."""

import itertools
import json
import random
from typing import Any

import msgspec
import pytest
from fleet import Fleet
from hostile import BAD_BYTES, BAD_EVENTS, BAD_RECORDS
from one_stage import T0, One, deltas, happen, totals
from truth import recount

from streams.errors import StateRefused
from streams.fold import dedup, session
from streams.fold.live import LiveRow
from streams.fold.session import CLOSED_KEPT_MS, GAP_MS, SessionRow
from streams.fold.streamtime import GRACE_MS, SKEW_MS
from streams.rule.parse import parse_rules
from streams.stage.session_rows import META_KEY
from streams.stage.session_table import Bounds
from streams.stage.sessions import SessionsPartition

MIN_MS = 60_000
RULES = parse_rules("""
groups:
  - name: g
    rules:
      - {alert: Loop, over: session, value: {sum: tool_errors}, window: 5m, above: 2, severity: critical, summary: "s"}
""")
_numbers = itertools.count()


def first(partitions: int = 1, bounds: Bounds = Bounds()) -> One[SessionsPartition]:  # noqa: B008  never changed
    return One(lambda: SessionsPartition(0, partitions, 1, RULES, bounds=bounds))


def event(kind: str, at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    """Make an event of the session s at a moment after the beginning."""
    return {"kind": kind, "id": f"e{next(_numbers)}", "time": T0 + at_ms, "agent": "a", "session_id": "s", **fields}


def ping(at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    return event("cycle", at_ms, phase="planning", **fields)


def row(one: One[SessionsPartition]) -> LiveRow:
    rows: dict[Any, LiveRow] = dict(one.state.sessions())
    return rows["s"]


def stored(one: One[SessionsPartition], key: bytes) -> SessionRow:
    return session.decode(one.rows[key])


# ---- time ------------------------------------------------------------------------------------------------------


def test_an_event_at_the_grace_is_in_its_minute_and_an_older_one_counts_in_totals_only() -> None:
    one = first()
    happen(one, ping(GRACE_MS), ping(0), ping(-1))
    one.flush()

    assert (3, 1, 2) == (row(one).events, row(one).late, sum(pane.events for pane in row(one).panes))
    assert {"applied": 2, "late": 1, "received": 3} == one.state.counters()
    late = [delta for delta in deltas(one.sent("rollups")) if delta.pane_ms < 0]
    assert {"all", "agent", "cycle"} == {delta.dimension for delta in late}
    assert all(1 == delta.sums["events"] for delta in late)


def test_a_clock_that_runs_ahead_is_set_to_the_records_own() -> None:
    one = first()
    happen(one, ping(SKEW_MS), timestamp_ms=T0)
    assert "skewed" not in one.state.counters()

    happen(one, ping(10**9), timestamp_ms=T0 + SKEW_MS)

    assert 1 == one.state.counters()["skewed"]
    assert T0 + SKEW_MS == one.state.watermark_ms == row(one).last_ms


def test_old_events_replayed_are_not_late_against_each_other() -> None:
    """There is no lower bound: only the partition's own watermark makes an event late."""
    one = first()
    happen(one, *(ping(n * 1_000) for n in range(10)), timestamp_ms=T0 + 10**10)

    assert {"applied": 10} == one.state.counters()


def test_time_ticks_only_forward() -> None:
    one = first()
    happen(one, ping())
    one.state.tick(T0 + GAP_MS + MIN_MS)
    assert row(one).ended_ms
    happen(one, ping(GAP_MS + 2 * MIN_MS))
    one.state.tick(T0)
    one.state.tick(0)

    assert not row(one).ended_ms
    assert 2 == row(one).incarnation


def test_event_time_alone_ends_no_session() -> None:
    """After an outage of hours the log is read on, and what was silent in it is not idle."""
    one = first()
    happen(one, ping(), ping(5 * GAP_MS, session_id="other"), ping(5 * GAP_MS + 1))

    assert 1 == row(one).incarnation


# ---- lives -----------------------------------------------------------------------------------------------------


def test_an_idle_session_ends_at_the_start_of_its_silence() -> None:
    one = first()
    happen(one, event("agent_start", call_id="r"), ping(1_234))
    one.state.tick(T0 + GAP_MS)
    assert not row(one).ended_ms

    one.state.tick(T0 + 1_234 + GAP_MS + MIN_MS)
    one.flush()

    ended = stored(one, b"ss")
    assert (T0 + 1_234, "idle", 1, {}, []) == (
        ended.ended_ms, ended.end_reason, ended.abandoned, ended.open, ended.panes
    )  # fmt: skip
    sums = totals(one.sent("rollups"))["all", ()]
    assert (1, 1, 1) == (sums["sessions_started"], sums["sessions_ended"], sums["requests_abandoned"])


def test_a_session_that_speaks_again_begins_anew_and_leaves_its_totals_beside() -> None:
    one = first()
    happen(one, ping(), event("session_end", 5, reason="done"), ping(10))
    one.flush()

    assert (2, 1, T0 + 10) == (row(one).incarnation, row(one).events, row(one).started_ms)
    closed = stored(one, b"c1:s")
    assert (1, 2, T0 + 5, "done") == (closed.incarnation, closed.events, closed.ended_ms, closed.end_reason)
    assert 1 == one.state.counters()["reopened"]
    sums = totals(one.sent("rollups"))["all", ()]
    assert (2, 1) == (sums["sessions_started"], sums["sessions_ended"])


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_closed_and_ended_rows_go_after_an_hour_with_a_tombstone(restart: bool) -> None:
    one = first()
    happen(one, ping(), event("session_end", 5), ping(10), event("session_end", 15))
    one.flush()
    if restart:
        one.reload()
    one.state.tick(T0 + CLOSED_KEPT_MS)
    one.flush()
    assert {b"ss", b"c1:s"} <= set(one.rows)

    for minute in range(1, 40):
        one.state.tick(T0 + CLOSED_KEPT_MS + minute * MIN_MS)
        one.flush()

    assert not {b"ss", b"c1:s"} & set(one.rows)
    tombstones = [key for plan in one.plans for key, value in plan.rows if value is None]
    assert [b"c1:s", b"ss"] == sorted(key for key in tombstones)
    assert {} == dict(one.state.sessions())


def test_marks_outlive_the_end_of_a_session() -> None:
    one = first()
    said: dict[str, Any] = {"source": "host", "seq": 7}
    happen(one, ping(**said), event("session_end", 5), ping(10), ping(11, **said))

    assert 1 == one.state.counters()["duplicate"]
    assert 1 == row(one).events


def test_events_without_a_session_belong_to_their_process() -> None:
    one = first()
    happen(one, {**ping(), "session_id": None, "source": "host"}, {**ping(), "session_id": None})
    one.flush()

    assert {b"phost", b"pa"} <= set(one.rows)
    assert "sessions_started" not in totals(one.sent("rollups"))["all", ()]


# ---- calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ["request", "model", "tool"])
def test_in_flight_is_started_less_ended_less_abandoned(noun: str) -> None:
    kind = {"request": "agent"}.get(noun, noun)
    labels = {} if noun == "request" else {noun: "x"}
    one = first()
    happen(
        one,
        event(f"{kind}_start", 1, call_id="c1", **labels),
        event(f"{kind}_end", 2, call_id="c1", **labels),
        event(f"{kind}_start", 3, call_id="c2", **labels),
        event(f"{kind}_start", 4, call_id="c2", **labels),  # twice: the second can never be matched
        event(f"{kind}_start", 5, **labels),  # nor can this
        event(f"{kind}_end", 6, call_id="unseen", **labels),
        event(f"{kind}_end", 7, **labels),
    )
    one.flush()

    plural = "requests" if noun == "request" else f"{noun}_calls"
    sums = totals(one.sent("rollups"))["agent", ("a",)]
    assert (4, 1, 2, 2) == tuple(sums[f"{plural}_{what}"] for what in ("started", "ended", "abandoned", "unmatched"))
    assert (2, 2, ["c2"]) == (row(one).abandoned, row(one).unmatched, list(row(one).open))


def test_a_call_that_ends_under_another_name_ends_where_it_began() -> None:
    one = first()
    happen(one, event("tool_start", call_id="c", tool="x"), event("tool_end", 1, call_id="c", tool="y"))
    one.flush()

    found = totals(one.sent("rollups"))
    assert {"events": 1, "tool_calls_started": 1, "tool_calls_ended": 1} == found["tool", ("x",)]
    assert {"events": 1, "tool_calls_success": 1} == found["tool", ("y",)]


# ---- caps ------------------------------------------------------------------------------------------------------


def test_at_the_cap_the_longest_idle_session_makes_room() -> None:
    one = first(bounds=Bounds(rows=3))
    happen(one, *(ping(n * 2 * MIN_MS, session_id=f"s{n}") for n in range(3)), ping(7 * MIN_MS, session_id="s0"))
    one.flush()
    happen(one, ping(8 * MIN_MS, session_id="s3"))
    one.flush()

    assert {"s0", "s2", "s3"} == {key for key, _ in one.state.sessions()}
    assert 1 == one.state.counters()["evicted"]
    assert b"ss1" not in one.rows
    sums = totals(one.sent("rollups"))["all", ()]
    assert (4, 1) == (sums["sessions_started"], sums["sessions_ended"])


def test_a_flood_of_sessions_stays_below_the_cap_and_loses_no_count() -> None:
    one = first(bounds=Bounds(rows=10))
    happen(one, *(ping(n, session_id=f"s{n}") for n in range(200)))
    one.flush()

    assert 10 == len(dict(one.state.sessions()))
    assert 190 == one.state.counters()["evicted"]
    assert 200 == totals(one.sent("rollups"))["all", ()]["events"]
    one.reload()
    assert 10 == len(dict(one.state.sessions()))


def test_a_session_that_has_just_come_is_not_the_one_to_go() -> None:
    """Within a minute all are idle for as long, and a flood must not evict again and again those that work."""
    one = first(bounds=Bounds(rows=10))
    happen(one, *(ping(n, session_id=f"flood-{n}") for n in range(50)))
    happen(one, *(ping(50 + n, session_id=f"busy-{n % 5}") for n in range(50)))
    one.flush()

    assert 45 == one.state.counters()["evicted"]


def test_rows_that_nobody_touches_are_kept_as_bytes_and_are_still_right() -> None:
    one = first()
    happen(one, ping(), ping(1, session_id="busy"))
    one.flush()
    for minute in range(1, 5):
        happen(one, ping(minute * MIN_MS, session_id="busy"))
        one.flush()
        one.state.tick(T0 + minute * MIN_MS + 1)

    assert isinstance(one.state._rows["s"], bytes)
    assert isinstance(one.state._rows["busy"], LiveRow)
    happen(one, ping(5 * MIN_MS))
    assert (2, T0, T0 + 5 * MIN_MS) == (row(one).events, row(one).started_ms, row(one).last_ms)


# ---- what is refused, repeated or misrouted --------------------------------------------------------------------


def test_everything_hostile_is_counted_told_and_harms_nobody() -> None:
    one = first()
    bad = (*BAD_EVENTS, *BAD_BYTES, *BAD_RECORDS)
    for hostile in bad:
        one.state.feed([one.write(hostile.value)])
        happen(one, ping())
    one.flush()

    counters = one.state.counters()
    letters = one.told("dead-letter")
    assert (len(bad), len(bad), 2 * len(bad)) == (counters["rejected"], counters["applied"], counters["received"])
    assert [hostile.reason for hostile in bad] == [letter["reason"] for letter in letters]
    assert [2 * n for n in range(len(bad))] == [letter["offset"] for letter in letters]
    assert len(bad) == row(one).events


@pytest.mark.parametrize("mark", [{}, {"source": "host", "seq": 5}], ids=["id", "seq"])
@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_a_repeat_counts_once(mark: dict[str, Any], restart: bool) -> None:
    one = first()
    said = ping(**mark)
    happen(one, said)
    one.flush()
    if restart:
        one.reload()
    happen(one, said, said)

    assert {"applied": 1, "duplicate": 2, "received": 1} == one.state.counters()
    assert 1 == row(one).events


def test_ids_are_forgotten_beyond_their_limit_and_seqs_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "IDS_MAX", 10)
    monkeypatch.setattr(dedup, "IDS_PER_SEGMENT", 5)
    one = first()
    by_id, by_seq = ping(), ping(source="host", seq=1)
    happen(one, by_id, by_seq, *(ping() for _ in range(20)), by_seq, by_id)
    one.flush()

    assert 1 == one.state.counters()["duplicate"]
    assert sum(1 for key in one.rows if key[:1] == b"i") <= 3


def test_a_session_in_the_wrong_partition_is_counted_and_kept() -> None:
    one = first(partitions=50)
    happen(one, *(ping(session_id=f"s{n}") for n in range(50)))

    assert 45 <= one.state.counters()["misrouted"] <= 50
    assert 50 == len(dict(one.state.sessions()))


# ---- rules -----------------------------------------------------------------------------------------------------


def test_a_session_alert_fires_in_the_flush_that_passes_the_limit_and_ends_with_its_session() -> None:
    one = first()
    fail = {"tool": "t", "status": "error"}
    happen(one, event("tool_end", 1, **fail), event("tool_end", 2, **fail))
    one.flush()
    assert [] == one.told("alerts")

    happen(one, event("tool_end", 3, **fail))
    one.flush()
    assert [("firing", 3, {"session_id": "s"})] == [
        (alert["state"], alert["value"], alert["labels"]) for alert in one.told("alerts")
    ]

    one.reload()
    happen(one, event("session_end", 4))
    one.flush()
    assert ["firing", "resolved"] == [alert["state"] for alert in one.told("alerts")]
    assert "session_ended" == one.told("alerts")[-1]["reason"]


def test_an_alert_resolves_when_its_session_falls_silent() -> None:
    one = first()
    happen(one, *(event("tool_end", n, tool="t", status="error") for n in range(3)))
    one.flush()
    one.state.tick(T0 + GAP_MS + 2 * MIN_MS)
    one.flush()

    assert ["firing", "resolved"] == [alert["state"] for alert in one.told("alerts")]


# ---- restarts --------------------------------------------------------------------------------------------------


def story(seed: int) -> list[dict[str, Any]]:
    """Make a fleet's events with repeats and latecomers among them."""
    rng = random.Random(seed)
    events: list[dict[str, Any]] = []
    for made in Fleet(seed, sessions=12, tools=6, tools_per_agent=3, step_ms=3_000).events(600):
        if rng.random() < 0.3:
            made = {name: value for name, value in made.items() if name not in ("source", "seq")}  # noqa: PLW2901  known by id
        events.append(made)
        if rng.random() < 0.1:
            events.append(events[-rng.randint(1, min(30, len(events)))])
        if rng.random() < 0.02:
            events.append({**events[-1], "id": f"late{len(events)}", "seq": None, "time": made["time"] - 2 * GRACE_MS})
    return events


def live(events: list[dict[str, Any]], *, restarts: bool, replay: bool = False) -> One[SessionsPartition]:
    """Feed a story in flushes of 50, with a tick after each, and restart at every flush or never."""
    one = first()
    for at in range(0, len(events), 50):
        happen(one, *events[at : at + 50])
        one.flush()
        if restarts:
            one.reload()
        if replay:
            one.replay()
        one.state.tick(events[min(at + 49, len(events) - 1)]["time"])
        one.flush()
    return one


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("replay", [False, True], ids=["", "log fed again"])
def test_restarts_at_every_flush_change_no_total_and_no_plan(seed: int, replay: bool) -> None:
    events = story(seed)
    lasting, restarted = live(events, restarts=False), live(events, restarts=True, replay=replay)

    def decoded(one: One[SessionsPartition]) -> dict[bytes, Any]:
        return {key: session.decode(value) for key, value in one.rows.items() if key[:1] in (b"s", b"p", b"c")}

    assert decoded(lasting) == decoded(restarted)
    assert lasting.state.counters() == restarted.state.counters()
    assert lasting.rows[META_KEY] == restarted.rows[META_KEY]
    assert totals(lasting.sent("rollups")) == totals(restarted.sent("rollups"))
    assert [sorted(plan.rows) for plan in lasting.plans] == [sorted(plan.rows) for plan in restarted.plans]
    assert lasting.told("alerts") == restarted.told("alerts")


@pytest.mark.parametrize("seed", range(4))
def test_totals_are_those_of_a_recount_and_nothing_is_lost_on_the_way(seed: int) -> None:
    events = story(seed)
    one = live(events, restarts=True)
    by_session, by_tool = recount({name: v for name, v in made.items() if v is not None} for made in events)
    counters, sums = one.state.counters(), totals(one.sent("rollups"))

    assert len(events) == counters["received"]
    assert counters["received"] == counters["applied"] + counters["late"] + counters["duplicate"]
    assert counters["duplicate"] > 0
    assert counters["late"] > 0
    assert counters["applied"] + counters["late"] == sums["all", ()]["events"]
    assert sum(row["events"] for row in by_session.values()) == sums["all", ()]["events"]
    for key, found in by_session.items():
        lives = [
            value
            for name, value in one.rows.items()
            if name == b"s" + key.encode() or name.endswith(f":{key}".encode())
        ]
        rows = [session.decode(value) for value in lives]
        assert found == {name: sum(getattr(one_row, name) for one_row in rows) for name in found}
    for tool, found in by_tool.items():
        ours = sums["tool", (tool,)]
        statuses = {f"calls_{name}": ours.get(f"tool_calls_{name}", 0) for name in ("success", "error")}
        assert {**statuses, "calls": sum(statuses.values())} == {
            name: found.get(name, 0) for name in ("calls_success", "calls_error", "calls")
        }


def test_offsets_folded_before_are_skipped() -> None:
    one = first()
    happen(one, *(ping(n) for n in range(5)))
    one.replay()
    one.flush()
    one.replay()

    assert 5 == row(one).events == one.state.next_offset
    assert {"applied": 5, "received": 5} == one.state.counters()
    assert one.flush() is None


def test_records_of_many_events_count_as_many() -> None:
    one = first()
    one.state.feed([one.write(json.dumps([ping(n) for n in range(100)]).encode(), T0 + 100)])

    assert 100 == row(one).events
    assert 1 == one.state.next_offset == one.state.pending


def test_sequences_to_the_second_stage_have_no_gaps_across_restarts() -> None:
    one = first()
    for n in range(5):
        happen(one, ping(n))
        one.flush()
        one.reload()
    headers = [dict(send.headers)["sequence"] for send in one.sent("rollups")]

    assert [b"1", b"2", b"3", b"4", b"5"] == headers


def test_state_of_a_newer_release_is_refused() -> None:
    one = first()
    happen(one, ping())
    one.flush()
    meta = msgspec.msgpack.decode(one.rows[META_KEY])
    for key, value in (
        (META_KEY, msgspec.msgpack.encode([*meta[:6], 99, *meta[7:]])),
        (b"ss", b"\x63" + one.rows[b"ss"][1:]),
        (b"zzz", b""),
    ):
        state = SessionsPartition(0, 1, 1)
        state.load({**one.rows, key: value}.items())
        with pytest.raises(StateRefused, match="sessions partition 0"):
            state.loaded()
