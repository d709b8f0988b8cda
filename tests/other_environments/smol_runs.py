"""Agents of smolagents with scripted models and real tools, watched; writes what they gave as one object.

It runs where smolagents is installed, beside the wheel that people install: started by test_smolagents.py alone.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any

from ledger_of import Collected, inside, ledger_of, plain
from scripted_tools import TRIES, Broken, OutOfOrderError
from smolagents import CodeAgent, LogLevel, Model, Tool, ToolCallingAgent, tool
from smolagents.models import (
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    ChatMessageToolCallStreamDelta,
    MessageRole,
    TokenUsage,
)
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd
from streams.feed.adapters.smolagents import _watch, watch
from streams.feed.adapters.smolagents_calls import SmolCalls
from streams.feed.guard.denial import Denial

USAGE = {
    "prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}  # fmt: skip
MEET = Barrier(2, timeout=30)


class Scripted(Model):
    """Answers with texts, tools to call (name and arguments, or several), code, exceptions."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(model_id="gpt-x")
        self.answers, self.asked = list(answers), 0

    def _next(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            answer = ("final_answer", {"answer": answer})
        return answer

    def _calls(self, answer: Any) -> list[ChatMessageToolCall]:
        asks = answer if isinstance(answer, list) else [answer]
        return [
            ChatMessageToolCall(
                id=f"call-{self.asked}-{at}",
                type="function",
                function=ChatMessageToolCallFunction(name=name, arguments=of),
            )
            for at, (name, of) in enumerate(asks)
        ]

    def generate(self, _messages: Any, **_: Any) -> ChatMessage:
        answer = self._next()
        code = answer["code"] if isinstance(answer, dict) else None
        return ChatMessage(
            role=MessageRole.ASSISTANT, content=code or "", tool_calls=None if code else self._calls(answer),
            raw={"usage": USAGE, "choices": [{"finish_reason": "stop"}]}, token_usage=TokenUsage(100, 20),
        )  # fmt: skip

    def generate_stream(self, _messages: Any, **_: Any) -> Iterator[ChatMessageStreamDelta]:
        answer = self._next()
        yield ChatMessageStreamDelta(content="we")
        for at, call in enumerate(self._calls(answer)):
            call.function.arguments = json.dumps(call.function.arguments)
            delta = ChatMessageToolCallStreamDelta(index=at, id=call.id, type="function", function=call.function)
            yield ChatMessageStreamDelta(tool_calls=[delta])
        yield ChatMessageStreamDelta(token_usage=TokenUsage(100, 20))


@tool
def add(a: int, b: int) -> str:
    """Add.

    Args:
        a: one
        b: other
    """
    return str(a + b)


@tool
def flaky(x: str) -> str:
    """Fail once.

    Args:
        x: what to give back
    """
    TRIES[0] += 1
    if TRIES[0] == 1:
        raise RuntimeError("not yet")
    return x


@tool
def meet(who: str) -> str:
    """Wait for another call of this tool.

    Args:
        who: anybody
    """
    MEET.wait()
    return who


@tool
def forecast(city: str) -> str:
    """Ask a server that does not know.

    Args:
        city: where
    """
    raise RuntimeError(f"nobody knows {city}")


class Ask(Tool):
    """Asks another agent."""

    name, description, output_type = "ask", "Ask an expert.", "string"
    inputs = {"question": {"type": "string", "description": "what"}}  # noqa: RUF012  as its base class has it

    def __init__(self, expert: Any) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, question: str) -> str:
        return str(self.expert.run(question))


TOOLS = (add, flaky, meet, forecast)


def agent(*answers: Any, name: str | None = "planner", kind: Any = ToolCallingAgent, **more: Any) -> Any:
    # Each agent has tools of its own, as it has a model of its own.
    return kind(
        tools=more.pop("tools", list(TOOLS)), model=Scripted(*answers), name=name, verbosity_level=LogLevel.OFF, **more
    )


