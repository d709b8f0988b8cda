"""What Strands Agents tells its hooks, as events: invocations, model calls with their tokens, tool calls.

    Agent(model, hooks=[AgentStreamsHooks(emitter)])

Never raises into the agent, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

import sys
from typing import Any, Final

from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    HookProvider,
    HookRegistry,
)

from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.guarded import Asks
from streams.feed.identity import new_id
from streams.feed.timers import Emits

_RUN: Final = "agent_streams_run"
_MODELS: Final = "strands.models."


class _Reason(str):
    """Why a guard cancelled a call, so that hooks after this one tell nothing of it either."""

    __slots__ = ()


class AgentStreamsHooks(HookProvider):
    """Reports every invocation of an agent to an emitter; given twice it reports once.

    With a guard (the argument, else the emitter's) a tool that is stopped is cancelled and the model reads why; so is
    a call to a model, and the caller reads why.

    The session is `session_id`, `conversation_id` or `thread_id` of the invocation state, else the argument, else every
    invocation is a session of its own.  An agent inside a tool is a request inside it.
    """

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
        self._calls = Calls(emitter, agent=agent, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Subscribe to the beginnings and ends of invocations, model calls and tool calls."""
        registry.add_callback(BeforeInvocationEvent, self._begin_request)
        registry.add_callback(AfterInvocationEvent, self._end_request)
        registry.add_callback(BeforeModelCallEvent, self._begin_model)
        registry.add_callback(AfterModelCallEvent, self._end_model)
        registry.add_callback(BeforeToolCallEvent, self._begin_tool)
        registry.add_callback(AfterToolCallEvent, self._end_tool)

    # ---- invocations -------------------------------------------------------------------------------------------

    @harmless
    def _begin_request(self, event: BeforeInvocationEvent) -> None:
        if event.messages is None:  # the older way to structured output, which never says which call it was
            return
        state = event.invocation_state
        key = _key(event)
        if self._calls.get(state.get(key)) is None:
            state[key] = new_id()
        self._calls.begin_request(state[key], self._calls.around, event.agent.name, state)

    @harmless
    def _end_request(self, event: AfterInvocationEvent) -> None:
        run_id = event.invocation_state.get(_key(event))
        # The event comes while the exception that ended the invocation, if any, is being handled.
        error = sys.exception() if event.result is None else None
        error = getattr(error, "original_exception", None) or error
        stopped = getattr(event.result, "stop_reason", None)
        invocation = event.agent.event_loop_metrics.latest_agent_invocation
        usage = usage_in("strands", getattr(invocation, "usage", None))
        self._calls.usage(run_id, usage, scope="aggregate", model=_model(event.agent.model))
        run = self._calls.get(run_id)
        if run is not None and stopped == "interrupt":  # it waits for a human
            run.waits = True
        status = "cancelled" if stopped == "cancelled" else None
        answer = getattr(event.result, "message", None) or {}
        text = "".join(part.get("text", "") for part in answer.get("content", ()))
        self._calls.end_request(run_id, error, status=status, response=text)

    # ---- models ------------------------------------------------------------------------------------------------

    @harmless
    def _begin_model(self, event: BeforeModelCallEvent) -> None:
        run = self._calls.get(event.invocation_state.get(_key(event)))
        if run is None:
            return
        model = event.agent.model
        module = type(model).__module__
        provider = module[len(_MODELS) :] if module.startswith(_MODELS) else None
        run_id, _ = self._calls.attempt(f"{run.id}-model")
        if isinstance(event.cancel, _Reason):
            return
        if denial := self._calls.denial(f"model:{_model(model)}", run, run_id=run_id, provider=provider):
            event.cancel = _Reason(denial)
            return
        self._calls.begin_model(
            run_id,
            run,
            model=_model(model),
            provider=provider,
            streaming=True,
        )

    @harmless
    def _end_model(self, event: AfterModelCallEvent) -> None:
        run_id, _ = self._calls.attempt(f"{event.invocation_state.get(_key(event))}-model")
        answer: Any = event.stop_response
        metadata = answer.message.get("metadata") or {} if answer is not None else {}
        parts = answer.message.get("content") or () if answer is not None else ()
        self._calls.note_asked(run_id, [part["toolUse"]["toolUseId"] for part in parts if "toolUse" in part])
        reason = getattr(answer, "stop_reason", None)
        self._calls.end_model(
            run_id,
            event.exception,
            status="cancelled" if reason == "cancelled" else None,
            tokens=usage_in("strands", metadata.get("usage")),
            reason=reason,
        )

    # ---- tools -------------------------------------------------------------------------------------------------

    @harmless
    def _begin_tool(self, event: BeforeToolCallEvent) -> None:
        run = self._calls.get(event.invocation_state.get(_key(event)))
        if run is None:
            return
        run_id, attempt = self._calls.attempt(f"{run.id}-{event.tool_use['toolUseId']}")
        if isinstance(event.cancel_tool, _Reason):
            return
        if denial := self._calls.denial(f"tool:{event.tool_use['name']}", run, run_id=run_id):
            event.cancel_tool = _Reason(denial)
            return
        asked = event.tool_use["toolUseId"]
        self._calls.begin_tool(
            run_id, run, event.tool_use["name"], event.tool_use["input"], attempt=attempt, asked=asked
        )
        self._calls.enter(run_id)

    @harmless
    def _end_tool(self, event: AfterToolCallEvent) -> None:
        request_id = event.invocation_state.get(_key(event))
        run_id, _ = self._calls.attempt(f"{request_id}-{event.tool_use['toolUseId']}")
        status = message = None
        texts: list[Any] = [part.get("text", part) for part in event.result["content"]]
        if event.cancel_message is not None:
            status = "cancelled"
        elif event.result["status"] == "error" and event.exception is None:
            status, message = "error", "\n".join(text for text in texts if isinstance(text, str))
        output = "".join(text for text in texts if isinstance(text, str)) or texts
        self._calls.leave(run_id)
        self._calls.end_tool(run_id, event.exception, output=output, status=status, message=message)


def _key(event: Any) -> str:
    # An agent inside another may be handed the state of the outer one.
    return f"{_RUN}_{id(event.agent)}"


def _model(model: Any) -> Any:
    config = model.get_config() or {}
    return config.get("model_id") if isinstance(config, dict) else getattr(config, "model_id", None)
