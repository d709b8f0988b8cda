"""What is left of a changelog when only the last word on each key counts?

Never looks into a row.
"""

from collections.abc import Iterable

from streams.stage.plan import Row


def compact(kept: dict[bytes, bytes], rows: Iterable[Row]) -> None:
    """Take rows in log order: a later one replaces an earlier one, and None deletes it."""
    for key, value in rows:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
