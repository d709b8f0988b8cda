"""What LangChain and LangGraph tell their callbacks, as events: requests, model calls with their tokens, tool calls.

    agent.invoke(..., {"callbacks": [AgentStreamsCallback(emitter)], "configurable": {"thread_id": "t1"}})

Never raises into the agent, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from streams.event.model import (
    NAME_CHARS_MAX,
    AgentEnd,
    AgentStart,
    Error,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
    ToolStatus,
)
from streams.feed.adapters.calls import Calls, harmless
from streams.feed.adapters.guarded import Asks, guard_of
from streams.feed.adapters.runs import Run, runs_of
from streams.feed.failure import call_status, error_code, error_type, is_pause, message_of, tool_status
from streams.feed.guard.denial import CallDenied
from streams.feed.size import digest, result_hash, size_bytes
from streams.feed.timers import Emits, Session
from streams.feed.usage import Usage, usage_of

SESSION_KEYS: Final = ("session_id", "conversation_id", "thread_id")
_RETRY_TAG: Final = "retry:attempt:"
_STEP_TAG: Final = "graph:step:"
_GROUP_MIN: Final = 2
_asked: Final[ContextVar[bool]] = ContextVar("agent_streams_asked", default=False)  # was this tool call let through?
_log: Final = logging.getLogger("streams.feed")


@contextmanager
def let_through() -> Iterator[None]:
    """Ask no guard for the tool call inside: it has been asked."""
    outer = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(outer)


class AgentStreamsCallback(BaseCallbackHandler):
    """Reports runs to an emitter; register it once per agent or once per call, twice changes nothing.

    With a guard (the argument, else the emitter's) it raises CallDenied before a model or a tool that is stopped is
    called; where the model shall read why instead, add `langchain_guard.GuardMiddleware`.

    The session is `session_id`, `conversation_id` or `thread_id` of the metadata (LangGraph puts the configurable's
    there), else the argument, else every request is a session of its own. `agent` names the outermost agent; `user_id`
    and `tenant` may stand in the metadata as well.
    """

    run_inline = True  # on the event loop, in order: a hook takes microseconds, a thread of the pool far more

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        guard: Asks | None = None,
    ) -> None:
        self._emitter = emitter
        self._guard = guard_of(emitter, guard)
        self.raise_error = self._guard is not None  # a denial ends the call; nothing else is ever raised
        self._runs = runs_of(emitter)
        self._calls = Calls(emitter, guard=guard)
        self._agent = agent
        self._session_id = session_id
        self._user_id = user_id
        self._tenant = tenant

    # ---- requests ----------------------------------------------------------------------------------------------

    @harmless
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,  # noqa: ARG002  the base class names it
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a request with the outermost chain and with every agent inside another; other chains are steps."""
        parent = self._parent(parent_run_id)
        metadata = metadata or {}
        name = kwargs.get("name") or _class_name(serialized)
        inner = _is_agent(name, tags or (), metadata)
        if parent is not None and not inner:
            self._runs.begin(Run(run_id, parent, parent.session))
            return
        agent = str(metadata.get("lc_agent_name") or name or "agent")
        if parent is None:
            agent = self._agent or agent
        session = self._session(parent, metadata, _name(agent) or "agent", str(run_id))
        ending = {"completed": False}  # until it is
        self._runs.begin(Run(run_id, parent, session, str(run_id), AgentEnd, ending=ending), AgentStart)

    @harmless
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """End a request."""
        run = self._runs.get(run_id)
        if run is not None and run.end is AgentEnd:
            run.ending = {"response_bytes": size_bytes(_answer(outputs)), "completed": not run.waits}
        self._runs.end(run_id, "success")

    @harmless
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a request that failed or was cancelled."""
        run = self._runs.get(run_id)
        if is_pause(error):
            while run is not None:
                run.waits, run = True, run.parent
        self._runs.end(run_id, call_status(error), error)

    # ---- models ------------------------------------------------------------------------------------------------

    @harmless
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Any,  # noqa: ARG002  the base class names it
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call to a chat model."""
        self._begin_model(serialized, run_id, parent_run_id, metadata or {}, kwargs)

    @harmless
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: Any,  # noqa: ARG002  the base class names it
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call to a text model."""
        self._begin_model(serialized, run_id, parent_run_id, metadata or {}, kwargs)

    def _begin_model(
        self,
        serialized: dict[str, Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        parent = self._parent(parent_run_id)
        session = self._session(parent, metadata, self._agent or "agent", None)
        given = kwargs.get("invocation_params") or {}
        model = metadata.get("ls_model_name") or given.get("model") or given.get("model_name")
        name = _name(model or _class_name(serialized) or "unknown")
        self._check(run_id, f"model:{name}", session, metadata.get("ls_provider"))
        temperature = metadata.get("ls_temperature", given.get("temperature"))
        about = {
            "model": name,
            "provider": _name(metadata.get("ls_provider")),
            "streaming": bool(given.get("stream")),
            "temperature": temperature if isinstance(temperature, (int, float)) else None,
        }
        self._runs.begin(Run(run_id, parent, session, str(run_id), ModelEnd, about, guessed=not model), ModelStart)

    @harmless
    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        """Note when the first token came, and what is said of tokens: a stream that is cut short has no answer.

        Providers begin with chunks that hold no text.
        """
        run, used = self._runs.get(run_id), usage_of(getattr(getattr(chunk, "message", None), "usage_metadata", None))
        if run is not None and used is not None:
            run.used = used if run.used is None else Usage(*map(sum, zip(run.used, used, strict=True)))
        if token or getattr(getattr(chunk, "message", None), "tool_call_chunks", None):
            self._first_token(run_id)

    @harmless
    def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
        """Note when the first token came, as the newer streaming tells it."""
        if event.get("event") == "content-block-delta":
            self._first_token(run_id)

    def _first_token(self, run_id: UUID) -> None:
        run = self._runs.get(run_id)
        if run is not None and "first_token_ms" not in run.ending:
            run.ending["first_token_ms"] = run.elapsed_ms()
            run.about["streaming"] = True

    @harmless
    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """End a call to a model and report its tokens."""
        self._end_model(run_id, response, None)

    @harmless
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End a call to a model that failed; what it had answered by then was paid for."""
        self._end_model(run_id, kwargs.get("response"), error)

    def _end_model(self, run_id: UUID, response: Any, error: BaseException | None) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        generation = _first_generation(response)
        message = getattr(generation, "message", None)
        said = {
            **(getattr(generation, "generation_info", None) or {}),
            **(getattr(message, "response_metadata", None) or {}),
        }
        if run.guessed and (model := said.get("model_name") or said.get("model")):
            run.about["model"] = _name(model)
        usage = _usage(response, message, said)
        if usage is not None:
            run.used = None
            model_and_provider = {"model": run.about["model"], "provider": run.about["provider"]}
            run.emit(TokenUsage, "usage", **model_and_provider, **usage._asdict())
        self._note_asked(run, [call["id"] for call in getattr(message, "tool_calls", None) or () if call.get("id")])
        status = call_status(error)
        code = error_code(error) if error is not None and status != "cancelled" else None
        reason = said.get("finish_reason") or said.get("stop_reason") or said.get("done_reason")
        self._runs.end(run_id, status, error, error_code=_name(code), finish_reason=_name(reason))

    @staticmethod
    def _note_asked(run: Run, tool_call_ids: list[str]) -> None:
        """Remember which tool calls one answer asked for: they may run at the same time."""
        root = run.root
        for tool_call_id in tool_call_ids:
            root.attempts.pop(tool_call_id, None)
            root.groups.pop(tool_call_id, None)
            if len(tool_call_ids) >= _GROUP_MIN:
                root.groups[tool_call_id] = str(run.id)

    # ---- tools -------------------------------------------------------------------------------------------------

    @harmless
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a tool call."""
        name = kwargs.get("name") or (serialized or {}).get("name")
        arguments = input_str if inputs is None else inputs
        self._begin_tool(name, arguments, run_id, parent_run_id, tags or [], metadata or {}, kwargs.get("tool_call_id"))

    @harmless
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a retrieval: a tool call by another name."""
        name = kwargs.get("name") or _class_name(serialized) or "retriever"
        self._begin_tool(name, query, run_id, parent_run_id, tags or [], metadata or {}, None)

    def _begin_tool(
        self,
        name: Any,
        arguments: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: list[str],
        metadata: Mapping[str, Any],
        tool_call_id: str | None,
    ) -> None:
        parent = self._parent(parent_run_id)
        session = self._session(parent, metadata, self._agent or "agent", None)
        if not _asked.get():
            self._check(run_id, f"tool:{_name(name or 'unknown')}", session)
        attempt = max((int(tag[len(_RETRY_TAG) :]) for tag in tags if tag.startswith(_RETRY_TAG)), default=1)
        group = None
        run = Run(run_id, parent, session, str(run_id), ToolEnd, otherwise="tool_error")
        if tool_call_id is not None and self._runs.get(run_id) is None:
            root = run.root
            root.attempts[tool_call_id] = tried = root.attempts.get(tool_call_id, 0) + 1
            attempt = max(attempt, tried)
            group = root.groups.get(tool_call_id)
        identity = digest(arguments)
        run.about = {
            "tool": _name(name or "unknown"),
            "attempt": min(attempt, 1000),
            "arguments_hash": identity.hash,
            "parallel_group": group,
        }
        run.ending = {"input_bytes": identity.size_bytes}
        self._runs.begin(run, ToolStart)
        self._calls.enter(run_id)

    @harmless
    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """End a tool call; one whose failure the framework turned into a message has failed."""
        content = getattr(output, "content", output)
        failed = getattr(output, "status", None) == "error"
        status: ToolStatus = "error" if failed else "success"
        message = str(content) if failed else None
        size, same = size_bytes(content), result_hash(content)
        self._calls.leave(run_id)
        self._runs.end(run_id, status, output_bytes=size, error_message=message, result_hash=same)

    @harmless
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a tool call that raised."""
        status = tool_status(error)
        self._calls.leave(run_id)
        self._runs.end(run_id, status, error, error_message=None if status == "cancelled" else message_of(error))

    @harmless
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        """End a retrieval."""
        texts = [getattr(document, "page_content", None) for document in documents]
        found = sum(size_bytes(text) for text in texts)
        self._calls.leave(run_id)
        self._runs.end(run_id, "success", output_bytes=found, result_hash=result_hash(texts))

    @harmless
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End a retrieval that raised."""
        self._calls.leave(run_id)
        self._runs.end(run_id, tool_status(error), error, error_message=message_of(error))

    # ---- retries -----------------------------------------------------------------------------------------------

    @harmless
    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        """Report an attempt inside a call that failed and is made again: the call itself has not ended."""
        run = self._runs.get(run_id)
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        if run is None or error is None:
            return
        attempt = retry_state.attempt_number
        run.emit(
            Error,
            f"retry-{attempt}",
            error_type=error_type(error),
            component="model" if run.end is ModelEnd else "tool" if run.end is ToolEnd else "agent",
            code=_name(error_code(error)),
            message=message_of(error),
            attributes=run.session.attributes_and(attempt=attempt),
        )

    # ---- who is speaking ---------------------------------------------------------------------------------------

    def _check(self, run_id: UUID, target: str, session: Session, provider: Any = None) -> None:
        """Raise CallDenied where the guard says so; of a run that is open it has been asked already."""
        if self._guard is None or self._runs.get(run_id) is not None:
            return
        denial = self._guard.denial(target, provider=_name(provider), **session.whose)
        if denial is not None:
            raise CallDenied(denial)

    def _parent(self, parent_run_id: UUID | None) -> Run | None:
        return None if parent_run_id is None else self._runs.get(parent_run_id)

    def _session(self, parent: Run | None, metadata: Mapping[str, Any], agent: str, otherwise: str | None) -> Session:
        """Return where a run belongs; `otherwise` names the session when nobody does."""
        if parent is not None:
            return parent.session.as_agent(agent) if otherwise else parent.session
        told = next((metadata[key] for key in SESSION_KEYS if metadata.get(key)), None)
        session_id = _text(told) or self._session_id or otherwise
        about: dict[str, Any] = {
            "agent": agent,
            "user_id": _text(metadata.get("user_id")) or self._user_id,
            "tenant": _name(metadata.get("tenant")) or self._tenant,
        }
        if session_id is None:
            return Session.outside(self._emitter, **about)
        return Session(self._emitter, session_id=session_id, **about, trace_id=otherwise)


def _is_agent(name: Any, tags: list[str] | tuple[str, ...], metadata: Mapping[str, Any]) -> bool:
    """Is this chain a whole agent, and no step of one?"""
    step = any(tag.startswith(_STEP_TAG) for tag in tags)
    return not step and bool(name) and metadata.get("lc_agent_name") == name


def _class_name(serialized: Mapping[str, Any] | None) -> str | None:
    path = (serialized or {}).get("id")
    return str(path[-1]) if isinstance(path, list) and path else (serialized or {}).get("name")


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None


def _name(value: Any) -> str | None:
    text = _text(value)
    return text[:NAME_CHARS_MAX] if text else None


def _answer(outputs: Any) -> Any:
    """Return what the user gets of a chain's outputs: the last message when there are messages."""
    messages = outputs.get("messages") if isinstance(outputs, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else outputs
    return getattr(last, "content", last)


def _first_generation(response: Any) -> Any:
    generations = getattr(response, "generations", None) or [[]]
    return generations[0][0] if generations[0] else None


def _usage(response: Any, message: Any, said: Mapping[str, Any]) -> Usage | None:
    """Return a call's tokens from wherever an integration puts them; the standard place first."""
    overall = getattr(response, "llm_output", None) or {}
    places = (
        getattr(message, "usage_metadata", None),
        said.get("token_usage"),
        said.get("usage"),
        overall.get("token_usage"),
        overall.get("usage"),
    )
    return next((usage for place in places if (usage := usage_of(place)) is not None), None)
