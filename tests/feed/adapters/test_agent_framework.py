"""What agents of Microsoft Agent Framework told in scripts: exactly these ledgers; and the real agents themselves.

They live in an environment of their own, beside the wheel that people install; `tests/golden/agent_framework` is what
one such run heard.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import environments
import pytest
from environments import environment, example
from heard import ONE_TOOL, Said, interleaved, outermost, recorded
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, plain
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.event.tokens import Usage
from streams.feed.adapters.agent_framework_calls import AgentFrameworkCalls
from streams.feed.adapters.calls import within

METHODS: Final = {"begin_run", "end_run", "begin_model", "first_token", "end_model", "begin_tool", "end_tool"}


def heard(name: str = "heard") -> list[Said]:
    return recorded("agent_framework", name)


def calls(out: Any, **more: Any) -> AgentFrameworkCalls:
    return AgentFrameworkCalls(
        out, **{"agent": None, "session_id": None, "user_id": "u1", "tenant": "acme", "guard": None, **more}
    )


def error_of(said: dict[str, Any]) -> BaseException | None:
    """Make the error that was told of."""
    if "error" not in said:
        return None
    name, message = said["error"]
    return asyncio.CancelledError(message) if name == "CancelledError" else type(name, (Exception,), {})(message)


def tell(one: AgentFrameworkCalls, said: dict[str, Any]) -> Any:
    """Hand over what was told, inside the call it was told inside of."""
    more = {name: value for name, value in said.items() if name not in ("method", "run_id", "around", "error")}
    with within(said.get("around")):
        match said["method"]:
            case "begin_run":
                return one.begin_run(said["run_id"], conversation=None, **more)
            case "begin_model":
                return one.begin_model(said["run_id"], **{"provider": None, "streaming": False, **more})
            case "end_run" | "end_model" | "end_tool":
                return getattr(one, said["method"])(said["run_id"], error_of(said), **more)
            case _:
                return getattr(one, said["method"])(said["run_id"], **more)


@pytest.fixture
def out() -> Collected:
    return Collected()


def test_what_agents_tell_gives_the_ledger(out: Collected) -> None:
    one = calls(out)
    for said in heard():
        tell(one, said)

    assert LEDGER == ledger_of(out)
    assert {("planner", "t1", "u1", "acme")} == {(each.agent, each.session_id, each.user_id, each.tenant)
                                                for each in out.events}  # fmt: skip
    requests = {each.call_id for each in out.of(AgentEnd)}
    assert requests == {each.parent_id for kind in (ModelEnd, ToolEnd, TokenUsage) for each in out.of(kind)}
    assert [len("done"), 0, len("we")] == [each.response_bytes for each in out.of(AgentEnd)]
    assert [False] * 5 + [True] == [each.first_token_ms is not None for each in out.of(ModelEnd)]
    assert ["stop"] * 4 + [None] * 2 == [each.finish_reason for each in out.of(ModelEnd)]
    assert METHODS == {each["method"] for each in heard()}


def test_agents_and_tools_that_are_woven_give_the_ledger(out: Collected) -> None:
    one = calls(out)
    for said in heard("heard_woven"):
        tell(one, said)

    assert WOVEN == ledger_of(out)


@pytest.mark.parametrize("seed", range(20))
def test_runs_at_once_are_kept_apart(out: Collected, seed: int) -> None:
    one, told = calls(out), heard()
    interleaved(told, outermost(told), lambda said: tell(one, said), seed)

    assert LEDGER == ledger_of(out)


@pytest.mark.parametrize("method", ["begin_model", "begin_tool", "begin_run", "first_token"])
def test_what_is_missing_leaves_the_rest_whole(out: Collected, method: str) -> None:
    one = calls(out)
    for said in heard():
        if said["method"] != method:
            tell(one, said)
    ledger = ledger_of(out)

    assert ledger.requests == ({} if method == "begin_run" else LEDGER.requests)
    assert ledger.tools == ({} if method == "begin_tool" else LEDGER.tools)
    assert ledger.tokens == (Usage() if method == "begin_model" else LEDGER.tokens)


def test_an_emitter_that_raises_and_nonsense_are_not_noticed() -> None:
    one = calls(Broken())
    answers = [tell(one, said) for said in heard()]
    nothing: Any = None
    one.end_model("unknown", usages=nothing, asked=nothing)
    one.end_tool(nothing, nothing, result=object())

    assert [None] * len(answers) == answers
    assert one.begin_tool(nothing, nothing, nothing) is None


@pytest.mark.parametrize("by", STOPPED)
def test_a_tool_that_is_stopped_says_why_and_is_not_told(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        one = calls(out, session_id="t1", guard=guard)
        why = [tell(one, said) for said in heard() if said["method"] == "begin_tool" and said["tool"] == "add"]

    assert STOPPED[by][2] in str(why[0])
    assert not out.of(ToolEnd)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the framework and the wheel."""
    return environment(tmp_path_factory.mktemp("agent_framework"), "agent-framework-core>=1.23,<2")


