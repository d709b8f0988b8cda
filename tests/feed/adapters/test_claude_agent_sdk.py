"""What the Claude Agent SDK told its hooks and messages in a script: exactly this ledger; and the real SDK itself.

The SDK is large, so it lives in an environment of its own, beside the wheel that people install, on a transport that
plays the command's side of its protocol; `tests/golden/claude_agent_sdk` is what one such run heard.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import environments
import pytest
from environments import environment, example
from heard import recorded
from ledger_of import LEDGER, Collected, ledger_of, plain
from scripted_tools import Broken
from verdict_records import STOPPED, stopped

from streams.event.model import AgentEnd, ModelEnd, TokenUsage, ToolEnd
from streams.feed.adapters.claude_agent_sdk import AgentStreamsWatch

PROMPT: Final = {"session_id": "t1", "hook_event_name": "UserPromptSubmit", "prompt": "?"}
USE: Final = {"session_id": "t1", "tool_name": "add", "tool_input": {}, "tool_use_id": "u1"}


def heard() -> list[list[dict[str, Any]]]:
    """Return what each of the runs heard."""
    found: list[list[dict[str, Any]]] = [[]]
    for said in recorded("claude_agent_sdk"):
        found[-1].append(said)
        if "leave" in said:
            found.append([])
    return [each for each in found if each]


def message_of(said: dict[str, Any]) -> Any:
    fields = dict(said["fields"])
    if "blocks" in said:
        pairs = zip(said["blocks"], fields["content"], strict=True)
        fields["content"] = [type(name, (SimpleNamespace,), {})(**block) for name, block in pairs]
    return type(said["message"], (SimpleNamespace,), {})(**fields)


async def tell(lines: list[dict[str, Any]], *watches: AgentStreamsWatch) -> None:
    """Hand over what the SDK handed over, by the doors that it uses."""

    async def told() -> AsyncIterator[Any]:
        for said in lines:
            if "hook" in said:
                for watch in watches:
                    await watch.hook(said["hook"], said["tool_use_id"], {})
            elif "message" in said:
                await asyncio.sleep(0)
                yield message_of(said)
            elif said["error"] is not None:
                raise asyncio.CancelledError

    stream: Any = told()
    for watch in watches:
        stream = watch.messages(stream)
    try:
        async for _ in stream:
            pass
    except asyncio.CancelledError:
        assert "CancelledError" == lines[-1]["error"]


@pytest.fixture
def out() -> Collected:
    return Collected()


async def test_what_an_agent_tells_gives_the_ledger(out: Collected) -> None:
    watch = AgentStreamsWatch(out)
    for lines in heard():
        await tell(lines, watch)

    assert LEDGER == ledger_of(out)
    assert {("claude", "t1")} == {(each.agent, each.session_id) for each in out.events}
    requests = {each.call_id for each in out.of(AgentEnd)}
    assert requests == {each.parent_id for kind in (ModelEnd, ToolEnd) for each in out.of(kind)}
    assert [len("done"), len("out of order"), 0] == [each.response_bytes for each in out.of(AgentEnd)]
    assert "server_error" == next(each.error_code for each in out.of(ModelEnd) if each.status == "error")
    assert {"anthropic"} == {each.provider for each in out.of(ModelEnd)}
    assert [False] * 5 + [True] == [each.first_token_ms is not None for each in out.of(ModelEnd)]


async def test_the_sum_of_a_prompt_is_an_aggregate_with_its_cost(out: Collected) -> None:
    await tell(heard()[0], AgentStreamsWatch(out))
    *leaves, whole = out.of(TokenUsage)

    assert ["leaf"] * 4 + ["aggregate"] == [each.scope for each in (*leaves, whole)]
    assert (400, 80, 160) == (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens)
    assert (12_300_000, {None}) == (whole.cost_nano_usd, {each.cost_nano_usd for each in leaves})
    assert out.only(AgentEnd).call_id == whole.call_id


async def test_two_watches_on_one_emitter_tell_once(out: Collected) -> None:
    watches = AgentStreamsWatch(out), AgentStreamsWatch(out)
    for lines in heard():
        await tell(lines, *watches)

    assert LEDGER == ledger_of(out)


async def test_messages_may_be_read_long_after_their_hooks(out: Collected) -> None:
    """Hooks are called at once, messages wait until somebody takes them."""
    watch = AgentStreamsWatch(out)
    for lines in heard():
        await tell(sorted(lines, key=lambda each: "hook" not in each), watch)

    assert LEDGER == ledger_of(out)


async def test_sessions_at_the_same_time_are_kept_apart(out: Collected) -> None:
    watch = AgentStreamsWatch(out)
    renamed = [json.loads(json.dumps(lines).replace('"t1"', f'"s{n}"')) for n, lines in enumerate(heard())]
    await asyncio.gather(*(tell(lines, watch) for lines in renamed))

    assert LEDGER == ledger_of(out)
    assert {"s0", "s1", "s2"} == {each.session_id for each in out.events}


async def test_whatever_is_missing_every_beginning_has_one_end() -> None:
    """Any one of the hooks and messages may be lost."""
    for lines in heard():
        for index in range(len(lines) - 1):
            out = Collected()
            await tell([*lines[:index], *lines[index + 1 :]], AgentStreamsWatch(out))

            assert 1 == sum(ledger_of(out).requests.values()), lines[index]


async def test_an_emitter_that_raises_and_nonsense_are_not_noticed() -> None:
    watch = AgentStreamsWatch(Broken())
    for lines in heard():
        await tell(lines, watch)

    assert {} == await watch.hook({}, None, None)
    assert {} == await watch.hook({**USE, "hook_event_name": "PreToolUse", "tool_input": object()}, "u1", None)


@pytest.mark.parametrize("by", STOPPED)
async def test_what_is_stopped_is_answered_with_why(out: Collected, by: str) -> None:
    with stopped(by) as guard:
        watch = AgentStreamsWatch(out, tenant="acme", guard=guard)
        prompt = await watch.hook(PROMPT, None, None)
        before = await watch.hook({**USE, "hook_event_name": "PreToolUse"}, "u1", None)
        after = await watch.hook({**USE, "hook_event_name": "PostToolUse", "tool_response": "3"}, "u1", None)

    decided = before["hookSpecificOutput"]
    assert ("PreToolUse", "deny") == (decided["hookEventName"], decided["permissionDecision"])
    assert STOPPED[by][2] in decided["permissionDecisionReason"]
    if by == "breaker":  # of the tool alone
        assert ({}, {}) == (prompt, after)
    else:
        assert "block" == prompt["decision"]
        assert STOPPED[by][2] in prompt["reason"]
        assert (False, prompt["reason"]) == (after["continue_"], after["stopReason"])
        assert "AgentEnd claude cancelled" in out.story()  # nobody reads messages here, which would say the end
    assert not out.of(ToolEnd)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the SDK and the wheel."""
    return environment(tmp_path_factory.mktemp("claude"), "claude-agent-sdk>=0.2.180,<0.3")


