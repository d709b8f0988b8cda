"""The script of all adapters, by LangChain: the same ledger as by any other framework, however often it is told."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import ToolException, tool
from langchain_scripted import GPT, QUESTION, Scripted, add, agent, asks, config
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, told_by
from woven import weaving

from streams.event.model import ModelEnd, ToolEnd
from streams.feed.adapters.langchain import AgentStreamsCallback

USAGE: Final[Any] = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_token_details": {"cache_read": 40},
    "output_token_details": {"reasoning": 5},
}
TOLD: Final[Any] = {"usage_metadata": USAGE, "response_metadata": GPT}
HOOKS: Final = (
    *("on_chain_start", "on_chain_end", "on_chain_error", "on_chat_model_start", "on_llm_end", "on_llm_error"),
    *("on_tool_start", "on_tool_end", "on_tool_error"),
)


class OutOfOrderError(Exception):
    status_code = 500


class Failing(Scripted):
    def _generate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002  as the base class
        raise OutOfOrderError


class Endless(Scripted):
    """Streams a beginning and never an end."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:  # noqa: ARG002  as above
        yield ChatGenerationChunk(message=AIMessageChunk(content="well"))
        await asyncio.Event().wait()


def whole() -> Any:
    """Return an agent that adds, fails, tries again and is done."""
    tries: Iterator[int] = iter(range(10))

    @tool
    def flaky(x: str) -> str:
        """Fail once, inside a run that succeeds."""
        if next(tries) == 0:
            raise ToolException("not yet")
        return x

    flaky.handle_tool_error = True
    answers = [asks(("add", {"a": 1, "b": 2}), **TOLD), *(asks(("flaky", {"x": "y"}), **TOLD) for _ in range(2))]
    return agent(*answers, AIMessage("done", **TOLD), tools=[add, flaky])


async def script(*callbacks: AgentStreamsCallback) -> None:
    await whole().ainvoke(QUESTION, config(*callbacks))
    failing: Any = create_agent(Failing(responses=[]), [], name="planner")
    with pytest.raises(OutOfOrderError):
        await failing.ainvoke(QUESTION, config(*callbacks))
    await give_up(Endless(responses=[]), *callbacks)


async def give_up(model: Scripted, *callbacks: AgentStreamsCallback) -> None:
    """Cancel a stream once its first piece is there."""
    endless: Any = create_agent(model, [], name="planner")
    begun = asyncio.Event()

    async def stream() -> None:
        async for _ in endless.astream(QUESTION, config(*callbacks), stream_mode="messages"):
            begun.set()

    task = asyncio.create_task(stream())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Repeating(AgentStreamsCallback):
    """Keeps every callback, to be called again."""

    def __init__(self, out: Collected) -> None:
        super().__init__(out)
        self.told: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        for name in HOOKS:
            setattr(self, name, self._keeping(getattr(self, name)))

    def _keeping(self, hook: Any) -> Any:
        def kept(*args: Any, **kwargs: Any) -> None:
            self.told.append((hook, args, kwargs))
            hook(*args, **kwargs)

        return kept


@pytest.fixture
def out() -> Collected:
    return Collected()


@pytest.mark.parametrize("times", [1, 2])
async def test_the_script_gives_the_ledger_however_often_it_is_registered(out: Collected, times: int) -> None:
    await script(*(AgentStreamsCallback(out) for _ in range(times)))

    assert ledger_of(out) == told_by("langchain", LEDGER)
    assert ["success", "error", "success"] == [each.status for each in out.of(ToolEnd)]
    assert "500" in {each.error_code for each in out.of(ModelEnd)}


@pytest.mark.parametrize("seed", range(5))
async def test_callbacks_told_again_in_any_order_change_nothing(out: Collected, seed: int) -> None:
    callback = Repeating(out)
    await script(callback)
    once = out.story()
    again = list(callback.told)
    random.Random(seed).shuffle(again)
    for hook, args, kwargs in again:
        hook(*args, **kwargs)

    assert len(callback.told) > len(once)
    assert out.story() == once
    assert ledger_of(out) == LEDGER


@pytest.mark.parametrize("times", [1, 2])
async def test_the_woven_script_gives_the_ledger(out: Collected, times: int) -> None:
    expert = agent(AIMessage("3", **TOLD), tools=[], name="expert")

    @tool
    async def ask() -> str:
        """Ask the expert."""
        return str((await expert.ainvoke(QUESTION))["messages"][-1].content)

    async with weaving(out) as does:
        both = asks(("add", {"a": 1, "b": 2}), ("forecast", {}), **TOLD)
        tools = [tool(does.add), tool(does.forecast), ask]
        planner = agent(both, asks(("ask", {}), **TOLD), AIMessage("done", **TOLD), tools=tools)
        await planner.ainvoke(QUESTION, config(*(AgentStreamsCallback(out) for _ in range(times))))

    assert ledger_of(out) == told_by("langchain", WOVEN)


async def test_a_stream_that_is_given_up_has_used_what_it_said(out: Collected) -> None:
    class Counting(Endless):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:  # noqa: ARG002  as the base class
            said: Any = {"input_tokens": 100, "output_tokens": 1, "total_tokens": 101}
            yield ChatGenerationChunk(message=AIMessageChunk(content="well", usage_metadata=said))
            await asyncio.Event().wait()

    await give_up(Counting(responses=[]), AgentStreamsCallback(out))
    ledger = ledger_of(out)

    assert ({"cancelled": 1}, {"cancelled": 1}) == (ledger.requests, ledger.models)
    assert (100, 1) == ledger.tokens[:2]
