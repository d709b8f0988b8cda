"""The real library with its mocked answers and a provider of its own kind: every call told once, however it ends."""

import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from ledger_of import LEDGER, Collected, ledger_of, told_by
from one_stage import One, totals
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import ModelEnd, ModelStart, TokenUsage, ToolEnd
from streams.feed.adapters.pydantic_ai import AgentStreamsCapability
from streams.feed.encode import Encoded, encode_event
from streams.feed.timers import Session
from streams.fold.session import GAP_MS
from streams.stage.sessions import SessionsPartition

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when it is imported
import litellm
from litellm.exceptions import InternalServerError, RateLimitError
from litellm.llms.custom_llm import CustomLLM, CustomLLMError
from litellm.router import Router

from streams.feed import CallDenied
from streams.feed.adapters.litellm import AgentStreamsLogger

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of the library, about types of its own
MINUTE_MS = 60_000
QUESTION = [{"role": "user", "content": "how much is 1 + 2?"}]


class Scripted(CustomLLM):
    """A provider that fails when it is asked for it, and else says what it used."""

    async def acompletion(self, model: str, *_: Any, **kwargs: Any) -> Any:
        if model == "broken":
            raise CustomLLMError(500, "out of order")  # type: ignore[no-untyped-call]  # theirs
        response = kwargs["model_response"]
        response.choices[0].message.content = "done"
        response.usage = litellm.Usage(
            prompt_tokens=100,
            completion_tokens=20,
            total_tokens=120,
            prompt_tokens_details={"cached_tokens": 40},
            completion_tokens_details={"reasoning_tokens": 5},
        )
        return response


def forget_callbacks() -> None:
    """Unregister everything: the library keeps one callback of a class, in several lists."""
    for name in ("callbacks", "success_callback", "failure_callback", "input_callback"):
        getattr(litellm, name).clear()
    litellm._async_success_callback.clear()
    litellm._async_failure_callback.clear()


@pytest.fixture
def out() -> Iterator[Collected]:
    forget_callbacks()
    litellm.custom_provider_map = [{"provider": "scripted", "custom_handler": Scripted()}]
    yield Collected()
    forget_callbacks()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the library tells from its queue."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def ask(model: str = "gpt-4o", **more: Any) -> Any:
    return await litellm.acompletion(model, QUESTION, metadata={"session_id": "t1"}, **more)


@pytest.mark.parametrize("registered", [1, 2])
async def test_the_script_gives_the_ledger_of_models(out: Collected, registered: int) -> None:
    litellm.callbacks = [AgentStreamsLogger(out) for _ in range(registered)]
    for _ in range(4):
        await ask("scripted/gpt-x")
    with pytest.raises(InternalServerError):
        await ask("scripted/broken")
    await until(lambda: len(out.of(ModelEnd)) == 5)

    assert ledger_of(out) == told_by("litellm", LEDGER)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_is_told_exactly_so(out: Collected, streamed: bool) -> None:
    litellm.callbacks = [AgentStreamsLogger(out, agent="web"), AgentStreamsLogger(out, agent="web")]
    response = await ask(mock_response="it is 3", stream=streamed, user="u1", temperature=0.5)
    if streamed:
        [_ async for _ in response]
    await until(lambda: bool(out.of(ModelEnd)))
    end = out.only(ModelEnd)

    assert out.story() == ["ModelStart gpt-4o", "TokenUsage gpt-4o", "ModelEnd gpt-4o"]
    assert {(each.agent, each.session_id, each.user_id) for each in out.events} == {("web", "t1", "u1")}
    assert (end.provider, end.finish_reason, end.streaming, end.temperature) == ("openai", "stop", streamed, 0.5)
    assert (end.first_token_ms is not None) == streamed
    assert out.only(TokenUsage).cost_nano_usd > 0


def test_calls_without_a_loop_are_told_too(out: Collected) -> None:
    litellm.callbacks = [AgentStreamsLogger(out)]
    with pytest.raises(RateLimitError):
        litellm.completion("gpt-4o", QUESTION, mock_response=RateLimitError("slow down", "openai", "gpt-4o"))
    asyncio.run(until(lambda: bool(out.of(ModelEnd))))
    end = out.only(ModelEnd)

    assert (end.status, end.error_code, end.attributes, end.session_id) == (
        "error", "429", {"error_type": "rate_limit"}, None,
    )  # fmt: skip


async def test_a_stream_that_is_given_up_has_begun_and_tells_no_tokens(out: Collected) -> None:
    litellm.callbacks = [AgentStreamsLogger(out)]
    async for _ in await ask(mock_response="it is 3", stream=True):
        break

    assert out.story() == ["ModelStart gpt-4o"]


