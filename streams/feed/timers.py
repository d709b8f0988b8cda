"""How an agent reports its work by hand: one `with` around a request, a model call or a tool call.

Each emits a start and an end with status and duration, whatever happens inside, and never changes what happens: no
exception is swallowed, none is added. What is nested inside names what is outside as its parent.
"""

import logging
import time
from abc import ABC, abstractmethod
from contextvars import ContextVar, Token
from copy import copy
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Protocol, Self

from streams.event.model import (
    AgentEnd,
    AgentStart,
    CallStatus,
    Envelope,
    Error,
    ErrorType,
    Heartbeat,
    ModelEnd,
    ModelStart,
    Payload,
    SessionEnd,
    SessionStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
    ToolStatus,
)
from streams.feed.failure import call_status, error_code, error_type, message_of, tool_status, type_of_end
from streams.feed.identity import new_id
from streams.feed.size import Digest, digest, result_hash, size_bytes, text_of
from streams.feed.usage import Usage, usage_of

_log: Final = logging.getLogger("streams.feed")
_enclosing: Final[ContextVar[str | None]] = ContextVar("agent_streams_call", default=None)


class Emits(Protocol):
    """Whatever takes events: an `Emitter`, or something that wraps one."""

    def emit(self, event: Envelope) -> None:
        """Take one event, at once."""


def current_call() -> str | None:
    """Return the id of the innermost request, model call or tool call around this line."""
    return _enclosing.get()


class Session:
    """A conversation with an agent, and where its requests, model calls and tool calls are timed.

    As a context manager it also says when the session begins and ends; without, a session ends by silence.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        trace_id: str | None = None,
        attributes: dict[str, str | int | float | bool | None] | None = None,
    ) -> None:
        self._emitter = emitter
        self.session_id: str | None = session_id or new_id()
        self._envelope: dict[str, Any] = {
            "agent": agent,
            "session_id": self.session_id,
            "user_id": user_id,
            "tenant": tenant,
            "trace_id": trace_id,
            "attributes": attributes,
        }
        self.end_reason: str | None = None

    @classmethod
    def outside(cls, emitter: Emits, *, agent: str, **about: Any) -> "Session":
        """Return the same for work that belongs to no session, only to this process."""
        session = cls(emitter, agent=agent, **about)
        session.session_id = session._envelope["session_id"] = None
        return session

    def emit(self, kind: type[Envelope], **fields: Any) -> None:
        """Emit an event of any kind; id, time, agent, session and parent are filled in. Never raises."""
        try:
            event = kind(
                **{
                    "id": new_id(),
                    "time": time.time_ns() // 1_000_000,
                    "parent_id": _enclosing.get(),
                    **self._envelope,
                    **fields,
                }
            )
            self._emitter.emit(event)
        except Exception:  # noqa: BLE001  an agent never fails because of its telemetry
            _log.debug("timers.not_emitted", exc_info=True)

    def payload(self, direction: Literal["request", "response"], body: Any) -> None:
        """Emit the body of the innermost call's request or response: text as it is, anything else as JSON.

        Redacted and cut before it leaves the process; nothing is done where bodies are switched off. Never raises.
        """
        if not getattr(self._emitter, "payloads", True):
            return
        self.emit(Payload, direction=direction, body=text_of(body), call_id=_enclosing.get())

    def request(self, *, streaming: bool = False, endpoint: str | None = None) -> "RequestTimer":
        """Time a request to the agent."""
        return RequestTimer(self, streaming, endpoint)

    def model_call(
        self, model: str, *, provider: str | None = None, streaming: bool = False, temperature: float | None = None
    ) -> "ModelTimer":
        """Time a call to a model."""
        return ModelTimer(self, model, provider, streaming, temperature)

    def tool_call(
        self,
        tool: str,
        *,
        arguments: Any = None,
        attempt: int = 1,
        parallel_group: str | None = None,
        queue_depth: int | None = None,
    ) -> "ToolTimer":
        """Time a tool call; of the arguments only size and hash are reported."""
        about = {"attempt": attempt, "parallel_group": parallel_group, "queue_depth": queue_depth}
        return ToolTimer(self, tool, None if arguments is None else digest(arguments), about)

    @property
    def whose(self) -> dict[str, str | None]:
        """Say whose calls these are, as a guard asks for it."""
        about = self._envelope
        return {
            "session_id": about["session_id"],
            "user": about["user_id"],
            "tenant": about["tenant"],
            "agent": about["agent"],
        }

    def check(self, target: str) -> None:
        """Hold a call of this session, `tool:name` or `model:name`, against the emitter's guard. Raises CallDenied."""
        guard = getattr(self._emitter, "guard", None)
        if guard is not None:
            guard.check(target, **self.whose)

    def error(self, error: BaseException | str, *, component: str | None = None, code: str | None = None) -> None:
        """Report a failure outside of what is timed."""
        if isinstance(error, str):
            self.emit(Error, component=component, code=code, message=error)
            return
        self.emit(
            Error,
            component=component,
            code=code or error_code(error),
            error_type=error_type(error),
            message=message_of(error),
        )

    def as_agent(self, agent: str) -> "Session":
        """Return the same session for another agent's work in it."""
        other = copy(self)
        other._envelope = {**self._envelope, "agent": agent}  # noqa: SLF001  a copy of ourselves
        return other

    def attributes_and(self, **more: str | int) -> dict[str, str | int | float | bool | None]:
        """Return the session's attributes and some more."""
        return {**(self._envelope["attributes"] or {}), **more}

    def __enter__(self) -> Self:
        self.emit(SessionStart)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.emit(SessionEnd, reason=self.end_reason or (None if error is None else type(error).__name__))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, at)


