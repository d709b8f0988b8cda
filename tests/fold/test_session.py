"""How a session's row is stored."""

import msgspec
import pytest
from hypothesis import given
from stored_rows import rows

from streams.fold import session
from streams.fold.session import HEAD_BYTES, ROW_CODEC, Head, SessionRow

T0 = 1_763_724_000_000


@given(rows)
def test_a_stored_row_comes_back_and_its_head_tells_the_same(row: SessionRow) -> None:
    stored = session.encode(row)

    assert row == session.decode(stored)
    assert Head(ROW_CODEC, row.ended_ms != 0, bool(row.open), row.stamp, row.seen_ms) == session.head(stored)
    assert session.head(stored) == session.head(stored[:HEAD_BYTES])


def test_a_row_of_the_first_release_can_still_be_read() -> None:
    """It ended with its minutes."""
    row = SessionRow("a", None, None, T0, T0, T0, events=7, cycles=3, begun={"q": (1, 2, 3)})
    stored = session.encode(row)
    fields = msgspec.msgpack.decode(stored[HEAD_BYTES:])
    kept = fields[: SessionRow.__struct_fields__.index("panes") + 1]
    old = session.decode(stored[:HEAD_BYTES] + msgspec.msgpack.encode(kept))

    assert (7, 0, {}) == (old.events, old.cycles, old.begun)


def test_cut_bytes_are_an_error_and_never_a_row() -> None:
    stored = session.encode(SessionRow("a", None, None, T0, T0, T0, events=3))

    for end in range(HEAD_BYTES, len(stored)):
        with pytest.raises(msgspec.DecodeError):
            session.decode(stored[:end])
