"""What ADK told its plugin in a scripted run: exactly this ledger; and the real runner itself.

ADK forbids packages that the other tests need, so it lives in an environment of its own, beside the wheel that people
install; `tests/golden/google_adk` is what one such run heard.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import environments
import pytest
from environments import environment, example
from heard import ONE_TOOL, interleaved, recorded
from ledger_of import LEDGER, Collected, ledger_of, plain
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.event.tokens import Usage
from streams.feed.adapters.google_adk_calls import AdkCalls

ERRORS: Final = {"CancelledError": asyncio.CancelledError, "RuntimeError": RuntimeError}


def heard() -> list[dict[str, Any]]:
    return recorded("google_adk")


def calls(out: Any, **more: Any) -> AdkCalls:
    return AdkCalls(out, **{"user_id": None, "tenant": "acme", "guard": None, **more})


def context_of(said: dict[str, Any]) -> Any:
    plain_ = said["context"]
    return SimpleNamespace(
        **{**plain_, "session": SimpleNamespace(id=plain_["session"])},
        run_config=SimpleNamespace(streaming_mode=SimpleNamespace(name=said.get("streaming_mode", "NONE"))),
        actions=SimpleNamespace(requested_tool_confirmations={}, transfer_to_agent=None),
        get_invocation_context=lambda: None,
    )


def response_of(said: dict[str, Any]) -> Any:
    names = ("usage_metadata", "model_version", "partial", "finish_reason", "error_code", "content")
    response = SimpleNamespace(**{name: said["response"].get(name) for name in names})
    if response.content:
        parts = [SimpleNamespace(text=part.get("text")) for part in response.content["parts"]]
        response.content = SimpleNamespace(parts=parts)
    return response


def tell(one: AdkCalls, said: dict[str, Any]) -> str | None:
    """Hand over what ADK handed over, while the exception is handled that was."""
    name, message = said.get("error") or ("", "")
    error = ERRORS.get(name, type(name or "None", (Exception,), {}))(message) if name else None
    if said["method"] == "end_run":
        one.end_run(said["invocation_id"], error)
        return None
    context, tool = context_of(said), SimpleNamespace(name=said.get("tool"))
    with suppress(Exception, asyncio.CancelledError):
        if error is not None:
            try:
                raise error
            finally:
                _tell(one, said, context, tool, None if name == "CancelledError" else error)
        return _tell(one, said, context, tool, None)
    return None


def _tell(one: AdkCalls, said: dict[str, Any], context: Any, tool: Any, error: Any) -> str | None:
    match said["method"]:
        case "begin_agent":
            one.begin_agent(context)
        case "end_agent":
            one.end_agent(context, error)
        case "begin_model":
            config = SimpleNamespace(temperature=None)
            return one.begin_model(context, SimpleNamespace(model=said["model"], config=config))
        case "hear_model":
            one.hear_model(context, response_of(said))
        case "fail_model":
            one.fail_model(context, error)
        case "begin_tool":
            return one.begin_tool(tool, said["arguments"], context)
        case "end_tool":
            one.end_tool(tool, context, said.get("result"), error)
    return None


def invocation(said: dict[str, Any]) -> str:
    return str(said.get("invocation_id") or said["context"]["invocation_id"])


@pytest.fixture
def out() -> Collected:
    return Collected()


def test_what_a_runner_tells_gives_the_ledger(out: Collected) -> None:
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
    assert ["STOP"] * 4 + [None] * 2 == [each.finish_reason for each in out.of(ModelEnd)]


def test_two_plugins_on_one_emitter_tell_once(out: Collected) -> None:
    one, other = calls(out), calls(out)
    for said in heard():
        tell(one, said)
        tell(other, said)

    assert LEDGER == ledger_of(out)


@pytest.mark.parametrize("seed", range(20))
def test_invocations_that_run_at_once_are_kept_apart(out: Collected, seed: int) -> None:
    one = calls(out)
    interleaved(heard(), invocation, lambda said: tell(one, said), seed)

    assert LEDGER == ledger_of(out)


@pytest.mark.parametrize("method", ["begin_model", "begin_tool", "begin_agent", "hear_model"])
def test_what_is_missing_leaves_the_rest_whole(out: Collected, method: str) -> None:
    one = calls(out)
    for said in heard():
        if said["method"] != method:
            tell(one, said)
    ledger = ledger_of(out)

    assert ledger.requests == ({} if method == "begin_agent" else LEDGER.requests)
    assert ledger.tools == ({} if method == "begin_tool" else LEDGER.tools)
    assert ledger.tokens == (Usage() if method in ("begin_model", "hear_model") else LEDGER.tokens)


def test_an_emitter_that_raises_and_nonsense_are_not_noticed() -> None:
    one = calls(Broken())
    answers = [tell(one, said) for said in heard()]
    one.begin_agent(None)
    one.hear_model(None, None)
    one.end_tool(None, None)

    assert [None] * len(answers) == answers
    assert one.begin_tool(None, None, None) is None
    assert one.begin_model(None, None) is None


@pytest.mark.parametrize("by", STOPPED)
def test_a_tool_that_is_stopped_is_answered_with_why(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        one = calls(out, guard=guard)
        why = [tell(one, said) for said in heard() if said["method"] == "begin_tool" and said["tool"] == "add"]

    assert STOPPED[by][2] in str(why[0])
    assert not out.of(ToolEnd)


def test_a_model_that_is_stopped_is_answered_with_why_and_its_request_is_cancelled(out: Collected) -> None:
    with stopped("breaker", model="gpt-x") as guard:
        one = calls(out, guard=guard)
        said = [each for each in heard() if each["method"] in ("begin_agent", "begin_model", "end_agent")]
        why = [tell(one, each) for each in said if invocation(each) == invocation(said[0])]

    assert "circuit is open" in str(why[1])
    assert ["AgentStart planner", "AgentEnd planner cancelled"] == out.story()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with ADK and the wheel."""
    return environment(tmp_path_factory.mktemp("adk"), "google-adk>=2.13,<3")


