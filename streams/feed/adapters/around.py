"""Calls that begin where an adapter stands, inside the one around that line: runs, models, tools, and what stops them.

Never imports a framework, never raises into the agent, and never tells how a call ended: that is said in the
framework's own words, by who knows them.
"""

from collections.abc import Mapping
from typing import Any

from streams.feed.adapters.calls import Calls, harmless
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.runs import Run
from streams.feed.guard.denial import Denial
from streams.feed.timers import Emits


class AroundCalls:
    """The calls of one agent and of those it calls."""

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str | None,
        session_id: str | None,
        user_id: str | None,
        tenant: str | None,
        guard: Asks | None,
    ) -> None:
        whose = {"agent": agent, "session_id": session_id, "user_id": user_id, "tenant": tenant}
        self.emitter = emitter
        self._calls = Calls(emitter, **whose, guard=guard)

    @harmless
    def begin_run(
        self, run_id: str, agent: str, conversation: str | None, about: Mapping[str, Any] | None = None
    ) -> None:
        """Begin a run of an agent: a request, in the session of its conversation unless one is named."""
        self._calls.begin_request(run_id, self._calls.around, agent, about or {}, otherwise=conversation)

    def begin_model(
        self, run_id: str, model: str, *, provider: str | None, streaming: bool, temperature: Any = None
    ) -> Denial | None:
        """Begin a call to a model; return why it must not be made."""
        around = self._calls.around
        denied: list[Denial] = []
        self._ask(denied, f"model:{model}", around, provider)
        if not denied:
            self._begin_model(
                run_id, around, model=model, provider=provider, streaming=streaming, temperature=temperature
            )
        return denied[0] if denied else None

    @harmless
    def _begin_model(self, run_id: str, around: Run | None, **said: Any) -> None:
        self._calls.begin_model(run_id, around, **said)

    @harmless
    def first_token(self, run_id: str) -> None:
        """Note the first part of a streamed answer."""
        self._calls.first_token(run_id)

    def begin_tool(self, run_id: str, tool: str, arguments: Any, *, asked: str | None = None) -> Denial | None:
        """Begin a tool call; return why it must not be made."""
        around = self._calls.around
        denied: list[Denial] = []
        self._ask(denied, f"tool:{tool}", around, None)
        if not denied:
            self._begin_tool(run_id, around, tool, arguments, asked)
        return denied[0] if denied else None

    @harmless
    def _begin_tool(self, run_id: str, around: Run | None, tool: str, arguments: Any, asked: str | None) -> None:
        self._calls.begin_tool(run_id, around, tool, arguments, asked=asked)

    @harmless
    def _ask(self, denied: list[Denial], target: str, around: Run | None, provider: str | None) -> None:
        if denial := self._calls.denial(target, around, provider=provider):
            denied.append(denial)
