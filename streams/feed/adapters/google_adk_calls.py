"""What a runner of Google's ADK tells its plugins, as events: agents' work, model calls with their tokens, tool calls.

Never imports ADK, never raises into the agent, and never reports texts: sizes, hashes, names and messages of errors.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from streams.event.model import ToolEnd
from streams.event.tokens import Usage
from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.runs import RUNS_MAX, Run
from streams.feed.failure import call_status
from streams.feed.timers import Emits

_PROVIDERS: Final = {"google_llm": "google", "gemma_llm": "google", "anthropic_llm": "anthropic"}  # by ADK's modules


class Work(NamedTuple):
    """An agent that is at work: in which branch of its invocation, and the request it is reported as."""

    branch: str
    agent: str
    run_id: str


@dataclass(slots=True)
class Answer:
    """What a model has said so far: one call may answer in several parts."""

    run_id: str
    tokens: Usage | None = None
    model: str | None = None
    reason: str | None = None
    code: str | None = None
    text: str = ""
    whole_ns: int | None = None  # when the last whole part came


@dataclass(slots=True)
class Invocation:
    """What is open of one invocation of a runner."""

    work: list[Work] = field(default_factory=list)  # in the order of their beginnings
    answers: dict[str, Answer] = field(default_factory=dict)  # by request
    said: dict[str, str] = field(default_factory=dict)  # by request: the last whole text
    handed: set[str] = field(default_factory=set)  # requests that were handed over: ADK may tell of no end of theirs
    denied: set[str] = field(default_factory=set)  # requests whose model was not called

    def outer(self, branch: str) -> Work | None:
        """Return the innermost work around a branch."""
        around = (
            each for each in reversed(self.work) if branch == each.branch or branch.startswith(_within(each.branch))
        )
        return next(around, None)


class AdkCalls:
    """The calls that one plugin hears of; an end is that of a beginning it has heard, and only the first counts."""

    def __init__(self, emitter: Emits, *, user_id: str | None, tenant: str | None, guard: Asks | None) -> None:
        self._calls = Calls(emitter, user_id=user_id, tenant=tenant, guard=guard)
        self._invocations: dict[str, Invocation] = {}

    # ---- agents ------------------------------------------------------------------------------------------------

    @harmless
    def begin_agent(self, context: Any) -> None:
        """Begin the work of an agent: a request, inside the one of the agent that called or handed over to it."""
        invocation = self._invocation(context)
        branch, name = context.branch or "", context.agent_name
        nested = sum((each.branch, each.agent) == (branch, name) for each in invocation.work)
        run_id, _ = self._calls.attempt(f"{context.invocation_id}-{branch}-{name}-{nested}")
        outer = invocation.outer(branch)
        parent = None if outer is None else self._calls.get(outer.run_id)
        if outer is not None:
            self._settle(invocation, outer.run_id)
        invocation.work.append(Work(branch, name, run_id))
        self._calls.begin_request(
            run_id, parent or self._calls.around, name, _about(context), trace_id=context.invocation_id
        )

    @harmless
    def end_agent(self, context: Any, error: BaseException | None = None) -> None:
        """End the work of an agent; without an error the exception decides that is being handled."""
        invocation = self._invocation(context)
        found = self._work(context)
        if found is None:
            self._settle(invocation, self._place(context), last=True)
            return
        # ADK tells of a cancellation as of any other end, while the exception is being handled.
        if error is None and call_status(sys.exception()) == "cancelled":
            error = sys.exception()
        work: Work | None = found
        while work is not None:
            self._end(invocation, work, error)
            work = invocation.outer(found.branch)
            work = work if work is not None and work.run_id in invocation.handed else None
        if not invocation.work:
            self._invocations.pop(context.invocation_id, None)

    @harmless
    def end_run(self, invocation_id: str, error: BaseException | None = None) -> None:
        """End what is still open when an invocation ends: given up, unless an error says otherwise."""
        invocation = self._invocations.pop(invocation_id, None)
        while invocation is not None and invocation.work:
            self._end(invocation, invocation.work[-1], error, "cancelled" if error is None else None)

    def _end(self, invocation: Invocation, work: Work, error: BaseException | None, status: str | None = None) -> None:
        invocation.work.remove(work)
        if work.run_id in invocation.denied:
            status = "cancelled"
        self._settle(invocation, work.run_id, last=True)
        self._calls.end_request(work.run_id, error, status=status, response=invocation.said.pop(work.run_id, None))

    # ---- models ------------------------------------------------------------------------------------------------

    def begin_model(self, context: Any, request: Any) -> str | None:
        """Begin a call to a model; say why it must not be made."""
        why: list[str] = []
        self._begin_model(context, request, why)
        return why[0] if why else None

    @harmless
    def _begin_model(self, context: Any, request: Any, why: list[str]) -> None:
        invocation, parent, place = self._invocation(context), self._parent(context), self._place(context)
        self._settle(invocation, place)
        run_id, _ = self._calls.attempt(f"{place}-model")
        provider = _provider(context)
        about = _about(context)
        if denial := self._calls.denial(
            f"model:{request.model}", parent, about, run_id=run_id, agent=context.agent_name, provider=provider
        ):
            why.append(str(denial))
            invocation.denied.add(place)
            return
        mode = getattr(getattr(context.run_config, "streaming_mode", None), "name", "NONE")
        invocation.answers[place] = Answer(run_id)
        self._calls.begin_model(
            run_id,
            parent,
            model=request.model,
            provider=provider,
            streaming=mode != "NONE",
            temperature=getattr(request.config, "temperature", None),
            about=about,
        )

    @harmless
    def hear_model(self, context: Any, response: Any) -> None:
        """Note a part of an answer; the call ends with what follows the last of them."""
        invocation, place = self._invocation(context), self._place(context)
        answer = invocation.answers.get(place)
        if answer is None:
            return
        answer.tokens = usage_in("gemini", response.usage_metadata) or answer.tokens
        answer.model = response.model_version or answer.model
        if response.partial:
            self._calls.first_token(answer.run_id)
            return
        answer.whole_ns = time.monotonic_ns()
        answer.reason = getattr(response.finish_reason, "name", response.finish_reason) or answer.reason
        answer.code = response.error_code if response.content is None else None
        if text := _text(response.content):
            invocation.said[place] = text

    @harmless
    def fail_model(self, context: Any, error: BaseException) -> None:
        """End a call to a model that raised."""
        invocation, place = self._invocation(context), self._place(context)
        answer = invocation.answers.pop(place, None)
        if answer is not None:
            self._calls.end_model(answer.run_id, error, tokens=answer.tokens, model=answer.model)

    def _settle(self, invocation: Invocation, place: str, *, last: bool = False) -> None:
        """End the model call of a request at its last whole part; with nothing to come after, also one without any."""
        answer = invocation.answers.get(place)
        if answer is None or (answer.whole_ns is None and not last):
            return
        del invocation.answers[place]
        run, status = self._calls.get(answer.run_id), "cancelled"
        if answer.whole_ns is not None:
            status = "error" if answer.code else "success"
            if run is not None:
                run.began_ns += time.monotonic_ns() - answer.whole_ns
        self._calls.end_model(
            answer.run_id,
            status=status,
            tokens=answer.tokens,
            model=answer.model,
            reason=answer.reason,
            code=answer.code,
        )

    # ---- tools -------------------------------------------------------------------------------------------------

    def begin_tool(self, tool: Any, arguments: Any, context: Any) -> str | None:
        """Begin a tool call; say why it must not be made."""
        why: list[str] = []
        self._begin_tool(tool, arguments, context, why)
        return why[0] if why else None

    @harmless
    def _begin_tool(self, tool: Any, arguments: Any, context: Any, why: list[str]) -> None:
        parent = self._parent(context)
        self._settle(self._invocation(context), self._place(context))
        run_id, about = self._tool_id(context), _about(context)
        agent = context.agent_name
        if denial := self._calls.denial(f"tool:{tool.name}", parent, about, run_id=run_id, agent=agent):
            why.append(str(denial))
            return
        self._calls.begin_tool(run_id, parent, tool.name, arguments, about=about)
        self._calls.enter(run_id)

    @harmless
    def end_tool(self, tool: Any, context: Any, result: Any = None, error: BaseException | None = None) -> None:
        """End a tool call: by an error, or by a result, which may say that it failed."""
        run_id, work = self._tool_id(context), self._work(context)
        run = self._calls.get(run_id)
        if work is not None and getattr(context.actions, "transfer_to_agent", None):
            self._invocation(context).handed.add(work.run_id)
        status, message = _failed(result) if error is None else (None, None)
        if run is not None and error is None and _waits(tool, context, result):
            for above in _above(run):
                above.waits = True
        outer = next((each for each in _above(run) if each.end is ToolEnd), None)
        self._calls.end_tool(run_id, error, output=result, status=status, message=message)
        if run is not None:
            self._calls.enter(None if outer is None else outer.id)

    def _tool_id(self, context: Any) -> str:
        return f"{context.invocation_id}-{context.branch or ''}-{context.function_call_id}"

    # ---- places ------------------------------------------------------------------------------------------------

    def _invocation(self, context: Any) -> Invocation:
        kept = self._invocations
        if context.invocation_id not in kept and len(kept) >= RUNS_MAX:
            del kept[next(iter(kept))]
        return kept.setdefault(context.invocation_id, Invocation())

    def _work(self, context: Any) -> Work | None:
        place = (context.branch or "", context.agent_name)
        work = reversed(self._invocation(context).work)
        return next((each for each in work if (each.branch, each.agent) == place), None)

    def _place(self, context: Any) -> str:
        """Name the request around a call; a node of a workflow has none."""
        work = self._work(context)
        return f"{context.invocation_id}-{context.agent_name}" if work is None else work.run_id

    def _parent(self, context: Any) -> Run | None:
        work = self._work(context)
        return None if work is None else self._calls.get(work.run_id)


def _about(context: Any) -> dict[str, Any]:
    return {"session_id": context.session.id, "user_id": context.user_id}


def _within(branch: str) -> str:
    return f"{branch}." if branch else ""


def _above(run: Run | None) -> list[Run]:
    found: list[Run] = []
    while run is not None and run.parent is not None:
        run = run.parent
        found.append(run)
    return found


def _provider(context: Any) -> str | None:
    agent = getattr(context.get_invocation_context(), "agent", None)
    model = getattr(agent, "canonical_model", None)
    return _PROVIDERS.get(type(model).__module__.rpartition(".")[2])


def _text(content: Any) -> str:
    parts = getattr(content, "parts", None) or ()
    return "".join(part.text for part in parts if part.text and not getattr(part, "thought", None))


def _failed(result: Any) -> tuple[str | None, str | None]:
    """Tell whether a result says that the call failed: ADK's own tools and those of MCP do."""
    if not isinstance(result, Mapping) or not (result.get("error") or result.get("isError") is True):
        return None, None
    return "error", str(result.get("error") or "isError")


def _waits(tool: Any, context: Any, result: Any) -> bool:
    return bool(context.actions.requested_tool_confirmations) or bool(
        getattr(tool, "is_long_running", False) and not result
    )
