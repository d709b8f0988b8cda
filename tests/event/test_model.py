"""Which events exist, where their bounds are, and which times are times."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields as fields_of

from streams.event.codec import MS_END, US_END, decode_record, time_ms
from streams.event.model import (
    AMOUNT_MAX,
    ATTRIBUTES_MAX,
    COST_NANO_USD_MAX,
    COUNT_MAX,
    DURATION_MS_MAX,
    ID_CHARS_MAX,
    KINDS,
    NAME_CHARS_MAX,
    SCHEMA_VERSION,
    TEXT_CHARS_MAX,
    TOKENS_MAX,
    AgentEnd,
    partition_key,
)

CATALOGUE = (
    "session_start", "session_end", "agent_start", "agent_end", "model_start", "model_end", "token_usage",
    "tool_start", "tool_end", "cycle", "message", "model_switch", "parameter_change", "error", "rate_limit", "cache",
    "resource", "feedback", "degraded", "discovery", "execution", "sdk_generation", "filtering", "skill", "security",
    "a2a_start", "a2a_end", "ccr", "payload", "custom", "guard", "heartbeat",
)  # fmt: skip

ENVELOPE = (
    "id", "time", "agent", "session_id", "call_id", "parent_id", "source", "seq", "user_id", "tenant", "trace_id",
    "attributes", "schema",
)  # fmt: skip


def accepted(kind: str, **fields: Any) -> bool:
    """Decode one event of a kind with some fields."""
    event = {"kind": kind, "id": "e", "time": 1, "agent": "a", **fields}
    return bool(decode_record(json.dumps(event).encode()).events)


# ---- kinds -----------------------------------------------------------------------------------------------------


def test_the_kinds_are_those_of_the_catalogue() -> None:
    assert sorted(CATALOGUE) == sorted(KINDS)


@pytest.mark.parametrize("kind", CATALOGUE)
def test_every_kind_carries_the_envelope(kind: str) -> None:
    assert list(ENVELOPE) == [field.name for field in fields_of(KINDS[kind])][: len(ENVELOPE)]


@pytest.mark.parametrize("kind", CATALOGUE)
def test_events_cannot_be_changed(kind: str) -> None:
    assert KINDS[kind].__struct_config__.frozen


def test_a_record_is_keyed_by_session_then_source_then_agent() -> None:
    event = AgentEnd(id="e", time=1, agent="planner")

    assert "planner" == partition_key(event)
    assert "host" == partition_key(AgentEnd(id="e", time=1, agent="planner", source="host"))
    assert "s" == partition_key(AgentEnd(id="e", time=1, agent="planner", source="host", session_id="s"))


# ---- bounds ----------------------------------------------------------------------------------------------------

TOOL = {"tool": "t"}
USAGE = {"model": "m"}
CUSTOM = {"metric": "m", "metric_kind": "gauge"}


@pytest.mark.parametrize(
    ("kind", "others", "field", "last", "beyond"),
    [
        ("heartbeat", {}, "id", "x" * ID_CHARS_MAX, "x" * (ID_CHARS_MAX + 1)),
        ("heartbeat", {}, "id", "x", ""),
        ("heartbeat", {}, "session_id", "é" * ID_CHARS_MAX, "é" * (ID_CHARS_MAX + 1)),
        ("heartbeat", {}, "agent", "x" * NAME_CHARS_MAX, "x" * (NAME_CHARS_MAX + 1)),
        ("heartbeat", {}, "agent", "x", ""),
        ("heartbeat", {}, "tenant", "x" * NAME_CHARS_MAX, "x" * (NAME_CHARS_MAX + 1)),
        ("heartbeat", {}, "source", "x" * NAME_CHARS_MAX, "x" * (NAME_CHARS_MAX + 1)),
        ("heartbeat", {}, "seq", COUNT_MAX, COUNT_MAX + 1),
        ("heartbeat", {}, "seq", 0, -1),
        ("heartbeat", {}, "schema", SCHEMA_VERSION, SCHEMA_VERSION + 1),
        ("heartbeat", {}, "schema", 1, 0),
        ("heartbeat", {}, "time", 2**63 - 1, 2**63),
        ("heartbeat", {}, "time", 0, -1),
        ("heartbeat", {}, "time", "1" * 19, "1" * 41),
        (
            "heartbeat",
            {},
            "attributes",
            {str(n): n for n in range(ATTRIBUTES_MAX)},
            {str(n): n for n in range(ATTRIBUTES_MAX + 1)},
        ),
        ("heartbeat", {}, "attributes", {"a": "x" * 512}, {"a": "x" * 513}),
        ("heartbeat", {}, "attributes", {"x" * NAME_CHARS_MAX: 1}, {"x" * (NAME_CHARS_MAX + 1): 1}),
        ("heartbeat", {}, "attributes", {"a": None, "b": True, "c": 1.5}, {"a": []}),
        ("heartbeat", {}, "attributes", {"a": -COUNT_MAX}, {"a": -COUNT_MAX - 1}),
        ("tool_end", TOOL, "duration_ms", DURATION_MS_MAX, DURATION_MS_MAX + 1),
        ("tool_end", TOOL, "duration_ms", 0.5, -0.5),
        ("tool_end", TOOL, "attempt", 1000, 1001),
        ("tool_end", TOOL, "attempt", 1, 0),
        ("tool_end", TOOL, "input_bytes", AMOUNT_MAX, AMOUNT_MAX + 1),
        ("tool_end", TOOL, "error_message", "x" * TEXT_CHARS_MAX, "x" * (TEXT_CHARS_MAX + 1)),
        ("tool_end", TOOL, "status", "validation_error", "failed"),
        ("model_end", USAGE, "status", "timeout", "validation_error"),
        ("model_end", USAGE, "first_token_ms", 0, -1),
        ("model_start", USAGE, "temperature", 10, 10.5),
        ("token_usage", USAGE, "input_tokens", TOKENS_MAX, TOKENS_MAX + 1),
        ("token_usage", USAGE, "reasoning_tokens", 0, -1),
        ("token_usage", USAGE, "cost_nano_usd", COST_NANO_USD_MAX, COST_NANO_USD_MAX + 1),
        ("token_usage", USAGE, "cost_nano_usd", None, 0.5),
        ("token_usage", USAGE, "scope", "aggregate", "root"),
        ("feedback", {}, "quality", 1, 1.01),
        ("feedback", {}, "quality", 0.0, -0.01),
        ("error", {}, "error_type", "rate_limit", "unheard_of"),
        ("resource", {}, "batch_efficiency", 1.0, 2),
        ("execution", {"language": "python"}, "exit_code", -(2**31), -(2**31) - 1),
        ("payload", {"direction": "request"}, "body", "x" * 65_536, "x" * 65_537),
        ("custom", CUSTOM, "value", -COUNT_MAX, -COUNT_MAX - 1),
        ("custom", {**CUSTOM, "value": 1}, "labels", {str(n): "v" for n in range(8)}, {str(n): "v" for n in range(9)}),
    ],
)
def test_the_last_value_within_a_bound_is_accepted_and_the_next_is_refused(
    kind: str, others: dict[str, Any], field: str, last: Any, beyond: Any
) -> None:
    assert accepted(kind, **{**others, field: last})
    assert not accepted(kind, **{**others, field: beyond})


@pytest.mark.parametrize("kind", CATALOGUE)
def test_no_kind_takes_an_event_without_an_agent(kind: str) -> None:
    event = {"kind": kind, "id": "e", "time": 1}

    assert not decode_record(json.dumps(event).encode()).events


# ---- times -----------------------------------------------------------------------------------------------------

AT_MS = 1_763_725_260_123


@pytest.mark.parametrize(
    "time",
    [
        AT_MS,
        AT_MS * 1_000 + 999,
        AT_MS * 1_000_000 + 999_999,
        str(AT_MS),
        str(AT_MS * 1_000_000),
        "2025-11-21T11:41:00.123Z",
        "2025-11-21t11:41:00.123z",
        "2025-11-21 11:41:00.123Z",
        "2025-11-21T11:41:00.123999Z",
        "2025-11-21T11:41:00.123+00:00",
        "2025-11-21T11:41:00.123-00:00",
        "2025-11-21T17:11:00.123+05:30",
        "2025-11-20T23:41:00.123-12:00",
    ],
)
def test_every_form_of_a_time_is_the_same_moment(time: int | str) -> None:
    assert AT_MS == time_ms(time)


@pytest.mark.parametrize(
    "time",
    [
        "2025-11-21T11:41:00", "2025-11-21", "11:41:00Z", "yesterday", "2025-11-21T11:61:00Z", "2025-02-29T00:00:00Z",
        "2025-11-21T11:41:61Z", "2025-11-21T24:01:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01",
        "١٧٦٣٧٢٤٠٠٠", "1763725260.5", "-1", "+1", "1e12", " 1", "nan", "9" * 25,
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(time: str) -> None:
    assert time_ms(time) is None


def test_a_leap_second_counts_as_the_second_before() -> None:
    """RFC 3339 has them, POSIX time does not; seconds beyond it exist in neither."""
    assert time_ms("2016-12-31T23:59:59Z") == time_ms("2016-12-31T23:59:60Z")
    assert time_ms("2016-12-31T23:59:61Z") is None


def test_units_of_integers_change_at_their_bounds() -> None:
    assert MS_END - 1 == time_ms(MS_END - 1)
    assert MS_END // 1_000 == time_ms(MS_END)
    assert MS_END - 1 == time_ms(US_END - 1)
    assert US_END // 1_000_000 == time_ms(US_END)
    assert 9_223_372_036_854 == time_ms(2**63 - 1)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 31)),  # noqa: DTZ001  offsets are added below
    st.integers(-14 * 60, 14 * 60),
)
def test_any_moment_with_any_offset_is_read_as_the_standard_library_does(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)

    assert since // timedelta(milliseconds=1) == time_ms(aware.isoformat())


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert (time_ms(text) or 0) >= 0
