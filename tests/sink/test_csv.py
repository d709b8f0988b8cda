"""The table: read back by Python's own reader, with the numbers of the text page, however nasty a name."""

import csv
import io
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from pages import Series, full_view, own_samples, render, series
from viewing import NAMES, row, view_of

from streams.sink.csv import HEAD, LABELS, TAIL, as_csv
from streams.sink.view import View

NOW_MS: Final = 1_763_724_000_007
COLUMNS: Final = (*HEAD, *LABELS, *TAIL)


def table(view: View) -> list[dict[str, str]]:
    text = b"".join(as_csv(view, {**view.samples(), **own_samples()}, now_ms=NOW_MS)).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def flattened(rows: list[dict[str, str]]) -> Series:
    found: Series = {}
    for each in rows:
        labels = frozenset((name, each[name]) for name in (*LABELS, "le") if each[name])
        key = each["metric"], labels
        assert key not in found
        found[key] = float(each["value"])
    return found


def test_the_table_has_the_numbers_of_the_text() -> None:
    _, view = full_view()

    assert series(render(view)) == flattened(table(view))


def test_every_row_names_its_kind_its_unit_and_the_moment() -> None:
    rows = table(full_view()[1])

    assert {"2025-11-21T11:20:00.007Z"} == {each["time"] for each in rows}
    assert {"counter", "gauge", "histogram", "info"} == {each["metric_kind"] for each in rows}
    assert {"seconds"} == {each["metric_unit"] for each in rows if each["metric"].endswith("_seconds_sum")}


def test_the_columns_do_not_depend_on_what_there_is_to_show() -> None:
    (header,) = as_csv(View(1), {}, now_ms=NOW_MS)

    assert ",".join(COLUMNS) + "\r\n" == header.decode()


@given(NAMES, st.integers(0, 2**63))
def test_whatever_a_name_holds_the_table_gives_it_back(tool: str, count: int) -> None:
    rows = [
        each for each in table(view_of(row("tool", (tool,), 0, tool_calls_error=count))) if each["status"] == "error"
    ]

    assert [(tool, str(count))] == [(each["tool"], each["value"]) for each in rows]


def test_lines_end_as_the_standard_says_and_cells_are_quoted_only_where_they_must() -> None:
    view = view_of(row("tool", ('a"b,c\nd',), 0, tool_calls_error=1), row("tool", ("plain",), 1))
    text = b"".join(as_csv(view, {}, now_ms=NOW_MS)).decode()

    assert '"a""b,c\nd"' in text
    assert ",plain," in text
    assert not [line for line in text.split("\r\n") if "\n" in line.replace('"a""b,c\nd"', "")]


def test_no_column_stands_twice() -> None:
    """A label may be called as it likes, but not as one of the table's own columns."""
    assert len(COLUMNS) == len(set(COLUMNS))
