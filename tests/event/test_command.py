"""Commands from bytes: what is good is read whole, whatever is bad ends as a value with its reason."""

import json
from typing import Any

import pytest
from hostile import BAD_BYTES
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event.codec import Reason, Rejected
from streams.event.command import COMMAND_BYTES_MAX, Command, Reset, Scope, command_ms, decode_command

GOOD: dict[str, Any] = {"kind": "reset", "id": "1", "time": 1_763_724_000_000, "by": "ops", "scope": "all"}


def decoded(**fields: Any) -> Command | Rejected:
    return decode_command(json.dumps({**GOOD, **fields}).encode())


def test_a_command_is_read_whole() -> None:
    scope = {"dimension": "tool", "labels": {"tool": "search"}}
    read = decoded(note="why", scope=scope, metrics=["agent_tool_*"], time="2025-11-21T11:20:00Z")

    assert isinstance(read, Reset)
    assert Scope("tool", {"tool": "search"}) == read.scope
    assert ("1", "ops", "why", ["agent_tool_*"]) == (read.id, read.by, read.note, read.metrics)
    assert command_ms(read, -1, skew_ms=0) == 1_763_724_000_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "explode"}, Reason.UNKNOWN_KIND),
        ({"kind": None}, Reason.UNKNOWN_KIND),
        ({"schema": 2}, Reason.UNKNOWN_SCHEMA),
        ({"time": "yesterday"}, Reason.TIME),
        ({"by": ""}, Reason.INVALID),
        ({"id": ""}, Reason.INVALID),
        ({"scope": "everything"}, Reason.INVALID),
        ({"scope": {"labels": {}}}, Reason.INVALID),
        ({"metrics": []}, Reason.INVALID),
        ({"note": "x" * 1025}, Reason.INVALID),
        ({"note": "x" * COMMAND_BYTES_MAX}, Reason.TOO_LARGE),
    ],
)
def test_what_is_wrong_has_its_reason(fields: dict[str, Any], reason: Reason) -> None:
    read = decoded(**fields)

    assert isinstance(read, Rejected)
    assert reason == read.reason


@pytest.mark.parametrize("name", ["lables", "Scope", "dimension"])
def test_a_misspelt_field_never_widens_a_command(name: str) -> None:
    read = decoded(**{name: {"tool": "search"}})
    inside = decoded(scope={"dimension": "tool", name: "search"}) if name != "dimension" else read

    for each in (read, inside):
        assert isinstance(each, Rejected)
        assert Reason.INVALID == each.reason


@pytest.mark.parametrize("bad", BAD_BYTES, ids=lambda bad: bad.reason)
def test_hostile_bytes_end_as_values(bad: Any) -> None:
    assert isinstance(decode_command(bad.value), Rejected)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_bytes_end_as_values(value: bytes) -> None:
    assert isinstance(decode_command(value), Rejected)


def test_a_time_ahead_of_its_record_is_the_records() -> None:
    """A counter must not begin in the future because somebody's clock is wrong."""
    read = decoded()
    assert isinstance(read, Reset)
    told_ms = GOOD["time"]

    assert told_ms == command_ms(read, told_ms - 60_000, skew_ms=60_000)
    assert told_ms - 60_001 == command_ms(read, told_ms - 60_001, skew_ms=60_000)
    assert told_ms == command_ms(read, told_ms + 10**9, skew_ms=60_000)
