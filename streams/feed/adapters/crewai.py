"""What CrewAI tells its event bus, as events: agents' work on tasks, model calls with their tokens, tool calls.

    AgentStreamsListener(emitter).listen()

Never imports CrewAI before it is asked to listen, never raises into the crew, never reports texts, and never goes by
the order in which handlers are called: an event waits for those it depends on.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, Self
from weakref import WeakSet

from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.runs import RUNS_MAX, Run
from streams.feed.timers import Emits

HOLD_S: Final = 1.0  # handlers run within milliseconds of each other; what comes later still is told without
SETTLE_S: Final = 0.05  # what ends an agent's work is told after what was in it, even if that is heard a little later
HELD_MAX: Final = 1_000  # events that wait at once
_BLOCKED: Final = "Tool execution blocked by hook."
_DENIED: Final = "LLM call denied by "
_OUTER: Final = (
    "agent_execution_completed",
    "agent_execution_error",
    "lite_agent_execution_completed",
    "lite_agent_execution_error",
    "task_failed",
)
_listening: Final[WeakSet[Emits]] = WeakSet()


class Bus(Protocol):
    """CrewAI's event bus, as far as it is used here."""

    def register_handler(self, event_type: type[Any], handler: Callable[..., Any]) -> None:
        """Call the handler with the source and the event, for every event of this type."""


