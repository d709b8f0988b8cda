"""Spans of every dialect, one rule at a time: what they are, what counts once, how they end."""

from typing import Any

import pytest
from otlp_made import BEGAN_NS, MS, TRACE, agent, chat, raised, span, tool, translated

from streams.event.model import AgentEnd, AgentStart, Envelope, Feedback, ModelEnd, ModelStart, TokenUsage, ToolEnd
from streams.event.otel.family import REMEMBERED_MAX, Memory
from streams.event.otel.roles import Role, role_of
from streams.event.otel.strange import NAMES_MAX, OVERFLOW, Strange
from streams.event.otel.wire import SERVER, SpanEvent


def made(*spans: Any, memory: Memory | None = None) -> list[Any]:
    return list(translated(spans, memory)[0].events)


def of(events: list[Any], kind: type[Envelope]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def only(events: list[Any], kind: type[Envelope]) -> Any:
    (event,) = of(events, kind)
    return event


def tokens(events: list[Any], scope: str = "leaf") -> int:
    return sum(event.input_tokens for event in of(events, TokenUsage) if event.scope == scope)


@pytest.mark.parametrize(
    ("attributes", "role"),
    [
        ({"gen_ai.operation.name": "chat"}, Role.MODEL),
        ({"gen_ai.operation.name": "embeddings"}, Role.MODEL),
        ({"gen_ai.operation.name": "invoke_workflow"}, Role.AGENT),
        ({"gen_ai.operation.name": "execute_tool"}, Role.TOOL),
        ({"gen_ai.operation.name": "create_agent"}, Role.AROUND),
        ({"gen_ai.operation.name": "divine"}, Role.STRANGE),
        ({"gen_ai.operation.name": ["chat"]}, Role.STRANGE),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4"}, Role.MODEL),
        ({"openinference.span.kind": "LLM"}, Role.MODEL),
        ({"openinference.span.kind": "llm"}, Role.MODEL),
        ({"openinference.span.kind": "RETRIEVER"}, Role.TOOL),
        ({"openinference.span.kind": "CHAIN"}, Role.AGENT),
        ({"openinference.span.kind": "ORACLE"}, Role.STRANGE),
        ({"traceloop.span.kind": "workflow"}, Role.AGENT),
        ({"traceloop.span.kind": "task"}, Role.AROUND),
        ({"traceloop.span.kind": "tool"}, Role.TOOL),
        ({"llm.request.type": "completion"}, Role.MODEL),
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "search"}, Role.TOOL),
        ({"mcp.method.name": "tools/list"}, Role.AROUND),
        ({"http.request.method": "POST"}, Role.FOREIGN),
    ],
)
def test_a_span_is_what_its_attributes_say(attributes: dict[str, Any], role: Role) -> None:
    assert role == role_of(span(1, attributes))


def test_a_chain_inside_another_is_no_request() -> None:
    assert Role.AROUND is role_of(span(2, {"openinference.span.kind": "CHAIN"}, parent=1))


def test_ids_are_made_of_trace_and_span_so_that_a_retry_says_the_same() -> None:
    request = [chat(2, parent=1), agent(1)]

    assert made(*request) == made(*request)
    assert {f"{TRACE}-{2:016x}-{what}" for what in ("start", "usage", "end")} < {event.id for event in made(*request)}
    assert {f"{2:016x}"} == {event.call_id for event in made(chat(2))}


