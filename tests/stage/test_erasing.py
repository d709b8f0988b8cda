"""What is erased is gone from every row, comes back from no log, and leaves every sum as it was."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from one_stage import T0, One, Record, happen

from streams.event.command import Purge
from streams.fold.measure import DIMENSIONS
from streams.fold.rollup import Delta, EraseOrder, RollupBatch, decode_lifetime
from streams.fold.session import CLOSED_KEPT_MS
from streams.rule.parse import parse_rules
from streams.stage.commands import CommandsPartition
from streams.stage.erasing import ERASED_KEY, KEPT_MS, ROWS_PER_STEP, SESSION, USER, Erasures, digest_of
from streams.stage.plan import Plan
from streams.stage.rollups import RollupsPartition
from streams.stage.session_table import Bounds
from streams.stage.sessions import SessionsPartition

RULES: Final = parse_rules("""
groups:
  - name: g
    rules:
      - {alert: Loop, over: session, value: {sum: tool_errors}, window: 5m, above: 2, severity: critical, summary: "s"}
""")
CANARY: Final = "canary-7f3a"


def first() -> One[SessionsPartition]:
    return One(lambda: SessionsPartition(0, 1, 2, RULES))


def command(scope: str, name: str, number: int = 1) -> bytes:
    purge = Purge(id=f"p{number}", time=T0, by="me", scope=scope, digest=digest_of(scope, name))  # type: ignore[arg-type]  # one of two
    return msgspec.json.encode(purge)


def accepted(*values: bytes) -> Erasures:
    """Have the commands stage take commands, and hear what its changelog says."""
    stage = CommandsPartition(0, 2)
    stage.feed([Record(at, T0, None, value) for at, value in enumerate(values)])
    plan = stage.plan()
    assert plan is not None
    again = CommandsPartition(0, 2)
    again.load(plan.rows)
    again.loaded()
    erasures = Erasures()
    assert erasures.take(plan.rows)
    return erasures


def event(session: str, number: int, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {"kind": "tool_end", "id": f"{session}-{number}", "time": T0 + at_ms, "agent": "a", "session_id": session,
            "call_id": f"c{number}", "tool": "t", "status": "error", "duration_ms": 5, **more}  # fmt: skip


def said(plan: Plan) -> Iterator[bytes]:
    for key, value in plan.rows:
        yield key + (value or b"")
    for send in plan.sends:
        yield (send.key or b"") + (send.value or b"")


def test_a_session_is_gone_with_its_alert_and_its_earlier_lives_and_others_stay() -> None:
    one = first()
    happen(one, *(event(CANARY, n) for n in range(5)), event(CANARY, 5, kind="session_end", reason="completed"))
    one.flush()
    happen(one, *(event(CANARY, n, 10) for n in range(6, 12)), event("other", 1, 10))
    one.flush()
    assert any(key.startswith(b"c") for key in one.rows), "an earlier life"
    assert [each["state"] for each in one.told("alerts")].count("firing") >= 1

    assert one.state.erase(accepted(command(SESSION, CANARY)))
    plan = one.flush()

    assert plan is not None
    assert [] == [key for key in one.rows if CANARY.encode() in key + one.rows[key]]
    assert {"other"} == {key for key, _ in one.state.sessions()}
    assert any(send.topic == "alerts" and send.value is None for send in plan.sends), "its topic is told to forget"
    assert ERASED_KEY + digest_of(SESSION, CANARY).encode() in one.rows, "what must not come back is known"


def ended(session: str, number: int, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    return event(session, number, at_ms, kind="session_end", reason="completed", **more)


def lives(one: One[SessionsPartition]) -> list[str]:
    return sorted(key.decode() for key in one.rows if key[:1] in {b"s", b"c"})


@pytest.mark.parametrize(("scope", "name"), [(SESSION, CANARY), (USER, f"u-{CANARY}")])
def test_a_life_that_closes_between_the_order_and_the_look_at_it_is_gone_too(scope: str, name: str) -> None:
    one, user = first(), f"u-{CANARY}"
    happen(one, event(CANARY, 1, user_id=user), ended(CANARY, 2), event("other", 1), ended("other", 2))
    one.flush()
    assert one.state.erase(accepted(command(scope, name)))
    happen(one, event(CANARY, 3, 1), event("other", 3, 1))  # later than the order, and without a user
    one.flush()

    assert ["c1:other", "sother"] == lives(one)
    assert [] == [key for key in one.rows if CANARY.encode() in key + one.rows[key]]


@pytest.mark.parametrize("returns", [False, True])
def test_an_earlier_life_whose_session_has_no_row_any_more_goes_with_any_user(returns: bool) -> None:
    """Its row was the one that named the user, as far as a partition knows; others keep theirs."""
    one, minute_ms = One(lambda: SessionsPartition(0, 1, 2, bounds=Bounds(rows=2))), 60_000
    happen(one, event("s", 1, user_id=CANARY), ended("s", 2), event("s", 3))
    happen(one, event("other", 1, 2 * minute_ms), ended("other", 2, 2 * minute_ms), event("other", 3, 2 * minute_ms))
    happen(one, event("third", 1, 4 * minute_ms))
    one.flush()
    assert ["c1:other", "c1:s", "sother", "sthird"] == lives(one)
    if returns:
        happen(one, event("other", 4, 5 * minute_ms), event("s", 4, 5 * minute_ms, user_id="somebody"))
    one.flush()
    one.reload()
    assert one.state.erase(accepted(command(USER, CANARY)))
    one.flush()

    assert ["c1:other", "sother", "ss" if returns else "sthird"] == lives(one)
    assert [] == [key for key in one.rows if CANARY.encode() in key + one.rows[key]]


@pytest.mark.parametrize(("scope", "name"), [(SESSION, CANARY), (USER, f"u-{CANARY}")])
def test_a_torn_erasure_leaves_nothing_wherever_it_was_torn_also_no_alert_that_fires(scope: str, name: str) -> None:
    one = first()
    happen(one, event(CANARY, 1, user_id=f"u-{CANARY}"), ended(CANARY, 2), *(event(CANARY, n) for n in range(3, 8)))
    happen(one, *(event("other", n) for n in range(5)))
    one.flush()
    stored, erasures = dict(one.rows), accepted(command(scope, name))
    assert {b"Loop"} == {key[3:7] for key in stored if key[:1] == b"a" and CANARY.encode() in key}
    one.state.erase(erasures)
    plan = one.flush()
    assert plan is not None

    for torn in range(len(plan.rows)):  # all but the meta row, which ends it
        again = first()
        again.rows = dict(stored)
        again.keep(plan.rows[:torn])
        again.reload()
        again.state.erase(erasures)
        again.flush()
        assert [] == [key for key in again.rows if CANARY.encode() in key + again.rows[key]], f"torn behind {torn} rows"
        assert ["sother"] == lives(again)


def test_no_event_from_before_comes_back_and_every_one_is_counted() -> None:
    one = first()
    happen(one, event(CANARY, 1), event("other", 2, 5_000))
    one.state.erase(accepted(command(SESSION, CANARY)))
    one.flush()
    one.reload()
    happen(one, event(CANARY, 3), event(CANARY, 4, 5_000), event("other", 5), event(CANARY, 6, 5_001))
    plan = one.flush()

    assert {"other", CANARY} == {key for key, _ in one.state.sessions()}
    counters = one.state.counters()
    assert (2, 2, 6) == (counters["rejected"], counters["rejected_erased"], counters["received"])
    assert counters["received"] == sum(counters.get(name, 0) for name in ("applied", "late", "duplicate", "rejected"))
    assert [] == one.sent("dead-letter"), "a dead letter would quote what was erased"
    assert plan is not None


def test_an_erasure_is_carried_out_once_also_after_a_restart_half_way() -> None:
    """More rows than one step looks at; the plan that was made half-way is the last that is written."""
    one = first()
    count = ROWS_PER_STEP * 2 + 10
    happen(one, *(event(f"s{n}", n, user_id=CANARY if n % 7 == 0 else "somebody") for n in range(count)))
    one.flush()
    erasures = accepted(command(USER, CANARY))
    one.state.erase(erasures)
    one.flush()
    left = sum(row.user_id == CANARY for _, row in one.state.sessions())
    assert 0 < left < len(range(0, count, 7))
    one.reload()
    assert one.state.erase(erasures)
    flushes = 0
    while one.flush():
        flushes += 1
        assert flushes < 10

    assert 0 == sum(row.user_id == CANARY for _, row in one.state.sessions())
    assert count - len(range(0, count, 7)) == len(list(one.state.sessions()))
    assert not one.state.erase(erasures)
    one.reload()
    assert not one.state.erase(erasures), "the meta row says that it is done"


def test_calls_in_flight_of_an_erased_session_are_abandoned() -> None:
    one = first()
    happen(one, event(CANARY, 1, kind="tool_start"))
    one.flush()
    one.state.erase(accepted(command(SESSION, CANARY)))
    one.flush()

    batches = [msgspec.json.decode(send.value or b"", type=RollupBatch) for send in one.sent("rollups")]
    sums = [delta.sums for batch in batches for delta in batch.deltas if delta.dimension == "tool"]
    assert 1 == sum(each.get("tool_calls_abandoned", 0) for each in sums)


def test_a_process_goes_on_without_the_name_of_its_user() -> None:
    one = first()
    happen(one, {"kind": "heartbeat", "id": "h", "time": T0, "agent": "a", "source": "p", "user_id": CANARY})
    one.flush()
    one.state.erase(accepted(command(USER, CANARY)))
    one.flush()

    ((key, row),) = one.state.sessions()
    assert (("p",), None, 1) == (key, row.user_id, row.events)
    assert [] == [key for key in one.rows if CANARY.encode() in key + one.rows[key]]


def test_a_users_numbers_stay_without_the_name_behind_every_delta_of_it() -> None:
    """Whatever the first stage has sent of a user comes before its order, so nothing of the name is left."""
    one, second = first(), One(lambda: RollupsPartition(0, 1))
    spent: dict[str, Any] = {"kind": "token_usage", "model": "m", "input_tokens": 10, "output_tokens": 1}
    happen(one, event(CANARY, 1, user_id="known", **spent), event("s", 2, user_id=CANARY, **spent))
    one.flush()
    happen(one, event("s", 3, 5, user_id=CANARY, **spent))
    one.state.erase(accepted(command(USER, CANARY)))
    one.flush()
    for send in one.sent("rollups"):
        batch = msgspec.json.decode(send.value or b"", type=RollupBatch)
        batch.sequence = len(second.log) + 1  # two partitions of rollups in one
        second.state.feed([second.write(msgspec.json.encode(batch))])
        second.flush()
        second.reload()

    rows = {key: decode_lifetime(value).sums for key, value in second.rows.items() if key.startswith(b"luser")}
    assert {b"luser|known", b"luser|__other__"} == rows.keys()
    assert 2 * 10 == rows[b"luser|__other__"]["input_tokens"]
    assert [] == [key for key in second.rows if CANARY.encode() in key + second.rows[key]]
    panes = [value for key, value in second.rows.items() if key.startswith(b"p") and key.endswith(b"user|__other__")]
    assert panes
    later = RollupBatch(0, len(second.log) + 1, 9, T0, [])
    second.state.feed([second.write(msgspec.json.encode(later))])
    assert second.flush() is not None


def batch(number: int, *users: tuple[str, int], erase: str | None = None) -> bytes:
    """Write what a partition of events sends: so many tokens of users, and whom to erase behind them."""
    erasures = [] if erase is None else [EraseOrder(f"p{number}", digest_of(USER, erase))]
    deltas = [Delta("user", (name,), T0, {"input_tokens": tokens}) for name, tokens in users]
    return msgspec.json.encode(RollupBatch(0, number, number, T0, deltas, erasures=erasures))


def tokens(one: One[RollupsPartition]) -> dict[str, int]:
    """Return what the stored rows say of users, and look whether each pane has its row."""
    found = {key[6:].decode(): value for key, value in one.rows.items() if key.startswith(b"luser|")}
    assert {key.split(b"|")[1].decode() for key in one.rows if key.startswith(b"p")} <= found.keys()
    return {name: decode_lifetime(value).sums["input_tokens"] for name, value in found.items()}


def test_a_torn_erasure_of_a_user_leaves_what_can_be_loaded_and_adds_up_wherever_it_was_torn() -> None:
    whole = One(lambda: RollupsPartition(0, 1))
    whole.state.feed([whole.write(batch(1, (CANARY, 10), ("b", 5)))])
    whole.flush()
    stored = dict(whole.rows)
    for value in (
        batch(2, (CANARY, 3), ("c", 1)), batch(3, erase=CANARY), batch(4, (CANARY, 2), ("d", 4)),
        batch(5, erase=CANARY), batch(6, (CANARY, 7), ("b", 1)),
    ):  # fmt: skip
        whole.state.feed([whole.write(value)])
    plan = whole.flush()
    assert plan is not None
    expected = {"b": 6, "c": 1, "d": 4, CANARY: 7, "__other__": 15}
    assert expected == tokens(whole)

    for torn in range(len(plan.rows)):  # all but the meta row, which ends it
        for at_once in (1, 2, 5):
            again = One(lambda: RollupsPartition(0, 1))
            again.rows = dict(stored)
            again.keep(plan.rows[:torn])
            for at in range(1, len(whole.log), at_once):
                again.reload()
                again.state.feed(whole.log[at : at + at_once])
                again.flush()
            assert expected == tokens(again), f"torn behind {torn} rows, {at_once} records at once"


def test_the_place_of_an_erased_user_stays_taken_also_after_a_restart() -> None:
    """Whoever came when there was no room is in the shared row, and no row of their own may begin half way."""
    one = One(lambda: RollupsPartition(0, DIMENSIONS["user"].rows_max))
    one.state.feed([one.write(batch(1, (CANARY, 10))), one.write(batch(2, ("b", 5), erase=CANARY))])
    one.flush()
    one.reload()
    one.state.feed([one.write(batch(3, ("b", 1), ("c", 2)))])
    one.flush()

    assert {"__other__": 18} == tokens(one)


def test_a_pane_without_the_row_of_its_user_is_let_go_of() -> None:
    one = One(lambda: RollupsPartition(0, 1))
    one.state.feed([one.write(batch(1, (CANARY, 10), ("b", 5)))])
    one.flush()
    del one.rows[b"luser|" + CANARY.encode()]
    one.reload()
    one.flush()

    assert {"b": 5} == tokens(one)
    assert [] == [key for key in one.rows if CANARY.encode() in key]


def test_erasures_are_forgotten_when_nothing_older_can_be_read_any_more() -> None:
    one = first()
    happen(one, event(CANARY, 1))
    one.state.erase(accepted(command(SESSION, CANARY)))
    one.flush()
    one.state.tick(T0 + KEPT_MS - 1)
    one.flush()
    assert any(key.startswith(ERASED_KEY) for key in one.rows)
    one.state.tick(T0 + KEPT_MS + CLOSED_KEPT_MS)
    one.flush()

    assert not any(key.startswith(ERASED_KEY) for key in one.rows)


def test_no_topic_holds_the_id() -> None:
    assert CANARY not in command(USER, CANARY).decode()
    assert json.loads(command(USER, CANARY))["digest"] == digest_of(USER, CANARY)
