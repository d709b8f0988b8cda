"""Input that means harm, or is just broken: named values of one record each, and how they must be refused.

Never imports the product: reasons are the words of the rejected counter.
"""

import gzip
import json
from typing import Any, Final, NamedTuple

GOOD: Final[dict[str, Any]] = {
    "kind": "cycle",
    "phase": "planning",
    "id": "g1",
    "time": 1_763_724_000_000,
    "agent": "a",
}


class Hostile(NamedTuple):
    """One bad value, and why it is refused."""

    name: str
    value: bytes | None
    reason: str


def changed(**fields: Any) -> bytes:
    """Encode the good event with some fields replaced."""
    return json.dumps({**GOOD, **fields}).encode()


def raw(field: str, literal: str) -> bytes:
    """Encode the good event with one more field, whose value is a literal that json.dumps would not write."""
    return json.dumps(GOOD)[:-1].encode() + f', "{field}": {literal}}}'.encode()


def without(field: str) -> bytes:
    """Encode the good event without one of its fields."""
    return json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()


# Bad as one element of an array or one line of many, as well as alone: they are JSON.
BAD_EVENTS: Final = (
    Hostile("number", b"17", "invalid"),
    Hostile("null", b"null", "invalid"),
    Hostile("string", b'"tool_end"', "invalid"),
    Hostile("empty object", b"{}", "unknown_kind"),
    Hostile("no kind", without("kind"), "unknown_kind"),
    Hostile("unknown kind", changed(kind="tool_exploded"), "unknown_kind"),
    Hostile("kind of another type", changed(kind=7), "unknown_kind"),
    Hostile("no id", without("id"), "invalid"),
    Hostile("empty id", changed(id=""), "invalid"),
    Hostile("no time", without("time"), "invalid"),
    Hostile("no agent", without("agent"), "invalid"),
    Hostile("missing field of the kind", without("phase"), "invalid"),
    Hostile("value outside an enumeration", changed(phase="dreaming"), "invalid"),
    Hostile("future schema", changed(schema=2), "unknown_schema"),
    Hostile("negative duration", changed(duration_ms=-1), "invalid"),
    Hostile("duration beyond its bound", changed(duration_ms=10**12), "invalid"),
    Hostile("negative tokens", changed(kind="token_usage", model="m", input_tokens=-5), "invalid"),
    Hostile("negative cost", changed(kind="token_usage", model="m", cost_nano_usd=-1), "invalid"),
    Hostile("integer of 23 digits", raw("number", "9" * 23), "invalid"),
    Hostile("integer of 23 digits in the attributes", raw("attributes", '{"n": ' + "9" * 23 + "}"), "invalid"),
    Hostile("fraction for a count", changed(number=1.5), "invalid"),
    Hostile("truth for a count", changed(number=True), "invalid"),
    Hostile("text for a count", changed(number="1"), "invalid"),
    Hostile("negative seq", changed(seq=-1), "invalid"),
    Hostile("seq beyond 2^53", changed(seq=2**53), "invalid"),
    Hostile("agent of 10 kB", changed(agent="x" * 10_000), "invalid"),
    Hostile("id of 257 characters", changed(id="x" * 257), "invalid"),
    Hostile("attributes without end", changed(attributes={str(n): n for n in range(33)}), "invalid"),
    Hostile("attributes that nest", changed(attributes={"a": {"b": 1}}), "invalid"),
    Hostile("attribute of 10 kB", changed(attributes={"a": "x" * 10_000}), "invalid"),
    Hostile("negative time", changed(time=-1), "invalid"),
    Hostile("time beyond 64 bits", changed(time=2**63), "invalid"),
    Hostile("time as a fraction", changed(time=1763724000.5), "invalid"),
    Hostile("time as an object", changed(time={"seconds": 1}), "invalid"),
    Hostile("empty time", changed(time=""), "invalid"),
    Hostile("time without an offset", changed(time="2025-11-21T11:41:00"), "time"),
    Hostile("date", changed(time="2025-11-21"), "time"),
    Hostile("time that is a word", changed(time="yesterday"), "time"),
    Hostile("time before 1970", changed(time="1969-12-31T23:59:59Z"), "time"),
    Hostile("time in other digits", changed(time="١٧٦٣٧٢٤٠٠٠"), "time"),
    Hostile("minute 61", changed(time="2025-11-21T11:61:00Z"), "time"),
)

# No JSON, or not as decoders take it: a record of its own or one line of many, but never an element of an array.
BAD_BYTES: Final = (
    Hostile("garbage", b"\x00\x01\x02", "malformed"),
    Hostile("invalid UTF-8", b'{"kind": "cycle", "id": "\xff\xfe"}', "malformed"),
    Hostile("lone surrogate", b'{"kind": "cycle", "id": "\\ud800"}', "malformed"),
    Hostile("truncated", json.dumps(GOOD).encode()[:-7], "malformed"),
    Hostile("trailing bytes", json.dumps(GOOD).encode() + b" x", "malformed"),
    Hostile("NaN", raw("duration_ms", "NaN"), "malformed"),
    Hostile("Infinity", raw("duration_ms", "-Infinity"), "malformed"),
    Hostile("1e999", raw("duration_ms", "1e999"), "invalid"),
    Hostile("integer of 5,000 digits", raw("number", "9" * 5_000), "invalid"),
    Hostile("byte order mark", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "malformed"),
    Hostile("nested objects", b'{"a":' * 100_000, "malformed"),
    Hostile("nested attributes", raw("attributes", '{"a":' * 5_000 + "1" + "}" * 5_000), "invalid"),
)

# What only a whole record can be.
BAD_RECORDS: Final = (
    Hostile("tombstone", None, "empty"),
    Hostile("nothing", b"", "empty"),
    Hostile("white space", b" \r\n\t ", "empty"),
    Hostile("empty array", b"[]", "empty"),
    Hostile("array without end", b"[" + json.dumps(GOOD).encode() + b",", "malformed"),
    Hostile("gzip", gzip.compress(json.dumps(GOOD).encode() * 9, mtime=0), "malformed"),
    Hostile("1,000 brackets", b"[" * 1_000, "malformed"),
    Hostile("100,000 brackets", b"[" * 100_000, "malformed"),
    Hostile("balanced brackets", b"[" * 5_000 + b"]" * 5_000, "malformed"),
    Hostile("2 MB", json.dumps(GOOD).encode() + b" " * 2_000_000, "too_large"),
    Hostile("2 MB in one field", changed(agent="x" * 2_000_000), "too_large"),
    Hostile("an array of 10,001 numbers", b"[" + b"1," * 10_000 + b"1]", "too_many"),
)
