"""What bytes become: nothing raises, the bad is refused with its place and reason, and its neighbours still count."""

import json
from typing import Any

import msgspec
import pytest
from hostile import BAD_BYTES, BAD_EVENTS, BAD_RECORDS, GOOD, Hostile, changed
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event.codec import (
    DETAIL_CHARS_MAX,
    EVENTS_PER_RECORD_MAX,
    RECORD_BYTES_MAX,
    Decoded,
    Reason,
    decode_record,
    time_ms,
)
from streams.event.model import KINDS

pytestmark = pytest.mark.fault("T11")

WORD = "hunter2-'\"-secret"


def good(number: int) -> bytes:
    """Encode a good event with an id of its own."""
    return changed(id=f"g{number}")


def ids(decoded: Decoded) -> list[str]:
    return [event.id for event in decoded.events]


def refusals(decoded: Decoded) -> list[tuple[int, str]]:
    return [(one.position, one.reason.value) for one in decoded.rejected]


def name_of(hostile: Hostile) -> str:
    return hostile.name


# ---- one bad record --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [*BAD_EVENTS, *BAD_BYTES, *BAD_RECORDS], ids=name_of)
def test_hostile_record_is_refused_as_a_value(hostile: Hostile) -> None:
    decoded = decode_record(hostile.value)

    assert [(0, hostile.reason)] == refusals(decoded)
    assert [] == list(decoded.events)
    assert (hostile.value or b"") == decoded.rejected[0].part


@pytest.mark.parametrize("hostile", [*BAD_EVENTS, *BAD_BYTES, *BAD_RECORDS], ids=name_of)
def test_detail_is_short_and_says_something(hostile: Hostile) -> None:
    detail = decode_record(hostile.value).rejected[0].detail

    assert 0 < len(detail) <= DETAIL_CHARS_MAX
    assert detail.isprintable()


def test_good_event_alone_is_decoded_whatever_white_space_is_around_it() -> None:
    assert ["g1"] == ids(decode_record(b"\n \t" + good(1) + b"\r\n"))


def test_event_over_several_lines_is_one_event() -> None:
    indented = json.dumps(GOOD, indent=2).encode()

    assert ["g1"] == ids(decode_record(indented))


def test_indented_event_with_a_fault_is_refused_once() -> None:
    """Its lines are no events: a fault inside must not become one fault per line."""
    indented = json.dumps({**GOOD, "attributes": {"a": {"b": 1}}, "phase": "dreaming"}, indent=2).encode()

    assert [(0, "invalid")] == refusals(decode_record(indented))


def test_last_of_repeated_fields_counts() -> None:
    value = json.dumps(GOOD)[:-1].encode() + b', "id": "second"}'

    assert ["second"] == ids(decode_record(value))


def test_unknown_fields_are_ignored() -> None:
    assert ["g1"] == ids(decode_record(changed(invented_tomorrow={"deep": [1, {"er": 2}]})))


# ---- neighbours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", BAD_EVENTS, ids=name_of)
def test_neighbours_of_a_bad_event_in_an_array_survive(hostile: Hostile) -> None:
    value = b"[" + b",".join((good(0), hostile.value or b"", good(2))) + b"]"

    decoded = decode_record(value)

    assert ["g0", "g2"] == ids(decoded)
    assert [(1, hostile.reason)] == refusals(decoded)
    assert hostile.value == decoded.rejected[0].part


@pytest.mark.parametrize("hostile", [*BAD_EVENTS, *BAD_BYTES], ids=name_of)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\n"], ids=["LF", "CRLF", "empty line"])
def test_neighbours_of_a_bad_event_in_lines_survive(hostile: Hostile, newline: bytes) -> None:
    value = newline.join((good(0), hostile.value or b"", good(2)))

    decoded = decode_record(value)

    assert ["g0", "g2"] == ids(decoded)
    assert [(1, hostile.reason)] == refusals(decoded)


def test_all_bad_events_together_keep_their_places() -> None:
    parts: list[bytes] = []
    for number, hostile in enumerate(BAD_EVENTS):
        parts += (good(number), hostile.value or b"")

    decoded = decode_record(b"[" + b",".join(parts) + b"]")

    assert [f"g{number}" for number in range(len(BAD_EVENTS))] == ids(decoded)
    assert [(2 * number + 1, hostile.reason) for number, hostile in enumerate(BAD_EVENTS)] == refusals(decoded)


def test_first_and_last_line_may_be_bad() -> None:
    decoded = decode_record(b"{\n" + good(1) + b"\n" + good(2) + b"\nx")

    assert ["g1", "g2"] == ids(decoded)
    assert [(0, "malformed"), (3, "malformed")] == refusals(decoded)


@given(st.lists(st.booleans(), min_size=2, max_size=12), st.booleans())
def test_every_mixture_of_good_and_bad_keeps_order_and_places(pattern: list[bool], as_lines: bool) -> None:
    parts = [good(number) if fine else changed(phase="dreaming") for number, fine in enumerate(pattern)]
    value = b"\n".join(parts) if as_lines else b"[" + b",".join(parts) + b"]"

    decoded = decode_record(value)

    assert [f"g{number}" for number, fine in enumerate(pattern) if fine] == ids(decoded)
    assert [(number, "invalid") for number, fine in enumerate(pattern) if not fine] == refusals(decoded)


