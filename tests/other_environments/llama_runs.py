"""Agents of LlamaIndex with scripted models and real tools, heard by the handler; writes what they gave as one object.

It runs in an environment with LlamaIndex, which is large: started by test_llama_index.py alone.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

from ledger_of import Collected, inside, ledger_of, plain
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import TextBlock, ToolCallBlock
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.mock import MockFunctionCallingLLM
from scripted_tools import TRIES, Broken, OutOfOrderError, add, flaky, one_tool_is_back, slow
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd
from streams.feed.adapters.llama_index import AgentStreamsHandler
from streams.feed.adapters.llama_index_guard import CallGuard

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
RAW = {"model": "gpt-x", "usage": USAGE, "choices": [{"finish_reason": "stop"}]}
ARGUMENTS = ("start_event", "tags")
PLAIN = ("class_name", "span_id", "tags")


class Scripted(MockFunctionCallingLLM):
    """Answers with texts, tools to call (name and arguments, or several), exceptions, or None: never to the end."""

    answers: list[Any] = []  # noqa: RUF012  a field: its base class is a model of pydantic's
    begun: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True, model_name="gpt-x")

    def _answer(self) -> ChatResponse:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            blocks: list[Any] = [TextBlock(text=answer)]
        else:
            asks = answer if isinstance(answer, list) else [answer]
            blocks = [ToolCallBlock(tool_call_id=f"c{n}", tool_name=name, tool_kwargs=kwargs)
                      for n, (name, kwargs) in enumerate(asks)]  # fmt: skip
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), raw=RAW)

    @llm_chat_callback()
    async def achat(self, messages: Any, **_: Any) -> ChatResponse:  # noqa: ARG002  as its base class
        return self._answer()

    @llm_chat_callback()
    async def astream_chat(self, messages: Any, **_: Any) -> Any:  # noqa: ARG002  as above
        async def parts() -> AsyncIterator[ChatResponse]:
            yield ChatResponse(message=ChatMessage(role="assistant", content="we"), delta="we")
            if self.answers[0] is None:
                self.begun.set()
                await asyncio.Event().wait()
            yield self._answer()

        return parts()


class Completing(CustomLLM):
    """Chats by completing, as LlamaIndex's own base class for such models does."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="old-x")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:  # noqa: ARG002
        return CompletionResponse(text="three", raw=RAW)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:  # noqa: ARG002
        def parts() -> Any:
            yield CompletionResponse(text="three", delta="three", raw=RAW)

        return parts()


def agent(*answers: Any, name: str = "planner", streaming: bool = False, begun: Any = None, guard: Any = None,
          tools: tuple[Any, ...] = (), **more: Any) -> FunctionAgent:  # fmt: skip
    llm: Any = Scripted(answers=list(answers), begun=begun)
    given: list[Any] = [add, flaky, *tools]
    if guard is not None:
        llm, given = guard.model(llm), guard.tools(given)
    return FunctionAgent(name=name, description=name, llm=llm, tools=given, streaming=streaming, **more)


async def run(root: Any, **tags: str) -> str:
    """Ask once, in session t1; return the answer, or the error."""
    with instrument_tags(tags or {"session_id": "t1"}):
        try:
            return str(await root.run(user_msg="?"))
        except Exception as error:  # noqa: BLE001  what became of it is what is asked
            return f"{type(error).__name__}: {error}"


async def give_up(root: Any, begun: Awaitable[Any]) -> None:
    with instrument_tags({"session_id": "t1"}):
        handler = root.run(user_msg="?")
    await begun
    await handler.cancel_run()
    await asyncio.gather(handler, return_exceptions=True)


async def script() -> list[str]:
    TRIES[0] = 0
    said = [
        await run(agent(("add", {"a": 1, "b": 2}), ("flaky", {"x": "y"}), ("flaky", {"x": "y"}), "done")),
        await run(agent(OutOfOrderError("out of order"))),
    ]
    begun = asyncio.Event()
    await give_up(agent(None, streaming=True, begun=begun), begun.wait())
    return said


