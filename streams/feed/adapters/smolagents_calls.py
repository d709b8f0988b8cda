"""What an agent of smolagents does, as events: its runs, the calls of its models with their tokens, its tool calls.

Never imports it, never raises into the agent, and never reports texts: sizes, hashes, names and messages of errors.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from streams.event.model import AgentEnd
from streams.event.tokens import Usage, canonical, dialect_of
from streams.feed.adapters.around import AroundCalls
from streams.feed.adapters.calls import harmless
from streams.feed.adapters.runs import Run
from streams.feed.failure import message_of
from streams.feed.guard.denial import CallDenied
from streams.feed.timers import Emits

_MISFIT: Final = "AgentToolCallError"  # arguments that do not fit the tool
# Its errors are put around what went wrong, and say no more than that it was there.
_AROUND: Final = frozenset({"AgentGenerationError", "AgentToolExecutionError"})
_CAUSES_MAX: Final = 20  # agents inside agents each put an error around the one below
_GROUP_MIN: Final = 2


class SmolCalls(AroundCalls):
    """The calls of one agent and of those it manages."""

    def __init__(self, emitter: Emits, **whose: Any) -> None:
        super().__init__(emitter, **whose)
        self._models: dict[Hashable, str] = {}  # by open run: the model call it has made last

    @harmless
    def end_run(
        self,
        run_id: str,
        error: BaseException | None = None,
        *,
        output: Any = None,
        stopped: bool = False,
        unfinished: bool = False,
    ) -> None:
        """End a run: `stopped` by its caller, or `unfinished` when it has answered because its steps were used up."""
        self._models.pop(run_id, None)
        run = self._calls.get(run_id)
        if run is not None and unfinished:
            run.waits = True
        self._calls.end_request(run_id, _cause(error), status="cancelled" if stopped else None, response=output)

    # ---- models ------------------------------------------------------------------------------------------------

    @harmless
    def _begin_model(self, run_id: str, around: Run | None, **said: Any) -> None:
        if around is not None and around.end is AgentEnd:
            self._models[around.id] = run_id
        super()._begin_model(run_id, around, **said)

    @harmless
    def end_model(
        self,
        run_id: str,
        error: BaseException | None = None,
        *,
        usage: Mapping[str, Any] | None = None,
        reason: Any = None,
    ) -> None:
        """End a call to a model: by an error, or by an answer; tokens count in both."""
        self._calls.end_model(run_id, _cause(error), tokens=tokens_of(usage), reason=reason)

    # ---- tools -------------------------------------------------------------------------------------------------

    @harmless
    def ask_together(self, names: Sequence[str], asked: str) -> None:
        """Note that the last answer asks for several tools: `asked` is how their beginnings name it."""
        around = self._calls.around
        if around is not None and around.id in self._models and len(names) >= _GROUP_MIN:
            around.root.groups[asked] = self._models[around.id]

    @harmless
    def end_tool(self, run_id: str, error: BaseException | None = None, *, result: Any = None) -> None:
        """End a tool call: by an error, or by what it came back with."""
        if error is not None and type(error).__name__ == _MISFIT:
            self._calls.end_tool(run_id, status="validation_error", message=message_of(error))
        else:
            self._calls.end_tool(run_id, _cause(error), output=result)


def tokens_of(usage: Mapping[str, Any] | None) -> Usage | None:
    """Read the usage of whichever provider answered."""
    dialect = None if usage is None else dialect_of(usage)
    counted = None if usage is None or dialect is None else canonical(dialect, usage)
    return None if counted is None else counted.usage


def _cause(error: BaseException | None) -> BaseException | None:
    """Return what went wrong inside an error of the framework's own: above all that a guard has stopped a call."""
    within = error
    for _ in range(_CAUSES_MAX):
        if within is None or isinstance(within, CallDenied):
            break
        within = within.__cause__ or within.__context__
    if isinstance(within, CallDenied):
        return within
    return error.__cause__ or error if type(error).__name__ in _AROUND and error is not None else error