class _Timer(ABC):
    """What requests, model calls and tool calls have in common; with `with` or `async with`, once each."""

    _otherwise: ClassVar[ErrorType] = "other"

    def __init__(self, session: Session) -> None:
        self._session = session
        self.call_id = new_id()
        self._parent_id: str | None = None
        self._started_ns = 0
        self._outer: Token[str | None] | None = None

    def heartbeat(self, partial_tokens: int = 0) -> None:
        """Say that it is still running."""
        self._emit(Heartbeat, partial_tokens=partial_tokens)

    @abstractmethod
    def _start(self) -> tuple[type[Envelope], dict[str, Any]]:
        """Return what the start says."""

    @abstractmethod
    def _end(self, error: BaseException | None) -> tuple[type[Envelope], dict[str, Any]]:
        """Return what the end says, `status` among it."""

    def _emit(self, kind: type[Envelope], **fields: Any) -> None:
        self._session.emit(kind, call_id=self.call_id, parent_id=self._parent_id, **fields)

    def _elapsed_ms(self) -> float:
        return round((time.monotonic_ns() - self._started_ns) / 1e6, 3)

    def __enter__(self) -> Self:
        if self._started_ns:
            self.call_id = new_id()  # used a second time: another call
        self._parent_id = _enclosing.get()
        self._outer = _enclosing.set(self.call_id)
        kind, fields = self._start()
        self._emit(kind, **fields)
        self._started_ns = time.monotonic_ns()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        duration_ms = self._elapsed_ms()
        try:
            kind, fields = self._end(error)
            failed = type_of_end(fields["status"], error, self._otherwise)
            if failed is not None:
                fields["attributes"] = self._session.attributes_and(error_type=failed)
            self._emit(kind, duration_ms=duration_ms, **fields)
        except Exception:  # noqa: BLE001  looking at somebody else's exception may raise one
            _log.debug("timers.no_end", exc_info=True)
        if self._outer is not None:
            try:
                _enclosing.reset(self._outer)
            except ValueError:  # left in another context than entered, as generators do
                _enclosing.set(self._parent_id)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, at)


