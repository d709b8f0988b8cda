"""What agents of Microsoft Agent Framework do, as events: middleware around their runs, models and tools.

    agent = Agent(client=client, name="planner", tools=[weather], middleware=middleware(emitter))

Never raises into the agent (but for what a guard has stopped), never waits, and never reports texts: sizes, hashes,
names and messages of errors.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final

from agent_framework import (
    AgentContext,
    AgentMiddleware,
    ChatContext,
    ChatMiddleware,
    FunctionInvocationContext,
    FunctionMiddleware,
    ResponseStream,
)

from streams.feed.adapters.agent_framework_calls import AgentFrameworkCalls
from streams.feed.adapters.calls import harmless, within
from streams.feed.adapters.guarded import Asks
from streams.feed.guard.denial import CallDenied
from streams.feed.identity import new_id
from streams.feed.timers import Emits

_TOLD: Final = "agent_streams_emitters"  # in the metadata of a call: who has told of it
_Next = Callable[[], Awaitable[None]]


def middleware(
    emitter: Emits,
    *,
    agent: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    tenant: str | None = None,
    guard: Asks | None = None,
) -> list[AgentMiddleware | ChatMiddleware | FunctionMiddleware]:
    """Return what reports an agent's runs, models and tools, and asks the guard: the argument, else the emitter's.

    Given twice it reports once. The session is that of the run, else the argument. Agents that are called as tools need
    middleware of their own.
    """
    whose = {"agent": agent, "session_id": session_id, "user_id": user_id, "tenant": tenant}
    return telling(AgentFrameworkCalls(emitter, **whose, guard=guard))


def telling(calls: AgentFrameworkCalls) -> list[AgentMiddleware | ChatMiddleware | FunctionMiddleware]:
    """Return middleware that tells of the calls."""
    return [_Runs(calls), _Models(calls), _Tools(calls)]


def _is_told(context: Any, calls: AgentFrameworkCalls) -> bool:
    """Has another middleware on the same emitter told of this call?"""
    told = context.metadata.setdefault(_TOLD, [])
    if any(emitter is calls.emitter for emitter in told):
        return True
    told.append(calls.emitter)
    return False


class _Runs(AgentMiddleware):  # type: ignore[misc]  # as a checker without the framework sees it
    """Stands around the runs of an agent."""

    def __init__(self, calls: AgentFrameworkCalls) -> None:
        self._calls = calls

    async def process(self, context: AgentContext, call_next: _Next) -> None:
        """Tell of a run from its beginning to its end."""
        if _is_told(context, self._calls):
            await call_next()
            return
        run_id = new_id()
        name = getattr(context.agent, "name", None) or type(context.agent).__name__
        session = getattr(context.session, "session_id", None)
        self._calls.begin_run(run_id, name, None, {"session_id": session})
        try:
            with within(run_id):
                await call_next()
        except BaseException as error:
            self._calls.end_run(run_id, error)
            raise
        if isinstance(context.result, ResponseStream):
            _RunStream(self._calls, run_id).follow(context.result)
        else:
            self._calls.end_run(run_id, output=getattr(context.result, "text", None))


class _Models(ChatMiddleware):  # type: ignore[misc]  # as above
    """Stands around the calls of a model."""

    def __init__(self, calls: AgentFrameworkCalls) -> None:
        self._calls = calls

    async def process(self, context: ChatContext, call_next: _Next) -> None:
        """Tell of a call from its beginning to its end; raise CallDenied for one that is stopped."""
        if _is_told(context, self._calls):
            await call_next()
            return
        run_id, client, options = new_id(), context.client, context.options or {}
        name = options.get("model") or getattr(client, "model", None) or getattr(client, "model_id", None)
        provider = getattr(client, "OTEL_PROVIDER_NAME", None)
        denial = self._calls.begin_model(
            run_id,
            str(name or type(client).__name__),
            provider=None if provider == "unknown" else provider,
            streaming=bool(context.stream),
            temperature=options.get("temperature"),
        )
        if denial is not None:
            raise CallDenied(denial)
        try:
            with within(run_id):
                await call_next()
        except BaseException as error:
            self._calls.end_model(run_id, error)
            raise
        if isinstance(context.result, ResponseStream):
            _ModelStream(self._calls, run_id).follow(context.result)
        else:
            _end_answered(self._calls, run_id, context.result)


class _Tools(FunctionMiddleware):  # type: ignore[misc]  # as above
    """Stands around the calls of tools."""

    def __init__(self, calls: AgentFrameworkCalls) -> None:
        self._calls = calls

    async def process(self, context: FunctionInvocationContext, call_next: _Next) -> None:
        """Tell of a call from its beginning to its end; answer why one that is stopped was not made."""
        if _is_told(context, self._calls):
            await call_next()
            return
        run_id, asked = new_id(), context.metadata.get("call_id")
        denial = self._calls.begin_tool(run_id, context.function.name, context.arguments, asked=asked)
        if denial is not None:
            context.result = str(denial)
            return
        try:
            with within(run_id):
                await call_next()
        except BaseException as error:
            self._calls.end_tool(run_id, error)
            raise
        result = context.result
        texts = [getattr(part, "text", None) for part in result] if isinstance(result, list) else None
        self._calls.end_tool(run_id, result=result if texts is None or None in texts else "".join(map(str, texts)))


@harmless
def _end_answered(calls: AgentFrameworkCalls, run_id: str, response: Any) -> None:
    usage = getattr(response, "usage_details", None)
    parts = [part for message in getattr(response, "messages", None) or () for part in message.contents]
    calls.end_model(
        run_id,
        usages=[usage] if usage else [],
        model=getattr(response, "model", None),
        reason=getattr(response, "finish_reason", None),
        asked=_asked(parts),
    )


def _asked(parts: Any) -> list[str]:
    found = (part.call_id for part in parts if getattr(part, "type", None) == "function_call")
    return list(dict.fromkeys(each for each in found if each))


class _Stream(ABC):
    """A stream whose end is told: where it is over, where it fails or is cancelled, where it is closed or forgotten."""

    def __init__(self, calls: AgentFrameworkCalls, run_id: str) -> None:
        self.calls, self.run_id = calls, run_id
        self.error: BaseException | None = None
        self.whole = False

    def follow(self, stream: Any) -> None:
        """Hear what the stream says; where it is pulled, this call is around."""
        stream.with_pull_context_manager(lambda: _Pull(self))
        stream.with_transform_hook(self._hear)
        stream.with_cleanup_hook(self.end)
        weakref.finalize(stream, self.end).atexit = False

    def _hear(self, update: Any) -> None:
        self.hear(update)

    @abstractmethod
    def hear(self, update: Any) -> None:
        """Note a part."""

    @abstractmethod
    def end(self) -> None:
        """End the call; once it has ended this changes nothing."""

    @property
    def status(self) -> str | None:
        """Say that it was given up, where nothing else is known."""
        return None if self.whole or self.error is not None else "cancelled"


class _RunStream(_Stream):
    def __init__(self, calls: AgentFrameworkCalls, run_id: str) -> None:
        super().__init__(calls, run_id)
        self.texts: list[str] = []

    @harmless
    def hear(self, update: Any) -> None:
        self.texts.append(update.text or "")

    def end(self) -> None:
        self.calls.end_run(self.run_id, self.error, status=self.status, output="".join(self.texts) or None)


class _ModelStream(_Stream):
    def __init__(self, calls: AgentFrameworkCalls, run_id: str) -> None:
        super().__init__(calls, run_id)
        self.usages: list[Any] = []
        self.asked: list[str] = []
        self.model: str | None = None
        self.reason: str | None = None

    @harmless
    def hear(self, update: Any) -> None:
        self.calls.first_token(self.run_id)
        self.usages += [part.usage_details for part in update.contents if part.type == "usage" and part.usage_details]
        self.asked += [each for each in _asked(update.contents) if each not in self.asked]
        self.model = update.model or self.model
        self.reason = update.finish_reason or self.reason

    def end(self) -> None:
        self.calls.end_model(
            self.run_id,
            self.error,
            usages=self.usages,
            model=self.model,
            reason=self.reason,
            asked=self.asked if self.whole else (),
            status=self.status,
        )


class _Pull(AbstractContextManager[None]):
    """What is around one pull of a stream; it sees how the pull ended."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._within = within(stream.run_id)

    def __enter__(self) -> None:
        self._within.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, StopAsyncIteration):
            self._stream.whole = True
        elif error is not None:
            self._stream.error = error
        self._within.__exit__(None, None, None)