def test_a_start_and_an_end_are_where_the_span_says() -> None:
    start, usage, end = made(chat(1, ms=250))

    assert [BEGAN_NS // MS + 1, BEGAN_NS // MS + 251, BEGAN_NS // MS + 251] == [start.time, usage.time, end.time]
    assert 250 == end.duration_ms


def test_a_span_without_an_end_is_in_flight() -> None:
    assert [ModelStart] == [type(event) for event in made(chat(1, ms=0))]


def test_logfire_tells_of_a_beginning_by_another_span() -> None:
    about = {"logfire.span_type": "pending_span", "logfire.pending_parent_id": f"{1:016x}"}
    (start,) = made(chat(9, parent=2, attributes=about))
    ends = made(chat(2, parent=1))

    assert isinstance(start, ModelStart)
    assert (start.id, start.call_id, start.parent_id) == (ends[0].id, f"{2:016x}", f"{1:016x}")


# ---- what counts once --------------------------------------------------------------------------------------------


def test_sums_of_a_request_are_aggregates() -> None:
    sums = {"gen_ai.usage.input_tokens": 200, "gen_ai.usage.output_tokens": 20}
    events = made(chat(2, parent=1), chat(3, parent=1), agent(1, attributes=sums))

    assert (200, 200) == (tokens(events), tokens(events, "aggregate"))


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_model_inside_a_model_is_one_call_and_the_inner_one_owns_it(cut: int) -> None:
    """Two packages tell of the same call: one of the framework, one of the client below it."""
    around, memory = chat(1, tokens=100), Memory()
    inner = chat(3, parent=2, tokens=100)
    chain = span(2, {"openinference.span.kind": "CHAIN"}, parent=1)
    events = made(*[inner, chain, around][: cut + 1], memory=memory) + made(
        *[inner, chain, around][cut + 1 :], memory=memory
    )

    assert [f"{3:016x}"] == [event.call_id for event in of(events, ModelEnd)]
    assert (100, 100) == (tokens(events), tokens(events, "aggregate"))


def test_an_agent_inside_a_tool_keeps_its_own_calls() -> None:
    events = made(chat(4, parent=3), agent(3, parent=2), tool(2, "delegate", parent=1), chat(5, parent=1), agent(1))

    assert 2 == len(of(events, ModelEnd))
    assert 2 == len(of(events, AgentEnd))
    assert 200 == tokens(events)


def test_a_tool_of_mcp_inside_the_agents_own_span_of_it_is_one_call() -> None:
    mcp = {"mcp.method.name": "tools/call", "error.type": "tool_error"}
    events = made(tool(3, parent=2, kind=3, attributes=mcp), tool(2, parent=1), agent(1))
    end = only(events, ToolEnd)

    assert (f"{3:016x}", f"{1:016x}", "error") == (end.call_id, end.parent_id, end.status)


def test_other_tools_inside_a_tool_are_calls_of_their_own() -> None:
    events = made(tool(2, "read", parent=1), tool(1, "search"))

    assert ["read", "search"] == sorted(event.tool for event in of(events, ToolEnd))


def served(number: int, parent: int = 0) -> Any:
    """Return a call as the server of MCP tells of it: only there a result that says it failed is seen."""
    about = {"mcp.method.name": "tools/call", "error.type": "tool_error"}
    return tool(number, parent=parent, kind=SERVER, attributes=about)


def carried(number: int, parent: int) -> Any:
    """Return what carries a call to a server, and does not name the tool."""
    return span(number, {"mcp.method.name": "tools/call"}, parent=parent, kind=3)


def test_a_server_of_mcp_that_is_alone_counts() -> None:
    assert "error" == only(made(served(1)), ToolEnd).status
    assert "error" == only(made(served(2, parent=1), carried(1, parent=0)), ToolEnd).status


@pytest.mark.parametrize("first", ["agent", "server"])
def test_caller_and_server_of_a_tool_are_one_call_whoever_tells_first(first: str) -> None:
    """They are different processes, each with an exporter of its own."""
    memory = Memory()
    of_agent, of_server = [carried(3, parent=2), tool(2, parent=1), agent(1)], [served(4, parent=3)]
    order = [of_agent, of_server] if first == "agent" else [of_server, of_agent]
    once = [made(*request, memory=memory) for request in order]
    again = [made(*request, memory=memory) for request in order]

    assert [1, 0] == [len(of(events, ToolEnd)) for events in once]
    # A retry has the same ids in the same sessions: it is known again.
    told, retold = ([[(event.id, event.session_id) for event in events] for events in each] for each in (once, again))
    assert told == retold


def test_what_was_seen_before_is_bounded() -> None:
    memory = Memory()
    for number in range(REMEMBERED_MAX + 1):
        memory.enclose(f"{number}", TRACE, {"model"})

    assert not memory.enclosed("0", TRACE)
    assert {"model"} == memory.enclosed("1", TRACE)


# ---- who ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id", "langfuse.session.id"],
)
def test_a_session_is_named_by_any_dialect(name: str) -> None:
    assert "c-1" == made(chat(1, attributes={name: "c-1"}))[0].session_id


