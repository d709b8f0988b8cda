"""Whatever an agent puts into an event: what leaves is accepted by the decoder, and nothing raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.event.codec import decode_one
from streams.event.model import (
    ID_CHARS_MAX,
    NAME_CHARS_MAX,
    TEXT_CHARS_MAX,
    Custom,
    Envelope,
    Error,
    Resource,
    SessionStart,
    ToolEnd,
    ToolStart,
)
from streams.event.redact import REDACTOR
from streams.feed.encode import Encoded, Refused, encode_event

AT: dict[str, Any] = {"id": "e1", "time": 1_000, "agent": "a"}


def sent(event: Envelope) -> Envelope:
    encoded = encode_event(event, source=b'"host-1"', seq=7, redactor=REDACTOR)
    assert isinstance(encoded, Encoded), encoded
    return decode_one(encoded.part)


def test_source_and_number_are_stamped_on() -> None:
    event = sent(ToolStart(**AT, tool="search", session_id="s"))

    assert event == ToolStart(**AT, tool="search", session_id="s", source="host-1", seq=7)


def test_an_event_of_another_source_keeps_its_own_stamp() -> None:
    event = ToolStart(**AT, tool="search", source="other", seq=3)

    assert sent(event) == event
    assert sent(ToolStart(**AT, tool="search", source="other")).seq is None


def test_a_number_without_a_source_is_replaced() -> None:
    assert sent(ToolStart(**AT, tool="search", seq=3)).seq == 7


def test_free_text_is_redacted_and_the_hits_are_told() -> None:
    encoded = encode_event(Error(**AT, message="a@example.com"), source=b'"s"', seq=0, redactor=REDACTOR)

    assert isinstance(encoded, Encoded)
    assert encoded.redacted == {"email": 1}
    assert b"example.com" not in encoded.part


def test_without_a_redactor_text_goes_as_it_is() -> None:
    encoded = encode_event(Error(**AT, message="a@example.com"), source=b'"s"', seq=0, redactor=None)

    assert isinstance(encoded, Encoded)
    assert b"a@example.com" in encoded.part


def test_long_names_and_texts_are_cut_to_what_is_accepted() -> None:
    event = sent(ToolEnd(**AT, tool="t" * 500, error_message="x" * 10_000, arguments_hash="h" * 500))

    assert isinstance(event, ToolEnd)
    assert event.tool == "t" * NAME_CHARS_MAX
    assert event.arguments_hash == "h" * NAME_CHARS_MAX
    assert len(event.error_message or "") <= TEXT_CHARS_MAX


def test_two_long_ids_that_differ_at_their_end_still_differ_when_cut() -> None:
    first, second = (sent(SessionStart(**AT, session_id="s" * 300 + end)).session_id for end in "ab")

    assert first != second
    assert len(first or "") == len(second or "") == ID_CHARS_MAX


def test_attributes_are_cut_in_number_and_size_and_strange_values_become_their_type() -> None:
    attributes: dict[str, Any] = {"n" * 200: "v" * 2_000, "when": object()} | {str(n): n for n in range(100)}

    event = sent(SessionStart(**AT, attributes=attributes))

    assert len(event.attributes or {}) == 32
    assert (event.attributes or {})["when"] == "object"


def test_text_without_utf8_is_repaired() -> None:
    assert sent(Error(**AT, message="half \ud800 a pair")) == Error(
        **AT, message="half ? a pair", source="host-1", seq=7
    )


def test_an_empty_optional_text_is_left_out() -> None:
    assert sent(ToolStart(**AT, tool="t", session_id="", parent_id="")).session_id is None


@pytest.mark.parametrize(
    "event",
    [
        ToolEnd(**AT, tool="t", duration_ms=-1),
        ToolEnd(**AT, tool="t", duration_ms=float("nan")),
        ToolEnd(**AT, tool="t", status="exploded"),  # type: ignore[arg-type]  # what a careless caller does
        ToolEnd(**AT, tool=""),
        ToolEnd(**AT, tool=None),  # type: ignore[arg-type]  # as above
        Custom(**AT, metric="m", metric_kind="gauge", value=10**30),
        Resource(**AT, memory_bytes=-1),
        "no event",
        None,
        {"kind": "tool_end"},
    ],
)
def test_what_no_worker_would_accept_is_refused_and_does_not_raise(event: Any) -> None:
    assert encode_event(event, source=b'"s"', seq=0, redactor=REDACTOR) is Refused.INVALID


def test_an_event_larger_than_a_record_is_cut_or_refused() -> None:
    huge = SessionStart(**AT, attributes={"k" * 100 + str(n): "ß" * 500 for n in range(3_000)})

    assert len(sent(huge).attributes or {}) == 32
    assert encode_event(huge, source=b'"' + b"s" * 2_000_000 + b'"', seq=0, redactor=None) is Refused.TOO_LARGE


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=600), st.binary(max_size=5))


@given(
    st.fixed_dictionaries(
        {"id": st.text(max_size=300), "time": st.integers() | st.text(max_size=50), "agent": st.text(max_size=300)},
        optional={
            "session_id": st.text(max_size=300),
            "seq": st.integers(),
            "attributes": st.dictionaries(st.text(max_size=150), values, max_size=40),
            "tool": values,
            "duration_ms": values,
            "error_message": st.text(max_size=5_000) | values,
        },
    )
)
def test_every_event_is_either_accepted_by_the_decoder_or_refused(fields: dict[str, Any]) -> None:
    encoded = encode_event(ToolEnd(**{"tool": "t"} | fields), source=b'"s"', seq=1, redactor=REDACTOR)

    if isinstance(encoded, Encoded):
        assert decode_one(encoded.part).source == "s"
