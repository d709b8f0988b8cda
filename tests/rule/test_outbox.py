"""What a receiver is told: the newest of everything once, and again what it forgets."""

from typing import Any

import pytest
from noticed import record

from streams.rule.outbox import (
    BACKOFF_MS,
    RESOLVED_RESENT_MS,
    RETRY_AFTER_MAX_MS,
    Begun,
    Delivered,
    Outbox,
    Verdict,
    delay_ms,
    verdict_of,
)
from streams.rule.receivers import Matcher, Receiver
from streams.rule.records import AlertRecord


def outbox(told: dict[str, Delivered] | None = None, **changes: Any) -> Outbox:
    return Outbox(Receiver(**{"name": "oncall", "kind": "webhook", "url": "http://x", **changes}), told)


def sent(box: Outbox, now_ms: int = 1_000) -> list[str]:
    """Deliver everything that is due; return the ids in order."""
    found: list[str] = []
    while batch := box.due(now_ms):
        box.sent(batch, now_ms)
        found += [each.id for each in batch]
    return found


def stored(box: Outbox) -> dict[str, str | None]:
    return {row.fingerprint: row.delivered.record.id if row.delivered else None for row in box.rows()}


def test_every_state_is_told_once_and_stored() -> None:
    box = outbox()
    box.learn("a", record("a"), 1_000)
    assert ["a-1"] == sent(box)
    box.learn("a", record("a", "resolved", 2), 2_000)

    assert ["a-2"] == sent(box)
    assert {"a": "a-2"} == stored(box)
    assert [] == sent(box, 10**9)


def test_after_an_outage_only_the_newest_of_each_alert_is_told() -> None:
    box = outbox()
    for transition in range(1, 8):
        box.learn("a", record("a", "firing" if transition % 2 else "resolved", transition), 1_000)
    box.learn("b", record("b"), 1_000)
    box.learn("b", record("b", "resolved", 2), 1_000)

    assert 2 == box.pending
    assert ["a-7", "b-2"] == sent(box)


def test_pending_is_told_to_nobody() -> None:
    box = outbox()
    box.learn("a", record("a", "pending"), 1_000)
    box.learn("a", None, 1_000)

    assert [] == sent(box)
    assert {} == stored(box)


def test_a_resolve_goes_out_even_when_the_alert_is_pending_again_or_forgotten() -> None:
    for newer in (record("a", "pending", 3), None):
        box = outbox({"a": Delivered(record("a"), 0)})
        box.learn("a", record("a", "resolved", 2), 1_000)
        box.learn("a", newer, 1_000)

        assert ["a-2"] == sent(box)
        assert {"a": "a-2" if newer else None} == stored(box)


def test_what_was_told_to_fire_is_closed_when_it_falls_silent() -> None:
    """A raised `for` makes a firing alert pending again; and of a forgotten one nobody else would ever say so."""
    for newer in (record("a", "pending", 2, reason="for_raised"), None):
        box = outbox({"a": Delivered(record("a"), 0)})
        box.learn("a", newer, 1_000)
        (closed,) = box.due(1_000)

        assert ("resolved", "for_raised" if newer else "forgotten") == (closed.state, closed.reason)
        assert closed.id != record("a").id


def test_a_firing_that_ended_before_it_was_told_is_told_as_ended() -> None:
    box = outbox()
    box.learn("a", record("a"), 1_000)
    box.learn("a", record("a", "resolved", 2), 1_000)

    assert ["a-2"] == sent(box)


def test_a_new_receiver_hears_what_fires_and_not_what_is_over() -> None:
    begun = Begun({"0": 7})
    box = outbox()
    box.learn("fires", record("fires"), 1_000, old=True)
    box.learn("over", record("over", "resolved", 2), 1_000, old=begun.old(0, 6))
    box.learn("news", record("news", "resolved", 2), 1_000, old=begun.old(0, 7))

    assert ["fires-1", "news-2"] == sent(box)


