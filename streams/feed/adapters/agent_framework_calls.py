"""What an agent of Microsoft Agent Framework tells its middleware, as events: runs, calls of models, tool calls.

Never imports it, never raises into the agent, and never reports texts: sizes, hashes, names and messages of errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.feed.adapters.around import AroundCalls
from streams.feed.adapters.calls import harmless, usage_in

_TERMINATION: Final = "MiddlewareTermination"  # how its middleware ends work early, with what there is


class AgentFrameworkCalls(AroundCalls):
    """The calls of one agent and of those it calls."""

    @harmless
    def end_run(
        self, run_id: str, error: BaseException | None = None, *, output: Any = None, status: str | None = None
    ) -> None:
        """End a run of an agent."""
        self._calls.end_request(run_id, _failure(error), status=status, response=output)

    @harmless
    def end_model(
        self,
        run_id: str,
        error: BaseException | None = None,
        *,
        usages: Sequence[Mapping[str, Any]] = (),
        model: str | None = None,
        reason: str | None = None,
        asked: Sequence[str] = (),
        status: str | None = None,
    ) -> None:
        """End a call to a model, which may have `asked` for tools, by their ids; tokens count however it ended."""
        self._calls.note_asked(run_id, asked)
        largest: dict[str, int] = {}
        for usage in usages:  # of a stream each repeats what was counted so far
            for name, count in usage.items():
                largest[name] = max(largest.get(name, 0), count or 0)
        tokens = usage_in("agent_framework", largest)
        self._calls.end_model(run_id, _failure(error), tokens=tokens, model=model, reason=reason, status=status)

    @harmless
    def end_tool(self, run_id: str, error: BaseException | None = None, *, result: Any = None) -> None:
        """End a tool call: by an error, or by what it came back with."""
        self._calls.end_tool(run_id, _failure(error), output=result)


def _failure(error: BaseException | None) -> BaseException | None:
    return None if type(error).__name__ == _TERMINATION else error
