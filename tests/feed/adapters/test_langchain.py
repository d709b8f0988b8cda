"""The real framework, a scripted model and real tools: exactly these events, however it is called and ends."""

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import create_retriever_tool, tool
from langchain_scripted import (
    ONE_TOOL,
    QUESTION,
    USAGE,
    Scripted,
    add,
    agent,
    asks,
    config,
    invoke,
    one_tool_agent,
)
from langgraph.graph import END, START, MessagesState, StateGraph
from ledger_of import Collected, brief

from streams.event.model import (
    AgentEnd,
    AgentStart,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.feed.adapters.langchain import AgentStreamsCallback
from streams.feed.adapters.runs import RUNS_MAX, Run, Runs
from streams.feed.timers import Session


@pytest.fixture
def out() -> Collected:
    return Collected()


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
def test_a_request_with_a_tool_is_told_exactly_so(out: Collected, how: str) -> None:
    invoke(one_tool_agent(), how, config(AgentStreamsCallback(out)))

    assert out.story() == ONE_TOOL


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_registering_twice_changes_nothing(out: Collected, how: str) -> None:
    first, second = AgentStreamsCallback(out), AgentStreamsCallback(out)
    runnable = one_tool_agent().with_config(callbacks=[second])

    invoke(runnable, how, config(first, first))

    assert out.story() == ONE_TOOL
    assert len({each.id for each in out.events}) == len(out.events)


def test_events_of_a_request_know_their_session_their_user_and_each_other(out: Collected) -> None:
    settings = config(AgentStreamsCallback(out), metadata={"user_id": "u1", "tenant": "acme"})
    one_tool_agent().invoke(QUESTION, settings)
    request = out.only(AgentEnd)

    assert {(each.agent, each.session_id, each.user_id, each.tenant, each.trace_id) for each in out.events} == {
        ("planner", "t1", "u1", "acme", request.call_id)
    }
    assert request.parent_id is None
    assert {each.parent_id for each in out.events if each.call_id != request.call_id} == {request.call_id}
    assert out.only(ToolStart).call_id == out.only(ToolEnd).call_id
    assert out.only(TokenUsage).call_id == out.of(ModelEnd)[0].call_id


def test_tokens_mean_what_the_contract_says(out: Collected) -> None:
    one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(out)))
    usage = out.only(TokenUsage)

    assert (usage.input_tokens, usage.output_tokens) == (100, 20)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (40, 10, 5)
    assert (usage.model, usage.scope) == ("gpt-x", "leaf")


def test_ends_carry_what_was_measured(out: Collected) -> None:
    one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(out)))
    model, tool_end, request = out.of(ModelEnd)[0], out.only(ToolEnd), out.only(AgentEnd)

    assert (model.finish_reason, model.status, model.error_code) == ("tool_calls", "success", None)
    assert (tool_end.input_bytes, tool_end.output_bytes) == (len('{"a":1,"b":2}'), len("3"))
    assert tool_end.arguments_hash == out.only(ToolStart).arguments_hash
    assert (request.completed, request.response_bytes) == (True, len("it is 3"))
    assert 0 < tool_end.duration_ms <= request.duration_ms


# ---- where the session comes from ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "argument", "session_id"),
    [
        ({"configurable": {"thread_id": 7}}, None, "7"),
        ({"metadata": {"session_id": "m1"}, "configurable": {"thread_id": "t1"}}, "arg", "m1"),
        ({"metadata": {"conversation_id": "c1"}}, None, "c1"),
        ({}, "arg", "arg"),
    ],
)
def test_the_session_is_what_the_call_says_else_the_argument(
    out: Collected, settings: Any, argument: str | None, session_id: str
) -> None:
    one_tool_agent().invoke(QUESTION, {"callbacks": [AgentStreamsCallback(out, session_id=argument)], **settings})

    assert {each.session_id for each in out.events} == {session_id}


def test_without_any_name_every_request_is_a_session_of_its_own(out: Collected) -> None:
    runnable = agent(AIMessage("hi"), tools=[])
    for _ in range(2):
        runnable.invoke(QUESTION, {"callbacks": [AgentStreamsCallback(out)]})

    assert [each.session_id for each in out.of(AgentStart)] == [each.call_id for each in out.of(AgentStart)]
    assert len({each.session_id for each in out.events}) == 2


