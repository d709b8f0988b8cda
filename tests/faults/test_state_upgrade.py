"""The state that every release has left is read by this one, and what a newer one has written is refused."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fault_table import record
from stored_state import GOLDEN, World, later, stored

from streams import __version__
from streams.errors import StateRefused
from streams.fold import session
from streams.stage import commands, rollup_rows, session_rows
from streams.stage.plan import Anchor

pytestmark = pytest.mark.fault("T21")

RELEASES: Final = sorted(GOLDEN.glob("state-*"))
KINDS: Final = {
    "sessions": {b"s", b"p", b"c", b"i", b"n", b"x", b"a", b"m"},
    "rollups": {b"l", b"p", b"g", b"a", b"b", b"e", b"m"},
    "commands": {b"i", b"k", b"s", b"r", b"e", b"m"},
}
METAS: Final[dict[str, Any]] = {"sessions": session_rows.Meta, "rollups": rollup_rows.Meta, "commands": commands.Meta}


@pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)
def test_the_state_of_every_release_is_read_and_gone_on_with(folder: Path) -> None:
    """The totals are those that the release itself had, then and after the same further events."""
    told = json.loads((folder / "totals.json").read_text("utf-8"))
    rows = stored(folder)
    world = World(rows)

    assert told["beginning"] == world.totals()
    later(world)
    assert told["later"] == world.totals()

    count = sum(len(each) for each in rows.values())
    record("T21", folder.name, rows=count, kinds=sum(map(len, KINDS.values())), totals_equal=len(told["later"]))


def test_this_release_has_left_its_state_here_with_every_kind_of_row() -> None:
    """A release with a new version: python tests/stored_state.py."""
    rows = stored(GOLDEN / f"state-{__version__}")

    assert KINDS == {name: {key[:1] for key in each} for name, each in rows.items()}


@pytest.mark.parametrize("stage", sorted(METAS))
def test_a_state_of_a_newer_release_is_refused(stage: str) -> None:
    rows = stored(RELEASES[-1])
    meta = msgspec.msgpack.decode(rows[stage][b"m"], type=METAS[stage])
    meta.codec += 1
    rows[stage][b"m"] = msgspec.msgpack.encode(meta)

    with pytest.raises(StateRefused, match=r"version 2, this program reads 1.* newer release"):
        World(rows)


@pytest.mark.parametrize("kind", [b"s", b"p", b"c"], ids=["session", "process", "closed"])
def test_a_row_of_a_newer_release_is_refused(kind: bytes) -> None:
    rows = stored(RELEASES[-1])
    key = next(key for key in rows["sessions"] if key[:1] == kind)
    rows["sessions"][key] = bytes([session.ROW_CODEC + 1]) + rows["sessions"][key][1:]

    with pytest.raises(StateRefused, match=r"a row has version 2, this program reads 1.*newer release"):
        World(rows)


@pytest.mark.parametrize("stage", sorted(METAS))
def test_a_kind_of_row_that_only_a_newer_release_knows_is_refused(stage: str) -> None:
    rows = stored(RELEASES[-1])
    rows[stage][b"Zfuture"] = b"\x90"

    with pytest.raises(StateRefused, match=r"b'Zfuture' of its changelog cannot be read.*newer release"):
        World(rows)


@pytest.mark.parametrize("stage", ["sessions", "rollups"])
def test_a_state_made_with_another_partition_count_is_refused_with_both_numbers(stage: str) -> None:
    """Its keys have moved to other partitions, away from what is known of them."""
    world = World(stored(RELEASES[-1]))
    later(world)
    rows = world.rows()
    meta = msgspec.msgpack.decode(rows[stage][b"m"], type=METAS[stage])
    meta.partitions = 3
    rows[stage][b"m"] = msgspec.msgpack.encode(meta)

    with pytest.raises(StateRefused, match=r"made with 3 partitions, and its topic has 1 now.*new prefix"):
        World(rows)


def test_a_state_says_by_which_record_its_log_is_known() -> None:
    world = World(stored(RELEASES[-1]))
    later(world)

    for name, place in world.places.items():
        meta = msgspec.msgpack.decode(place.rows[b"m"], type=METAS[name])
        assert meta.anchor is None or Anchor(place.end - 1, meta.anchor.time_ms) == meta.anchor
    assert world.sessions.anchor is not None
    assert world.rollups.anchor is not None