class RequestTimer(_Timer):
    """A request to an agent. `completed` says whether the user got what they asked for; without, success does."""

    def __init__(self, session: Session, streaming: bool, endpoint: str | None) -> None:
        super().__init__(session)
        self._about = {"streaming": streaming, "endpoint": endpoint}
        self._status: CallStatus | None = None
        self._response_bytes = 0
        self.completed: bool | None = None

    def respond(self, response: Any) -> None:
        """Add a response, or a part of it, to the bytes reported; a number counts as bytes."""
        self._response_bytes += response if isinstance(response, int) else size_bytes(response)

    def fail(self, status: CallStatus = "error") -> None:
        """End it with this status, whatever is raised."""
        self._status = status

    def _start(self) -> tuple[type[Envelope], dict[str, Any]]:
        return AgentStart, self._about

    def _end(self, error: BaseException | None) -> tuple[type[Envelope], dict[str, Any]]:
        status = self._status or call_status(error)
        completed = status == "success" if self.completed is None else self.completed
        return AgentEnd, self._about | {
            "status": status,
            "response_bytes": self._response_bytes,
            "completed": completed,
        }


class ModelTimer(_Timer):
    """A call to a model."""

    def __init__(
        self, session: Session, model: str, provider: str | None, streaming: bool, temperature: float | None
    ) -> None:
        super().__init__(session)
        self._model: dict[str, Any] = {"model": model, "provider": provider}
        self._about = self._model | {"streaming": streaming, "temperature": temperature}
        self._status: CallStatus | None = None
        self._error_code: str | None = None
        self._first_token_ms: float | None = None
        self._finish_reason: str | None = None

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()

    def finish(self, reason: str) -> None:
        """Note why the model stopped."""
        self._finish_reason = reason

    def fail(self, code: str, status: CallStatus = "error") -> None:
        """End it with this code and status, whatever is raised."""
        self._error_code, self._status = code, status

    def usage(
        self,
        reported: object = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        cost_nano_usd: int | None = None,
    ) -> None:
        """Report the tokens of this call: as its provider reported them, or counted with the cached ones as input."""
        counted = Usage(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
        tokens = usage_of(reported) or counted
        if any(tokens) or cost_nano_usd is not None:
            self._emit(TokenUsage, **self._model, **tokens._asdict(), cost_nano_usd=cost_nano_usd)

    def _start(self) -> tuple[type[Envelope], dict[str, Any]]:
        return ModelStart, self._about

    def _end(self, error: BaseException | None) -> tuple[type[Envelope], dict[str, Any]]:
        status = self._status or call_status(error)
        code = error_code(error) if error is not None and status != "cancelled" else self._error_code
        return ModelEnd, self._about | {
            "status": status,
            "error_code": code,
            "first_token_ms": self._first_token_ms,
            "finish_reason": self._finish_reason,
        }


class ToolTimer(_Timer):
    """A tool call."""

    _otherwise = "tool_error"

    def __init__(self, session: Session, tool: str, arguments: Digest | None, about: dict[str, Any]) -> None:
        super().__init__(session)
        self._about = {"tool": tool, "arguments_hash": arguments.hash if arguments else None} | about
        self._input_bytes = arguments.size_bytes if arguments else 0
        self._output_bytes = 0
        self._result_hash: str | None = None
        self._status: ToolStatus | None = None
        self._message: str | None = None

    def output(self, result: Any) -> None:
        """Add a result, or a part of it, to the bytes and the hash reported; a number counts as bytes."""
        if isinstance(result, int):
            self._output_bytes += result
            return
        self._output_bytes += size_bytes(result)
        part = result_hash(result)
        self._result_hash = part if self._result_hash is None or part is None else result_hash(self._result_hash + part)

    def fail(self, message: str | None = None, status: ToolStatus = "error") -> None:
        """End it with this status, whatever is raised."""
        self._message, self._status = message, status

    def validation_error(self, message: str | None = None) -> None:
        """Say that the arguments did not fit."""
        self.fail(message, "validation_error")

    def _start(self) -> tuple[type[Envelope], dict[str, Any]]:
        return ToolStart, self._about

    def _end(self, error: BaseException | None) -> tuple[type[Envelope], dict[str, Any]]:
        status = self._status or tool_status(error)
        message = self._message
        if message is None and error is not None and status != "cancelled":
            message = message_of(error)
        return ToolEnd, self._about | {
            "status": status,
            "input_bytes": self._input_bytes,
            "output_bytes": self._output_bytes,
            "error_message": message,
            "result_hash": self._result_hash,
        }