def test_a_model_called_alone_belongs_to_no_session_unless_one_is_named(out: Collected) -> None:
    model = Scripted(responses=[AIMessage("hi")])
    model.invoke("hello", {"callbacks": [AgentStreamsCallback(out, agent="script")]})
    model.invoke("hello", config(AgentStreamsCallback(out), metadata={"session_id": "t1"}))

    assert [(each.session_id, each.agent) for each in out.of(ModelEnd)] == [(None, "script"), ("t1", "agent")]


def test_the_argument_names_the_outermost_agent_only(out: Collected) -> None:
    one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(out, agent="mine")))

    assert {each.agent for each in out.events} == {"mine"}


def test_a_request_inside_a_timed_one_names_it_as_its_parent(out: Collected) -> None:
    with Session(out, agent="web", session_id="t1").request() as request:
        one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(out)))

    inner = [each for each in out.of(AgentEnd) if each.agent == "planner"]
    assert [each.parent_id for each in inner] == [request.call_id]


# ---- more than one thing at a time -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_tools_asked_for_together_share_a_group(out: Collected, how: str) -> None:
    calls = asks(*(("add", {"a": number, "b": 1}) for number in range(4)))
    runnable = agent(calls, asks(("add", {"a": 9, "b": 9})), AIMessage("done"), tools=[add])

    invoke(runnable, how, config(AgentStreamsCallback(out)))

    ends = out.of(ToolEnd)
    first_model = out.of(ModelEnd)[0]
    assert [each.parallel_group for each in ends] == [first_model.call_id] * 4 + [None]
    assert len({each.call_id for each in ends}) == 5
    assert len({each.arguments_hash for each in ends}) == 5


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_an_agent_inside_a_tool_is_a_request_inside_it(out: Collected, how: str) -> None:
    expert = agent(asks(("add", {"a": 1, "b": 2}), usage_metadata=USAGE), AIMessage("3"), tools=[add], name="expert")

    @tool
    async def aask(question: str) -> str:
        """Ask the expert."""
        return str((await expert.ainvoke({"messages": [("user", question)]}))["messages"][-1].content)

    @tool("aask")
    def ask(question: str) -> str:
        """Ask the expert."""
        return str(expert.invoke({"messages": [("user", question)]})["messages"][-1].content)

    asker = aask if how == "ainvoke" else ask
    invoke(
        agent(asks(("aask", {"question": "?"})), AIMessage("done"), tools=[asker]),
        how,
        config(AgentStreamsCallback(out)),
    )

    assert out.story() == [
        "AgentStart planner", "ModelStart Scripted", "ModelEnd Scripted", "ToolStart aask",
        "AgentStart expert", "ModelStart Scripted", "TokenUsage Scripted", "ModelEnd Scripted",
        "ToolStart add", "ToolEnd add", "ModelStart Scripted", "ModelEnd Scripted", "AgentEnd expert",
        "ToolEnd aask", "ModelStart Scripted", "ModelEnd Scripted", "AgentEnd planner",
    ]  # fmt: skip
    inner, outer = out.of(AgentEnd)
    asked = out.of(ToolEnd)[1]
    assert (inner.parent_id, asked.parent_id, outer.parent_id) == (asked.call_id, outer.call_id, None)
    assert out.of(ToolEnd)[0].parent_id == inner.call_id
    assert [each.agent for each in out.of(ToolEnd)] == ["expert", "planner"]
    assert out.only(TokenUsage).agent == "expert"
    assert {each.session_id for each in out.events} == {"t1"}


def test_an_agent_as_a_node_of_a_graph_is_a_request_inside_the_graphs(out: Collected) -> None:
    worker = agent(AIMessage("hi"), tools=[], name="worker")
    graph = StateGraph(MessagesState)
    graph.add_node("step", worker)
    graph.add_edge(START, "step")
    graph.add_edge("step", END)
    graph.compile(name="team").invoke(QUESTION, config(AgentStreamsCallback(out)))  # type: ignore[call-overload]  # a plain dict is a state

    assert out.story() == [
        "AgentStart team", "AgentStart worker", "ModelStart Scripted", "ModelEnd Scripted",
        "AgentEnd worker", "AgentEnd team",
    ]  # fmt: skip


