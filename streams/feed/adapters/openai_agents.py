"""What the OpenAI Agents SDK tells its trace processors, as events: runs, model calls with their tokens, tools.

    add_trace_processor(AgentStreamsProcessor(emitter))

Never raises into the agent, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from agents.tracing import Span, Trace, TracingProcessor

from streams.event.model import TokenUsage
from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.runs import RUNS_MAX, Run
from streams.feed.failure import call_status, tool_status
from streams.feed.timers import Emits

DENIED: Final[dict[str, None]] = {}  # open spans of tool calls that a guard did not let through
_MODELS: Final = ("generation", "response")
_TOOLS: Final = ("function", "mcp_tools")


class AgentStreamsProcessor(TracingProcessor):
    """Reports every run to an emitter; registered twice it reports once.

    A run of the runner is a request to its first agent; an agent it hands over to is a request inside it. The session
    is the trace's `group_id`, or `session_id`, `conversation_id` or `thread_id` of its metadata, else the argument,
    else every trace is a session of its own.
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
        self._traces: dict[str, dict[str, Any]] = {}
        self._open: dict[str, Span[Any]] = {}
        self._around: dict[str, BaseException | None] = {}  # what was being handled when a span began
        self._models: dict[str, str] = {}  # of open spans below which a model reported for itself: which
        self._first: set[str] = set()  # open tasks that have had their first agent

    @harmless
    def on_trace_start(self, trace: Trace) -> None:
        """Note what the trace says about its session."""
        about = dict(getattr(trace, "metadata", None) or {})
        if group := getattr(trace, "group_id", None):
            about["session_id"] = group
        self._traces[trace.trace_id] = about
        if len(self._traces) > RUNS_MAX:
            del self._traces[next(iter(self._traces))]

    @harmless
    def on_trace_end(self, trace: Trace) -> None:
        """Forget the trace."""
        self._traces.pop(trace.trace_id, None)

    def shutdown(self) -> None:
        """Do nothing: the emitter is somebody else's."""

    def force_flush(self) -> None:
        """Do nothing: the emitter sends by itself."""

    @harmless
    def on_span_start(self, span: Span[Any]) -> None:
        """Begin what the span is about."""
        own, kind = span.span_id, span.span_data.type
        self._open[own] = span
        self._around[own] = sys.exception()
        if len(self._open) > RUNS_MAX:
            self._forget(next(iter(self._open)))
        if kind == "agent":
            self._begin_agent(span)
        elif kind == "turn" and (parent := self._enclosing(span)) is not None:
            self._calls.step(own, parent)
        elif kind in _MODELS:
            self._begin_model(span)
        elif kind in _TOOLS:
            self._calls.begin_tool(own, self._enclosing(span), getattr(span.span_data, "name", None) or kind, None)
            self._calls.enter(own)  # the SDK calls us where the tool will run, and again where it has run

    @harmless
    def on_span_end(self, span: Span[Any]) -> None:
        """End what the span is about."""
        own, kind = span.span_id, span.span_data.type
        # A span ends while the exception that left it is still being handled, unlike one from before it began.
        error = sys.exception()
        error = None if error is self._around.get(own) else error
        if kind in ("agent", "task"):
            self._end_request(span, error)
        elif kind == "turn":
            self._end_turn(span)
        elif kind in _MODELS:
            self._end_model(span, error)
        elif kind in _TOOLS:
            self._end_tool(span, error)
        self._forget(own)

    # ---- requests ----------------------------------------------------------------------------------------------

    def _begin_agent(self, span: Span[Any]) -> None:
        task = self._open.get(span.parent_id or "")
        about = self._traces.get(span.trace_id) or {}
        agent = span.span_data.name
        if task is not None and task.span_data.type == "task" and task.span_id not in self._first:
            self._first.add(task.span_id)
            self._calls.mark(span.span_id)  # told again without its task it would be a request of its own
            span = task
        self._calls.begin_request(span.span_id, self._enclosing(span), agent, about, trace_id=span.trace_id)

    def _end_request(self, span: Span[Any], error: BaseException | None) -> None:
        if span.span_data.type == "task":
            tokens = usage_in("openai_agents", _nested(span.span_data.usage))
            self._calls.usage(span.span_id, tokens, scope="aggregate", model=self._models.get(span.span_id))
        status = call_status(error)
        if status == "success" and span.error is not None:
            status = "error"
        self._calls.end_request(span.span_id, error, status=status)

    def _end_turn(self, span: Span[Any]) -> None:
        """Report the tokens of a turn whose model told nothing itself: those of a model of somebody's own."""
        turn = self._calls.get(span.span_id)
        tokens = usage_in("openai_agents", _nested(span.span_data.usage))
        if turn is not None and tokens is not None and span.span_id not in self._models:
            turn.call_id = span.span_id
            turn.emit(TokenUsage, "usage", model="unknown", **tokens._asdict())
        self._calls.end_step(span.span_id)

    # ---- models and tools --------------------------------------------------------------------------------------

    def _begin_model(self, span: Span[Any]) -> None:
        settings = getattr(span.span_data, "model_config", None) or {}
        self._calls.begin_model(
            span.span_id,
            self._enclosing(span),
            model=getattr(span.span_data, "model", None),
            provider="openai" if span.span_data.type == "response" else None,
            temperature=settings.get("temperature"),
            about=self._traces.get(span.trace_id),
        )

    def _end_model(self, span: Span[Any], error: BaseException | None) -> None:
        response = getattr(span.span_data, "response", None)
        model = getattr(response, "model", None) or getattr(span.span_data, "model", None)
        above = self._open.get(span.parent_id or "")
        while above is not None:
            self._models[above.span_id] = str(model or "unknown")
            above = self._open.get(above.parent_id or "")
        status = call_status(error)
        if status == "success" and span.error is not None:
            status = "error"
        self._calls.end_model(
            span.span_id,
            error,
            status=status,
            tokens=usage_in("openai_agents", _nested(getattr(response, "usage", None) or span.span_data.usage)),
            model=model,
            reason=getattr(response, "status", None),
        )

    def _end_tool(self, span: Span[Any], error: BaseException | None) -> None:
        status, message = tool_status(error), None
        if span.span_id in DENIED:
            DENIED.pop(span.span_id, None)
            status = "cancelled"
        if status == "success" and span.error is not None:
            status, message = "error", _message(span.error)
        self._calls.leave(span.span_id)
        self._calls.note_arguments(span.span_id, _arguments(getattr(span.span_data, "input", None)))
        output = getattr(span.span_data, "output", None) or getattr(span.span_data, "result", None)
        self._calls.end_tool(span.span_id, error, status=status, message=message, output=output)

    # ---- spans -------------------------------------------------------------------------------------------------

    def _enclosing(self, span: Span[Any]) -> Run | None:
        """Return the innermost open call around a span."""
        above = span.parent_id
        while above is not None:
            if (run := self._calls.get(above)) is not None:
                return run
            outer = self._open.get(above)
            above = outer.parent_id if outer is not None else None
        return None

    def _forget(self, span_id: str) -> None:
        self._open.pop(span_id, None)
        self._around.pop(span_id, None)
        self._models.pop(span_id, None)
        self._first.discard(span_id)


def _nested(usage: Any) -> Mapping[str, Any] | None:
    """Return usage as the Responses API has it; spans of turns and tasks keep the details beside the counts."""
    dump = getattr(usage, "model_dump", None)
    usage = dump() if callable(dump) else usage
    if not isinstance(usage, Mapping):
        return None
    input_details = usage.get("input_tokens_details") or {
        "cached_tokens": usage.get("cached_input_tokens"),
        "cache_write_tokens": usage.get("cache_write_input_tokens"),
    }
    output_details = usage.get("output_tokens_details") or {"reasoning_tokens": usage.get("reasoning_output_tokens")}
    return {**usage, "input_tokens_details": input_details, "output_tokens_details": output_details}


def _arguments(given: Any) -> Any:
    """Return arguments as values: equal ones may differ in their text."""
    try:
        return msgspec.json.decode(given) if isinstance(given, str) else given
    except msgspec.DecodeError:
        return given


def _message(error: Mapping[str, Any]) -> str | None:
    detail = (error.get("data") or {}).get("error")
    return str(detail or error.get("message") or "") or None
