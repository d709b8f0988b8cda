"""Log records: Claude Code's calls, in the words its documentation gives them, and what repeats them."""

from typing import Any

import pytest

from streams.event.model import Envelope, Feedback, Message, ModelEnd, ModelStart, TokenUsage, ToolEnd, ToolStart
from streams.event.otel.logs import translate
from streams.event.otel.strange import Strange
from streams.event.otel.wire import LogRecord
from streams.event.tokens import Usage

TIME_NS = 1_750_000_000_000_000_000
ABOUT = {"session.id": "s-1", "user.id": "u-1", "organization.id": "o-1", "event.sequence": 3}
REQUEST = {
    "model": "claude-sonnet-4-5", "input_tokens": "300", "output_tokens": "250", "cache_read_tokens": "600",
    "cache_creation_tokens": "100", "cost_usd": "0.0125", "duration_ms": "2000",
}  # fmt: skip


def line(name: str, attributes: dict[str, Any], **changes: Any) -> LogRecord:
    """Return a record as Claude Code writes it: the name in the body and, without its own, as an attribute."""
    about = {"event.name": name, **ABOUT, **attributes}
    scope = "com.anthropic.claude_code.events"
    record = LogRecord(TIME_NS, "", f"claude_code.{name}", "", "", about, {"service.name": "claude-code"}, scope)
    return record._replace(**changes)


def made(*records: LogRecord, tokens: bool = True) -> list[Any]:
    return list(translate(records, Strange(), tokens=tokens).events)


def only(events: list[Any], kind: type[Envelope]) -> Any:
    (event,) = (event for event in events if isinstance(event, kind))
    return event


def test_a_request_to_the_model_is_a_call_with_its_tokens_and_its_cost() -> None:
    events = made(line("api_request", REQUEST))
    start, usage, end = (only(events, kind) for kind in (ModelStart, TokenUsage, ModelEnd))

    assert Usage(1000, 250, 600, 100, 0) == Usage(*(getattr(usage, name) for name in Usage._fields))
    assert 12_500_000 == usage.cost_nano_usd
    assert (2000, TIME_NS // 10**6 - 2000, TIME_NS // 10**6) == (end.duration_ms, start.time, end.time)
    assert 1 == len({event.call_id for event in events})
    assert {("s-1", "u-1", "o-1", "claude-code")} == {
        (event.session_id, event.user_id, event.tenant, event.agent) for event in events
    }


def test_where_metrics_count_tokens_events_do_not() -> None:
    assert [ModelStart, ModelEnd] == [type(event) for event in made(line("api_request", REQUEST), tokens=False)]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("429", "error", "rate_limit"), ("408", "timeout", "timeout"), ("529", "error", "other")],
)
def test_a_refusal_is_a_failed_call(code: str, status: str, kind: str) -> None:
    about = {"model": "m", "error": "overloaded", "status_code": code, "duration_ms": 40, "attempt": 2}
    end = only(made(line("api_error", about)), ModelEnd)

    assert (status, code, {"error_type": kind}) == (end.status, end.error_code, end.attributes)


@pytest.mark.parametrize(("success", "status"), [("true", "success"), ("false", "error"), (False, "error")])
def test_a_tools_result_is_a_call(success: Any, status: str) -> None:
    about = {"tool_name": "Bash", "success": success, "duration_ms": "12", "error": "exit 1"}
    events = made(line("tool_result", about))
    end = only(events, ToolEnd)

    assert (status, "Bash", 12) == (end.status, end.tool, end.duration_ms)
    assert (None if status == "success" else "exit 1") == end.error_message
    assert only(events, ToolStart).call_id == end.call_id


def test_a_prompt_is_a_message_without_its_text() -> None:
    (event,) = made(line("user_prompt", {"prompt_length": "11", "prompt": "do not tell"}))

    assert isinstance(event, Message)
    assert ("user", 11) == (event.role, event.characters)
    assert "tell" not in repr(event)


def test_a_name_without_body_or_prefix_is_known_by_its_scope() -> None:
    assert made(line("tool_result", {"tool_name": "Bash"}, body=None))
    assert made(line("x", {"tool_name": "Bash"}, body=None, event="claude_code.tool_result"))


def test_the_same_record_has_the_same_ids_and_the_next_one_others() -> None:
    first, again = made(line("tool_result", {"tool_name": "Bash"})), made(line("tool_result", {"tool_name": "Bash"}))
    next_one = made(line("tool_result", {"tool_name": "Bash", "event.sequence": 4}))

    assert first == again
    assert not {event.id for event in first} & {event.id for event in next_one}


def test_what_spans_say_too_is_passed_over_and_what_nobody_knows_is_reported() -> None:
    strange = Strange()
    details = line("x", {}, body=None, event="gen_ai.client.inference.operation.details", scope="s")
    found = translate([details, line("novelty", {}), line("x", {}, body="hello", scope="app")], strange)

    assert (3, 0, []) == (found.items, found.rejected, list(found.events))
    assert {"claude_code.novelty": 1} == strange.report()["log"]


def test_an_evaluation_is_feedback_of_its_trace() -> None:
    about = {"gen_ai.evaluation.score.value": 0.5}
    record = LogRecord(TIME_NS, "gen_ai.evaluation.result", None, "ab" * 16, "cd" * 8, about, {}, "judge")
    event = only(made(record), Feedback)

    assert (0.5, "ab" * 16) == (event.quality, event.session_id)


def test_a_record_without_time_is_rejected() -> None:
    found = translate([line("user_prompt", {}, time_ns=0)], Strange())

    assert (1, 1, 0) == (found.items, found.rejected, len(found.events))


@pytest.mark.parametrize("value", ["nan", "inf", "-3", "1e400", "words", True, None, [], {}])
def test_no_number_makes_an_event_that_workers_refuse(value: Any) -> None:
    about = {**REQUEST, "duration_ms": value, "cost_usd": value, "input_tokens": value, "prompt_length": value}
    for event in made(line("api_request", about), line("user_prompt", about), line("tool_result", about)):
        assert getattr(event, "duration_ms", 0) >= 0
        assert getattr(event, "cost_nano_usd", None) is None or event.cost_nano_usd >= 0