class AgentStreamsListener:
    """Reports to an emitter what every crew of this process does; two of them on one emitter report once.

    An agent's work on a task is a request to that agent, named by its role.  The session is `session_id`,
    `conversation_id` or `thread_id` of the kickoff's inputs, else the argument, else every kickoff is one of its own.
    With a guard (the argument, else the emitter's) a tool that is stopped is not called and the model reads why; a
    call to a model that is stopped ends the crew with the reason.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        guard: Asks | None = None,
    ) -> None:
        self._calls = Calls(emitter, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)
        self._emitter = emitter
        self._kickoffs: dict[str, Mapping[str, Any]] = {}  # what their inputs say
        self._kickoff_of: dict[str, str] = {}  # a task's
        self._inside: dict[str, str] = {}  # what a kickoff is inside of, which may be a tool call
        self._requests: dict[Hashable, str] = {}  # by task and agent, and by agent alone: the open request
        self._began: dict[Hashable, datetime] = {}
        self._first: dict[str, datetime] = {}  # of open model calls: when the first token came
        self._why = threading.local()  # what this thread was denied last, until its model has read it
        self._waiting: set[asyncio.Future[None]] = set()
        self._tells: Final[Mapping[str, Callable[[Any], None]]] = {
            "crew_kickoff_started": self._begin_kickoff,
            "task_started": self._begin_task,
            "task_failed": self._fail_task,
            "agent_execution_started": self._begin_request,
            "agent_execution_completed": self._end_request,
            "agent_execution_error": self._end_request,
            "lite_agent_execution_started": self._begin_request,
            "lite_agent_execution_completed": self._end_request,
            "lite_agent_execution_error": self._end_request,
            "llm_call_started": self._begin_model,
            "llm_call_completed": self._end_model,
            "llm_call_failed": self._end_model,
            "tool_usage_started": self._begin_tool,
            "tool_usage_finished": self._end_tool,
            "tool_usage_error": self._end_tool,
        }

    def listen(self, bus: Bus | None = None) -> Self:
        """Subscribe to a bus, CrewAI's own unless another is given, and let the guard see calls beforehand."""
        from crewai.events import crewai_event_bus  # noqa: PLC0415
        from crewai.events.types import (  # noqa: PLC0415  only who listens has it
            agent_events,
            crew_events,
            llm_events,
            task_events,
            tool_usage_events,
        )
        from crewai.hooks import (  # noqa: PLC0415  as above
            register_after_tool_call_hook,
            register_before_llm_call_hook,
            register_before_tool_call_hook,
        )

        if not _first_time(self._emitter):
            return self
        target = crewai_event_bus if bus is None else bus
        for module in (agent_events, crew_events, llm_events, task_events, tool_usage_events):
            for found in vars(module).values():
                fields = getattr(found, "model_fields", {})
                kind = getattr(fields.get("type"), "default", None)
                if kind in self._tells:
                    target.register_handler(found, self.hear)
        target.register_handler(llm_events.LLMStreamChunkEvent, self.note_token)
        register_before_tool_call_hook(self.before_tool)
        register_after_tool_call_hook(self.after_tool)
        register_before_llm_call_hook(self.before_model)
        return self

    # ---- order -------------------------------------------------------------------------------------------------

    async def hear(self, source: Any, event: Any) -> None:  # noqa: ARG002  the bus hands over both
        """Tell of one event, once what it depends on has been told, or after `HOLD_S`."""
        try:
            if event.type in _OUTER:
                await asyncio.sleep(SETTLE_S)
            end_s = time.monotonic() + HOLD_S
            while not self._ready(event) and len(self._waiting) < HELD_MAX and time.monotonic() < end_s:
                changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.add(changed)
                await asyncio.wait([changed], timeout=end_s - time.monotonic())
                self._waiting.discard(changed)
        finally:
            self._tell(event)
            for waiting in tuple(self._waiting):
                waiting.get_loop().call_soon_threadsafe(_wake, waiting)

    @harmless
    def note_token(self, source: Any, event: Any) -> None:  # noqa: ARG002  as above
        """Note when the first token of a call came; a handler that is no coroutine sees tokens at once."""
        if event.call_id not in self._first:
            _bounded(self._first)[event.call_id] = event.timestamp

    def _ready(self, event: Any) -> bool:
        kind = event.type
        if kind == "agent_execution_started":
            return event.parent_event_id is None or event.parent_event_id in self._kickoff_of
        if kind == "task_started":
            return event.parent_event_id is None or event.parent_event_id in self._kickoffs
        if kind == "task_failed":
            return not self._requests_of(event)
        if kind in ("llm_call_started", "tool_usage_started"):
            return event.agent_id is None or self._request_of(event) is not None
        if kind.endswith("_started"):
            return True
        own = _id(event)
        run = self._calls.get(own)
        if run is None:
            return self._calls.ended(own)  # another listener has told it
        return not any(child.call_id for child in run.children.values())

    @harmless
    def _tell(self, event: Any) -> None:
        self._tells[event.type](event)

    # ---- kickoffs and tasks: they enclose --------------------------------------------------------------------------

    def _begin_kickoff(self, event: Any) -> None:
        _bounded(self._kickoffs)[event.event_id] = dict(event.inputs or {})
        if event.parent_event_id is not None:
            _bounded(self._inside)[event.event_id] = event.parent_event_id

    def _begin_task(self, event: Any) -> None:
        _bounded(self._kickoff_of)[event.event_id] = event.parent_event_id or event.event_id

    def _fail_task(self, event: Any) -> None:
        """End what was stopped by a hook: CrewAI tells of no end of the agent's work then."""
        for own in self._requests_of(event):
            self._end(own, "cancelled" if "was not called:" in str(event.error) else "error")

    # ---- requests ----------------------------------------------------------------------------------------------

    def _begin_request(self, event: Any) -> None:
        agent_id, role = _agent(event)
        trace = self._kickoff_of.get(event.parent_event_id or "")
        about = self._kickoffs.get(trace or "") or {}
        around = self._calls.get(self._inside.get(trace or "")) or self._calls.around
        self._began_at(event)
        self._calls.begin_request(event.event_id, around, role, about, trace_id=trace, otherwise=trace)
        for key in ((_task(event), agent_id), agent_id):
            _bounded(self._requests)[key] = event.event_id

    def _end_request(self, event: Any) -> None:
        failed = event.type.endswith("_error")
        self._end(self._timed(event), "error" if failed else None, getattr(event, "output", None))

    def _end(self, own: str, status: str | None, response: Any = None) -> None:
        for key in [key for key, request in self._requests.items() if request == own]:
            del self._requests[key]
        self._calls.end_request(own, status=status, response=response)

    def _requests_of(self, event: Any) -> list[str]:
        task = event.task_id or _task(event)
        return [own for key, own in self._requests.items() if isinstance(key, tuple) and key[0] == task]

    def _request_of(self, event: Any) -> Run | None:
        own = self._requests.get((event.task_id, event.agent_id)) or self._requests.get(event.agent_id)
        return None if own is None else self._calls.get(own)

    # ---- models ------------------------------------------------------------------------------------------------

    def _begin_model(self, event: Any) -> None:
        self._began_at(event)
        self._calls.begin_model(
            event.event_id,
            self._request_of(event),
            model=event.model,
            streaming=bool(event.stream),
            temperature=event.temperature,
        )

    def _end_model(self, event: Any) -> None:
        own = self._timed(event)
        first, run = self._first.pop(event.call_id, None), self._calls.get(own)
        if run is not None and first is not None:
            took_ms = run.elapsed_ms() if run.took_ms is None else run.took_ms
            run.ending["first_token_ms"] = max(round(took_ms - _ms(first, event.timestamp), 3), 0.0)
            run.about["streaming"] = True
        if event.type == "llm_call_failed":
            self._calls.end_model(own, status="cancelled" if event.error.startswith(_DENIED) else "error")
        else:
            self._calls.end_model(own, tokens=usage_in("crewai", event.usage), reason=event.finish_reason)

    # ---- tools -------------------------------------------------------------------------------------------------

    def _begin_tool(self, event: Any) -> None:
        self._began_at(event)
        parent = self._request_of(event)
        attempt = max(event.run_attempts or 1, 1)
        self._calls.begin_tool(event.event_id, parent, event.tool_name, event.tool_args, attempt=attempt)

    def _end_tool(self, event: Any) -> None:
        own = self._timed(event)
        status = message = None
        error, output = getattr(event, "error", None), getattr(event, "output", None)
        if isinstance(error, str):
            status, message, error = "error", error, None
        elif (failure := getattr(event, "failure", None)) is not None:
            status, message = "error", failure.message
        elif isinstance(output, str) and output.startswith((_BLOCKED, f"tool:{event.tool_name} was not called")):
            status = "cancelled"
        self._calls.end_tool(own, error, status=status, message=message, output=output)

    # ---- guards ------------------------------------------------------------------------------------------------

    def before_tool(self, context: Any) -> bool | None:
        """Answer False for a call that must not be made."""
        self._why.told = self._denial(f"tool:{context.tool_name}", context)
        return None if self._why.told is None else False

    def after_tool(self, context: Any) -> str | None:
        """Say to the model why a call was not made, in the place of the framework's sentence."""
        why: str | None = getattr(self._why, "told", None)
        self._why.told = None
        return why if str(context.tool_result).startswith(_BLOCKED) else None

    def before_model(self, context: Any) -> None:
        """End the crew where it must not call its model."""
        why = self._denial(f"model:{getattr(context.llm, 'model', None)}", context)
        if why is not None:
            from crewai.hooks import HookAborted  # noqa: PLC0415  nobody calls this without it

            raise HookAborted(why, source="agent-streams")

    def _denial(self, target: str, context: Any) -> str | None:
        agent, inputs = getattr(context, "agent", None), getattr(getattr(context, "crew", None), "_inputs", None)
        agent_id = str(getattr(agent, "id", ""))
        own = self._requests.get((_task(context), agent_id)) or self._requests.get(agent_id)
        parent = None if own is None else self._calls.get(own)
        about = inputs if isinstance(inputs, Mapping) else {}  # the request may not have been heard of yet
        denial = self._calls.denial(target, parent, about, agent=getattr(agent, "role", None))
        return None if denial is None else str(denial)

    # ---- time --------------------------------------------------------------------------------------------------

    def _began_at(self, event: Any) -> None:
        _bounded(self._began)[_id(event)] = event.timestamp

    def _timed(self, event: Any) -> str:
        """Let a call have taken what its events say, however late they are heard; return its id."""
        own = _id(event)
        began, run = self._began.pop(own, None), self._calls.get(own)
        if began is not None and run is not None:
            run.took_ms = round(_ms(began, event.timestamp), 3)
        return own


def _id(event: Any) -> str:
    """Return the id of the call that an event begins or ends."""
    return str(event.started_event_id or event.event_id)


def _agent(event: Any) -> tuple[str, Any]:
    info = getattr(event, "agent_info", None)
    if info is not None:
        return str(info.get("id")), info.get("role")
    return str(event.agent.id), event.agent.role


def _task(event: Any) -> str | None:
    task = getattr(event, "task", None)
    return None if task is None else str(task.id)


def _ms(since: datetime, until: datetime) -> float:
    return max((until - since).total_seconds() * 1000, 0.0)


def _bounded(kept: dict[Any, Any]) -> dict[Any, Any]:
    if len(kept) >= RUNS_MAX:
        del kept[next(iter(kept))]
    return kept


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def _first_time(emitter: Emits) -> bool:
    try:
        known = emitter in _listening
        _listening.add(emitter)
    except TypeError:  # an emitter of somebody's own that has no hash or no weak references
        return True
    return not known
