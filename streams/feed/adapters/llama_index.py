"""What LlamaIndex tells its dispatcher, as events: runs of agents and workflows, questions, model calls, tool calls.

    AgentStreamsHandler(emitter).listen()

Never imports LlamaIndex before it is asked to listen, never raises into the agent, and never reports texts: sizes,
hashes, names and the messages of errors.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self

from streams.event.tokens import Usage
from streams.feed.adapters.calls import Calls, harmless
from streams.feed.adapters.runs import RUNS_MAX, Run
from streams.feed.failure import is_pause
from streams.feed.timers import Emits
from streams.feed.usage import usage_of

_INTEGRATIONS: Final = "llama_index.llms."  # where each provider has a package
_ENGINES: Final = frozenset({"BaseQueryEngine", "BaseChatEngine"})
_ASKED: Final = frozenset({"query", "aquery", "chat", "achat", "stream_chat", "astream_chat"})
_STARTS: Final = ("LLMChatStartEvent", "LLMCompletionStartEvent")
_PARTS: Final = ("LLMChatInProgressEvent", "LLMCompletionInProgressEvent")
_ENDS: Final = ("LLMChatEndEvent", "LLMCompletionEndEvent")
_CANCELLED: Final = asyncio.CancelledError()


class Dispatcher(Protocol):
    """LlamaIndex's dispatcher, as far as it is used here."""

    def add_event_handler(self, handler: Any) -> None:
        """Let a handler hear every event."""

    def add_span_handler(self, handler: Any) -> None:
        """Let a handler hear of every span."""


