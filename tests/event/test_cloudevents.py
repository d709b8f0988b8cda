"""Envelopes: the event inside counts as if it had come by itself, with what it lacked from the envelope."""

import base64
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.event.codec import decode_record
from streams.event.model import Cache, ToolEnd

TOOL: Final = {"kind": "tool_end", "id": "e1", "time": 1_763_724_000_000, "agent": "a", "tool": "t"}
BARE: Final = {"kind": "tool_end", "agent": "a", "tool": "t"}
ENVELOPE: Final = {
    "specversion": "1.0", "id": "7", "source": "//host/agent", "type": "agent.tool_end",
    "time": "2025-11-21T11:20:00.5Z", "datacontenttype": "application/json",
}  # fmt: skip
HEADERS: Final = [(f"ce_{name}", value.encode()) for name, value in ENVELOPE.items() if name != "datacontenttype"]


def one(value: Any, headers: list[tuple[str, bytes]] | None = None) -> Any:
    """Decode a record and return its only event."""
    decoded = decode_record(json.dumps(value).encode(), None, headers or ())
    assert not decoded.rejected
    (event,) = decoded.events
    return event


def test_a_structured_envelope_gives_what_the_event_lacks() -> None:
    event = one({**ENVELOPE, "data": BARE})

    assert isinstance(event, ToolEnd)
    assert ("//host/agent#7", "2025-11-21T11:20:00.5Z", "//host/agent") == (event.id, event.time, event.source)


def test_what_the_event_says_itself_stands() -> None:
    event = one({**ENVELOPE, "data": {**TOOL, "source": "s"}})

    assert ("e1", 1_763_724_000_000, "s") == (event.id, event.time, event.source)


def test_data_may_be_base64() -> None:
    encoded = base64.b64encode(json.dumps(TOOL).encode()).decode()

    assert "e1" == one({**ENVELOPE, "data_base64": encoded}).id


def test_a_batch_of_envelopes_and_events_is_an_array_of_both() -> None:
    cache = {"kind": "cache", "id": "e2", "time": 5, "agent": "a", "cache": "c", "operation": "get", "result": "hit"}
    value = json.dumps([{**ENVELOPE, "data": BARE}, cache, {**ENVELOPE, "id": "8", "data": BARE}]).encode()

    decoded = decode_record(value)

    assert [ToolEnd, Cache, ToolEnd] == [type(event) for event in decoded.events]
    assert ["//host/agent#7", "e2", "//host/agent#8"] == [event.id for event in decoded.events]


def test_headers_give_what_the_event_lacks() -> None:
    event = one(BARE, HEADERS)

    assert ("//host/agent#7", "2025-11-21T11:20:00.5Z", "//host/agent") == (event.id, event.time, event.source)


def test_headers_beside_a_complete_event_change_nothing() -> None:
    assert one(TOOL) == one(TOOL, HEADERS)


def test_headers_that_are_no_envelope_do_not_help() -> None:
    decoded = decode_record(json.dumps(BARE).encode(), None, [("ce_id", b"7"), ("trace", b"x")])

    assert ["invalid"] == [rejected.reason for rejected in decoded.rejected]


def test_ids_of_two_sources_never_meet() -> None:
    """An id is only unique within its source."""
    first, second = one({**ENVELOPE, "data": BARE}), one({**ENVELOPE, "source": "other", "data": BARE})

    assert first.id != second.id


def test_an_id_too_long_becomes_its_digest() -> None:
    event = one({**ENVELOPE, "source": "s", "id": "x" * 300, "data": BARE})

    assert 64 == len(event.id)


@pytest.mark.parametrize(
    "value",
    [
        {**ENVELOPE},
        {**ENVELOPE, "data": None},
        {**ENVELOPE, "data": "text"},
        {**ENVELOPE, "data": [TOOL]},
        {**ENVELOPE, "data": {"kind": "unheard_of"}},
        {**ENVELOPE, "data_base64": "%%%"},
        {**ENVELOPE, "specversion": 1, "data": TOOL},
        {**ENVELOPE, "data": {**ENVELOPE, "data": TOOL}},
        {**ENVELOPE, "time": "yesterday", "data": BARE},
    ],
)
def test_an_envelope_without_an_event_is_refused(value: dict[str, Any]) -> None:
    decoded = decode_record(json.dumps(value).encode())

    assert not decoded.events
    assert 1 == len(decoded.rejected)


JSON: Final = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))


@given(
    st.dictionaries(st.sampled_from([*ENVELOPE, "data", "data_base64"]), JSON | st.just(BARE)),
    st.lists(st.tuples(st.sampled_from(["ce_specversion", "ce_id", "ce_time", "x"]), st.binary(max_size=9))),
)
def test_no_envelope_ever_raises(envelope: dict[str, Any], headers: list[tuple[str, bytes]]) -> None:
    decoded = decode_record(json.dumps({"specversion": "1.0", **envelope}).encode(), None, headers)

    assert 1 == len(decoded.events) + len(decoded.rejected)