class Recorder(AgentStreamsHandler):
    """Keeps what it hears as plain values."""

    def __init__(self) -> None:
        super().__init__(Collected())
        self.heard: list[dict[str, Any]] = []

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: Any = None, tags: Any = None, **_: Any
    ) -> None:
        call, given = bound_args.arguments.get("ev"), {}
        for name in ("tool_name", "tool_kwargs", "current_agent_name"):
            if getattr(call, name, None) is not None:
                given[name] = getattr(call, name)
        arguments = bound_args.arguments
        self.heard.append(
            {
                "method": "span_enter",
                "id_": id_,
                "parent_id": parent_id,
                "tags": _plain(tags),
                "kinds": [kind.__name__ for kind in type(instance).__mro__],
                "name": getattr(instance, "name", None),
                "ev": given,
                "given": {name: _plain(arguments[name]) for name in ARGUMENTS if name in arguments},
            }
        )

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:  # noqa: ARG002
        output, said = getattr(result, "tool_output", None), getattr(result, "result", None)
        told: dict[str, Any] = {"method": "span_exit", "id_": id_}
        if output is not None:
            told["tool_output"] = {"content": output.content, "is_error": output.is_error,
                                   "exception": _plain(output.exception)}  # fmt: skip
        if said is not None:
            told["content"] = said.response.content
        self.heard.append(told)

    def span_drop(self, id_: str, bound_args: Any, instance: Any = None, err: Any = None, **_: Any) -> None:  # noqa: ARG002
        self.heard.append({"method": "span_drop", "id_": id_, "err": _plain(err)})

    def handle(self, event: Any, **_: Any) -> None:
        told = {"method": "handle", "class_name": event.class_name(), "span_id": event.span_id,
                "tags": _plain(event.tags)}  # fmt: skip
        if getattr(event, "model_dict", None) is not None:
            told["model_dict"] = {"model_name": event.model_dict.get("model_name")}
        if getattr(event, "response", None) is not None:
            told["raw"] = event.response.raw
        if getattr(event, "exception", None) is not None:
            told["exception"] = _plain(event.exception)
        self.heard.append(told)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return [type(value).__name__, str(value)]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def alone(*handlers: AgentStreamsHandler) -> None:
    """Let these handlers hear, and no others."""
    root = get_dispatcher("root")
    root.event_handlers, root.span_handlers = [], []
    for handler in handlers:
        handler.listen()


async def shapes(out: Collected) -> dict[str, Any]:
    """Run what the script has not: agents in agents, tools at once, streams, failures, what is stopped."""
    gave: dict[str, Any] = {}

    async def told(name: str, root: Any, **tags: str) -> None:
        answer = await run(root, **tags)
        gave[name] = {"answer": answer, "story": out.story(), "within": inside(out), **plain(ledger_of(out))}
        out.events.clear()

    out.events.clear()
    expert = agent(("add", {"a": 1, "b": 2}), "three", name="expert")

    async def ask() -> str:
        """Ask the expert."""
        return str(await expert.run(user_msg="?"))

    await told("agent_in_a_tool", agent(("ask", {}), "done", tools=(ask,)))
    to = {"reason": "knows"}
    planner = agent(("handoff", {"to_agent": "helper", **to}), "from the planner", name="planner")
    helper = agent(("add", {"a": 1, "b": 2}), ("handoff", {"to_agent": "critic", **to}), name="helper")
    critic = agent(("handoff", {"to_agent": "planner", **to}), name="critic")
    await told("handed_over", AgentWorkflow(agents=[planner, helper, critic], root_agent="planner"))
    both = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}), ("flaky", {"x": "y"})]
    TRIES[0] = 0
    await told("tools_at_once", agent(both, "done"))
    await told("streamed", agent(("add", {"a": 1, "b": 2}), "done", streaming=True))
    await told("no_such_tool", agent(("nothing", {}), "done"))
    await told("no_session", agent("done"), colour="red")
    Completing().chat([ChatMessage(role="user", content="?")])
    gave["completing"] = {"story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    await give_up(agent([("slow", {}), ("add", {"a": 1, "b": 2})], tools=(slow,)), one_tool_is_back(out))
    gave["cancelled"] = {"story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    for by in STOPPED:
        with stopped(by) as guard:
            asked = CallGuard(out, tenant="acme", guard=guard)
            await told(f"stopped_by_{by}", agent(("add", {"a": 1, "b": 2}), "done without", guard=asked))
            gave[f"stopped_by_{by}"]["denied"] = dict(guard.stats().denied)
    with stopped("breaker", model="gpt-x") as guard:
        await told("no_model", agent("never", guard=CallGuard(out, guard=guard)))
    alone(AgentStreamsHandler(Broken()))
    gave["broken"] = await run(agent(("add", {"a": 1, "b": 2}), "done"))
    return gave


async def whole() -> dict[str, Any]:
    out, recorder = Collected(), Recorder()
    alone(AgentStreamsHandler(out, tenant="acme"))
    answers = await script()
    gave: dict[str, Any] = {"answers": answers, "story": out.story(), **plain(ledger_of(out))}
    gave["sessions"] = sorted({f"{each.session_id} {each.agent}" for each in out.events})
    gave["answer_bytes"] = [each.response_bytes for each in out.of(AgentEnd)]
    gave["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    out.events.clear()
    alone(AgentStreamsHandler(out), AgentStreamsHandler(out))
    await script()
    gave["twice"] = out.story()
    alone(recorder)
    await script()
    gave["heard"] = recorder.heard
    alone(AgentStreamsHandler(out, tenant="acme"))
    gave["shapes"] = await shapes(out)
    return gave


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(whole())))