def test_a_session_is_that_of_what_encloses_a_call_or_of_the_trace_or_the_trace() -> None:
    named = {"gen_ai.conversation.id": "c-1"}
    inside = made(chat(2, parent=1), agent(1, attributes=named))
    beside = made(chat(2, parent=9), chat(3, parent=9, attributes=named))

    assert {"c-1"} == {event.session_id for event in inside + beside}
    assert TRACE == made(chat(1))[0].session_id


def test_a_session_is_the_same_whatever_came_before() -> None:
    """It chooses the partition, and only there a retry is known again."""
    memory, child = Memory(), chat(2, parent=1)
    first = made(child, memory=memory)
    made(agent(1, attributes={"gen_ai.conversation.id": "c-1"}), memory=memory)

    assert [event.session_id for event in first] == [event.session_id for event in made(child, memory=memory)]


def test_an_agent_is_named_by_its_span_by_what_is_around_it_or_by_its_service() -> None:
    inside = made(chat(2, parent=1), agent(1))

    assert {"scout"} == {event.agent for event in inside}
    assert "planner" == made(chat(1))[0].agent
    assert "agent" == made(chat(1, resource={"service.name": "unknown_service:python"}))[0].agent


# ---- how it ended ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "events", "status", "code", "kind"),
    [
        ({"error.type": "429"}, (), "error", "429", "rate_limit"),
        ({"error.type": "<class 'openai.RateLimitError'>"}, (), "error", "RateLimitError", "rate_limit"),
        ({"error.type": "openai.APITimeoutError"}, (), "timeout", "APITimeoutError", "timeout"),
        ({}, (raised("openai.AuthenticationError"),), "error", "AuthenticationError", "auth_failure"),
        ({"http.response.status_code": 503}, (raised("X"),), "error", "503", "other"),
        ({}, (raised("asyncio.exceptions.CancelledError"),), "cancelled", None, None),
        ({}, (), "error", None, "other"),
    ],
)
def test_a_models_failure_has_a_status_a_code_and_a_class(
    attributes: dict[str, Any], events: tuple[SpanEvent, ...], status: str, code: str | None, kind: str | None
) -> None:
    end = only(made(chat(1, failed=True, events=events, attributes=attributes)), ModelEnd)

    assert (status, code, kind) == (end.status, end.error_code, (end.attributes or {}).get("error_type"))


def test_an_exception_that_was_handled_is_no_failure() -> None:
    assert "success" == only(made(chat(1, events=[raised("ValueError")])), ModelEnd).status


@pytest.mark.parametrize(
    ("attributes", "failed", "status"),
    [
        ({}, True, "error"),
        ({"error.type": "tool_error"}, False, "error"),
        ({"gen_ai.tool.call.result": '{"content": [], "isError": true}'}, False, "error"),
        ({"output.value": '{"isError":true}'}, False, "error"),
        ({"gen_ai.tool.call.result": '{"isError": false}'}, False, "success"),
        ({"gen_ai.tool.status": "error"}, False, "error"),
        ({"error.type": "-32602"}, False, "validation_error"),
        ({"error.type": "pydantic.ValidationError"}, True, "validation_error"),
        ({"error.type": "TimeoutError"}, True, "timeout"),
    ],
)
def test_a_tool_fails_also_inside_an_answer_that_went_well(
    attributes: dict[str, Any], failed: bool, status: str
) -> None:
    assert status == only(made(tool(1, failed=failed, attributes=attributes)), ToolEnd).status


