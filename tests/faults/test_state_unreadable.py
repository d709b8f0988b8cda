"""Whatever stands in a changelog: it is read as what it is, or refused in words that name the row; nothing else."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_state import GOLDEN, World, stored

from streams import __version__
from streams.errors import StateRefused

pytestmark = pytest.mark.fault("T18")

ROWS: Final = stored(GOLDEN / f"state-{__version__}")
# One row of each kind of each stage.
ONES: Final = sorted({(stage, key[:1]): (stage, key) for stage, rows in ROWS.items() for key in rows}.values())
BROKEN: Final = (b"", b"\xc1", b"\xa3\xff\xfe\xfd", b"\x91" * 5_000 + b"\x01", b"{}", b"\x00" * 40)


def fate(stage: str, key: bytes, value: bytes) -> str:
    """Load a stage whose changelog ends with this row."""
    rows = {stage: {**_small(stage, key), key: value}}
    try:
        world = World(rows)
        world.totals()
    except StateRefused as refused:
        return str(refused)
    return ""


def _small(stage: str, key: bytes) -> dict[bytes, bytes]:
    """Leave out what a row does not need: a pane needs the row it belongs to."""
    if stage == "rollups" and key[:1] in {b"p", b"g"}:
        return ROWS[stage]
    return {b"m": ROWS[stage][b"m"]}


@pytest.mark.parametrize(("stage", "key"), ONES, ids=lambda one: one if isinstance(one, str) else one[:1].decode())
def test_broken_bytes_are_refused_and_the_message_names_stage_and_next_step(stage: str, key: bytes) -> None:
    stored_row = ROWS[stage][key]
    cut = (stored_row[: len(stored_row) // 2], stored_row[:-1])
    fates = [fate(stage, key, value) for value in (*BROKEN, *cut)]

    if (stage, key[:1]) == ("sessions", b"i"):
        fates = [each for each, value in zip(fates, (*BROKEN, *cut), strict=True) if len(value) % 8]
    if (stage, key[:1]) == ("sessions", b"c"):  # closed rows are looked into when they are needed: their heads are not
        fates = [each for each, value in zip(fates, (*BROKEN, *cut), strict=True) if value[:1] != b"\x01"]
    assert fates
    for told in fates:
        assert f"{stage} partition 0" in told
        assert "another topic prefix" in told
        assert "run that release" in told


@settings(max_examples=250)
@given(st.sampled_from(ONES), st.data())
def test_mutated_rows_are_read_or_refused_and_never_anything_else(one: tuple[str, bytes], data: st.DataObject) -> None:
    stage, key = one
    value = bytearray(ROWS[stage][key])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    fate(stage, key, bytes(value))


@given(st.sampled_from(sorted(ROWS)), st.binary(max_size=12), st.binary(max_size=40))
def test_rows_with_keys_of_nobody_are_refused(stage: str, key: bytes, value: bytes) -> None:
    told = fate(stage, b"Z" + key, value)

    assert f"{stage} partition 0" in told
