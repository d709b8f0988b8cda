"""What timers report about work that goes well, badly or not at all, and that they change nothing about it."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import asdict
from scripted_tools import Broken

from streams.event.codec import decode_one
from streams.event.model import (
    AgentEnd,
    AgentStart,
    Cycle,
    Envelope,
    Error,
    Event,
    Heartbeat,
    ModelEnd,
    ModelStart,
    SessionEnd,
    SessionStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.feed.encode import Encoded, encode_event
from streams.feed.size import digest
from streams.feed.timers import Session, current_call


class Collected(list[Event]):
    """Takes events and makes sure that a worker would."""

    def emit(self, event: Envelope) -> None:
        encoded = encode_event(event, source=b'"test"', seq=len(self), redactor=None)
        assert isinstance(encoded, Encoded), event
        self.append(decode_one(encoded.part))

    def only(self, kind: type[Envelope]) -> Any:
        [event] = [each for each in self if isinstance(each, kind)]
        return event


@pytest.fixture
def events() -> Collected:
    return Collected()


@pytest.fixture
def session(events: Collected) -> Session:
    return Session(events, agent="planner", session_id="s1", user_id="u1", tenant="acme", attributes={"env": "test"})


def test_work_done_well_is_reported_from_the_outside_in(events: Collected, session: Session) -> None:
    with session, session.request(streaming=True, endpoint="/ask") as request:
        with session.model_call("m1", provider="p1", temperature=0.5) as call:
            call.first_token()
            call.usage(input_tokens=10, output_tokens=3, cache_read_tokens=4, cost_nano_usd=77)
            call.finish("stop")
        with session.tool_call("search", arguments={"b": 1, "a": 2}, queue_depth=3) as tool:
            tool.heartbeat()
            tool.output("ßß")
        request.respond("hello")
        request.respond(10)

    kinds = [type(each) for each in events]
    assert kinds == [
        SessionStart, AgentStart, ModelStart, TokenUsage, ModelEnd, ToolStart, Heartbeat, ToolEnd, AgentEnd, SessionEnd
    ]  # fmt: skip
    assert len({each.id for each in events}) == len(events)
    assert {(each.agent, each.session_id, each.user_id, each.tenant) for each in events} == {
        ("planner", "s1", "u1", "acme")
    }
    assert all(each.attributes == {"env": "test"} for each in events)


def test_start_usage_heartbeat_and_end_share_a_call_and_name_what_encloses_them(
    events: Collected, session: Session
) -> None:
    with session.request() as request, session.tool_call("outer") as outer:
        outer.heartbeat(partial_tokens=5)
        with session.model_call("m") as inner:
            inner.usage(input_tokens=1)
            assert current_call() == inner.call_id
        assert current_call() == outer.call_id

    parents = {(each.call_id, each.parent_id) for each in events}
    assert parents == {(request.call_id, None), (outer.call_id, request.call_id), (inner.call_id, outer.call_id)}
    assert current_call() is None


def test_the_end_of_a_model_call_says_what_happened_in_it(events: Collected, session: Session) -> None:
    with session.model_call("m1", provider="p1", streaming=True, temperature=0.5) as call:
        call.first_token()
        call.finish("max_tokens")
    end = events.only(ModelEnd)

    assert (end.model, end.provider, end.status, end.streaming, end.temperature) == ("m1", "p1", "success", True, 0.5)
    assert end.finish_reason == "max_tokens"
    assert 0 <= end.first_token_ms <= end.duration_ms
    assert end.error_code is None


def test_durations_are_of_the_work_and_in_milliseconds(events: Collected, session: Session) -> None:
    async def work() -> None:
        async with session.tool_call("slow"):
            await asyncio.sleep(0.05)

    asyncio.run(work())

    assert 50 <= events.only(ToolEnd).duration_ms < 30_000


def test_arguments_are_reported_as_a_hash_that_does_not_depend_on_their_order(
    events: Collected, session: Session
) -> None:
    for arguments in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1, "b": [3]}):
        with session.tool_call("t", arguments=arguments):
            pass
    first, second, third = (each for each in events if isinstance(each, ToolEnd))

    assert first.arguments_hash == second.arguments_hash != third.arguments_hash
    assert first.input_bytes == len('{"a":1,"b":[2]}')
    assert digest({"self": object()}) == digest({"self": object()})


class RateLimitError(Exception):
    status_code = 429


class BadKeyError(Exception):
    def __init__(self) -> None:
        self.response = RateLimitError()
        self.response.status_code = 401


class ReadTimeout(Exception):
    pass


class APIConnectionError(Exception):
    pass


class ValidationError(ValueError):
    pass


class HostileError(Exception):
    @property
    def status_code(self) -> int:
        raise RuntimeError("even this")

    def __str__(self) -> str:
        raise RuntimeError("and this")


FAILURES = [
    (ValueError("no"), "error", "tool_error", "ValueError"),
    (RateLimitError(), "error", "rate_limit", "429"),
    (BadKeyError(), "error", "auth_failure", "401"),
    (TimeoutError(), "timeout", "timeout", "TimeoutError"),
    (ReadTimeout(), "timeout", "timeout", "ReadTimeout"),
    (APIConnectionError(), "error", "network", "APIConnectionError"),
    (ConnectionResetError(), "error", "network", "ConnectionResetError"),
    (ValidationError("x"), "validation_error", "validation", "ValidationError"),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), FAILURES)
def test_a_failure_is_classified_and_raised_on(
    events: Collected, session: Session, error: Exception, status: str, kind: str, code: str
) -> None:
    with pytest.raises(type(error)) as tool_caught, session.tool_call("t"):
        raise error
    with pytest.raises(type(error)) as model_caught, session.model_call("m"):
        raise error
    tool, model = events.only(ToolEnd), events.only(ModelEnd)

    assert tool_caught.value is model_caught.value is error
    assert (tool.status, tool.attributes) == (status, {"env": "test", "error_type": kind})
    assert tool.error_message == (str(error) or type(error).__name__)
    assert model.status == ("error" if status == "validation_error" else status)
    assert model.error_code == code
    assert model.attributes["error_type"] == ("other" if kind == "tool_error" else kind)


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_being_stopped_is_no_failure(events: Collected, session: Session, stop: type[BaseException]) -> None:
    with pytest.raises(stop), session.request(), session.model_call("m"), session.tool_call("t"):
        raise stop

    ends = [each for each in events if isinstance(each, (AgentEnd, ModelEnd, ToolEnd))]
    assert [each.status for each in ends] == ["cancelled"] * 3
    assert all(each.attributes == {"env": "test"} for each in ends)
    assert events.only(ToolEnd).error_message is None
    assert events.only(AgentEnd).completed is False


def test_a_cancelled_task_ends_its_calls(events: Collected, session: Session) -> None:
    async def work() -> None:
        with session.request():
            async with session.tool_call("t"):
                await asyncio.sleep(60)

    async def run() -> None:
        await asyncio.wait_for(work(), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(run())

    assert events.only(ToolEnd).status == "cancelled"


def test_a_failure_that_nobody_raised_can_be_told(events: Collected, session: Session) -> None:
    with session.request() as request, session.model_call("m") as model, session.tool_call("t") as tool:
        tool.validation_error("a number was expected")
        model.fail("content_filter")
        request.fail("timeout")
    tool_end, model_end, request_end = events.only(ToolEnd), events.only(ModelEnd), events.only(AgentEnd)

    assert (tool_end.status, tool_end.error_message) == ("validation_error", "a number was expected")
    assert tool_end.attributes["error_type"] == "validation"
    assert (model_end.status, model_end.error_code) == ("error", "content_filter")
    assert (request_end.status, request_end.attributes["error_type"]) == ("timeout", "timeout")


@pytest.mark.parametrize(
    ("status", "completed", "reported"), [(None, None, True), (None, False, False), ("error", None, False)]
)
def test_a_request_is_completed_when_it_succeeds_unless_somebody_knows_better(
    events: Collected, session: Session, status: Any, completed: bool | None, reported: bool
) -> None:
    with session.request() as request:
        request.completed = completed
        if status:
            request.fail(status)

    assert events.only(AgentEnd).completed is reported


def test_an_exception_that_fails_when_looked_at_ends_its_call_and_is_raised_on(
    events: Collected, session: Session
) -> None:
    with pytest.raises(HostileError), session.request(), session.tool_call("t"):
        raise HostileError

    assert (events.only(ToolEnd).status, events.only(ToolEnd).error_message) == ("error", "HostileError")
    assert events.only(AgentEnd).status == "error"
    assert current_call() is None


def test_an_emitter_that_raises_is_not_noticed() -> None:
    with Session(Broken(), agent="a").request() as request:
        request.respond("x")


def test_tasks_at_the_same_time_have_their_own_parents(events: Collected, session: Session) -> None:
    async def branch(name: str) -> None:
        async with session.tool_call(name):
            await asyncio.sleep(0)
            async with session.model_call(f"model-{name}"):
                await asyncio.sleep(0)

    async def work() -> None:
        async with session.request():
            await asyncio.gather(*(branch(f"t{number}") for number in range(5)))

    asyncio.run(work())
    tools = {each.tool: each for each in events if isinstance(each, ToolEnd)}
    models = {each.model: each for each in events if isinstance(each, ModelEnd)}

    assert {each.parent_id for each in tools.values()} == {events.only(AgentEnd).call_id}
    assert all(models[f"model-{name}"].parent_id == tools[name].call_id for name in tools)


def test_a_generator_finished_elsewhere_leaves_no_call_behind(events: Collected, session: Session) -> None:
    async def stream() -> Any:
        with session.request():
            yield 1
            yield 2

    async def work() -> None:
        generator = stream()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())

    asyncio.run(work())

    assert events.only(AgentEnd).status == "cancelled"


def test_a_timer_used_twice_reports_two_calls(events: Collected, session: Session) -> None:
    timer = session.tool_call("t")
    for _ in range(2):
        with timer:
            pass

    assert len({each.call_id for each in events}) == 2


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 5, "input_token_details": {"cache_read": 4, "cache_creation": 2},
          "output_token_details": {"reasoning": 3}}, (10, 5, 4, 2, 3)),
        ({"input_tokens": 10, "output_tokens": 5, "input_token_details": {"cache_read": 1, "cache_creation": 0,
          "ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}}, (10, 5, 1, 5, 0)),
        ({"input_tokens": 10, "output_tokens": 5, "input_token_details": {"priority_cache_read": 4},
          "output_token_details": {"priority_reasoning": 2}}, (10, 5, 4, 0, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4},
          "completion_tokens_details": {"reasoning_tokens": 3}}, (10, 5, 4, 0, 3)),
        ({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
          "output_tokens_details": {"reasoning_tokens": 3}}, (10, 5, 4, 0, 3)),
        ({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20},
         (130, 5, 100, 20, 0)),
        ({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": None,
          "cache_creation_input_tokens": None}, (10, 5, 0, 0, 0)),
        ({"input_tokens": 10, "output_tokens": 5, "input_token_details": {"cache_read": 100}}, (110, 5, 100, 0, 0)),
        ({"input_tokens": 10, "output_tokens": 5}, (10, 5, 0, 0, 0)),
    ],
)  # fmt: skip
def test_every_providers_usage_gets_the_same_meaning(
    events: Collected, session: Session, reported: dict[str, Any], expected: tuple[int, ...]
) -> None:
    with session.model_call("m") as call:
        call.usage(reported)
    usage = events.only(TokenUsage)

    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    assert tuple(getattr(usage, name) for name in names) == expected
    assert (usage.model, usage.scope) == ("m", "leaf")


@pytest.mark.parametrize("nothing", [None, {}, {"total": 3}, "12 tokens", {"input_tokens": 0, "output_tokens": 0}])
def test_usage_that_was_not_reported_is_not_made_up(events: Collected, session: Session, nothing: Any) -> None:
    with session.model_call("m") as call:
        call.usage(nothing)

    assert not [each for each in events if isinstance(each, TokenUsage)]


def test_a_session_tells_why_it_ended(events: Collected, session: Session) -> None:
    with pytest.raises(ValueError, match="no"), session:
        raise ValueError("no")
    with session:
        session.end_reason = "goodbye"

    assert [each.reason for each in events if isinstance(each, SessionEnd)] == ["ValueError", "goodbye"]


def test_failures_outside_of_calls_and_events_of_any_kind_are_filled_in(events: Collected, session: Session) -> None:
    with session.request() as request:
        session.error(RateLimitError("slow down"), component="planner")
        session.error("no plan", code="E7")
        session.emit(Cycle, phase="planning", number=2, duration_ms=3)
    first, second = (each for each in events if isinstance(each, Error))
    cycle = events.only(Cycle)

    assert (first.error_type, first.component, first.code, first.message) == (
        "rate_limit", "planner", "429", "slow down"
    )  # fmt: skip
    assert (second.error_type, second.code, second.message) == ("other", "E7", "no plan")
    assert {first.parent_id, second.parent_id, cycle.parent_id} == {request.call_id}
    assert asdict(cycle)["session_id"] == "s1"


def test_sessions_without_an_id_get_different_ones(events: Collected) -> None:
    assert Session(events, agent="a").session_id != Session(events, agent="a").session_id
