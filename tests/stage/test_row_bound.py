"""A session's row fits into its changelog, whatever names and calls come: characters of four bytes, and no ends."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage import Record

from streams.event.model import ID_CHARS_MAX, NAME_CHARS_MAX
from streams.rule.defaults import default_rules
from streams.stage.sessions import SessionsPartition
from streams.topology import SESSIONS_STAGE

T0 = 1_763_724_000_000
EVENTS = 1_400  # some of each kind are more than a row keeps
LIMIT_BYTES = int(SESSIONS_STAGE.changelog.config["max.message.bytes"])
ROW_BYTES = LIMIT_BYTES * 9 // 10  # the rest is the key, and what a batch adds

KINDS = ("agent_start", "tool_start", "model_start", "tool_end", "heartbeat", "token_usage", "error")


def long(chars: int, number: int) -> str:
    """Return a text of so many characters, four bytes each but for its number."""
    text = str(number)
    return "\U0001f600" * (chars - len(text)) + text


def hostile(kind: str, number: int, calls: int) -> dict[str, Any]:
    """Return an event whose every name is as long as may be."""
    name, call = long(NAME_CHARS_MAX, number), long(ID_CHARS_MAX, number % calls)
    event: dict[str, Any] = {
        "kind": kind, "id": long(ID_CHARS_MAX, number), "time": T0 + number, "agent": name, "tenant": name,
        "user_id": name, "session_id": "s", "source": name, "seq": number,
    }  # fmt: skip
    if kind == "error":
        return {**event, "error_type": "other", "component": name, "message": long(500, number % 9)}
    event |= {"call_id": call, "parent_id": long(ID_CHARS_MAX, number + 1)}
    if kind in {"tool_start", "tool_end"}:
        event["tool"] = name
    if kind in {"model_start", "token_usage"}:
        event |= {"model": name, "provider": name}
    if kind == "tool_end":
        event |= {"status": "error", "duration_ms": 10**9}
    if kind == "token_usage":
        event |= {"input_tokens": 10**9, "output_tokens": 10**9, "scope": "aggregate"}
    return event


@settings(max_examples=8)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12), st.sampled_from((40, 300, EVENTS)))
def test_a_row_of_a_session_that_means_harm_fits_into_its_changelog(kinds: list[str], calls: int) -> None:
    part = SessionsPartition(0, 1, 1, default_rules())
    events = (hostile(kinds[at % len(kinds)], at, calls) for at in range(EVENTS))
    part.feed(
        [Record(at, T0 + at, None, json.dumps(event, ensure_ascii=False).encode()) for at, event in enumerate(events)]
    )
    plan = part.plan()

    assert plan is not None
    assert part.counters()["applied"] == EVENTS, part.counters()
    assert max(len(value) for _, value in plan.rows if value is not None) <= ROW_BYTES