@pytest.mark.long  # an environment of 370 MB
@pytest.mark.kafka
async def test_the_example_does_what_it_says(python: Path, kafka: str, prefix: str, tmp_path: Path) -> None:
    answer, count = await example(python, "claude_agent_sdk_agent.py", kafka, prefix, tmp_path)

    assert "It rains in Lisbon: take a coat." == answer
    assert f"11 of 11 events are in {prefix}events" == count


@pytest.fixture(scope="module")
def gave(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real SDK gave."""
    return environments.gave(python, "claude_runs.py", tmp_path_factory.mktemp("gave"))


@pytest.mark.long
def test_the_real_sdk_gives_the_ledger(gave: dict[str, Any]) -> None:
    assert plain(LEDGER) == {name: gave[name] for name in LEDGER._fields}
    assert ["done", "out of order"] == gave["answers"]
    assert (["t1 claude"], [4, 12, 0]) == (gave["sessions"], gave["answer_bytes"])
    assert [False] * 5 + [True] == gave["first_tokens"]
    assert sorted(gave["story"]) == sorted(gave["twice"])
    lines = recorded("claude_agent_sdk")
    assert sorted(each.get("message", "hook") for each in lines) == sorted(
        each.get("message", "hook") for each in gave["heard"]
    )


@pytest.mark.long
def test_subagents_are_requests_inside_the_tool_that_began_them(gave: dict[str, Any]) -> None:
    one, two = gave["shapes"]["subagent"], gave["shapes"]["subagents_at_once"]

    assert ({"success": 2}, {"success": 4}) == (one["requests"], one["models"])
    assert [["Task", "claude"], ["expert", "Task"]] == [pair for pair in one["within"] if "Task" in pair]
    assert (2, 1) == (one["within"].count(["gpt-x", "expert"]), one["within"].count(["add", "expert"]))
    assert {"success": 3} == two["requests"]
    assert (2, 1) == (two["within"].count(["gpt-x", "expert"]), two["within"].count(["gpt-x", "critic"]))


@pytest.mark.long
def test_fragments_failures_and_what_was_given_up_are_told_as_they_ended(gave: dict[str, Any]) -> None:
    shapes = gave["shapes"]

    assert ([True, True], [200, 40, 80, 0, 10]) == (shapes["fragments"]["first_tokens"], shapes["fragments"]["tokens"])
    assert [["add", "success", 2], ["flaky", "error", 1]] == shapes["tools_at_once"]["tools"]
    assert [["add", "cancelled", 1]] == shapes["not_permitted"]["tools"]
    assert {"cancelled": 1} == shapes["closed_early"]["requests"] == shapes["given_up"]["requests"]
    assert [100, 1, 40, 0, 0] == shapes["given_up"]["tokens"]  # as far as the SDK had told
    assert ({"success": 1}, {"success": 2}) == (shapes["client"]["requests"], shapes["client"]["models"])
    assert ["AgentStart claude", "ToolStart add", "ToolEnd add", "AgentEnd claude"] == shapes["hooks_alone"]["story"]
    assert "done" == shapes["broken"]


@pytest.mark.long
@pytest.mark.parametrize("by", STOPPED)
def test_a_guard_stops_the_real_sdk(gave: dict[str, Any], by: str) -> None:
    shapes = gave["shapes"]
    told = shapes[f"stopped_by_{by}"]

    assert ([], {by: 1}) == (told["tools"], told["denied"])
    if by == "breaker":  # of the tool alone: the model reads why, and goes on
        assert ("done without", {"success": 2}) == (told["answer"], told["models"])
    else:
        assert STOPPED[by][2] in told["answer"]
    for name, models in (("no_model", {}), ("stopped_midway", {"success": 1})):
        assert "its circuit is open" in shapes[name]["answer"]
        assert ({"cancelled": 1}, models) == (shapes[name]["requests"], shapes[name]["models"])
