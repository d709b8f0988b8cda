"""Deadlines: never early, at most a slot late, one per key."""

from hypothesis import given
from hypothesis import strategies as st

from streams.rule.watch import SLOT_MS, STALE_SPARE, Watch


def test_a_key_is_due_once_its_moment_has_come() -> None:
    watch: Watch[str] = Watch()
    watch.add("a", 1_000)

    assert watch.due(999, 10) == []
    assert watch.due(1_000, 10) == ["a"]
    assert watch.due(2_000, 10) == []


def test_an_earlier_deadline_wins_and_a_later_one_changes_nothing() -> None:
    watch: Watch[str] = Watch()
    watch.add("a", 5_000)
    watch.add("a", 9_000)
    watch.add("a", 2_000)

    assert watch.due(2_000, 10) == ["a"]
    assert watch.due(20_000, 10) == []


def test_a_dropped_key_is_never_due_and_may_come_back() -> None:
    watch: Watch[str] = Watch()
    watch.add("a", 1_000)
    watch.drop("a")
    assert watch.due(1_000, 10) == []

    watch.add("a", 2_000)
    watch.drop("a")
    watch.add("a", 3_000)
    watch.drop("a")
    watch.add("a", 3_000)
    assert watch.due(2_000, 10) == []
    assert watch.due(3_000, 10) == ["a"]


def test_what_is_over_the_limit_stays_due() -> None:
    watch: Watch[int] = Watch()
    for key in range(10):
        watch.add(key, 1_000 + 100 * (key // 4))

    taken = [watch.due(5_000, 3) for _ in range(5)]

    assert taken == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], []]
    assert len(watch) == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 4), st.integers(0, 5_000)),
            st.tuples(st.just("drop"), st.integers(0, 4), st.just(0)),
            st.tuples(st.just("due"), st.integers(1, 3), st.integers(0, 3_000)),
        )
    )
)
def test_a_watch_behaves_as_a_dict_of_earliest_deadlines(steps: list[tuple[str, int, int]]) -> None:
    watch: Watch[int] = Watch()
    earliest: dict[int, int] = {}
    now_ms = 0
    for step, number, ms in steps:
        if step == "add":
            watch.add(number, now_ms + ms)
            slot = -(-(now_ms + ms) // SLOT_MS)
            earliest[number] = min(slot, earliest.get(number, slot))
        elif step == "drop":
            watch.drop(number)
            earliest.pop(number, None)
        else:
            now_ms += ms
            due = {key for key, slot in earliest.items() if slot <= now_ms // SLOT_MS}
            taken = watch.due(now_ms, number)
            assert min(number, len(due)) == len(taken) == len(set(taken))
            assert set(taken) <= due
            if taken:
                assert max(earliest[key] for key in taken) <= min(
                    (earliest[key] for key in due - set(taken)), default=10**9
                )
            for key in taken:
                del earliest[key]
        assert set(earliest) == {key for key in range(5) if key in watch}


def test_keys_that_come_and_go_are_not_held_until_their_deadlines() -> None:
    watch: Watch[int] = Watch()
    for key in range(10 * STALE_SPARE):
        watch.add(key, 10**9)
        watch.add(key, 10**8 + key)  # moved
        if key % 10:
            watch.drop(key)
    kept = list(range(0, 10 * STALE_SPARE, 10))

    assert sum(len(keys) for keys in watch._slots.values()) <= 2 * len(kept) + STALE_SPARE + 1
    assert kept == watch.due(10**9, limit=10 * STALE_SPARE)
    assert [] == watch.due(10**10, limit=1)
