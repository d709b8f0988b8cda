"""When a partition is flushed, how large a slice is, and who counts as stuck: with invented time."""

import pytest

from streams.worker.pace import Budget, Load, Pace, Seen, SliceSize, Standstill, Stillness, flush_wait_ms, interval_ms

PACE = Pace(
    idle_ms=50, gather_ms=10, busy_ms=250, limit_ms=1000, pending_limit=1000, idle_load=0.5, busy_load=0.9, share=0.25
)
IDLE = Seen(now_ms=1_000, dirty_ms=0, pending=1, drained=True, eager=False, load=0.0, budget_ms=0, behind_ms=0)


def test_nothing_to_flush_waits_for_ever() -> None:
    assert flush_wait_ms(PACE, IDLE._replace(dirty_ms=None)) is None


def test_an_idle_worker_flushes_within_the_short_interval() -> None:
    assert 50 == flush_wait_ms(PACE, IDLE)
    assert 0 == flush_wait_ms(PACE, IDLE._replace(dirty_ms=30))
    assert 20 == flush_wait_ms(PACE, IDLE._replace(now_ms=1_030, dirty_ms=30))
    assert 0 == flush_wait_ms(PACE, IDLE._replace(now_ms=1_070, dirty_ms=70))


@pytest.mark.parametrize("dirty_ms", [0.5, 12, 33, 49])
def test_all_partitions_flush_at_the_same_moments(dirty_ms: float) -> None:
    assert 1 == flush_wait_ms(PACE, IDLE._replace(now_ms=1_049, dirty_ms=dirty_ms))


def test_the_interval_grows_from_half_load_on() -> None:
    assert [50, 50, 150, 250, 250] == [round(interval_ms(PACE, load, 0)) for load in (0, 0.5, 0.7, 0.9, 1.0)]


def test_who_is_busy_with_old_records_flushes_less_often_the_older_they_are() -> None:
    behind = IDLE._replace(drained=False, load=1.0)

    waits_ms = [flush_wait_ms(PACE, behind._replace(behind_ms=1_000 * s)) for s in (0, 1, 2, 4, 3_600)]
    assert [250, 250, 500, 1000, 1000] == waits_ms
    assert 50 == flush_wait_ms(PACE, behind._replace(behind_ms=60_000, load=0.3))  # a clock that is wrong, or a replay


def test_an_eager_stage_flushes_soon_after_its_input_is_drained() -> None:
    eager = IDLE._replace(eager=True)

    assert 10 == flush_wait_ms(PACE, eager)
    assert 0 == flush_wait_ms(PACE, eager._replace(dirty_ms=10))
    assert 50 == flush_wait_ms(PACE, eager._replace(drained=False))
    assert 210 == flush_wait_ms(PACE, eager._replace(load=0.9))  # busy: several inputs share a flush


def test_an_exhausted_budget_delays_even_an_eager_stage() -> None:
    assert 80 == flush_wait_ms(PACE, IDLE._replace(eager=True, budget_ms=80))
    assert 120 == flush_wait_ms(PACE, IDLE._replace(dirty_ms=60, budget_ms=120))


def test_no_change_waits_longer_than_the_limit() -> None:
    """A budget that is never positive again must not stop the flushes."""
    assert 100 == flush_wait_ms(PACE, IDLE._replace(dirty_ms=900, budget_ms=60_000))
    assert 0 == flush_wait_ms(PACE, IDLE._replace(dirty_ms=1000, budget_ms=60_000))


def test_many_pending_records_are_flushed_at_once() -> None:
    assert 0 == flush_wait_ms(PACE, IDLE._replace(pending=1000, load=1.0, budget_ms=500))


def test_the_budget_is_a_quarter_of_the_time_that_passes() -> None:
    budget = Budget(share=0.25, burst_ms=10, now_ms=0)

    budget.spend(20, now_ms=0)

    assert 40 == budget.wait_ms(now_ms=0)
    assert 20 == budget.wait_ms(now_ms=20)
    assert 0 == budget.wait_ms(now_ms=40)


def test_who_may_overdraw_the_budget_waits_for_less_of_it() -> None:
    budget = Budget(share=0.25, burst_ms=10, now_ms=0)

    budget.spend(30, now_ms=0)

    assert [80, 40, 0] == [budget.wait_ms(now_ms=0, overdraft_ms=ms) for ms in (0, 10, 20)]


def test_an_idle_hour_saves_no_more_than_a_burst() -> None:
    budget = Budget(share=0.25, burst_ms=10, now_ms=0)

    budget.spend(20, now_ms=3_600_000)

    assert 40 == budget.wait_ms(now_ms=3_600_000)


def test_load_is_the_busy_share_of_the_last_window() -> None:
    load = Load(window_ms=100, cpu_ms=500, now_ms=0)

    load.look(530, now_ms=50)
    assert 0 == load.value  # the window has not ended
    load.look(560, now_ms=100)
    assert 0.6 == pytest.approx(load.value)

    load.look(560, now_ms=200)
    assert 0 == load.value


def test_a_slice_takes_the_loop_for_the_target_time() -> None:
    slices = SliceSize(8.0)

    for _ in range(50):
        slices.learn(slices.records, slices.records * 0.04)

    assert 190 <= slices.records <= 210


def test_a_slice_of_cheap_records_stays_in_the_cache() -> None:
    slices = SliceSize(8.0)

    for _ in range(50):
        slices.learn(slices.records, slices.records * 0.004)

    assert SliceSize.LARGEST == slices.records


def test_a_slice_of_expensive_records_is_small_but_never_empty() -> None:
    slices = SliceSize(8.0)

    for _ in range(50):
        slices.learn(slices.records, slices.records * 5.0)

    assert SliceSize.SMALLEST == slices.records


def test_who_has_work_and_does_not_move_is_stuck() -> None:
    still = Stillness(limit_ms=1000, now_ms=0)

    assert not still.stuck(waiting=True, token=1, now_ms=0)
    assert not still.stuck(waiting=True, token=1, now_ms=999)
    assert still.stuck(waiting=True, token=1, now_ms=1000)


def test_who_moves_or_has_nothing_to_do_is_not_stuck() -> None:
    still = Stillness(limit_ms=1000, now_ms=0)

    assert not still.stuck(waiting=True, token=1, now_ms=900)
    assert not still.stuck(waiting=True, token=2, now_ms=1800)
    assert not still.stuck(waiting=False, token=2, now_ms=2700)
    assert not still.stuck(waiting=True, token=2, now_ms=3600)


def test_one_that_waits_while_others_move_is_given_longer() -> None:
    standstill = Standstill[str](limit_ms=1000, now_ms=0)
    moves = [{"a": (True, 1), "b": (True, at)} for at in range(6)]

    assert [standstill.found(vitals, at * 900.0) for at, vitals in enumerate(moves)] == [None] * 6
    assert standstill.found({"a": (True, 1), "b": (True, 6)}, 5_000.0) == ("a", 5_000.0)


def test_one_that_waits_while_nobody_moves_is_stuck() -> None:
    standstill = Standstill[str](limit_ms=1000, now_ms=0)
    vitals = {"a": (True, 1), "b": (False, 1)}

    assert standstill.found(vitals, 0) is None
    assert standstill.found(vitals, 999) is None
    assert standstill.found(vitals, 1000) == ("a", 1000)


def test_one_that_was_given_away_begins_anew() -> None:
    standstill = Standstill[str](limit_ms=1000, now_ms=0)
    standstill.found({"a": (True, 1)}, 0)
    standstill.forget("a")

    assert standstill.found({"a": (True, 1)}, 1_100) is None