# ---- details -----------------------------------------------------------------------------------------------------


def test_a_call_of_a_model_says_all_that_its_span_does() -> None:
    about = {
        "gen_ai.system": "AWS", "gen_ai.provider.name": None, "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.025, "gen_ai.usage.cost.amount": 0.002,
        "gen_ai.usage.cost.currency": "USD", "gen_ai.usage.cache_read.input_tokens": 40,
    }  # fmt: skip
    events = made(chat(1, attributes=about))
    usage, end = only(events, TokenUsage), only(events, ModelEnd)

    assert ("aws.bedrock", 0.5, "stop", True, 25) == (
        end.provider, end.temperature, end.finish_reason, end.streaming, end.first_token_ms,
    )  # fmt: skip
    assert (100, 40, 2_000_000) == (usage.input_tokens, usage.cache_read_tokens, usage.cost_nano_usd)


def test_openinference_keeps_the_temperature_in_json_and_the_first_token_in_an_event() -> None:
    about = {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.invocation_parameters": '{"temperature": 1}'}
    first = SpanEvent("First Token Stream Event", BEGAN_NS + 31 * MS, {})
    end = only(made(span(1, about, events=[first])), ModelEnd)

    assert (1, 30, True) == (end.temperature, end.first_token_ms, end.streaming)


def test_a_cost_in_another_currency_is_not_taken_for_dollars() -> None:
    about = {"gen_ai.usage.cost.amount": 2.0, "gen_ai.usage.cost.currency": "EUR"}

    assert only(made(chat(1, attributes=about)), TokenUsage).cost_nano_usd is None


def test_texts_of_a_tool_leave_as_sizes_and_a_hash() -> None:
    about = {"gen_ai.tool.call.arguments": '{"text": "secret"}', "gen_ai.tool.call.result": "hidden words"}
    end = only(made(tool(1, attributes=about)), ToolEnd)

    assert (18, 12) == (end.input_bytes, end.output_bytes)
    assert "secret" not in repr(end)
    assert "hidden" not in repr(end)


def test_an_evaluation_is_feedback() -> None:
    score = SpanEvent("gen_ai.evaluation.result", 0, {"gen_ai.evaluation.score.value": 0.75})

    assert 0.75 == only(made(chat(1, events=[score])), Feedback).quality


def test_what_cannot_be_a_span_is_rejected_and_its_neighbours_count() -> None:
    good = chat(1)
    bad = [good._replace(trace_id=""), good._replace(span_id="0" * 16), good._replace(start_ns=0)]
    found, _ = translated([*bad, good])

    assert (4, 3) == (found.items, found.rejected)
    assert 3 == len(found.events)


def test_what_nobody_knows_is_reported_by_name() -> None:
    unknown = chat(1, attributes={"gen_ai.usage.thinking_tokens": 7, "gen_ai.novelty": "words"})
    _, strange = translated([unknown, span(2, {"gen_ai.operation.name": "divine"}), span(3, {"db.system": "x"})])

    assert {"gen_ai.usage.thinking_tokens": 1, "gen_ai.novelty": 1} == strange.report()["attribute"]
    assert {"divine": 1} == strange.report()["span"]
    assert {"by hand": 1} == strange.report()["scope"]


def test_the_report_is_bounded_and_exact() -> None:
    strange = Strange()
    for number in range(NAMES_MAX + 5):
        strange.note("attribute", f"gen_ai.{number}")

    assert NAMES_MAX + 1 == len(strange.report()["attribute"])
    assert 5 == strange.report()["attribute"][OVERFLOW]
    assert NAMES_MAX + 5 == strange.totals()["attribute"]


def test_a_request_begins_before_what_is_inside_it() -> None:
    """Spans come as they end, the outermost last."""
    events = made(chat(2, parent=1, ms=20), agent(1, ms=100))

    assert [AgentStart, ModelStart] == [type(event) for event in events[:2]]
    assert isinstance(events[-1], AgentEnd)
