"""The real framework and a real guard: what the workers have stopped is not called, and somebody reads why."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_scripted import QUESTION, Scripted, add, agent, asks, config
from ledger_of import Collected
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelStart, ToolStart
from streams.feed import CallDenied
from streams.feed.adapters.langchain import AgentStreamsCallback
from streams.feed.adapters.langchain_guard import GuardMiddleware

ADD = ("add", {"a": 1, "b": 2})


def planner(**more: Any) -> Any:
    return agent(asks(ADD), AIMessage("done"), tools=[add], **more)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("by", STOPPED)
async def test_the_callback_ends_the_run_before_the_call(by: str, awaited: bool) -> None:
    out = Collected()
    with stopped(by) as guard:
        callback = AgentStreamsCallback(out, tenant="acme", guard=guard)
        made, about = planner(), config(callback, callback)
        running = made.ainvoke(QUESTION, about) if awaited else asyncio.to_thread(made.invoke, QUESTION, about)
        with pytest.raises(CallDenied, match=STOPPED[by][2]) as caught:
            await running
        denied = guard.stats().denied

    assert (by, {by: 1}) == (caught.value.denial.denied_by, denied)
    assert not out.of(ToolStart)
    assert "cancelled" == out.only(AgentEnd).status  # nothing failed: a circuit must not feed on its own denials


@pytest.mark.parametrize("awaited", [False, True])
async def test_with_the_middleware_the_model_reads_why_and_goes_on(awaited: bool) -> None:
    out = Collected()
    with stopped("breaker") as guard:
        made = planner(middleware=[GuardMiddleware(out, tenant="acme", guard=guard)])
        callback = config(AgentStreamsCallback(out, tenant="acme", guard=guard))
        answer = await made.ainvoke(QUESTION, callback) if awaited else made.invoke(QUESTION, callback)
    [told] = [message for message in answer["messages"] if isinstance(message, ToolMessage)]

    assert ("error", "done") == (told.status, answer["messages"][-1].content)
    for part in ("tool:add was not called", "circuit is open", "since", "try again later"):
        assert part in told.content
    assert not out.of(ToolStart)
    assert 2 == len(out.of(ModelStart))


@pytest.mark.parametrize("by", ["budget", "loop"])
def test_the_middleware_knows_whose_call_it_is(by: str) -> None:
    out = Collected()
    with stopped(by) as guard:
        made = planner(middleware=[GuardMiddleware(out, tenant="acme", guard=guard)])
        answer = made.invoke(QUESTION, config())
        other = planner(middleware=[GuardMiddleware(out, guard=guard)]).invoke(
            QUESTION, {"configurable": {"thread_id": "another"}}
        )

    assert STOPPED[by][2] in answer["messages"][2].content
    assert "3" == other["messages"][2].content


def test_a_probe_is_asked_for_once_with_middleware_and_callback() -> None:
    out = Collected()
    with stopped("loop") as guard:
        made = planner(middleware=[GuardMiddleware(out, guard=guard)])
        made.invoke(QUESTION, {"callbacks": [AgentStreamsCallback(out, guard=guard)]})
        stats = guard.stats()

    assert ("add", 3) == (out.only(ToolStart).tool, stats.allowed)  # two models, one tool


def test_a_model_that_is_stopped_is_not_called() -> None:
    out = Collected()
    with stopped("breaker", model="Scripted") as guard, pytest.raises(CallDenied, match="model:Scripted"):
        planner().invoke(QUESTION, config(AgentStreamsCallback(out, guard=guard)))

    assert not out.of(ModelStart)


async def test_a_model_alone_is_stopped_too() -> None:
    with stopped("breaker", model="Scripted") as guard, pytest.raises(CallDenied, match="circuit is open"):
        await Scripted(responses=[AIMessage("well")]).ainvoke(
            "?", config(AgentStreamsCallback(Collected(), guard=guard))
        )