def test_after_a_restart_nothing_is_told_twice() -> None:
    told = {"a": Delivered(record("a"), 500), "b": Delivered(record("b", "resolved", 2), 500)}
    box = outbox(told)
    box.learn("a", record("a"), 1_000)
    box.learn("b", record("b", "resolved", 2), 1_000)

    assert [] == sent(box)


def test_what_fires_is_told_again_for_as_long_as_it_does_and_an_end_for_a_while() -> None:
    box = outbox(kind="alertmanager", resend_ms=60_000)
    box.learn("a", record("a"), 0)
    assert ["a-1"] == sent(box, 0)
    assert [] == sent(box, 59_999)
    assert ["a-1"] == sent(box, 60_000)
    box.learn("a", record("a", "resolved", 2), 70_000)
    assert ["a-2"] == sent(box, 70_000)

    assert ["a-2"] == sent(box, 130_000)
    assert ["a-2"] == sent(box, 70_000 + RESOLVED_RESENT_MS)
    assert box.again_ms() is None


def test_what_was_learned_while_an_attempt_was_under_way_is_not_lost() -> None:
    box = outbox(kind="alertmanager", resend_ms=60_000)
    box.learn("a", record("a"), 0)
    batch = box.due(0)
    box.learn("a", record("a", "resolved", 2), 1)
    box.learn("a", None, 2)
    box.sent(batch, 3)

    assert ["a-2"] == sent(box, 4)
    assert {"a": None} == stored(box)
    assert box.again_ms() is None


def test_without_resolved_nothing_stays_behind() -> None:
    box = outbox(kind="alertmanager", resend_ms=60_000, send_resolved=False)
    box.learn("a", record("a"), 0)
    batch = box.due(0)
    box.learn("a", record("a", "resolved", 2), 1)
    box.sent(batch, 3)

    assert [] == sent(box, 10**9)
    assert {"a": None} == stored(box)


def test_routing_holds_for_what_fires_and_an_end_follows_its_beginning() -> None:
    box = outbox(matchers=(Matcher("severity", ("critical",)),))
    box.learn("a", record("a"), 1_000)
    box.learn("b", record("b", severity="warning"), 1_000)
    assert ["a-1"] == sent(box)
    box.learn("a", record("a", "resolved", 2, severity="warning"), 1_000)
    box.learn("b", record("b", "resolved", 2, severity="warning"), 1_000)

    assert ["a-2"] == sent(box)


def test_one_that_does_not_get_through_lets_the_others_by() -> None:
    box = outbox()
    for name in "abc":
        box.learn(name, record(name), 1_000)
    box.failed(box.due(1_000))

    assert ["b-1", "c-1", "a-1"] == sent(box)


def test_batches_are_bounded_and_what_is_new_goes_first() -> None:
    told = {f"t{n}": Delivered(record(f"t{n}"), 0) for n in range(60)}
    box = outbox(told, kind="alertmanager", resend_ms=60_000)
    for name, each in told.items():
        box.learn(name, each.record, 1_000)
    for n in range(10):
        box.learn(f"n{n}", record(f"n{n}"), 1_000)
    first: list[AlertRecord] = box.due(1_000)

    assert 64 == len(first)
    assert [f"n{n}-1" for n in range(10)] == [each.id for each in first[:10]]


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_waits_double_up_to_their_limit_and_half_of_them_is_chance(chance: float) -> None:
    waits = [delay_ms(failures, 60_000, chance) for failures in range(1, 40)]

    assert BACKOFF_MS / 2 <= waits[0] <= BACKOFF_MS
    assert all(30_000 <= wait <= 60_000 for wait in waits[8:])
    assert sorted(waits) == waits


