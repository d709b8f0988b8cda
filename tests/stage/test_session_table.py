"""How many rows are objects and how many are bytes: bounded, whatever comes, and no row is lost or wrong for it."""

from hypothesis import given
from hypothesis import strategies as st

from streams.fold.live import LiveRow
from streams.stage.session_table import PACK_AFTER_MS, PACK_PER_STEP, Bounds, SessionTable

ACTIVE = 8
FLUSH = 3

flushes = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=FLUSH), max_size=40)


def fold(table: SessionTable, names: list[int]) -> None:
    """Do what a flush does to a table: unpack what is touched, change it, note it."""
    for name in names:
        key = f"s{name}"
        stored = table.rows.get(key)
        row = LiveRow("a", None, None, 0, 0, 0) if stored is None else table.unpacked(key, stored)
        row.events += 1
        table.rows[key] = row
    table.touched({f"s{name}": None for name in names})


def objects(table: SessionTable) -> int:
    return sum(isinstance(row, LiveRow) for row in table.rows.values())


@given(flushes)
def test_rows_kept_as_objects_are_bounded_though_no_time_passes_and_each_is_right(told: list[list[int]]) -> None:
    table = SessionTable(0, Bounds(active=ACTIVE))
    expected: dict[str, int] = {}
    for names in told:
        fold(table, names)
        for name in names:
            expected[f"s{name}"] = expected.get(f"s{name}", 0) + 1
        assert objects(table) <= 2 * (ACTIVE + FLUSH)

    assert expected == {key: row.events for key, row in table.all()}


def test_a_wave_that_falls_silent_is_packed_some_at_a_time() -> None:
    table = SessionTable(0)
    fold(table, list(range(PACK_PER_STEP + 10)))
    seen = []
    for step in range(4):
        table.age((step + 1) * PACK_AFTER_MS, {})
        seen.append(objects(table))

    assert [PACK_PER_STEP + 10, 10, 0, 0] == seen


def test_what_is_touched_again_before_its_turn_stays_an_object() -> None:
    table = SessionTable(0)
    fold(table, list(range(PACK_PER_STEP + 10)))
    for step in (1, 2):
        table.age(step * PACK_AFTER_MS, {})
    (kept,) = [int(key[1:]) for key, row in table.rows.items() if isinstance(row, LiveRow) and isinstance(key, str)][:1]
    fold(table, [kept])
    table.age(2 * PACK_AFTER_MS + 1, {})

    assert [f"s{kept}"] == [key for key, row in table.rows.items() if isinstance(row, LiveRow)]
