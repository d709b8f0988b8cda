"""A scripted model, real tools, and a collector of events: what the tests of the LangChain adapter share."""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool, tool

from streams.feed.adapters.langchain import AgentStreamsCallback

USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_token_details": {"cache_read": 40, "cache_creation": 10},
    "output_token_details": {"reasoning": 5},
}


class Scripted(FakeMessagesListChatModel):
    """Answers from a list; tools are bound by ignoring them."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> "Scripted":  # noqa: ARG002  as the base class
        return self


def asks(*calls: tuple[str, dict[str, Any]], **fields: Any) -> AIMessage:
    tool_calls = [{"name": name, "args": args, "id": f"{name}-{number}"} for number, (name, args) in enumerate(calls)]
    return AIMessage("", tool_calls=tool_calls, **fields)


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
def boom(x: str) -> str:
    """Fail."""
    raise RuntimeError(f"no {x}")


@tool
async def hang(x: str) -> str:
    """Never answer."""
    await asyncio.sleep(60)
    return x


@tool
def late(x: str) -> str:
    """Be too late."""
    raise TimeoutError(x)


def agent(*answers: BaseMessage, tools: list[BaseTool], name: str = "planner", **more: Any) -> Any:
    return create_agent(Scripted(responses=list(answers)), tools, name=name, **more)


def config(*callbacks: AgentStreamsCallback, **more: Any) -> Any:
    return {"callbacks": list(callbacks), "configurable": {"thread_id": "t1"}, **more}


QUESTION = {"messages": [("user", "how much is 1 + 2?")]}
ONE_TOOL = [
    "AgentStart planner",
    "ModelStart Scripted",
    "TokenUsage gpt-x",
    "ModelEnd gpt-x",
    "ToolStart add",
    "ToolEnd add",
    "ModelStart Scripted",
    "ModelEnd Scripted",
    "AgentEnd planner",
]
GPT = {"model_name": "gpt-x", "finish_reason": "tool_calls"}


def one_tool_agent() -> Any:
    first = asks(("add", {"a": 1, "b": 2}), usage_metadata=USAGE, response_metadata=GPT)
    return agent(first, AIMessage("it is 3"), tools=[add])


def invoke(runnable: Any, how: str, settings: Any) -> None:
    async def drain() -> None:
        async for _ in runnable.astream(QUESTION, settings):
            pass

    match how:
        case "invoke":
            runnable.invoke(QUESTION, settings)
        case "ainvoke":
            asyncio.run(runnable.ainvoke(QUESTION, settings))
        case "stream":
            list(runnable.stream(QUESTION, settings))
        case "astream":
            asyncio.run(drain())
