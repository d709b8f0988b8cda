"""How a LangChain agent learns that a tool is stopped: the reason comes back to the model in the place of the result.

    create_agent(model, tools, middleware=[GuardMiddleware(emitter)])

Never calls the tool of a denied call, and never raises: a fault of ours lets the call through.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ensure_config
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from streams.feed.adapters.calls import Calls
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.langchain import let_through
from streams.feed.timers import Emits

_log: Final = logging.getLogger("streams.feed")


class GuardMiddleware(AgentMiddleware[Any, Any, Any]):
    """Holds every tool call of an agent against a guard: the argument, else the emitter's.

    The session is found as `AgentStreamsCallback` finds it.
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
        super().__init__()
        self._calls = Calls(emitter, agent=agent, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Call a tool, or say why not."""
        denied = self._denied(request)
        if denied is not None:
            return denied
        with let_through():
            return handler(request)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """Do what `wrap_tool_call` does, for agents that are awaited."""
        denied = self._denied(request)
        if denied is not None:
            return denied
        with let_through():
            return await handler(request)

    def _denied(self, request: ToolCallRequest) -> ToolMessage | None:
        call = request.tool_call
        try:
            config: Any = getattr(request.runtime, "config", None) or ensure_config()
            about = {**(config.get("configurable") or {}), **(config.get("metadata") or {})}
        except Exception:  # noqa: BLE001  what the framework hands over may change
            _log.debug("adapter.no_config", exc_info=True)
            about = {}
        denial = self._calls.denial(f"tool:{call['name']}", None, about, agent=about.get("lc_agent_name"))
        if denial is None:
            return None
        return ToolMessage(str(denial), tool_call_id=call["id"] or "", name=call["name"], status="error")
