"""How the adapters say what their framework tells: requests, model calls and tools, in the same words for all of them.

Never raises into the agent, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

import functools
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, ParamSpec

from streams.event.model import (
    NAME_CHARS_MAX,
    AgentEnd,
    AgentStart,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.event.tokens import Usage, canonical
from streams.feed.adapters.guarded import Asks, guard_of
from streams.feed.adapters.runs import Run, runs_of
from streams.feed.failure import call_status, error_code, message_of, tool_status
from streams.feed.guard.denial import CallDenied, Denial
from streams.feed.size import digest, result_hash, size_bytes
from streams.feed.timers import Emits, Session

SESSION_KEYS: Final = ("session_id", "conversation_id", "thread_id")
ATTEMPT_MAX: Final = 1000  # what an event can say
_GROUP_MIN: Final = 2
_around: Final[ContextVar[Hashable | None]] = ContextVar("agent_streams_around", default=None)
_log: Final = logging.getLogger("streams.feed")
_P = ParamSpec("_P")


def harmless(hook: Callable[_P, None]) -> Callable[_P, None]:
    """Keep whatever goes wrong in a hook away from the agent, and let a guard's word through."""

    @functools.wraps(hook)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except CallDenied:  # the one thing that is meant to reach the agent
            raise
        except Exception:  # noqa: BLE001  an agent never fails because of its telemetry
            _log.debug("adapter.hook_failed: %s", hook.__qualname__, exc_info=True)

    return guarded


@contextmanager
def within(run_id: Hashable) -> Iterator[None]:
    """Let calls that begin inside this block have this one as their parent."""
    outer = _around.set(run_id)
    try:
        yield
    finally:
        try:
            _around.reset(outer)
        except ValueError:  # left in another context than entered, as generators do
            _around.set(None)


def name_of(thing: object) -> str | None:
    """Return what may stand as a name: cut, and None for nothing."""
    text = str(thing) if thing is not None else ""
    return text[:NAME_CHARS_MAX] or None


def usage_in(dialect: str, reported: Any) -> Usage | None:
    """Read a framework's usage in the dialect it is known to speak; None without anything to read."""
    if not isinstance(reported, Mapping):
        reported = getattr(reported, "__dict__", None)
    counted = canonical(dialect, reported) if isinstance(reported, Mapping) else None
    return None if counted is None else counted.usage


