"""What the Claude Agent SDK tells its hooks and its messages, as events: prompts, model calls with tokens, tools.

    watch = AgentStreamsWatch(emitter)
    options = ClaudeAgentOptions(hooks=watch.hooks())
    async for message in watch.messages(query(prompt="...", options=options)):
        ...

Never imports the SDK before it is asked for hooks, never raises into the agent, and never reports texts: sizes,
hashes, names and the messages of errors.
"""

import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streams.event.tokens import Usage
from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.runs import RUNS_MAX, Run
from streams.feed.failure import call_status
from streams.feed.timers import Emits

AGENT: Final = "claude"
PROVIDER: Final = "anthropic"
_NO_MODEL: Final = ("<synthetic>", "", None)  # what the SDK says where no model answered
_SUBAGENTS: Final = ("Task", "Agent")  # the tools that start one
_NANO: Final = 1_000_000_000


@dataclass(slots=True)
class Answer:
    """A model's message so far: it comes in parts, each with the usage of the whole as far as that is known."""

    message_id: str
    run_id: str
    tokens: Usage | None = None
    reason: str | None = None
    error: str | None = None
    whole_ns: int | None = None  # when a part came that is no fragment of one


@dataclass(slots=True)
class Conversation:
    """One session of the SDK: the open request, and what is open in it."""

    request: str | None = None
    asked_ns: dict[str, int] = field(default_factory=dict)  # by place: since when a model may be answering
    answers: dict[str, Answer] = field(default_factory=dict)  # by place
    agents: dict[str, str] = field(default_factory=dict)  # by subagent: its request
    started: dict[str, str] = field(default_factory=dict)  # by the call of a tool: the request of the subagent it began
    text: str = ""
    denied: bool = False  # was it stopped by a guard?