def test_many_requests_at_once_do_not_mix(out: Collected) -> None:
    callback = AgentStreamsCallback(out)

    async def one(number: int) -> None:
        await one_tool_agent().ainvoke(QUESTION, {"callbacks": [callback], "configurable": {"thread_id": f"t{number}"}})

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(20)))

    asyncio.run(many())
    for number in range(20):
        own = [each for each in out.events if each.session_id == f"t{number}"]

        assert [brief(each) for each in own] == ONE_TOOL
        assert len({each.trace_id for each in own}) == 1


# ---- streaming, retrieval, other integrations ------------------------------------------------------------------


def test_streaming_reports_the_first_token(out: Collected) -> None:
    runnable: Any = create_agent(GenericFakeChatModel(messages=iter([AIMessage("hello world")])), [], name="planner")
    list(runnable.stream(QUESTION, config(AgentStreamsCallback(out)), stream_mode="messages"))
    end = out.only(ModelEnd)

    assert end.streaming
    assert 0 < end.first_token_ms <= end.duration_ms


def test_without_streaming_there_is_no_first_token(out: Collected) -> None:
    one_tool_agent().invoke(QUESTION, config(AgentStreamsCallback(out)))

    assert all(each.first_token_ms is None and not each.streaming for each in out.of(ModelEnd))


class Shelf(BaseRetriever):
    """Two documents, or trouble."""

    trouble: bool = False

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002  as the base class
        if self.trouble:
            raise ConnectionError(query)
        return [Document("abc"), Document("ßß")]


def test_a_retriever_is_a_tool(out: Collected) -> None:
    Shelf().invoke("what?", config(AgentStreamsCallback(out)))
    with pytest.raises(ConnectionError):
        Shelf(trouble=True).invoke("what?", config(AgentStreamsCallback(out)))
    good, bad = out.of(ToolEnd)

    assert (good.tool, good.output_bytes) == ("Shelf", 7)
    assert (bad.status, bad.error_message, bad.attributes) == ("error", "what?", {"error_type": "network"})


def test_a_retriever_inside_a_tool_is_a_call_inside_it(out: Collected) -> None:
    search = create_retriever_tool(Shelf(), "search", "Search the shelf.")
    agent(asks(("search", {"query": "x"})), AIMessage("done"), tools=[search]).invoke(
        QUESTION, config(AgentStreamsCallback(out))
    )
    inner, outer = out.of(ToolEnd)

    assert (inner.tool, outer.tool) == ("Shelf", "search")
    assert inner.parent_id == outer.call_id


@pytest.mark.parametrize(
    "place",
    [
        {"response_metadata": {"token_usage": {"prompt_tokens": 100, "completion_tokens": 20}}},
        {"response_metadata": {"usage": {"input_tokens": 30, "output_tokens": 20, "cache_read_input_tokens": 70}}},
    ],
)
def test_tokens_are_found_where_older_integrations_put_them(out: Collected, place: dict[str, Any]) -> None:
    agent(AIMessage("hi", **place), tools=[]).invoke(QUESTION, config(AgentStreamsCallback(out)))

    assert (out.only(TokenUsage).input_tokens, out.only(TokenUsage).output_tokens) == (100, 20)


def test_a_model_that_counts_nothing_reports_nothing(out: Collected) -> None:
    agent(AIMessage("hi"), tools=[]).invoke(QUESTION, config(AgentStreamsCallback(out)))

    assert out.of(TokenUsage) == []
    assert len(out.of(ModelStart)) == 1


# ---- the runs --------------------------------------------------------------------------------------------------


def test_runs_that_never_end_are_forgotten_in_the_end(out: Collected) -> None:
    runs = Runs()
    session = Session(out, agent="a")
    for number in range(RUNS_MAX + 5):
        runs.begin(Run(number, None, session))

    assert [runs.get(number) is None for number in (0, 4, 5, RUNS_MAX)] == [True, True, False, False]
