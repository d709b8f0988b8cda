"""What a real crew told its bus, in any order: exactly this ledger; and the real crew itself.

CrewAI forbids packages that the other tests need, so it lives in an environment of its own, beside the wheel that
people install; `tests/golden/crewai` is what one such run heard.
"""

import asyncio
import json
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from environments import ROOT, environment, example, run
from heard import recorded
from ledger_of import LEDGER, WOVEN, Collected, ledger_of, plain, told_by
from scripted_tools import Broken

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.feed.adapters import crewai
from streams.feed.adapters.crewai import AgentStreamsListener

EXPECTED: Final = told_by("crewai", LEDGER)
ONE_TOOL: Final = ["AgentStart planner", "ModelStart gpt-x", "TokenUsage gpt-x", "ModelEnd gpt-x"]


def heard() -> list[Any]:
    """Return what a crew told, as the bus hands it over."""
    events = []
    for said in recorded("crewai"):
        said["timestamp"] = datetime.fromisoformat(said["timestamp"])
        for name in ("agent", "task", "failure"):
            if name in said:
                said[name] = SimpleNamespace(**said[name])
        events.append(SimpleNamespace(**said))
    return events


async def told(listener: AgentStreamsListener, events: list[Any]) -> None:
    await asyncio.gather(*(listener.hear(None, event) for event in events))


@pytest.fixture
def out() -> Collected:
    return Collected()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a moment must not seem to be handlers that are late."""
    monkeypatch.setattr(crewai, "HOLD_S", 60.0)
    monkeypatch.setattr(crewai, "SETTLE_S", 0.3)


@pytest.mark.usefixtures("patient")
async def test_what_a_crew_tells_gives_the_ledger(out: Collected) -> None:
    await told(AgentStreamsListener(out), heard())

    assert ledger_of(out) == EXPECTED
    assert {each.session_id for each in out.events} == {"t1"}
    assert {each.agent for each in out.events} == {"planner"}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.usefixtures("patient")
async def test_the_order_in_which_handlers_run_changes_nothing(out: Collected, seed: int) -> None:
    events = heard()
    random.Random(seed).shuffle(events)
    await told(AgentStreamsListener(out), events)

    assert ledger_of(out) == EXPECTED
    requests = {each.call_id for each in out.of(AgentEnd)}
    assert {each.parent_id for kind in (ModelEnd, ToolEnd) for each in out.of(kind)} == requests
    took = {each.call_id: each.duration_ms for each in out.of(AgentEnd)}
    assert all(each.duration_ms <= took[each.parent_id] for each in (*out.of(ModelEnd), *out.of(ToolEnd)))


@pytest.mark.usefixtures("patient")
async def test_a_second_listener_changes_nothing(out: Collected) -> None:
    one, other = AgentStreamsListener(out), AgentStreamsListener(out)
    await asyncio.gather(told(one, heard()), told(other, heard()))

    assert ledger_of(out) == EXPECTED


async def test_an_end_whose_beginning_never_comes_is_given_up_and_told_as_nothing(out: Collected) -> None:
    events = [each for each in heard() if each.type != "tool_usage_started"]
    await told(AgentStreamsListener(out), events)

    assert not out.of(ToolEnd)
    assert {"success": 1, "error": 1} == dict(Counter(each.status for each in out.of(AgentEnd)))
    assert 4 == len(out.of(TokenUsage))


async def test_an_emitter_that_raises_and_nonsense_are_not_noticed() -> None:
    listener = AgentStreamsListener(Broken())
    await told(listener, [*heard(), SimpleNamespace(type="tool_usage_started", agent_id=None)])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with CrewAI and the wheel."""
    return environment(tmp_path_factory.mktemp("crewai"), "crewai>=1.15,<2")


@pytest.mark.long  # CrewAI brings 130 packages
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "crewai_crew.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"10 of 10 events are in {prefix}events" == count


@pytest.mark.long
def test_a_real_crew_beside_the_wheel_gives_the_ledger(python: Path, tmp_path: Path) -> None:
    program, gave = ROOT / "tests/other_environments/crewai_crews.py", tmp_path / "gave.json"
    run(python, program, gave, PYTHONPATH=str(ROOT / "tests"), HOME=str(tmp_path))
    said = json.loads(gave.read_text())

    assert ["done", "RuntimeError: out of order"] == said["answers"]
    assert [*ONE_TOOL, "ToolStart add", "ToolEnd add"] == said["story"][:6]
    assert (EXPECTED.requests, EXPECTED.models, EXPECTED.errors) == (said["requests"], said["models"], said["errors"])
    assert list(EXPECTED.tokens) == said["tokens"]
    assert sorted([*key, count] for key, count in EXPECTED.tools.items()) == said["tools"]
    assert sorted(said["story"]) == said["twice"]
    assert ["t1"] == said["sessions"]
    assert [False, False, False, True, False] == said["first_tokens"]
    assert "ToolEnd unsure error" in said["failed"]
    answer, woven = said["woven"]
    assert ("done", plain(told_by("crewai", WOVEN))) == (answer, woven)
    answer, story = said["no_tool"]
    assert ("done without", True) == (answer, "ToolEnd add cancelled" in story)
    answer, story = said["no_model"]
    assert "HookAborted: model:gpt-x was not called: its circuit is open. Use something else." == answer
    assert ["AgentStart planner", "AgentEnd planner cancelled"] == story
    assert ("model:gpt-x", "t1") == (said["asked"]["target"], said["asked"]["session_id"])
    lines = recorded("crewai")
    assert sorted(each["type"] for each in lines) == sorted(each["type"] for each in said["heard"])
    assert {key for each in lines for key in each} == {key for each in said["heard"] for key in each}