# ---- limits ----------------------------------------------------------------------------------------------------


def test_record_of_the_largest_size_is_decoded_and_one_byte_more_is_not() -> None:
    value = good(1)
    largest = value + b" " * (RECORD_BYTES_MAX - len(value))

    assert ["g1"] == ids(decode_record(largest))
    assert [(0, "too_large")] == refusals(decode_record(largest + b" "))


@pytest.mark.parametrize("as_lines", [False, True], ids=["array", "lines"])
@pytest.mark.parametrize("with_a_bad_one", [False, True], ids=["all good", "one bad"])
def test_record_of_the_most_events_is_decoded_and_one_more_is_not(as_lines: bool, with_a_bad_one: bool) -> None:
    small = b'{"kind":"heartbeat","id":"e","time":1,"agent":"a"}'
    parts = [small] * EVENTS_PER_RECORD_MAX
    if with_a_bad_one:
        parts[5] = b"{}"

    def joined(parts: list[bytes]) -> bytes:
        return b"\n".join(parts) if as_lines else b"[" + b",".join(parts) + b"]"

    assert EVENTS_PER_RECORD_MAX - with_a_bad_one == len(decode_record(joined(parts)).events)
    assert [(0, "too_many")] == refusals(decode_record(joined([*parts, small])))


# ---- secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": WORD},
        {"phase": WORD},
        {"phase": f"x - at `{WORD}`"},
        {"number": WORD},
        {"id": WORD * 50},
        {"agent": [WORD]},
        {"time": WORD},
        {"time": WORD * 9},
        {"attributes": {WORD: {"a": 1}}},
        {"attributes": {WORD: WORD * 50}},
        {"schema": WORD},
        {WORD: 1, "id": ""},
    ],
    ids=str,
)
def test_detail_never_quotes_a_value(fields: dict[str, Any]) -> None:
    rejected = decode_record(changed(**fields)).rejected

    assert 1 == len(rejected)
    assert "hunter2" not in rejected[0].detail
    assert "secret" not in rejected[0].detail


@given(st.text("abcdefgh", min_size=6), st.sampled_from(("phase", "kind", "time", "number", "schema", "agent")))
def test_no_word_of_a_value_reaches_a_detail(word: str, field: str) -> None:
    secret = f"Q{word}'\n\"` - at `$.Q{word}"

    rejected = decode_record(changed(**{field: [secret] if field == "agent" else secret})).rejected

    assert 1 == len(rejected)
    assert f"Q{word}" not in rejected[0].detail


# ---- anything --------------------------------------------------------------------------------------------------


def holds_together(value: bytes) -> None:
    """Whatever the bytes are: a value comes back, with something in it, and places in order."""
    decoded = decode_record(value)

    places = [one.position for one in decoded.rejected]
    assert decoded.events or decoded.rejected
    assert sorted(set(places)) == places
    assert all(time_ms(event.time) is not None for event in decoded.events)
    assert all(one.reason in Reason and one.detail for one in decoded.rejected)


@settings(max_examples=400)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(value: bytes) -> None:
    holds_together(value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(
    ("kind", "id", "time", "agent", "phase", "number", "duration_ms", "seq", "attributes", "schema")
)


@settings(max_examples=400)
@given(st.dictionaries(_fields, _json, max_size=4), st.sampled_from(sorted(KINDS)))
def test_any_json_in_any_field_never_raises(fields: dict[str, Any], kind: str) -> None:
    holds_together(json.dumps({**GOOD, "kind": kind, **fields}).encode())


@settings(max_examples=600)
@given(st.data())
def test_mutated_events_never_raise(data: st.DataObject) -> None:
    """Bytes of a valid record are replaced, cut out and repeated at any place."""
    value = bytearray(
        data.draw(st.sampled_from((good(1), b"[" + good(1) + b"," + good(2) + b"]", good(1) + b"\n" + good(2))))
    )
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(value)))
        upto = min(len(value), at + data.draw(st.integers(0, 4)))
        value[at:upto] = data.draw(st.binary(max_size=4)) * data.draw(st.integers(0, 3))

    holds_together(bytes(value))


@given(st.sampled_from(sorted(KINDS)))
def test_what_is_encoded_comes_back(kind: str) -> None:
    """The defaults of a kind are left out on the way and there again afterwards."""
    required = {
        "model": "m", "tool": "t", "from_model": "a", "to_model": "b", "phase": "planning", "role": "user",
        "endpoint": "/v1", "result": "hit" if kind == "cache" else "denied", "reason": "r", "target": "t",
        "denied_by": "loop", "cache": "c", "operation": "o", "keyword_hash": "k", "language": "python", "skill": "s",
        "action": "saved" if kind == "skill" else "audit", "provider": "p", "task_type": "chat",
        "direction": "request", "body": "{}", "metric": "m", "metric_kind": "gauge", "value": 1,
    }  # fmt: skip
    event = decode_record(json.dumps({**required, **GOOD, "kind": kind}).encode()).events[0]

    assert KINDS[kind] is type(event)
    assert event == decode_record(msgspec.json.encode(event)).events[0]