@pytest.mark.long  # an environment of 76 MB
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "google_adk_agent.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"10 of 10 events are in {prefix}events" == count


@pytest.fixture(scope="module")
def gave(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real runner gave."""
    return environments.gave(python, "adk_runs.py", tmp_path_factory.mktemp("gave"))


@pytest.mark.long
def test_a_real_runner_gives_the_ledger(gave: dict[str, Any]) -> None:
    assert plain(LEDGER) == {name: gave[name] for name in LEDGER._fields}
    assert ["done", "OutOfOrderError: out of order"] == gave["answers"]
    assert (["t1 u1"], [4, 0, 0]) == (gave["sessions"], gave["answer_bytes"])
    assert gave["story"] == gave["twice"]
    lines = heard()
    assert [each["method"] for each in lines] == [each["method"] for each in gave["heard"]]
    assert [set(each) for each in lines] == [set(each) for each in gave["heard"]]


@pytest.mark.long
def test_agents_inside_agents_are_requests_inside_them(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]
    tool, handed = shapes["agent_as_tool"], shapes["handed_over"]
    crowd, chain = shapes["agents_at_once"], shapes["one_after_the_other"]

    assert ({"success": 2}, {"success": 4}) == (tool["requests"], tool["models"])
    assert [["planner", ""], ["expert", "planner"], ["expert", "expert"]] == [
        pair for pair in tool["within"] if pair[0] in ("planner", "expert")
    ]
    assert ({"success": 2}, ["helper", "planner"]) == (handed["requests"], handed["within"][3])
    assert {"success": 3} == crowd["requests"] == chain["requests"]
    assert 1 == crowd["within"].count(["add", "left"]) == crowd["within"].count(["add", "right"])
    assert [["first", "chain"], ["second", "chain"]] == [pair for pair in chain["within"] if pair[1] == "chain"]


@pytest.mark.long
def test_streams_failures_and_cancellations_are_told_as_they_ended(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]

    assert (ONE_TOOL, [True, True]) == (shapes["streamed"]["story"], shapes["streamed"]["first_tokens"])
    assert [["add", "success", 2], ["unsure", "error", 1]] == shapes["tools_at_once"]["tools"]
    assert [["nothing", "error", 1]] == shapes["no_such_tool"]["tools"]
    assert ({"cancelled": 1}, 100) == (shapes["closed_early"]["requests"], shapes["closed_early"]["tokens"][0])
    assert [["add", "success", 1], ["slow", "cancelled", 1]] == shapes["cancelled"]["tools"]
    assert {"cancelled": 1} == shapes["cancelled"]["requests"]
    assert "done" == shapes["broken"]


@pytest.mark.long
@pytest.mark.parametrize("by", STOPPED)
def test_a_guard_stops_a_real_runner(gave: dict[str, Any], by: str) -> None:
    told = gave["shapes"][f"stopped_by_{by}"]

    assert ([], {by: 1}) == (told["tools"], told["denied"])
    if by == "breaker":  # of the tool alone: the model reads why, and goes on
        assert ("done without", {"success": 2}) == (told["answer"], told["models"])
    else:
        assert STOPPED[by][2] in told["answer"]
    assert "its circuit is open" in gave["shapes"]["no_model"]["answer"]
    assert ["AgentStart planner", "AgentEnd planner cancelled"] == gave["shapes"]["no_model"]["story"]