class Calls:
    """The calls of one adapter; an id that was told before changes nothing, nor does an end without a beginning."""

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
        self._runs = runs_of(emitter)
        self.agent = agent
        self._session_id = session_id
        self._user_id = user_id
        self._tenant = tenant

    def get(self, run_id: Hashable) -> Run | None:
        """Return an open run."""
        return self._runs.get(run_id)

    def ended(self, run_id: Hashable) -> bool:
        """Has a run ended, as far as that is remembered?"""
        return self._runs.ended(run_id)

    def mark(self, told: Hashable) -> bool:
        """Remember that something was told; False when it had been."""
        fresh = self._runs.begin(Run(told, None, Session.outside(self._emitter, agent="agent")))
        self._runs.end(told, "success")
        return fresh

    def session(
        self,
        parent: Run | None,
        about: Mapping[str, Any],
        agent: Any,
        *,
        trace_id: str | None = None,
        otherwise: str | None = None,
    ) -> Session:
        """Return the session of work: its parent's, else what `about` or the arguments name, else `otherwise`."""
        agent = name_of(agent) or "agent"
        if parent is not None:
            return parent.session.as_agent(agent)
        named = next((str(about[key]) for key in SESSION_KEYS if about.get(key)), None) or self._session_id or otherwise
        whose: dict[str, Any] = {
            "user_id": about.get("user_id") or self._user_id,
            "tenant": name_of(about.get("tenant") or self._tenant),
            "trace_id": trace_id,
        }
        if named is None:
            return Session.outside(self._emitter, agent=agent, **whose)
        return Session(self._emitter, agent=agent, session_id=named, **whose)

    @property
    def around(self) -> Run | None:
        """Return the call around this line, as far as an adapter has said `within` it."""
        run_id = _around.get()
        return None if run_id is None else self._runs.get(run_id)

    def attempt(self, name: str) -> tuple[str, int]:
        """Return the id and the number of the try that is open under a name, else those of the next."""
        run_id, number = name, 1
        while self._runs.ended(run_id):
            number += 1
            run_id = f"{name}-{number}"
        return run_id, number

    def enter(self, run_id: Hashable | None) -> None:
        """Say `within` where a framework has a hook before and one after, and nothing around; None for nobody."""
        run = None if run_id is None else self._runs.get(run_id)
        if run is not None and run.outer is None and _around.get() != run_id:
            run.outer = _around.get()
        if run is not None or run_id is None:
            _around.set(run_id)

    def leave(self, run_id: Hashable) -> None:
        """Say that the block is over, before the run's end is told; told elsewhere than `enter` it changes nothing."""
        if _around.get() == run_id:
            run = self._runs.get(run_id)
            _around.set(None if run is None else run.outer)

    def note_failure(self, run_id: Hashable, message: str) -> None:
        """Say that a tool has failed although it comes back well: its server answered so."""
        run = self._runs.get(run_id)
        if run is not None:
            run.failed = message

    def note_asked(self, run_id: Hashable, tool_call_ids: Sequence[str]) -> None:
        """Remember which tool calls one answer of a model asked for: two and more of them may run at the same time."""
        run = self._runs.get(run_id)
        if run is not None and len(tool_call_ids) >= _GROUP_MIN:
            run.root.groups.update(dict.fromkeys(tool_call_ids, str(run_id)))

    # ---- guards ------------------------------------------------------------------------------------------------

    def denial(
        self,
        target: str,
        parent: Run | None,
        about: Mapping[str, Any] | None = None,
        *,
        run_id: Hashable | None = None,
        agent: Any = None,
        otherwise: str | None = None,
        provider: Any = None,
    ) -> Denial | None:
        """Tell why a call must not be made; None when it may.  For a run that is open it has been asked already."""
        if self._guard is None or (run_id is not None and self._runs.get(run_id) is not None):
            return None
        try:
            if parent is None:
                session = self.session(None, about or {}, self.agent or agent, otherwise=otherwise)
            else:
                session = parent.session
            return self._guard.denial(target, provider=name_of(provider), **session.whose)
        except Exception:  # noqa: BLE001  only the workers' verdicts stop an agent, never a fault of ours
            _log.debug("adapter.not_guarded: %s", target, exc_info=True)
            return None

    # ---- beginnings --------------------------------------------------------------------------------------------

    def step(self, run_id: Hashable, parent: Run) -> None:
        """Take in what is not reported and only encloses."""
        self._runs.begin(Run(run_id, parent, parent.session))

    def begin_request(
        self,
        run_id: str,
        parent: Run | None,
        agent: Any,
        about: Mapping[str, Any],
        *,
        trace_id: str | None = None,
        otherwise: str | None = None,
    ) -> None:
        """Begin a request to an agent; `otherwise` is its session where nothing names one."""
        trace_id = trace_id or run_id
        outer = self.agent if parent is None else None
        session = self.session(parent, about, outer or agent, trace_id=trace_id, otherwise=otherwise or trace_id)
        ending = {"completed": False}  # until it is
        self._runs.begin(Run(run_id, parent, session, run_id, AgentEnd, ending=ending), AgentStart)

    def begin_model(
        self,
        run_id: str,
        parent: Run | None,
        *,
        model: Any,
        provider: Any = None,
        streaming: bool = False,
        temperature: Any = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a call to a model."""
        session = parent.session if parent is not None else self.session(None, about or {}, self.agent)
        said = {
            "model": name_of(model) or "unknown",
            "provider": name_of(provider),
            "streaming": streaming,
            "temperature": temperature if isinstance(temperature, int | float) else None,
        }
        self._runs.begin(Run(run_id, parent, session, run_id, ModelEnd, said, guessed=not model), ModelStart)

    def begin_tool(
        self,
        run_id: str,
        parent: Run | None,
        tool: Any,
        arguments: Any,
        *,
        attempt: int = 1,
        asked: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a tool call, `asked` for by the model under this id; of its arguments only size and hash are told."""
        session = parent.session if parent is not None else self.session(None, about or {}, self.agent)
        identity = digest(arguments) if arguments is not None else None
        said = {
            "tool": name_of(tool) or "unknown",
            "attempt": min(max(attempt, 1), ATTEMPT_MAX),
            "arguments_hash": identity.hash if identity else None,
            "parallel_group": parent.root.groups.get(asked) if parent is not None and asked is not None else None,
        }
        ending = {"input_bytes": identity.size_bytes if identity else 0}
        self._runs.begin(Run(run_id, parent, session, run_id, ToolEnd, said, ending, otherwise="tool_error"), ToolStart)

    def note_arguments(self, run_id: Hashable, arguments: Any) -> None:
        """Say what a tool was called with, for frameworks that tell it only after the tool has begun."""
        run = self._runs.get(run_id)
        if run is not None and arguments is not None:
            identity = digest(arguments)
            run.about["arguments_hash"] = identity.hash
            run.ending["input_bytes"] = identity.size_bytes

    def first_token(self, run_id: Hashable) -> None:
        """Note when a model's first token came; later ones change nothing."""
        run = self._runs.get(run_id)
        if run is not None and "first_token_ms" not in run.ending:
            run.ending["first_token_ms"] = run.elapsed_ms()
            run.about["streaming"] = True

    # ---- ends --------------------------------------------------------------------------------------------------

    def end_step(self, run_id: Hashable, error: BaseException | None = None) -> None:
        """End what is not reported; what failed takes along what is still open below it."""
        self._runs.end(run_id, call_status(error))

    def end_request(
        self, run_id: Hashable, error: BaseException | None = None, *, status: str | None = None, response: Any = None
    ) -> None:
        """End a request; without a status the error decides."""
        run = self._runs.get(run_id)
        status = status or call_status(error)
        if run is not None:
            run.ending = {"response_bytes": size_bytes(response), "completed": status == "success" and not run.waits}
        self._runs.end(run_id, status, error)

    def usage(
        self, run_id: Hashable, tokens: Usage | None, *, scope: str = "leaf", model: Any = None, **more: Any
    ) -> None:
        """Report tokens: a leaf once for every model call, an aggregate for what repeats its leaves."""
        run = self._runs.get(run_id)
        if run is None or tokens is None:
            return
        about = {"model": run.about.get("model") or name_of(model) or "unknown", "provider": run.about.get("provider")}
        run.emit(TokenUsage, "usage", **about, **tokens._asdict(), scope=scope, **more)

    def end_model(
        self,
        run_id: Hashable,
        error: BaseException | None = None,
        *,
        status: str | None = None,
        tokens: Usage | None = None,
        model: Any = None,
        provider: Any = None,
        code: Any = None,
        reason: Any = None,
        cost_nano_usd: int | None = None,
    ) -> None:
        """End a call to a model and report its tokens."""
        run = self._runs.get(run_id)
        if run is None:
            return
        if model and run.guessed:
            run.about["model"] = name_of(model)
        run.about["provider"] = run.about["provider"] or name_of(provider)
        self.usage(run_id, tokens, cost_nano_usd=cost_nano_usd)
        status = status or call_status(error)
        if status in ("success", "cancelled"):
            code = None
        elif code is None and error is not None:
            code = error_code(error)
        self._runs.end(run_id, status, error, error_code=name_of(code), finish_reason=name_of(reason))

    def end_tool(
        self,
        run_id: Hashable,
        error: BaseException | None = None,
        *,
        output: Any = None,
        output_bytes: int | None = None,
        status: str | None = None,
        message: str | None = None,
    ) -> None:
        """End a tool call; `status` for a failure that came back as a result.  Of the output size and hash are told."""
        status = status or tool_status(error)
        if message is None and error is not None and status != "cancelled":
            message = message_of(error)
        size = size_bytes(output) if output_bytes is None else output_bytes
        same = result_hash(output)
        self._runs.end(run_id, status, error, output_bytes=size, error_message=message, result_hash=same)