class AgentStreamsHandler:
    """Reports to an emitter what LlamaIndex does in this process; two of them on one emitter report once.

    A run of an agent or a workflow is a request, and so is a question to a query engine or a chat engine; an agent that
    another hands over to is a request inside it.  The session is `session_id`, `conversation_id` or `thread_id` of
    `instrument_tags`, else the argument, else every run is a session of its own.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
    ) -> None:
        self._calls = Calls(emitter, agent=agent, session_id=session_id, user_id=user_id, tenant=tenant)
        self.open_spans: dict[str, str | None] = {}  # by id: the span around; the name is the dispatcher's
        self._providers: dict[str, str] = {}  # of open spans of models
        self._names: dict[str, str] = {}  # of open runs: the agent that they began with
        self._handed: dict[str, str] = {}  # of open runs: the request of the agent that they were handed over to
        self._at_work: dict[str, str] = {}  # of open runs: which agent takes their steps
        self._cancelled: set[str] = set()  # open spans that end, but were cancelled
        self._tokens: dict[str, Usage] = {}  # of open streams

    def listen(self, dispatcher: Dispatcher | None = None) -> Self:
        """Subscribe to a dispatcher: to the root of them all unless another is given."""
        from llama_index.core.instrumentation import get_dispatcher  # noqa: PLC0415  only who listens has it

        target: Any = get_dispatcher() if dispatcher is None else dispatcher
        target.add_event_handler(self)
        target.add_span_handler(self)
        return self

    # ---- spans -------------------------------------------------------------------------------------------------

    @harmless
    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: str | None = None, tags: Any = None, **_: Any
    ) -> None:
        """Begin a run, a question or a tool call, where the span is one."""
        if len(self.open_spans) >= RUNS_MAX:
            self._forget(next(iter(self.open_spans)))
        self.open_spans[id_] = parent_id
        given, method = bound_args.arguments, _method(id_)
        module = type(instance).__module__
        if module.startswith(_INTEGRATIONS):
            self._providers[id_] = module[len(_INTEGRATIONS) :].partition(".")[0]
        if method == "run" and "start_event" in given:
            about = {**(tags or {}), **((given.get("tags") or {}).get("instrument_tags") or {})}
            self._begin_request(id_, _agent(instance), about)
        elif method in _ASKED and not _ENGINES.isdisjoint(kind.__name__ for kind in type(instance).__mro__):
            self._begin_request(id_, type(instance).__name__, tags or {})
        elif method == "run_agent_step":
            self._hand_over(id_, given["ev"].current_agent_name)
        elif method == "call_tool" and hasattr(given.get("ev"), "tool_kwargs"):
            call = given["ev"]
            self._calls.begin_tool(id_, self._enclosing(id_), call.tool_name, call.tool_kwargs, about=tags or {})
            self._calls.enter(id_)

    @harmless
    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any) -> None:  # noqa: ARG002  as the dispatcher calls it
        """End what the span has begun; a model that streams ends with its last part."""
        method, error = _method(id_), _CANCELLED if id_ in self._cancelled else None
        if method == "call_tool":
            self._end_tool(id_, getattr(result, "tool_output", None), error)
        elif self._calls.get(id_) is not None and id_ in self._names:
            self._end_request(id_, error, getattr(result, "result", result))
        self._forget(id_)

    @harmless
    def span_drop(
        self,
        id_: str,
        bound_args: Any,  # noqa: ARG002  as above
        instance: Any = None,  # noqa: ARG002  as above
        err: BaseException | None = None,
        **_: Any,
    ) -> None:
        """End what the span has begun with the exception that left it."""
        error = _CANCELLED if id_ in self._cancelled else err
        if _method(id_) == "call_tool":
            self._end_tool(id_, None, error)
        elif id_ in self._names:
            self._end_request(id_, error, None)
        else:
            self._calls.end_model(id_, error, tokens=self._tokens.pop(id_, None))
        self._forget(id_)

    def capture_propagation_context(self) -> dict[str, Any]:
        """Hand nothing on to another process."""
        return {}

    def restore_propagation_context(self, context: dict[str, Any]) -> None:
        """Take nothing over from another process."""

    def close(self) -> None:
        """Do nothing: the emitter is somebody else's."""

    # ---- events ------------------------------------------------------------------------------------------------

    async def ahandle(self, event: Any, **_: Any) -> None:
        """Do what `handle` does."""
        self.handle(event)

    @harmless
    def handle(self, event: Any, **_: Any) -> None:
        """Begin, follow and end model calls; note what was cancelled."""
        kind, own = event.class_name(), event.span_id
        if own is None:
            return
        if kind in _STARTS:
            self._begin_model(own, event)
        elif kind in _PARTS:
            self._calls.first_token(own)
            if self._calls.get(own) is not None and (tokens := _tokens(event.response)) is not None:
                self._tokens[own] = tokens
        elif kind in _ENDS:
            self._end_model(own, event.response)
        elif kind == "ExceptionEvent":
            self._calls.end_model(own, event.exception, tokens=self._tokens.pop(own, None))
        elif kind == "SpanCancelledEvent":
            self._cancelled.add(own)

    # ---- requests ----------------------------------------------------------------------------------------------

    def _begin_request(self, own: str, agent: str, about: Mapping[str, Any]) -> None:
        self._names[own] = self._at_work[own] = agent
        self._calls.begin_request(own, self._enclosing(own) or self._calls.around, agent, about)
        self._calls.enter(own)

    def _hand_over(self, step: str, agent: str) -> None:
        """Let a step of a run be another agent's than the one it began with."""
        own = self.open_spans.get(step)
        run = None if own is None else self._calls.get(own)
        if own is None or run is None:
            return
        if agent == self._at_work.get(own):
            return
        if (current := self._handed.pop(own, None)) is not None:
            self._calls.end_request(current)
        self._at_work[own] = agent
        if agent != self._names.get(own):
            handed, _ = self._calls.attempt(f"{own}-{agent}")
            self._handed[own] = handed
            self._calls.begin_request(handed, run, agent, {})

    def _end_request(self, own: str, error: BaseException | None, result: Any) -> None:
        run = self._calls.get(own)
        outer = run.parent if run is not None else None
        response = getattr(result, "response", result)
        for each in (self._handed.pop(own, None), own):
            if each is not None and (asked := self._calls.get(each)) is not None:
                asked.waits = error is not None and is_pause(error)
                text = getattr(response, "content", response)
                self._calls.end_request(each, error, response=text if isinstance(text, str) else None)
        self._calls.enter(None if outer is None else outer.id)

    # ---- models and tools --------------------------------------------------------------------------------------

    def _begin_model(self, own: str, event: Any) -> None:
        parent, said = self._enclosing(own), event.model_dict
        if parent is not None and parent.end is not None and parent.end.__name__ == "ModelEnd":
            return  # a model that answers by asking itself, as those do that only complete
        method = _method(own)
        self._calls.begin_model(
            own,
            parent or self._calls.around,
            model=said.get("model") or said.get("model_name"),
            provider=self._providers.get(own),
            streaming="stream" in method,
            temperature=said.get("temperature"),
            about=event.tags,
        )

    def _end_model(self, own: str, response: Any) -> None:
        tokens = _tokens(response) or self._tokens.get(own)
        self._tokens.pop(own, None)
        raw = getattr(response, "raw", None)
        self._calls.end_model(own, tokens=tokens, model=_read(raw, "model"), reason=_reason(raw))

    def _end_tool(self, own: str, output: Any, error: BaseException | None) -> None:
        status = message = None
        if error is None and getattr(output, "is_error", False):
            error = getattr(output, "exception", None)
            status, message = (None, None) if error is not None else ("error", str(output.content))
        run = self._calls.get(own)
        text = getattr(output, "content", None)
        self._calls.end_tool(own, error, output=text, status=status, message=message)
        if run is not None:
            self._calls.enter(None if run.parent is None else run.parent.id)

    # ---- places ------------------------------------------------------------------------------------------------

    def _enclosing(self, own: str) -> Run | None:
        """Return the innermost open call around a span: of a run, that of the agent it was handed over to."""
        above = self.open_spans.get(own)
        for _ in range(RUNS_MAX):
            if above is None:
                return None
            if (run := self._calls.get(self._handed.get(above, above))) is not None:
                return run
            above = self.open_spans.get(above)
        return None

    def _forget(self, own: str) -> None:
        self.open_spans.pop(own, None)
        self._providers.pop(own, None)
        self._names.pop(own, None)
        self._at_work.pop(own, None)
        self._cancelled.discard(own)


def _method(span_id: str) -> str:
    """Return the name of the method that a span is of; its id is Class.method-uuid."""
    return span_id.partition("-")[0].rpartition(".")[2]


def _agent(workflow: Any) -> str:
    return str(getattr(workflow, "root_agent", None) or getattr(workflow, "name", None) or type(workflow).__name__)


def _read(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _tokens(response: Any) -> Usage | None:
    """Read the tokens of an answer: as its provider has them, else as the integration repeats them."""
    raw = getattr(response, "raw", None)
    for reported in (_read(raw, "usage"), _read(raw, "usage_metadata"), getattr(response, "additional_kwargs", None)):
        if (tokens := usage_of(reported)) is not None:
            return tokens
    return None


def _reason(raw: Any) -> Any:
    """Return why an answer ended, as OpenAI's and Anthropic's answers say it."""
    choices = _read(raw, "choices")
    first = choices[0] if isinstance(choices, list | tuple) and choices else None
    return _read(first, "finish_reason") or _read(raw, "stop_reason")