@pytest.mark.long  # an environment of 19 MB
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "agent_framework_agent.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"10 of 10 events are in {prefix}events" == count


@pytest.fixture(scope="module")
def gave(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real agents gave."""
    return environments.gave(python, "agent_framework_runs.py", tmp_path_factory.mktemp("gave"))


@pytest.mark.long
def test_real_agents_give_the_ledgers(gave: dict[str, Any]) -> None:
    assert plain(LEDGER) == {name: gave[name] for name in LEDGER._fields}
    assert (plain(WOVEN), "done") == (gave["woven"], gave["woven_answer"])
    assert ["done", "OutOfOrderError: out of order"] == gave["answers"]
    assert (["t1 u1 acme planner"], [4, 0, 2]) == (gave["sessions"], gave["answer_bytes"])
    assert gave["story"] == gave["twice"]
    assert [(each["method"], set(each)) for each in heard()] == [(each["method"], set(each)) for each in gave["heard"]]


@pytest.mark.long
def test_streams_failures_and_cancellations_are_told_as_they_ended(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]
    streamed, early, failed, misfit, cancelled = (
        shapes[name] for name in ("streamed", "closed_early", "streamed_failure", "misfit", "cancelled")
    )

    assert (ONE_TOOL, [True, True]) == (streamed["story"], streamed["first_tokens"])
    assert [["planner", ""], ["gpt-x", "planner"], ["add", "planner"], ["gpt-x", "planner"]] == streamed["within"]
    assert ({"cancelled": 1}, {"cancelled": 1}) == (early["requests"], early["models"])
    assert ({"error": 1}, {"error": 1}) == (failed["requests"], failed["models"])
    assert ([["add", "validation_error", 1]], {"validation": 1}) == (misfit["tools"], misfit["errors"])
    assert [["add", "success", 1], ["slow", "cancelled", 1]] == cancelled["tools"]
    assert ({"cancelled": 1}, ["add", "slow"]) == (cancelled["requests"], cancelled["together"])
    assert ({"cancelled": 1}, {"cancelled": 1}) == (shapes["forgotten"]["requests"], shapes["forgotten"]["models"])
    assert "done" == shapes["broken"]


@pytest.mark.long
@pytest.mark.parametrize("by", STOPPED)
def test_a_guard_stops_real_agents(gave: dict[str, Any], by: str) -> None:
    told = gave["shapes"][f"stopped_by_{by}"]

    assert ([], {by: 1}) == (told["tools"], told["denied"])
    if by == "breaker":  # of the tool alone: the model reads why, and goes on
        assert ("done without", {"success": 2}) == (told["answer"], told["models"])
    else:
        assert STOPPED[by][2] in told["answer"]
    for name in ("no_model", "no_streaming_model"):
        assert "its circuit is open" in gave["shapes"][name]["answer"]
        assert ["AgentStart planner", "AgentEnd planner cancelled"] == gave["shapes"][name]["story"]
