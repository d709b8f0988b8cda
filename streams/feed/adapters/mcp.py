"""What goes over the Model Context Protocol, as events: tool calls, seen from the server or from the client.

    MCPServer("weather", middleware=[AgentStreamsMiddleware(emitter, agent="weather")])
    async with Client(url) as client: watch(client, emitter, agent="planner")

Never raises into server or client, never waits, and never reports texts: sizes, hashes, names and messages of errors.
"""

import functools
from collections.abc import Awaitable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult, TextContent

from streams.feed.adapters.calls import Calls, harmless, within
from streams.feed.adapters.guarded import Asks
from streams.feed.identity import new_id
from streams.feed.size import size_bytes
from streams.feed.timers import Emits

CALL_KEY: Final = "agentstreams/call_id"  # in a request's metadata: its client has told of this call
_TIMED_OUT: Final = -32001  # what the SDK answers itself when nothing came in time
_INVALID_PARAMS: Final = -32602
_WATCHED: Final = "agent_streams_emitter"  # how what watches a client is known again
_told: Final[ContextVar[object]] = ContextVar("agent_streams_mcp", default=None)


class CallsTools(Protocol):
    """A client, a session, or what a framework wraps around one, such as the OpenAI Agents SDK's servers."""

    def call_tool(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a tool by its name with its arguments; `meta` goes along with the request."""


_Watched = TypeVar("_Watched", bound=CallsTools)


class AgentStreamsMiddleware:
    """Reports the tool calls a server answers; given twice it reports once.

    A call whose client is watched too is left to the client: it happened once. The session is that of the transport,
    else the argument.
    """

    def __init__(
        self, emitter: Emits, *, agent: str = "mcp", session_id: str | None = None, tenant: str | None = None
    ) -> None:
        self._calls = Calls(emitter, agent=agent, session_id=session_id, tenant=tenant)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Tell of a tool call from its beginning to its end; let everything else pass."""
        if ctx.method != "tools/call" or ctx.request_id is None or self._is_told(ctx):
            return await call_next(ctx)
        call = _Call(self._calls, (ctx.params or {}).get("name"), (ctx.params or {}).get("arguments"))
        call.begin(getattr(ctx, "session_id", None))
        told = _told.set(ctx.params)
        try:
            with within(call.id):
                result = await call_next(ctx)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            _told.reset(told)
        call.end(result)
        return result

    def _is_told(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        """Has the client told of this call, or another middleware on the same emitter?"""
        if isinstance(ctx.meta, Mapping) and ctx.meta.get(CALL_KEY):
            return True
        return _told.get() is ctx.params and self._calls.around is not None


def watch(
    client: _Watched,
    emitter: Emits,
    *,
    agent: str = "mcp",
    session_id: str | None = None,
    user_id: str | None = None,
    tenant: str | None = None,
    guard: Asks | None = None,
) -> _Watched:
    """Report the tool calls a client makes, and return it; watched twice it reports once.

    With a guard (the argument, else the emitter's) a call that is stopped is answered here: an error that says why.

    A call inside a tool call of the same name is that call: the adapter of the agent's framework reports it, as failed
    where the server answers so.
    """
    calls = Calls(emitter, agent=agent, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)
    made = client.call_tool
    if getattr(made, _WATCHED, None) is emitter:
        return client

    @functools.wraps(made)
    async def call_tool(name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        around = calls.around
        if around is not None and around.about.get("tool") == name:  # its agent's adapter tells of it
            kwargs["meta"] = {**(kwargs.get("meta") or {}), CALL_KEY: around.call_id}
            result = await made(name, arguments, *args, **kwargs)
            _note_failure(calls, around.id, result)
            return result
        denial = calls.denial(f"tool:{name}", around)
        if denial is not None:
            return CallToolResult(content=[TextContent(text=str(denial))], is_error=True)
        call = _Call(calls, name, arguments)
        call.begin(None)
        kwargs["meta"] = {**(kwargs.get("meta") or {}), CALL_KEY: call.id}
        try:
            with within(call.id):
                result = await made(name, arguments, *args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        call.end(result)
        return result

    setattr(call_tool, _WATCHED, emitter)
    client.call_tool = call_tool  # type: ignore[method-assign]  # the SDK has no hook on this side
    return client


class _Call:
    """One tool call, on either side."""

    def __init__(self, calls: Calls, tool: Any, arguments: Any) -> None:
        self._calls = calls
        self._tool = tool
        self._arguments = arguments
        self.id = new_id()

    @harmless
    def begin(self, session_id: str | None) -> None:
        about = {"session_id": session_id} if session_id else {}
        self._calls.begin_tool(self.id, self._calls.around, self._tool, self._arguments or {}, about=about)

    @harmless
    def fail(self, error: BaseException) -> None:
        code = getattr(getattr(error, "error", None), "code", None)
        status = {_TIMED_OUT: "timeout", _INVALID_PARAMS: "validation_error"}.get(code) if code else None
        self._calls.end_tool(self.id, error, status=status)

    @harmless
    def end(self, result: Any) -> None:
        """End a call that was answered; an answer may say that the tool has failed."""
        texts, message = _answer(result)
        output = sum(size_bytes(text) for text in texts)
        status = None if message is None else "error"
        self._calls.end_tool(self.id, output=texts, output_bytes=output, status=status, message=message)


@harmless
def _note_failure(calls: Calls, run_id: Hashable, result: Any) -> None:
    _, message = _answer(result)
    if message is not None:
        calls.note_failure(run_id, message)


def _answer(result: Any) -> tuple[list[Any], str | None]:
    """Return what an answer holds, and what failed where it says that the tool has failed."""
    if not isinstance(result, Mapping):
        result = {"isError": getattr(result, "is_error", False), "content": getattr(result, "content", None)}
    texts = [_text(part) for part in result.get("content") or ()]
    failed = result.get("isError") is True
    return texts, "\n".join(text for text in texts if isinstance(text, str)) if failed else None


def _text(part: Any) -> Any:
    text = part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None)
    return part if text is None else text