def run(one: Any, **more: Any) -> str:
    try:
        answer = one.run("?", **more)
        return str(getattr(answer, "output", answer))
    except Exception as error:  # noqa: BLE001  what became of it is what is asked
        return f"{type(error).__name__}: {error}"


def give_up(one: Any, parts: int = 1) -> None:
    steps = one.run("?", stream=True)
    for _ in range(parts):
        next(steps)
    with suppress(RuntimeError):  # smolagents goes on to say a step when it is closed
        steps.close()


def script(watched: Any) -> list[str]:
    TRIES[0] = 0
    one = agent(("add", {"a": 1, "b": 2}), ("flaky", {"x": "y"}), ("flaky", {"x": "y"}), "done")
    said = [run(watched(one)), run(watched(agent(OutOfOrderError("out of order"))))]
    give_up(watched(agent("never", stream_outputs=True)))
    return said


def weave(watched: Any) -> str:
    ask = Ask(watched(agent("known", name="expert")))
    both = [("add", {"a": 1, "b": 2}), ("forecast", {"city": "Lisbon"})]
    return run(watched(agent(both, ("ask", {"question": "?"}), "done", tools=[*TOOLS, ask])))


class Recorder(SmolCalls):
    """Keeps what it is told as plain values, and hands it on."""

    def __init__(self, out: Collected) -> None:
        super().__init__(out, agent=None, session_id="t1", user_id=None, tenant="acme", guard=None)
        self.heard: list[dict[str, Any]] = []

    def _keep(self, method: str, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        around = self._calls.around
        told: dict[str, Any] = {
            "method": method,
            "run_id": run_id,
            "around": None if around is None else around.id,
            **said,
        }
        if error is not None:
            chain = [error, error.__cause__] if error.__cause__ is not None else [error]
            told["error"] = [[type(each).__name__, str(each)] for each in chain]
        self.heard.append({key: value for key, value in told.items() if value not in (None, False)})

    def begin_run(self, run_id: str, agent: str, conversation: str) -> None:
        self._keep("begin_run", run_id, agent=agent, conversation=conversation)
        super().begin_run(run_id, agent, conversation)

    def end_run(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_run", run_id, error, **said)
        super().end_run(run_id, error, **said)

    def begin_model(self, run_id: str, model: str, **said: Any) -> Denial | None:
        self._keep("begin_model", run_id, model=model, **said)
        return super().begin_model(run_id, model, **said)

    def first_token(self, run_id: str) -> None:
        self._keep("first_token", run_id)
        super().first_token(run_id)

    def end_model(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_model", run_id, error, **said)
        super().end_model(run_id, error, **said)

    def ask_together(self, names: Any, asked: str) -> None:
        self._keep("ask_together", asked, names=list(names))
        super().ask_together(names, asked)

    def begin_tool(self, run_id: str, tool: str, arguments: Any, *, asked: str | None = None) -> Denial | None:
        self._keep("begin_tool", run_id, tool=tool, arguments=arguments, asked=asked)
        return super().begin_tool(run_id, tool, arguments, asked=asked)

    def end_tool(self, run_id: str, error: BaseException | None = None, **said: Any) -> None:
        self._keep("end_tool", run_id, error, **said)
        super().end_tool(run_id, error, **said)


def shapes(out: Collected) -> dict[str, Any]:
    """Run what agents are made of; tell of each what it said."""
    gave: dict[str, Any] = {}

    def told(name: str, one: Any, guard: Any = None, **more: Any) -> None:
        out.events.clear()
        answer = run(watch(one, out, session_id="t1", tenant="acme", guard=guard), **more)
        gave[name] = {"answer": answer, "story": out.story(), "within": inside(out), **plain(ledger_of(out))}
        gave[name]["completed"] = [each.completed for each in out.of(AgentEnd)]

    told("at_once", agent([("meet", {"who": "a"}), ("meet", {"who": "b"})], "done"))
    told("no_such_tool", agent(("nothing", {}), "done"))
    told("misfit", agent(("add", {"a": 1}), "done"))
    told("used_up", agent(("add", {"a": 1, "b": 2}), "enough", max_steps=1))
    told("planned", agent({"code": "first, then"}, "done", planning_interval=5))
    code = {"code": "Thought\n<code>\ntotal = add(1, b=2)\nprint(total)\n</code>"}
    told("code", agent(code, {"code": "<code>\nfinal_answer('done')\n</code>"}, kind=CodeAgent))
    expert = agent("known", name="expert", description="knows")
    asks = {"code": "<code>\nfinal_answer(expert(task='?'))\n</code>"}
    told("managed", agent(("expert", {"task": "?"}), "done", managed_agents=[expert]))
    expert = agent("known", name="expert", description="knows")
    told("code_asks", agent(asks, kind=CodeAgent, managed_agents=[expert]))
    TRIES[0] = 0
    fails = {"code": "<code>\nflaky('x')\n</code>"}
    told("code_fails", agent(fails, {"code": "<code>\nfinal_answer('done')\n</code>"}, kind=CodeAgent))
    told("whole_result", agent("done", return_full_result=True))
    out.events.clear()
    one = watch(agent(("add", {"a": 1, "b": 2}), "done", stream_outputs=True), out)
    steps = list(one.run("?", stream=True))
    gave["streamed"] = {"answer": steps[-1].output, "story": out.story(), **plain(ledger_of(out))}
    gave["streamed"]["first_tokens"] = [each.first_token_ms is not None for each in out.of(ModelEnd)]
    out.events.clear()
    stopping = agent(("add", {"a": 1, "b": 2}), "never", step_callbacks=[lambda *_, agent: agent.interrupt()])
    gave["interrupted"] = {"answer": run(watch(stopping, out)), "story": out.story(), **plain(ledger_of(out))}
    out.events.clear()
    talk = watch(agent("one", "two", "three"), out)
    said = [run(talk), run(talk, reset=False), run(talk)]
    sessions = [each.session_id for each in out.of(AgentEnd)]
    gave["talk"] = {"said": said, "same": [sessions[0] == sessions[1], sessions[1] == sessions[2]]}
    for by in STOPPED:
        with stopped(by) as guard:
            told(f"stopped_by_{by}", agent(("add", {"a": 1, "b": 2}), "done without"), guard)
            gave[f"stopped_by_{by}"]["denied"] = dict(guard.stats().denied)
    with stopped("breaker") as guard:
        ending = {"code": "<code>\nfinal_answer('done without')\n</code>"}
        told("code_stopped", agent(code, ending, kind=CodeAgent), guard)
    with stopped("breaker", model="gpt-x") as guard:
        told("no_model", agent("never"), guard)
        told("no_streaming_model", agent("never", stream_outputs=True), guard)
    gave["broken"] = run(watch(agent(("add", {"a": 1, "b": 2}), "done"), Broken()))
    return gave


def whole() -> dict[str, Any]:
    out = Collected()
    about = {"session_id": "t1", "tenant": "acme"}
    answers = script(lambda one: watch(one, out, **about))
    gave: dict[str, Any] = {"answers": answers, "story": out.story(), **plain(ledger_of(out))}
    gave["sessions"] = sorted({f"{each.session_id} {each.tenant} {each.agent}" for each in out.events})
    gave["answer_bytes"] = [each.response_bytes for each in out.of(AgentEnd)]
    out.events.clear()
    script(lambda one: watch(watch(one, out), out, session_id="t2"))
    gave["twice"] = out.story()
    out.events.clear()
    gave["woven_answer"] = weave(lambda one: watch(one, out, **about))
    gave["woven"] = plain(ledger_of(out))
    for name, play in (("heard", script), ("heard_woven", weave)):
        heard = Collected()
        recorder = Recorder(heard)

        def recorded(one: Any, recorder: Recorder = recorder, heard: Collected = heard) -> Any:
            _watch(one, recorder, heard)
            return one

        play(recorded)
        gave[name] = recorder.heard
    gave["shapes"] = shapes(out)
    return gave


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(whole()))
