"""The same with tools, models and humans that do not do what was hoped for: every start still has its end."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_scripted import (
    QUESTION,
    Scripted,
    add,
    agent,
    asks,
    boom,
    config,
    hang,
    late,
    one_tool_agent,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from ledger_of import Collected
from scripted_tools import Broken

from streams.event.model import (
    AgentEnd,
    ModelEnd,
    ToolEnd,
    ToolStart,
)
from streams.feed.adapters.langchain import AgentStreamsCallback


@pytest.fixture
def out() -> Collected:
    return Collected()


def test_a_tool_that_raises_ends_its_call_and_its_request(out: Collected) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        agent(asks(("boom", {"x": "luck"})), tools=[boom]).invoke(QUESTION, config(AgentStreamsCallback(out)))
    tool_end, request = out.only(ToolEnd), out.only(AgentEnd)

    assert out.story()[-3:] == ["ToolStart boom", "ToolEnd boom error", "AgentEnd planner error"]
    assert (tool_end.error_message, tool_end.attributes) == ("no luck", {"error_type": "tool_error"})
    assert request.completed is False


def test_a_failure_told_to_the_model_is_a_failure_of_the_tool(out: Collected) -> None:
    forgiving = boom.model_copy(update={"handle_tool_error": True, "func": failing})
    agent(asks(("boom", {"x": "luck"})), AIMessage("sorry"), tools=[forgiving]).invoke(
        QUESTION, config(AgentStreamsCallback(out))
    )
    tool_end = out.only(ToolEnd)

    assert (tool_end.status, tool_end.error_message) == ("error", "told to the model: luck")
    assert out.only(AgentEnd).status == "success"


def failing(x: str) -> str:
    from langchain_core.tools import ToolException  # noqa: PLC0415  only this tool raises it

    raise ToolException(f"told to the model: {x}")


def test_arguments_that_do_not_fit_are_a_validation_error(out: Collected) -> None:
    agent(asks(("add", {"a": "one", "b": 2})), AIMessage("sorry"), tools=[add]).invoke(
        QUESTION, config(AgentStreamsCallback(out))
    )

    assert out.only(ToolEnd).status == "validation_error"
    assert out.only(ToolEnd).attributes == {"error_type": "validation"}


def test_a_timeout_in_a_tool_is_a_timeout(out: Collected) -> None:
    with pytest.raises(TimeoutError):
        agent(asks(("late", {"x": "y"})), tools=[late]).invoke(QUESTION, config(AgentStreamsCallback(out)))

    assert out.story()[-2:] == ["ToolEnd late timeout", "AgentEnd planner timeout"]


def test_a_model_that_fails_says_with_which_code(out: Collected) -> None:
    class OverloadedError(Exception):
        status_code = 529

    class Failing(Scripted):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002  as the base class
            raise OverloadedError("try later")

    runnable: Any = create_agent(Failing(responses=[]), [], name="planner")
    with pytest.raises(OverloadedError):
        runnable.invoke(QUESTION, config(AgentStreamsCallback(out)))
    end = out.only(ModelEnd)

    assert (end.status, end.error_code, end.attributes) == ("error", "529", {"error_type": "other"})
    assert out.story()[-1] == "AgentEnd planner error"


def test_cancelled_work_ends_although_the_framework_does_not_tell(out: Collected) -> None:
    async def run() -> None:
        runnable = agent(asks(("hang", {"x": "y"})), tools=[hang])
        working = asyncio.create_task(runnable.ainvoke(QUESTION, config(AgentStreamsCallback(out))))
        while not (out.of(ToolStart) or working.done()):
            await asyncio.sleep(0)
        working.cancel()
        await working

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())

    assert out.story()[-3:] == ["ToolStart hang", "ToolEnd hang cancelled", "AgentEnd planner cancelled"]


def test_a_pause_for_a_human_is_no_failure_and_not_complete(out: Collected) -> None:
    @tool
    def approve(x: str) -> str:
        """Ask a human."""
        return str(interrupt(x))

    runnable = agent(asks(("approve", {"x": "y"})), tools=[approve], checkpointer=InMemorySaver())
    runnable.invoke(QUESTION, config(AgentStreamsCallback(out)))

    assert out.story()[-2:] == ["ToolEnd approve cancelled", "AgentEnd planner"]
    assert out.only(AgentEnd).completed is False


def test_tries_of_the_same_tool_call_are_numbered(out: Collected) -> None:
    tries: Iterator[int] = iter(range(10))

    @tool
    def flaky(x: str) -> str:
        """Fail twice."""
        if next(tries) < 2:
            raise ConnectionError("reset")
        return x

    again = RunnableLambda(flaky.invoke).with_retry(wait_exponential_jitter=False)
    call = {"name": "flaky", "args": {"x": "y"}, "id": "c1", "type": "tool_call"}
    again.invoke(call, config(AgentStreamsCallback(out)))

    assert [(each.attempt, each.status) for each in out.of(ToolEnd)] == [(1, "error"), (2, "error"), (3, "success")]
    assert out.of(ToolEnd)[0].attributes == {"error_type": "network"}


def test_a_hook_that_is_called_with_nonsense_is_not_noticed(out: Collected) -> None:
    callback = AgentStreamsCallback(out)
    nobody: Any = object()
    callback.on_llm_end(nobody, run_id=nobody)
    callback.on_tool_end(nobody, run_id=nobody)
    callback.on_chain_error(nobody, run_id=nobody)
    callback.on_retriever_end(None, run_id=nobody)
    callback.on_retry(nobody, run_id=nobody)
    callback.on_chat_model_start(nobody, nobody, run_id=nobody)

    assert out.story() in ([], ["ModelStart unknown"])


def test_an_emitter_that_raises_does_not_disturb_the_agent() -> None:
    result = one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(Broken())))

    assert result["messages"][-1].content == "it is 3"