def test_what_the_receiver_asks_for_is_waited_for_within_reason() -> None:
    assert 20_000 == delay_ms(1, 60_000, 0.5, 20_000)
    assert RETRY_AFTER_MAX_MS == delay_ms(1, 60_000, 0.5, 10**9)
    assert 30_000 <= delay_ms(20, 60_000, 0.0, 1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Verdict.TAKEN), (204, Verdict.TAKEN), (302, Verdict.AGAIN), (400, Verdict.REFUSED), (401, Verdict.AGAIN),
        (404, Verdict.AGAIN), (413, Verdict.REFUSED), (422, Verdict.REFUSED), (429, Verdict.AGAIN),
        (503, Verdict.AGAIN),
    ],
)  # fmt: skip
def test_only_what_repeating_cannot_cure_is_given_up(status: int, expected: Verdict) -> None:
    assert expected is verdict_of(status)


# ---- muted and acknowledged --------------------------------------------------------------------------------------


def test_what_is_muted_is_held_and_told_when_it_no_longer_is() -> None:
    box = outbox()
    box.mute("a", 1_000, muted=True)
    box.learn("a", record("a"), 1_000)
    box.learn("b", record("b"), 1_000)
    assert ["b-1"] == sent(box)
    assert (0, 1, 1) == (box.pending, box.held, box.suppressed)

    box.mute("a", 2_000, muted=False)
    assert ["a-1"] == sent(box, 2_000)
    assert 0 == box.held


def test_of_a_muted_alert_the_newest_is_told_when_it_no_longer_is() -> None:
    box = outbox()
    box.mute("a", 1_000, muted=True)
    for transition in range(1, 6):
        box.learn("a", record("a", "firing" if transition % 2 else "resolved", transition), 1_000)
    box.mute("a", 2_000, muted=False)

    assert ["a-5"] == sent(box)


def test_the_end_of_a_muted_alert_is_nobodys_news_then_or_later() -> None:
    """As in Alertmanager: what resolves while it is silenced is not told, also not after a restart."""
    told = {"a": Delivered(record("a"), 0)}
    box = outbox(dict(told))
    box.mute("a", 1_000, muted=True)
    box.learn("a", record("a", "resolved", 2), 1_000)
    box.mute("never-told", 1_000, muted=True)
    box.learn("never-told", record("never-told", "resolved", 2), 1_000)
    assert {"a": "a-2"} == stored(box)
    for name in ("a", "never-told"):
        box.mute(name, 2_000, muted=False)
    assert [] == sent(box, 10**9)

    later = outbox({"a": Delivered(record("a", "resolved", 2), 1_000)})
    later.learn("a", record("a", "resolved", 2), 3_000)
    assert [] == sent(later, 10**9)
    later.learn("a", record("a", "firing", 3), 3_000)
    assert ["a-3"] == sent(later, 10**9)


def test_a_silence_that_begins_meanwhile_takes_back_what_waits_and_ends_what_is_told_again() -> None:
    box = outbox(kind="alertmanager", resend_ms=1_000)
    box.learn("told", record("told"), 0)
    sent(box, 0)
    box.learn("waits", record("waits"), 0)
    for name in ("told", "waits"):
        box.mute(name, 10, muted=True)
    assert [] == box.due(10_000)
    assert box.again_ms() is None

    for name in ("told", "waits"):
        box.mute(name, 20_000, muted=False)
    assert {"waits-1", "told-1"} == {each.id for each in box.due(20_000)}


def test_what_is_muted_on_its_way_is_held_when_it_does_not_arrive() -> None:
    box = outbox()
    box.learn("a", record("a"), 0)
    flying = box.due(0)
    box.mute("a", 1, muted=True)
    box.failed(flying)

    assert [] == box.due(2)
    assert 1 == box.held
    box.mute("a", 3, muted=False)
    assert ["a-1"] == sent(box, 3)


def test_a_receiver_for_programs_is_told_what_is_muted_too() -> None:
    box = outbox(kind="redis", send_suppressed=True)
    box.mute("a", 0, muted=True)
    box.learn("a", record("a"), 0)

    assert ["a-1"] == sent(box, 0)