class AgentStreamsWatch:
    """Reports to an emitter what an agent does; two of them on one emitter report once.

    A prompt is a request and ends with its ResultMessage, a subagent is a request inside it.  The session is the
    argument, else the SDK's.  With a guard (the argument, else the emitter's) a tool that is stopped is not called and
    the model reads why; where the model is stopped a prompt is refused with the reason, and work stops after the tool
    that is running.  `model` is what to ask the guard about before the SDK has named one.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str = AGENT,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        model: str | None = None,
        guard: Asks | None = None,
    ) -> None:
        self._calls = Calls(emitter, user_id=user_id, tenant=tenant, guard=guard)
        self._agent, self._session_id, self._model = agent, session_id, model
        self._conversations: dict[str, Conversation] = {}
        self._watched = False  # will a ResultMessage end requests?

    def hooks(self, others: Mapping[str, Sequence[Any]] | None = None) -> dict[str, list[Any]]:
        """Return the hooks to give to the options, with others after ours."""
        from claude_agent_sdk import HookMatcher  # noqa: PLC0415  only its users have it

        ours = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "SubagentStart", "SubagentStop")
        found = {name: [HookMatcher(hooks=[self.hook])] for name in (*ours, "Stop")}
        for name, matchers in (others or {}).items():
            found.setdefault(name, []).extend(matchers)
        return found

    async def hook(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:  # noqa: ARG002  as the SDK calls it
        """Take in what the SDK tells before and after things happen; answer why something must not."""
        answer: dict[str, Any] = {}
        self._hear_hook(said, tool_use_id, answer)
        return answer

    async def messages(self, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """Hand on the messages of a query or a client, having noted what they say."""
        self._watched = True
        heard: set[str] = set()
        try:
            async for message in stream:
                self._hear(message, heard)
                yield message
        except BaseException as error:
            self._leave(heard, error)
            raise
        self._leave(heard, None)

    # ---- hooks -------------------------------------------------------------------------------------------------

    @harmless
    def _hear_hook(self, said: Any, tool_use_id: str | None, answer: dict[str, Any]) -> None:
        session, kind = said["session_id"], said["hook_event_name"]
        talk = self._conversation(session)
        match kind:
            case "UserPromptSubmit":
                if why := self._denied_model(session):
                    answer.update(decision="block", reason=why)
                    talk.denied = True
                self._begin(session)
                if why and not self._watched:  # nothing else will say that it is over
                    self._end(session, None)
            case "PreToolUse":
                if why := self._begin_tool(session, said):
                    decision = {"permissionDecision": "deny", "permissionDecisionReason": why}
                    answer["hookSpecificOutput"] = {"hookEventName": kind, **decision}
            case "PostToolUse" | "PostToolUseFailure":
                self._end_tool(session, said)
                if why := self._denied_model(session):
                    answer.update(continue_=False, stopReason=why)
                    talk.denied = True
            case "SubagentStart":
                self._begin_subagent(session, said, tool_use_id)
            case "SubagentStop":
                self._end_subagent(session, said)
            case "Stop":
                talk.text = said.get("last_assistant_message") or talk.text
                if not self._watched:
                    self._end(session, None)

    def _denied_model(self, session: str) -> str | None:
        parent = self._run(self._conversation(session).request)
        about = self._about(session)
        denial = self._calls.denial(
            f"model:{self._model or 'unknown'}", parent, about, agent=self._agent, provider=PROVIDER
        )
        return None if denial is None else str(denial)

    def _begin_tool(self, session: str, said: Mapping[str, Any]) -> str | None:
        run_id, parent = f"{session}-{said['tool_use_id']}", self._place(session, said)
        denial = self._calls.denial(
            f"tool:{said['tool_name']}", parent, self._about(session), run_id=run_id, agent=self._agent
        )
        if denial is not None:
            return str(denial)
        self._calls.begin_tool(run_id, parent, said["tool_name"], said["tool_input"], about=self._about(session))
        return None

    def _end_tool(self, session: str, said: Mapping[str, Any]) -> None:
        status = message = None
        if said["hook_event_name"] == "PostToolUseFailure":
            status, message = ("cancelled", None) if said.get("is_interrupt") else ("error", said["error"])
        run_id = f"{session}-{said['tool_use_id']}"
        run = self._calls.get(run_id)
        if run is not None and isinstance(took_ms := said.get("duration_ms"), int):
            run.began_ns = time.monotonic_ns() - took_ms * 1_000_000  # without the time a human took to permit it
        self._calls.end_tool(run_id, status=status, message=message, output=said.get("tool_response"))
        talk = self._conversation(session)
        request = talk.agents.get(said.get("agent_id") or "") or talk.request
        talk.asked_ns[request or ""] = time.monotonic_ns()

    def _begin_subagent(self, session: str, said: Mapping[str, Any], tool_use_id: str | None) -> None:
        talk, run_id = self._conversation(session), f"{session}-{said['agent_id']}"
        whole = self._run(self._begin(session))
        tools = [] if whole is None else [each for each in whole.children.values() if _starts_agents(each)]
        parent = self._calls.get(f"{session}-{tool_use_id}") if tool_use_id else None
        parent = parent or next((each for each in tools if str(each.id) not in talk.started), None) or whole
        if parent is not None and parent is not whole:
            talk.started[str(parent.id)] = run_id
        talk.agents[said["agent_id"]] = run_id
        talk.asked_ns[run_id] = time.monotonic_ns()
        self._calls.begin_request(run_id, parent, said["agent_type"], {})

    def _end_subagent(self, session: str, said: Mapping[str, Any]) -> None:
        talk = self._conversation(session)
        run_id = talk.agents.get(said["agent_id"])
        self._calls.end_request(run_id, response=said.get("last_assistant_message"))

    # ---- messages ----------------------------------------------------------------------------------------------

    @harmless
    def _hear(self, message: Any, heard: set[str]) -> None:
        kind = type(message).__name__
        session = getattr(message, "session_id", None) or getattr(message, "data", {}).get("session_id")
        session = session or (next(iter(heard)) if len(heard) == 1 else None)
        if session is None:
            return
        heard.add(session)
        if kind == "AssistantMessage":
            self._hear_answer(session, message)
        elif kind == "StreamEvent":
            self._hear_part(session, message)
        elif kind == "UserMessage":
            self._hear_results(session, message)
        elif kind == "ResultMessage":
            self._end(session, message)
        elif kind == "SystemMessage" and message.subtype == "init":
            self._model = message.data.get("model") or self._model
            self._begin(session)

    def _hear_answer(self, session: str, message: Any) -> None:
        answer = self._answer(session, message, message.message_id or message.uuid, message.model)
        answer.tokens = _larger(answer.tokens, usage_in("anthropic", message.usage))
        answer.reason, answer.error = message.stop_reason or answer.reason, message.error or answer.error
        answer.whole_ns = time.monotonic_ns()

    def _hear_part(self, session: str, message: Any) -> None:
        """Take in a fragment of an answer, where fragments were asked for."""
        event = message.event
        if event.get("type") == "message_start":
            begun = event["message"]
            answer = self._answer(session, message, begun["id"], begun.get("model"))
            answer.tokens = _larger(answer.tokens, usage_in("anthropic", begun.get("usage")))
            return
        talk = self._conversation(session)
        place = self._subrequest(session, message) or talk.request or ""
        found = talk.answers.get(place)
        if found is None:
            return
        if event.get("type") == "content_block_delta":
            self._calls.first_token(found.run_id)
        elif event.get("type") == "message_delta":
            found.tokens = _larger(found.tokens, usage_in("anthropic", event.get("usage")))
            found.reason = (event.get("delta") or {}).get("stop_reason") or found.reason

    def _answer(self, session: str, message: Any, message_id: str, model: str | None) -> Answer:
        """Return the open answer of a message, its call begun: since the last thing that could make a model answer."""
        talk = self._conversation(session)
        request = self._begin(session)
        place = self._subrequest(session, message) or request
        found = talk.answers.get(place)
        if found is not None and found.message_id == message_id:
            return found
        self._end_answer(talk, place)
        self._model = self._model if model in _NO_MODEL else model
        found = talk.answers[place] = Answer(message_id, f"{session}-{message_id}")
        parent = self._run(place) or self._run(request)  # a subagent may have ended before its messages are read
        self._calls.begin_model(found.run_id, parent, model=self._model, provider=PROVIDER)
        run = self._calls.get(found.run_id)
        if run is not None:
            run.began_ns = talk.asked_ns.get(place, run.began_ns)
        return found

    def _end_answer(self, talk: Conversation, place: str) -> None:
        answer = talk.answers.pop(place, None)
        if answer is None:
            return
        run, status = self._calls.get(answer.run_id), "error" if answer.error else None
        if answer.whole_ns is None:
            status = "cancelled"
        elif run is not None:
            run.began_ns += time.monotonic_ns() - answer.whole_ns
        self._calls.end_model(
            answer.run_id, status=status, tokens=answer.tokens, code=answer.error, reason=answer.reason
        )

    def _hear_results(self, session: str, message: Any) -> None:
        """End the tools that no hook has told the end of: those were not permitted, and have not run."""
        talk = self._conversation(session)
        for block in message.content if isinstance(message.content, list) else ():
            if type(block).__name__ == "ToolResultBlock":
                run_id = f"{session}-{block.tool_use_id}"
                self._calls.end_tool(run_id, status="cancelled")
                self._end_answer(talk, talk.started.get(run_id, run_id))
        place = self._subrequest(session, message) or talk.request or ""
        self._end_answer(talk, place)
        talk.asked_ns[place] = time.monotonic_ns()

    # ---- requests ----------------------------------------------------------------------------------------------

    def _begin(self, session: str) -> str:
        """Return the open request of a session, begun if there is none."""
        talk = self._conversation(session)
        run_id, _ = self._calls.attempt(session)
        if talk.request != run_id:
            talk.request = run_id
            talk.asked_ns = {run_id: time.monotonic_ns()}
            self._calls.begin_request(run_id, self._calls.around, self._agent, self._about(session))
        return run_id

    def _end(self, session: str, result: Any) -> None:
        talk = self._conversations.pop(session, None)
        if talk is None or talk.request is None:
            return
        for place in list(talk.answers):
            self._end_answer(talk, place)
        status, text = None, talk.text
        if result is not None:
            text = result.result or text
            status = _status(result)
            cost = result.total_cost_usd
            nano = round(cost * _NANO) if isinstance(cost, int | float) else None
            tokens = usage_in("anthropic", result.usage)
            self._calls.usage(talk.request, tokens, scope="aggregate", model=self._model, cost_nano_usd=nano)
        status = "cancelled" if talk.denied else status
        self._calls.end_request(talk.request, status=status, response=text)

    @harmless
    def _leave(self, heard: set[str], error: BaseException | None) -> None:
        """End what is open when the messages end before a result."""
        for session in heard:
            talk = self._conversations.get(session)
            if talk is not None and talk.request is not None:
                status = call_status(error) if error is not None else "cancelled"
                for place in list(talk.answers):
                    self._end_answer(talk, place)
                self._calls.end_request(talk.request, error, status=status)
                del self._conversations[session]

    # ---- places ------------------------------------------------------------------------------------------------

    def _conversation(self, session: str) -> Conversation:
        kept = self._conversations
        if session not in kept and len(kept) >= RUNS_MAX:
            del kept[next(iter(kept))]
        return kept.setdefault(session, Conversation())

    def _about(self, session: str) -> dict[str, str]:
        return {"session_id": self._session_id or session}

    def _run(self, run_id: str | None) -> Run | None:
        return None if run_id is None else self._calls.get(run_id)

    def _place(self, session: str, said: Mapping[str, Any]) -> Run | None:
        """Return the request that a tool is called in: that of a subagent, or the prompt's."""
        agent = self._conversation(session).agents.get(said.get("agent_id") or "")
        return self._run(agent) or self._run(self._begin(session))

    def _subrequest(self, session: str, message: Any) -> str | None:
        """Return the request of the subagent whose message this is; of a call that began none, the call."""
        called = getattr(message, "parent_tool_use_id", None)
        if called is None:
            return None
        run_id = f"{session}-{called}"
        return self._conversation(session).started.get(run_id, run_id)


def _starts_agents(run: Run) -> bool:
    return run.about.get("tool") in _SUBAGENTS


def _larger(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the larger of each count: parts of a message repeat its usage, the first ones before it is final."""
    if one is None or other is None:
        return one or other
    return Usage(*map(max, one, other))


def _status(result: Any) -> str:
    if str(result.terminal_reason or "").startswith("aborted"):
        return "cancelled"
    return "error" if result.is_error or result.subtype != "success" else "success"
