"""What agents of smolagents told in scripted runs: exactly these ledgers; and the real agents themselves.

They live in an environment of their own, beside the wheel that people install; `tests/golden/smolagents` is what one
such run heard.
"""

from pathlib import Path
from typing import Any, Final

import environments
import pytest
from environments import environment, example
from heard import MODEL, ONE_TOOL, Said, interleaved, outermost, recorded
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, plain
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.event.tokens import Usage
from streams.feed.adapters.calls import within
from streams.feed.adapters.smolagents_calls import SmolCalls

METHODS: Final = {
    "begin_run",
    "end_run",
    "begin_model",
    "first_token",
    "end_model",
    "ask_together",
    "begin_tool",
    "end_tool",
}


def heard(name: str = "heard") -> list[Said]:
    return recorded("smolagents", name)


def calls(out: Any, **more: Any) -> SmolCalls:
    return SmolCalls(
        out, **{"agent": None, "session_id": "t1", "user_id": "u1", "tenant": "acme", "guard": None, **more}
    )


def error_of(said: dict[str, Any]) -> BaseException | None:
    """Make the error that was told of, and the one inside it."""
    error: BaseException | None = None
    for name, message in reversed(said.get("error", [])):
        kind = GeneratorExit if name == "GeneratorExit" else type(name, (Exception,), {})
        outer = kind(message)
        outer.__cause__ = error
        error = outer
    return error


def tell(one: SmolCalls, said: dict[str, Any]) -> Any:
    """Hand over what was told, inside the call it was told inside of."""
    more = {name: value for name, value in said.items() if name not in ("method", "run_id", "around", "error")}
    with within(said.get("around")):
        match said["method"]:
            case "begin_model":
                return one.begin_model(said["run_id"], **{"provider": None, "streaming": False, **more})
            case "begin_tool":
                return one.begin_tool(said["run_id"], **more)
            case "ask_together":
                return one.ask_together(more["names"], said["run_id"])
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
    assert [len("done"), 0, 0] == [each.response_bytes for each in out.of(AgentEnd)]
    assert [False] * 5 + [True] == [each.first_token_ms is not None for each in out.of(ModelEnd)]
    assert ["stop"] * 4 + [None] * 2 == [each.finish_reason for each in out.of(ModelEnd)]
    assert METHODS == {each["method"] for each in heard()}


def test_agents_and_tools_that_are_woven_give_the_ledger(out: Collected) -> None:
    one = calls(out)
    for said in heard("heard_woven"):
        tell(one, said)

    assert WOVEN == ledger_of(out)


def test_a_session_is_the_conversation_unless_it_is_named(out: Collected) -> None:
    one = calls(out, session_id=None)
    for said in heard():
        tell(one, said)
    conversations = {each["conversation"] for each in heard() if each["method"] == "begin_run"}

    assert conversations == {each.session_id for each in out.events}
    assert len(conversations) == LEDGER.requests["success"] + LEDGER.requests["error"] + LEDGER.requests["cancelled"]


@pytest.mark.parametrize("seed", range(20))
def test_runs_at_once_are_kept_apart(out: Collected, seed: int) -> None:
    one, told = calls(out), heard()
    interleaved(told, outermost(told), lambda said: tell(one, said), seed)

    assert LEDGER == ledger_of(out)


@pytest.mark.parametrize("method", ["begin_model", "begin_tool", "begin_run", "first_token", "ask_together"])
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
    one.end_model("unknown", usage=nothing, reason=object())
    one.end_tool(nothing, nothing, result=object())
    one.ask_together(nothing, nothing)

    assert [None] * len(answers) == answers
    assert one.begin_tool(nothing, nothing, nothing) is None


@pytest.mark.parametrize("by", STOPPED)
def test_a_tool_that_is_stopped_says_why_and_is_not_told(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        one = calls(out, guard=guard)
        why = [tell(one, said) for said in heard() if said["method"] == "begin_tool" and said["tool"] == "add"]

    assert STOPPED[by][2] in str(why[0])
    assert not out.of(ToolEnd)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with smolagents and the wheel."""
    return environment(tmp_path_factory.mktemp("smolagents"), "smolagents>=1.26,<2")


@pytest.mark.long  # an environment of 54 MB
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "smolagents_agent.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"10 of 10 events are in {prefix}events" == count


@pytest.fixture(scope="module")
def gave(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real agents gave."""
    return environments.gave(python, "smol_runs.py", tmp_path_factory.mktemp("gave"))


@pytest.mark.long
def test_real_agents_give_the_ledgers(gave: dict[str, Any]) -> None:
    assert plain(LEDGER) == {name: gave[name] for name in LEDGER._fields}
    assert (plain(WOVEN), "done") == (gave["woven"], gave["woven_answer"])
    assert ["done", "AgentGenerationError: Error while generating output:\nout of order"] == gave["answers"]
    assert (["t1 acme planner"], [4, 0, 0]) == (gave["sessions"], gave["answer_bytes"])
    assert gave["story"] == gave["twice"]
    assert [(each["method"], set(each)) for each in heard()] == [(each["method"], set(each)) for each in gave["heard"]]


@pytest.mark.long
def test_code_agents_tell_of_the_code_and_of_the_tools_in_it(gave: dict[str, Any]) -> None:
    code, asks, fails, denied = (gave["shapes"][f"code{name}"] for name in ("", "_asks", "_fails", "_stopped"))

    assert [["add", "success", 1], ["python_interpreter", "success", 2]] == code["tools"]
    assert ["add", "python_interpreter"] in code["within"]
    assert [["expert", "python_interpreter"], ["expert", "expert"]] == [
        at for at in asks["within"] if at[0] == "expert"
    ]
    assert [["flaky", "error", 1], ["python_interpreter", "error", 1], ["python_interpreter", "success", 1]] == fails[
        "tools"
    ]
    assert [["python_interpreter", "cancelled", 1], ["python_interpreter", "success", 1]] == denied["tools"]
    assert ["done"] * 2 + ["done without"] == [each["answer"] for each in (code, fails, denied)]


@pytest.mark.long
def test_streams_failures_and_interruptions_are_told_as_they_ended(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]

    assert (ONE_TOOL, [True, True]) == (shapes["streamed"]["story"], shapes["streamed"]["first_tokens"])
    assert ([["meet", "success", 2]], ["meet"]) == (shapes["at_once"]["tools"], shapes["at_once"]["together"])
    assert [["nothing", "error", 1]] == shapes["no_such_tool"]["tools"]
    assert ([["add", "validation_error", 1]], {"validation": 1}) == (
        shapes["misfit"]["tools"],
        shapes["misfit"]["errors"],
    )
    assert ([False], {"success": 1}) == (shapes["used_up"]["completed"], shapes["used_up"]["requests"])
    assert ["AgentStart planner", *MODEL, *MODEL, "AgentEnd planner"] == shapes["planned"]["story"]
    assert ({"cancelled": 1}, {"success": 1}) == (shapes["interrupted"]["requests"], shapes["interrupted"]["models"])
    assert ({"success": 2}, "done") == (shapes["managed"]["requests"], shapes["managed"]["answer"])
    assert ["done", "done"] == [shapes["broken"], shapes["whole_result"]["answer"]]
    assert [True, False] == shapes["talk"]["same"]


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