def test_people_are_told_again_of_what_still_fires_under_a_new_id_until_it_is_acknowledged() -> None:
    box = outbox(repeat_ms=60_000)
    box.learn("a", record("a"), 0)
    assert ["a-1"] == sent(box, 0)
    assert [] == sent(box, 59_999)
    assert ["a-1-again-1"] == sent(box, 60_000)
    assert ["a-1-again-2"] == sent(box, 130_000)

    box.acknowledge("a", 1_000_000, 130_001)
    assert [] == sent(box, 999_999)
    box.acknowledge("a", None, 500_000)
    assert ["a-1-again-3"] == sent(box, 500_000)
    box.acknowledge("a", 1_000_000, 500_001)
    assert ["a-1-again-4"] == sent(box, 1_000_000)
    box.learn("a", record("a", "resolved", 2), 1_000_001)
    assert ["a-2"] == sent(box, 1_000_001)
    assert [] == sent(box, 10**9)


def test_a_restart_does_not_begin_the_repeats_anew() -> None:
    box = outbox(repeat_ms=60_000)
    box.learn("a", record("a"), 0)
    sent(box, 0)
    sent(box, 60_000)
    (row,) = box.rows()
    assert row.delivered is not None
    again = outbox({"a": row.delivered}, repeat_ms=60_000)
    again.learn("a", record("a"), 70_000)

    assert [] == sent(again, 119_999)
    assert ["a-1-again-2"] == sent(again, 120_000)


def test_an_acknowledgement_holds_back_neither_the_end_nor_what_was_not_told_yet() -> None:
    box = outbox()
    box.acknowledge("a", 10**9, 0)
    box.learn("a", record("a"), 0)
    assert ["a-1"] == sent(box, 0)
    box.learn("a", record("a", "resolved", 2), 1)
    assert ["a-2"] == sent(box, 1)


@pytest.mark.parametrize("newer", [record("a", "resolved", 2), record("a", "pending", 2, reason="for_raised"), None])
def test_what_may_have_arrived_unheard_is_ended_all_the_same(newer: AlertRecord | None) -> None:
    """An answer that was lost on the way, and one that was heard by who died before it was written."""
    lost = outbox()
    lost.learn("a", record("a"), 1_000)
    lost.failed(lost.due(1_000))
    died = outbox()
    died.doubt(record("a"))
    for box in (lost, died):
        box.learn("a", newer, 2_000, old=True)
        (end,) = box.due(2_000)

        assert "resolved" == end.state
        assert [end.id] == sent(box)
        assert ["a"] == list(stored(box))


def test_an_end_that_was_told_of_what_is_pending_again_is_not_told_at_every_restart() -> None:
    fires, waits = record("a"), record("a", "pending", 2, reason="for_raised")
    told: dict[str, Delivered] = {}
    heard: list[str] = []
    for _ in range(3):
        box = outbox(told)
        box.doubt(fires)
        box.learn("a", fires, 1_000)
        box.learn("a", waits, 1_000)
        heard += sent(box)
        told |= {row.fingerprint: row.delivered for row in box.rows() if row.delivered}

    assert ["a-1-closed"] == heard


def test_what_may_have_arrived_is_ended_for_who_no_longer_wants_it_and_not_for_who_hears_no_ends() -> None:
    other = record("a", "resolved", 2, severity="info")
    for changes, expected in (
        ({"matchers": (Matcher("severity", ("critical",)),)}, ["a-2"]),
        ({"send_resolved": False}, []),
    ):
        box = outbox(**changes)
        box.doubt(record("a"))
        box.learn("a", other, 1_000)

        assert expected == sent(box)


def test_nothing_is_doubted_that_was_stored_and_no_end_that_is_muted_is_owed() -> None:
    box = outbox({"a": Delivered(record("a", "resolved", 2), 0)})
    box.doubt(record("a", "resolved", 2))
    box.doubt(record("b"))
    box.mute("b", 1_000, muted=True)
    box.learn("b", record("b", "resolved", 2), 1_000)
    box.mute("b", 2_000, muted=False)
    box.learn("a", record("a", "pending", 3), 2_000)

    assert [] == sent(box)
