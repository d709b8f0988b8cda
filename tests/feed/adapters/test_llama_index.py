"""What LlamaIndex told its dispatcher in a scripted run: exactly this ledger; and the real agents themselves.

LlamaIndex is large, so it lives in an environment of its own, beside the wheel that people install;
`tests/golden/llama_index` is what one such run heard.
"""

import asyncio
import random
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import environments
import pytest
from environments import environment, example
from heard import ONE_TOOL, recorded
from ledger_of import LEDGER, Collected, ledger_of, plain
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.feed.adapters.llama_index import AgentStreamsHandler
from streams.feed.adapters.llama_index_guard import CallGuard
from streams.feed.guard.denial import CallDenied

ERRORS: Final = {"CancelledError": asyncio.CancelledError, "GeneratorExit": GeneratorExit}


def heard() -> list[dict[str, Any]]:
    return recorded("llama_index")


def error_of(said: list[str] | None) -> BaseException | None:
    if said is None:
        return None
    name, message = said
    kind: type[BaseException] = ERRORS.get(name) or type(name, (Exception,), {})
    return kind(message)


def tell(one: AgentStreamsHandler, said: dict[str, Any]) -> None:
    """Hand over what the dispatcher handed over."""
    match said["method"]:
        case "span_enter":
            arguments = {**said["given"], **({"ev": SimpleNamespace(**said["ev"])} if said["ev"] else {})}
            instance = SimpleNamespace(name=said["name"])
            bound = SimpleNamespace(arguments=arguments)
            one.span_enter(said["id_"], bound, instance, said["parent_id"], said["tags"])
        case "span_exit":
            result = SimpleNamespace()
            if (output := said.get("tool_output")) is not None:
                exception = error_of(output["exception"])
                result.tool_output = SimpleNamespace(**{**output, "exception": exception})
            if "content" in said:
                result.result = SimpleNamespace(response=SimpleNamespace(content=said["content"]))
            one.span_exit(said["id_"], None, None, result)
        case "span_drop":
            one.span_drop(said["id_"], None, None, error_of(said["err"]))
        case "handle":
            event = SimpleNamespace(
                class_name=lambda: said["class_name"],
                span_id=said["span_id"],
                tags=said["tags"],
                model_dict=said.get("model_dict"),
                response=SimpleNamespace(raw=said.get("raw"), additional_kwargs={}),
                exception=error_of(said.get("exception")),
            )
            one.handle(event)


