"""What counts as seen before: marks against a set, ids against a bounded memory that survives a restart."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fold import dedup
from streams.fold.dedup import IDS_PER_SEGMENT, MARK_MASK, WINDOW_BITS, IdWindow, Mark

# ---- marks -----------------------------------------------------------------------------------------------------


@settings(max_examples=500)
@given(st.integers(0, 2**53 - 300), st.lists(st.integers(0, 200), max_size=300))
def test_marks_agree_with_a_set_within_their_window(first: int, story: list[int]) -> None:
    mark, seen = Mark(first, 1), {first}
    for step in story:
        seq = first + step
        behind = max(seen) - seq

        expected = seq in seen or behind >= WINDOW_BITS

        assert expected == mark.repeated(seq)
        seen.add(seq)
        if step % 3 == 0:  # storing a mark must not change it
            highest, bits = mark.values()
            assert max(seen) == highest
            assert bits == sum(1 << n for n in range(WINDOW_BITS) if highest - n in seen) & MARK_MASK


@given(st.permutations(range(WINDOW_BITS)))
def test_any_order_within_the_window_counts_each_once(order: list[int]) -> None:
    mark = Mark(order[0], 1)

    assert not any(mark.repeated(seq) for seq in order[1:])
    assert all(mark.repeated(seq) for seq in order)


@pytest.mark.parametrize(("behind", "known"), [(0, True), (1, False), (63, False), (64, True), (1_000, True)])
def test_what_is_more_than_63_behind_counts_as_seen(behind: int, known: bool) -> None:
    mark = Mark(10_000, 1)

    assert known == mark.repeated(10_000 - behind)


@pytest.mark.parametrize(("ahead", "known"), [(1, True), (63, True), (64, True), (10**9, True)])
def test_a_jump_keeps_what_still_fits(ahead: int, known: bool) -> None:
    mark = Mark(100, 1)

    assert not mark.repeated(100 + ahead)
    assert known == mark.repeated(100)
    assert known == mark.repeated(100 + ahead)


# ---- ids -------------------------------------------------------------------------------------------------------


def reloaded(rows: dict[int, bytes]) -> IdWindow:
    """Build a window from changelog rows, newest segment first: order must not matter."""
    window = IdWindow()
    for segment in sorted(rows, reverse=True):
        window.load(segment, rows[segment])
    window.loaded()
    return window


def keep(rows: dict[int, bytes], window: IdWindow) -> None:
    """Write a flush of a window to its compacted rows."""
    for segment, packed in window.changes():
        if packed is None:
            rows.pop(segment, None)
        else:
            rows[segment] = packed


@given(st.lists(st.text(max_size=20)))
def test_ids_agree_with_a_set(story: list[str]) -> None:
    window = IdWindow()
    seen: set[str] = set()
    for text in story:
        assert (text in seen) == window.repeated(text)
        seen.add(text)
    assert len(seen) == len(window)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(("", "flush", "restart"))), max_size=80), st.data())
def test_flushes_and_restarts_change_nothing(story: list[tuple[int, str]], data: st.DataObject) -> None:
    """A window that lives on and one that is thrown away after flushes give the same answers."""
    limit = data.draw(st.integers(1, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "IDS_MAX", limit)
        patch.setattr(dedup, "IDS_PER_SEGMENT", 4)
        lasting, restarted, rows = IdWindow(), IdWindow(), dict[int, bytes]()
        for number, then in story:
            assert lasting.repeated(f"id{number}") == restarted.repeated(f"id{number}")
            if then:
                keep(rows, restarted)
            if then == "restart":
                restarted = reloaded(rows)
            assert len(lasting) == len(restarted) <= limit


def test_memory_is_bounded_and_forgets_whole_segments_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "IDS_MAX", 1_000)
    window = IdWindow()
    rows: dict[int, bytes] = {}
    for number in range(3_000):
        assert not window.repeated(f"id{number}")
        assert len(window) <= 1_000
        if number % 100 == 0:
            keep(rows, window)
    keep(rows, window)

    newest = 1_000 - IDS_PER_SEGMENT
    assert all(window.repeated(f"id{number}") for number in range(3_000 - newest, 3_000))
    assert not window.repeated("id0")
    assert sum(len(packed) for packed in rows.values()) <= 1_000 * 8


def test_only_what_changed_is_written() -> None:
    window = IdWindow()
    for number in range(3 * IDS_PER_SEGMENT):
        window.repeated(f"id{number}")
    first = list(window.changes())
    window.repeated("one more")
    second = list(window.changes())

    assert [0, 1, 2] == sorted(segment for segment, _ in first)
    assert [(3, 8)] == [(segment, len(packed or b"")) for segment, packed in second]
    assert [] == list(window.changes())


def test_a_segment_begun_and_forgotten_between_two_flushes_leaves_a_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "IDS_MAX", IDS_PER_SEGMENT)
    window = IdWindow()
    for number in range(IDS_PER_SEGMENT + 1):
        window.repeated(f"id{number}")
    changes: list[tuple[int, Any]] = list(window.changes())

    assert (0, None) in changes
    assert [1] == [segment for segment, packed in changes if packed]


def test_the_last_version_of_a_segment_counts() -> None:
    window = IdWindow()
    window.repeated("a")
    ((_, early),) = window.changes()
    window.repeated("b")
    ((_, final),) = window.changes()
    assert early is not None
    assert final is not None

    again = IdWindow()
    again.load(0, early)
    again.load(0, final)
    again.loaded()

    assert 2 == len(again)
    assert again.repeated("a")
    assert again.repeated("b")
    assert not again.repeated("c")
    assert [(0, final + again_tail(again))] == [(segment, packed) for segment, packed in again.changes()]


def again_tail(window: IdWindow) -> bytes:
    """Return the packed newest id of a window."""
    return window._segments[-1][1][-1].to_bytes(8)


@pytest.mark.parametrize("size", [1, 7, 9, 8 * 512 + 8])
def test_bytes_that_are_no_segment_are_refused(size: int) -> None:
    """A segment that lost its end would forget ids, and nobody would know."""
    with pytest.raises(ValueError, match=f"{size} bytes are no row of ids"):
        IdWindow().load(0, bytes(size))
