"""Small views for the tests of formats: rows made by hand, and names that somebody could give to a tool."""

from typing import Final

from hypothesis import strategies as st
from pages import settle

from streams.fold.rollup import LifetimeRow, encode_row
from streams.sink.view import LIFETIME, View
from streams.stage.keys import dimension_key

CREATED_MS: Final = 1_763_724_000_123
NAMES: Final = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ['a"b', "a\\b", "a\nb", "\\n", '"', "\\", "a\\", "a\\\\", "a\\,b", "a,b={}", "# EOF", "%s", "é", " ", "a b", "\r\n"]
)


def row(dimension: str, labels: tuple[str, ...], ordinal: int = 0, **sums: int) -> LifetimeRow:
    return LifetimeRow(dimension, labels, ordinal, CREATED_MS, CREATED_MS, 9, sums)


def view_of(*rows: LifetimeRow, **keys_max: int) -> View:
    view = View(1, keys_max)
    view.feed(0, [(LIFETIME + dimension_key(each.dimension, each.labels).encode(), encode_row(each)) for each in rows])
    settle(view)
    return view
