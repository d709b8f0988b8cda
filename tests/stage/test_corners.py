"""Stories of sessions that once went wrong: what a changelog must still say when much happens between two flushes."""

import itertools
import json
from typing import Any

import pytest
from one_stage import T0, One, deltas, happen

from streams.errors import StateRefused
from streams.fold import session
from streams.fold.live import LiveRow
from streams.fold.session import CLOSED_KEPT_MS, GAP_MS
from streams.fold.streamtime import GRACE_MS
from streams.stage.deadletter import LETTERS_PER_RECORD_MAX
from streams.stage.session_table import Bounds
from streams.stage.sessions import SessionsPartition

MIN_MS = 60_000
_numbers = itertools.count()


def first(bounds: Bounds = Bounds()) -> One[SessionsPartition]:  # noqa: B008  never changed
    return One(lambda: SessionsPartition(0, 1, 1, bounds=bounds))


def event(kind: str, at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    """Make an event of the session s at a moment after the beginning."""
    return {"kind": kind, "id": f"e{next(_numbers)}", "time": T0 + at_ms, "agent": "a", "session_id": "s", **fields}


def ping(at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    return event("cycle", at_ms, phase="planning", **fields)


def row(one: One[SessionsPartition]) -> LiveRow:
    rows: dict[Any, LiveRow] = dict(one.state.sessions())
    return rows["s"]


def pass_time(one: One[SessionsPartition], until_ms: int, since_ms: int = 0) -> None:
    """Tick once a minute."""
    for at_ms in range(since_ms, until_ms + 1, MIN_MS):
        one.state.tick(T0 + at_ms)


def test_a_row_deleted_and_begun_anew_between_two_flushes_is_there_after_a_restart() -> None:
    one = first()
    happen(one, ping(), event("session_end"))
    one.flush()
    after_ms = CLOSED_KEPT_MS + 40 * MIN_MS
    pass_time(one, after_ms)
    happen(one, ping(after_ms + 1))
    one.flush()
    one.reload()

    assert (1, 1) == (row(one).events, row(one).incarnation)


def test_a_row_evicted_and_begun_anew_between_two_flushes_is_there_after_a_restart() -> None:
    one = first(Bounds(rows=1))
    happen(one, ping())
    one.flush()
    happen(one, ping(1, session_id="other"), ping(2))
    one.flush()
    one.reload()

    assert {"s": 1} == {key: each.events for key, each in one.state.sessions()}


def test_a_session_that_begins_late_counts_in_no_pane() -> None:
    one = first()
    happen(one, ping(session_id="on time"), ping(-GRACE_MS - 1, session_id="late"), ping(-GRACE_MS, session_id="just"))
    one.flush()

    begun = {
        delta.pane_ms: delta.sums["sessions_started"]
        for delta in deltas(one.sent("rollups"))
        if delta.dimension == "all" and "sessions_started" in delta.sums
    }
    assert {T0: 1, -1: 1, T0 - GRACE_MS: 1} == begun


def test_eviction_leaves_the_deadlines_of_closed_incarnations() -> None:
    one = first(Bounds(rows=2))
    happen(one, ping(), event("session_end"), ping(1))
    one.flush()
    assert b"c1:s" in one.rows
    happen(one, *(ping(2 + n, session_id=f"flood-{n}") for n in range(20)))
    one.flush()
    pass_time(one, CLOSED_KEPT_MS + 2 * MIN_MS)
    one.flush()

    assert b"c1:s" not in one.rows


def test_a_session_that_ends_and_begins_all_day_has_one_deadline() -> None:
    one = first()
    for turn in range(600):
        happen(one, ping(turn * 1_000), event("session_end", turn * 1_000 + 1))
        one.flush()
        if turn % 60 == 0:
            one.state.tick(T0 + turn * 1_000 + 2)

    assert 1 == sum(len(keys) for keys in one.state._idle._slots.values())


@pytest.mark.parametrize("reload", [False, True], ids=["living on", "reloaded"])
def test_a_session_begun_anew_is_idle_after_its_own_silence(reload: bool) -> None:
    """Its deadline is not that of the ended row it follows, which was kept for longer."""
    one = first()
    happen(one, ping(), event("session_end"))
    one.flush()
    if reload:
        one.reload()
    happen(one, ping(MIN_MS))
    pass_time(one, MIN_MS + GAP_MS + MIN_MS, since_ms=2 * MIN_MS)

    assert "idle" == row(one).end_reason
    assert T0 + MIN_MS == row(one).ended_ms


def torn(one: One[SessionsPartition], *kept: bytes) -> None:
    """Plan, let only some rows of the plan become visible, and start again from there."""
    plan = one.state.plan()
    assert plan is not None
    one.rows |= {key: value for key, value in plan.rows if key in kept and value is not None}
    one.reload()


def test_what_a_torn_transaction_left_is_not_folded_twice() -> None:
    one = first()
    happen(one, ping())
    one.flush()
    happen(one, ping(1), ping(2, session_id="t"))
    torn(one, b"ss")
    one.replay()
    one.flush()

    assert {"s": 2, "t": 1} == {key: each.events for key, each in one.state.sessions()}
    assert (3, 1) == (one.state.counters()["received"], one.state.counters()["duplicate"])


def test_the_id_of_an_event_in_a_torn_row_is_still_remembered() -> None:
    one = first()
    happen(one, ping())
    one.flush()
    repeated = ping(1)
    happen(one, repeated)
    torn(one, b"ss")
    one.replay()
    happen(one, repeated)

    assert 2 == row(one).events


def test_a_closed_row_left_by_a_torn_transaction_goes_when_its_session_did_not_follow() -> None:
    one = first()
    happen(one, ping())
    one.flush()
    happen(one, event("session_end", 1), ping(2))
    torn(one, b"c1:s")
    one.flush()

    assert b"c1:s" not in one.rows
    one.replay()
    one.flush()
    assert (2, 1) == (session.decode(one.rows[b"c1:s"]).events, row(one).events)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"ss", b"\x01"),
        (b"ss", b""),
        (b"\xff", b"x"),
        (b"zoo", b"x"),
        (b"cx:s", b"x"),
        (b"inone", b""),
        (b"m", b"\xc1"),
    ],
)
def test_a_changelog_row_of_somebody_else_is_refused_with_its_name(key: bytes, value: bytes) -> None:
    one = first()
    happen(one, ping())
    one.flush()
    one.rows[key] = value

    with pytest.raises(StateRefused, match="sessions partition 0"):
        one.reload()


def test_a_row_that_breaks_behind_its_head_is_refused_when_it_is_needed() -> None:
    one = first()
    happen(one, ping())
    one.flush()
    one.rows[b"ss"] = one.rows[b"ss"][: session.HEAD_BYTES + 3]
    one.reload()

    with pytest.raises(StateRefused, match="b'ss'"):
        happen(one, ping(1))


def test_a_record_of_thousands_of_bad_times_is_refused_in_linear_time() -> None:
    """Each of those that have a letter with its own place; this once took a step per pair of them."""
    bad = [ping(n) | {"time": "soon"} for n in range(5_000)]
    one = first()
    one.state.feed([one.write(json.dumps(bad).encode())])
    plan = one.flush()

    assert plan is not None
    assert 5_000 == one.state.counters()["rejected_time"]
    assert list(range(LETTERS_PER_RECORD_MAX)) == [letter["position"] for letter in one.told("dead-letter")]
