"""Deadlines to the minute: never early, taken once, soonest first."""

from hypothesis import given
from hypothesis import strategies as st

from streams.fold.session import RowKey
from streams.stage.idle import SLOT_MS, IdleWheel, slot_of

deadlines = st.lists(st.integers(0, 20 * SLOT_MS), max_size=40)


@given(deadlines, st.lists(st.integers(0, 22 * SLOT_MS), max_size=8), st.integers(1, 9))
def test_a_key_is_due_once_never_early_and_at_most_a_slot_late(dues: list[int], ticks: list[int], limit: int) -> None:
    wheel = IdleWheel()
    waiting: dict[RowKey, int] = {f"k{n}": due_ms for n, due_ms in enumerate(dues)}
    for key, due_ms in waiting.items():
        wheel.add(due_ms, key)

    for now_ms in sorted(ticks):
        taken = wheel.due(now_ms, limit)
        assert len(taken) <= limit
        for key in taken:
            assert waiting.pop(key) < now_ms
        if len(taken) < limit:
            assert not [key for key, due_ms in waiting.items() if due_ms + SLOT_MS <= now_ms]


@given(deadlines)
def test_the_soonest_come_first(dues: list[int]) -> None:
    wheel = IdleWheel()
    for n, due_ms in enumerate(dues):
        wheel.add(due_ms, f"k{n}")
    slots = [slot for slot, _ in wheel.soonest()]

    assert sorted(slot_of(due_ms) for due_ms in dues) == slots


def test_what_is_put_back_later_comes_again_later() -> None:
    wheel = IdleWheel()
    for name in ("a", "b", "c"):
        wheel.add(0, name)
    taken = []
    for slot, key in wheel.soonest():
        taken.append((slot, key))
        if slot == slot_of(0):
            wheel.add(5 * SLOT_MS, key)

    assert 6 == len(taken)
    assert [slot_of(0)] * 3 + [slot_of(5 * SLOT_MS)] * 3 == [slot for slot, _ in taken]