def runs(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Part what was heard by the run that it belongs to."""
    parents = {each["id_"]: each["parent_id"] for each in lines if each["method"] == "span_enter"}
    found: dict[str, list[dict[str, Any]]] = {}
    for each in lines:
        own = each.get("id_") or each["span_id"]
        while parents.get(own) is not None:
            own = parents[own]
        found.setdefault(own, []).append(each)
    return list(found.values())


@pytest.fixture
def out() -> Collected:
    return Collected()


def test_what_agents_tell_gives_the_ledger(out: Collected) -> None:
    one = AgentStreamsHandler(out)
    for said in heard():
        tell(one, said)

    assert LEDGER == ledger_of(out)
    assert {("planner", "t1")} == {(each.agent, each.session_id) for each in out.events}
    requests = {each.call_id for each in out.of(AgentEnd)}
    assert requests == {each.parent_id for kind in (ModelEnd, ToolEnd, TokenUsage) for each in out.of(kind)}
    assert [len("done"), 0, 0] == [each.response_bytes for each in out.of(AgentEnd)]
    assert ["stop"] * 4 + [None] * 2 == [each.finish_reason for each in out.of(ModelEnd)]
    assert [False] * 5 + [True] == [each.first_token_ms is not None for each in out.of(ModelEnd)]
    assert ("error", "not yet") == next(
        (each.status, each.error_message) for each in out.of(ToolEnd) if each.tool == "flaky"
    )
    assert not one.open_spans


def test_two_handlers_on_one_emitter_tell_once(out: Collected) -> None:
    one, other = AgentStreamsHandler(out), AgentStreamsHandler(out)
    for said in heard():
        tell(one, said)
        tell(other, said)

    assert LEDGER == ledger_of(out)


def test_what_is_told_twice_counts_once(out: Collected) -> None:
    one = AgentStreamsHandler(out)
    for said in heard():
        tell(one, said)
        tell(one, said)

    assert LEDGER == ledger_of(out)


@pytest.mark.parametrize("seed", range(20))
def test_runs_at_the_same_time_are_kept_apart(out: Collected, seed: int) -> None:
    order = random.Random(seed)
    waiting = [(copy_context(), lines) for lines in runs(heard())]
    one = AgentStreamsHandler(out)
    while waiting:
        context, lines = order.choice(waiting)
        context.run(tell, one, lines.pop(0))
        waiting = [each for each in waiting if each[1]]

    assert LEDGER == ledger_of(out)


def test_whatever_is_missing_every_beginning_has_one_end() -> None:
    """Any one of the lines may be lost, but those of the runs."""
    lines = heard()
    for index, lost in enumerate(lines):
        if ".run-" in (lost.get("id_") or lost["span_id"]):
            continue
        out = Collected()
        one = AgentStreamsHandler(out)
        for said in (*lines[:index], *lines[index + 1 :]):
            tell(one, said)

        assert LEDGER.requests == ledger_of(out).requests, lost


def test_an_emitter_that_raises_and_nonsense_are_not_noticed() -> None:
    one = AgentStreamsHandler(Broken())
    for said in heard():
        tell(one, said)
    one.span_enter("A.call_tool-1", None)
    one.handle(SimpleNamespace(class_name=lambda: "LLMChatStartEvent", span_id="x"))
    one.span_exit("x", None)

    assert {} == one.capture_propagation_context()


@pytest.mark.parametrize("by", STOPPED)
def test_what_is_stopped_raises_with_the_session_of_its_run(out: Collected, by: str) -> None:
    """The handler has told whose run it is: nothing else names session and tenant here."""
    with stopped(by) as guard:
        one, asked = AgentStreamsHandler(out, tenant="acme"), CallGuard(out, guard=guard)
        begun = next(index for index, each in enumerate(heard()) if "call_tool" in each.get("id_", ""))
        for said in heard()[: begun + 1]:
            tell(one, said)

        with pytest.raises(CallDenied, match=STOPPED[by][2]):
            asked.ask("tool:add")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with LlamaIndex and the wheel."""
    return environment(tmp_path_factory.mktemp("llama"), "llama-index-core>=0.14.20,<0.15")


@pytest.mark.long  # an environment of 170 MB
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "llama_index_agent.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"10 of 10 events are in {prefix}events" == count


@pytest.fixture(scope="module")
def gave(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real agents gave."""
    return environments.gave(python, "llama_runs.py", tmp_path_factory.mktemp("gave"))


@pytest.mark.long
def test_real_agents_give_the_ledger(gave: dict[str, Any]) -> None:
    assert plain(LEDGER) == {name: gave[name] for name in LEDGER._fields}
    assert ["done", "OutOfOrderError: out of order"] == gave["answers"]
    assert (["t1 planner"], [4, 0, 0]) == (gave["sessions"], gave["answer_bytes"])
    assert [False] * 5 + [True] == gave["first_tokens"]
    assert gave["story"] == gave["twice"]
    lines = heard()
    assert {each["method"] for each in lines} == {each["method"] for each in gave["heard"]}
    assert {key for each in lines for key in each} == {key for each in gave["heard"] for key in each}


@pytest.mark.long
def test_agents_inside_agents_are_requests_inside_them(gave: dict[str, Any]) -> None:
    tool, handed = gave["shapes"]["agent_in_a_tool"], gave["shapes"]["handed_over"]

    assert ({"success": 2}, {"success": 4}) == (tool["requests"], tool["models"])
    assert [["planner", ""], ["ask", "planner"], ["expert", "ask"]] == [
        pair for pair in tool["within"] if pair[0] in ("planner", "ask", "expert")
    ]
    assert {"success": 3} == handed["requests"]
    assert [
        *(["planner", ""], ["gpt-x", "planner"], ["handoff", "planner"]),
        *(["helper", "planner"], ["gpt-x", "helper"], ["add", "helper"], ["gpt-x", "helper"], ["handoff", "helper"]),
        *(["critic", "planner"], ["gpt-x", "critic"], ["handoff", "critic"], ["gpt-x", "planner"]),
    ] == handed["within"]


@pytest.mark.long
def test_streams_failures_and_cancellations_are_told_as_they_ended(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]

    assert ONE_TOOL == shapes["streamed"]["story"]
    assert [["add", "success", 2], ["flaky", "error", 1]] == shapes["tools_at_once"]["tools"]
    assert [["nothing", "error", 1]] == shapes["no_such_tool"]["tools"]
    assert ["ModelStart old-x", "TokenUsage old-x", "ModelEnd old-x"] == shapes["completing"]["story"]
    assert [["add", "success", 1], ["slow", "cancelled", 1]] == shapes["cancelled"]["tools"]
    assert {"cancelled": 1} == shapes["cancelled"]["requests"]
    assert "done" == shapes["broken"]


@pytest.mark.long
@pytest.mark.parametrize("by", STOPPED)
def test_a_guard_stops_real_agents(gave: dict[str, Any], by: str) -> None:
    told, model = gave["shapes"][f"stopped_by_{by}"], gave["shapes"]["no_model"]

    assert {by: 1} == told["denied"]
    if by == "breaker":  # of the tool alone: the model reads why, and goes on
        assert ("done without", [["add", "cancelled", 1]]) == (told["answer"], told["tools"])
    else:
        assert STOPPED[by][2] in told["answer"]
    assert model["answer"].startswith("CallDenied: model:gpt-x was not called: its circuit is open")
    assert {"cancelled": 1} == model["requests"]