async def test_a_stream_that_is_given_up_inside_an_agents_request_is_cancelled_with_it(out: Collected) -> None:
    litellm.callbacks = [AgentStreamsLogger(out)]
    planner = Agent(TestModel(), name="planner", capabilities=[AgentStreamsCapability(out)])

    @planner.tool_plain
    async def weather() -> str:
        """Read no more than the beginning of an answer."""
        async for _ in await ask(mock_response="it rains", stream=True):
            break
        return "rain"

    await planner.run("?")
    [end] = [each for each in out.of(ModelEnd) if each.model == "gpt-4o"]

    assert (end.status, end.parent_id) == ("cancelled", out.only(ToolEnd).call_id)
    assert ledger_of(out).requests == {"success": 1}


async def test_a_stream_that_is_given_up_outside_of_any_is_abandoned_with_its_session(out: Collected) -> None:
    litellm.callbacks = [AgentStreamsLogger(out)]
    async for _ in await ask(mock_response="it is 3", stream=True):
        break
    one = One(lambda: SessionsPartition(0, 1, 1))
    (start,) = (encode_event(each, source=b'"test"', seq=0, redactor=None) for each in out.events)
    assert isinstance(start, Encoded)
    began_ms = out.only(ModelStart).time
    one.state.feed([one.write(start.part, began_ms)])
    one.state.tick(began_ms + GAP_MS - 1)
    one.flush()

    assert "model_calls_abandoned" not in totals(one.sent("rollups"))["all", ()]
    one.state.tick(began_ms + GAP_MS + MINUTE_MS)
    one.flush()
    sums = totals(one.sent("rollups"))["all", ()]
    assert (1, 1) == (sums["model_calls_started"], sums["model_calls_abandoned"])


def test_an_end_without_its_start_is_a_call_and_one_told_twice_is_one(out: Collected) -> None:
    """Providers of one's own are only told of when they end."""
    logger = AgentStreamsLogger(out)
    began, ended = (datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (0, 1))
    for _ in range(2):
        logger.log_success_event(told("c1"), None, began, ended)

    assert out.story() == ["ModelStart gpt-x", "ModelEnd gpt-x"]


def told(call: str) -> dict[str, Any]:
    return {"litellm_call_id": call, "model": "gpt-x", "exception": TimeoutError("late")}


def test_attempts_of_a_call_are_calls_and_the_same_end_told_again_is_none(out: Collected) -> None:
    first, second = AgentStreamsLogger(out), AgentStreamsLogger(out)
    began, ended, later = (datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (0, 10, 30))
    for logger in (first, second, first):
        logger.log_pre_api_call("gpt-x", [], told("c1"))
    for logger in (first, second, first):
        logger.log_failure_event(told("c1"), None, began, ended)
    for logger in (first, second):
        logger.log_pre_api_call("gpt-x", [], told("c1"))
    for logger in (first, second):
        logger.log_success_event(told("c1"), None, ended, later)

    # Longer by what it took to tell of the end.
    assert [(each.call_id, each.status, each.duration_ms // 10_000) for each in out.of(ModelEnd)] == [
        ("c1", "timeout", 1),
        ("c1-2", "success", 2),
    ]
    assert len(out.of(ModelStart)) == 2


async def test_a_call_inside_a_timed_request_names_it_as_its_parent(out: Collected) -> None:
    litellm.callbacks = [AgentStreamsLogger(out)]
    with Session(out, agent="web", session_id="t1").request() as request:
        await ask(mock_response="it is 3")

    assert out.only(ModelStart).parent_id == request.call_id


async def test_an_emitter_that_raises_and_nonsense_are_not_noticed(out: Collected) -> None:
    nonsense: Any = object()
    AgentStreamsLogger(out).log_success_event(nonsense, nonsense, nonsense, nonsense)
    AgentStreamsLogger(out).log_pre_api_call(nonsense, nonsense, nonsense)
    litellm.callbacks = [AgentStreamsLogger(Broken())]
    response = await ask(mock_response="it is 3")

    assert response.choices[0].message.content == "it is 3"
    assert out.events == []


@pytest.mark.parametrize("by", STOPPED)
async def test_a_call_that_is_stopped_is_not_made_and_the_caller_reads_why(out: Collected, by: str) -> None:
    with stopped(by, **({"model": "fine"} if by == "breaker" else {})) as guard:
        litellm.callbacks = [AgentStreamsLogger(out, tenant="acme", guard=guard)]
        with pytest.raises(CallDenied, match=STOPPED[by][2]):
            await litellm.acompletion("scripted/fine", QUESTION, metadata={"session_id": "t1"})
        router = Router(model_list=[{"model_name": "any", "litellm_params": {"model": "scripted/fine"}}], num_retries=0)
        with pytest.raises(CallDenied, match=STOPPED[by][2]):
            await router.acompletion("any", QUESTION, metadata={"session_id": "t1"})  # type: ignore[arg-type]  # theirs
        assert {by: 2} == guard.stats().denied
        await litellm.acompletion("scripted/other", QUESTION, mock_response="well") if by == "breaker" else None
    await asyncio.sleep(0)

    assert not [each for each in out.events if getattr(each, "model", "") == "fine"]
