"""How LlamaIndex's agents learn that a call is stopped: tools where they are called, models where they are rationed.

    guard = CallGuard(emitter)
    agent = FunctionAgent(name="planner", llm=guard.model(llm), tools=guard.tools([search, weather]))

Never lets a tool or a model that is stopped be called: the model reads why a tool was not, the caller why a model was
not.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from streams.feed.adapters.calls import Calls
from streams.feed.adapters.guarded import Asks
from streams.feed.guard.denial import CallDenied
from streams.feed.timers import Emits

_GUARDED = "agent_streams_guarded"


class CallGuard:
    """Holds tools and models against a guard: the argument, else the emitter's.

    Sessions are those that `AgentStreamsHandler` has found on the same emitter, else the argument's.
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
        whose = {"agent": agent, "session_id": session_id, "user_id": user_id, "tenant": tenant}
        self._calls = Calls(emitter, **whose, guard=guard)

    def tools(self, tools: Iterable[Any]) -> list[Any]:
        """Return the tools, each asking before it is called; a function becomes a FunctionTool."""
        from llama_index.core.tools import BaseTool, FunctionTool, adapt_to_async_tool  # noqa: PLC0415  only its users have it

        found = [
            adapt_to_async_tool(tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool))
            for tool in tools
        ]
        for tool in found:
            if not getattr(tool, _GUARDED, False):
                target = f"tool:{tool.metadata.get_name()}"
                tool.call, tool.acall = self._asking(target, tool.call), self._asking_first(target, tool.acall)
                setattr(tool, _GUARDED, True)
        return found

    def model(self, llm: Any) -> Any:
        """Return the model, which asks before every call and then waits for the rate limiter it had."""
        limiter = llm.rate_limiter
        if not isinstance(limiter, _Limiter):
            llm.rate_limiter = _Limiter(self, f"model:{llm.metadata.model_name}", limiter)
        return llm

    def ask(self, target: str) -> None:
        """Raise CallDenied for a call that must not be made."""
        denial = self._calls.denial(target, self._calls.around)
        if denial is not None:
            raise CallDenied(denial)

    def _asking(self, target: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def asking(*args: Any, **kwargs: Any) -> Any:
            self.ask(target)
            return call(*args, **kwargs)

        return asking

    def _asking_first(self, target: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        async def asking(*args: Any, **kwargs: Any) -> Any:
            self.ask(target)
            return await call(*args, **kwargs)

        return asking


class _Limiter:
    """What LlamaIndex asks before every call to a model, in front of the limiter that was there."""

    def __init__(self, guard: CallGuard, target: str, limiter: Any) -> None:
        self._guard, self._target, self._limiter = guard, target, limiter

    def acquire(self, num_tokens: int = 0) -> None:
        """Ask, then wait."""
        self._guard.ask(self._target)
        if self._limiter is not None:
            self._limiter.acquire(num_tokens)

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Ask, then wait."""
        self._guard.ask(self._target)
        if self._limiter is not None:
            await self._limiter.async_acquire(num_tokens)
