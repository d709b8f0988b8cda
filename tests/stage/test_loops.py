"""What a detector says, in the alert: the call, how often, since when, what it has cost; and what ends it."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pytest
from one_stage import T0, One, happen

from streams.fold.norms import DEFAULT_MS, FLOOR_MS
from streams.fold.trail import FAULT_REACH, STALE_MS
from streams.rule.defaults import default_rules
from streams.stage.sessions import SessionsPartition

Event = dict[str, Any]
STEP_MS: Final = 2_000


class Agent:
    """Publishes what one session does, two seconds apart."""

    def __init__(self) -> None:
        self.one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1, default_rules()))
        self.now_ms = T0
        self.ids: Iterator[int] = count()

    def say(self, kind: str, **fields: Any) -> None:
        event = {"id": f"e{next(self.ids)}", "kind": kind, "agent": "a", "session_id": "s", "time": self.now_ms}
        happen(self.one, event | fields)
        self.one.flush()

    def call(self, tool: str = "search", **fields: Any) -> None:
        self.now_ms += STEP_MS
        self.say("tool_end", **{"tool": tool, "duration_ms": 100, "arguments_hash": "9f3a" * 8} | fields)

    def spend(self) -> None:
        self.say("token_usage", model="m", input_tokens=900, output_tokens=100, cost_nano_usd=10_000_000)

    def told(self, alert: str) -> list[Event]:
        return [each for each in self.one.told("alerts") if each["alert"] == alert]

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        last = {each["alert"]: each["state"] for each in self.one.told("alerts")}
        return {name for name, state in last.items() if state == "firing"}


def test_a_repeated_call_is_named_counted_and_priced() -> None:
    agent = Agent()
    for _ in range(9):
        agent.call(result_hash="aa" * 8)
        agent.spend()

    (alert,) = agent.told("SessionRepeatsCall")
    assert "Session s repeats search(args 9f3a…) ×6" == alert["summary"]
    assert True is alert["stop"]
    assert 6 == alert["value"]
    first_repeat_ms = T0 + 2 * STEP_MS
    # of six calls the first repeat is the second: four reports of 1,000 tokens and a cent each lie behind it
    assert {
        "signature": "search(args 9f3a…) ×6", "times": 6, "since_ms": first_repeat_ms, "tokens": 4_000,
        "cost_nano_usd": 40_000_000,
    } == alert["explanation"]  # fmt: skip
    assert alert["description"].endswith("since 2025-11-21T11:20:04.000Z: 4,000 tokens and 0.04 USD since then.")


def test_something_new_ends_it() -> None:
    agent = Agent()
    for _ in range(8):
        agent.call(result_hash="aa" * 8)
    assert {"SessionRepeatsCall"} == agent.firing()
    for number in range(40):
        agent.call(arguments_hash=f"{number:032x}", result_hash=f"{number:016x}")

    assert set() == agent.firing()
    assert "recovered" == agent.told("SessionRepeatsCall")[-1]["reason"]
    assert "search(args 9f3a…) ×6" == agent.told("SessionRepeatsCall")[-1]["explanation"]["signature"]


def test_a_cycle_is_shown_in_its_order_and_is_no_repeat() -> None:
    agent = Agent()
    for _ in range(8):
        for tool in ("plan", "search", "read"):
            agent.call(tool, result_hash="aa" * 8)

    assert {"SessionInCycle"} == agent.firing()
    (alert,) = agent.told("SessionInCycle")
    assert alert["explanation"]["signature"] in {f"{a}→{b}→{c}→{a} ×4" for a, b, c in (
        ("plan", "search", "read"), ("search", "read", "plan"), ("read", "plan", "search"))}  # fmt: skip


def test_calls_without_an_arguments_hash_say_nothing() -> None:
    agent = Agent()
    for _ in range(50):
        agent.call(arguments_hash=None, result_hash="aa" * 8)

    assert set() == agent.firing()


def test_without_a_hash_of_the_result_a_repeat_counts_half() -> None:
    agent = Agent()
    for _ in range(10):
        agent.call(output_bytes=7)
    assert set() == agent.firing()
    agent.call(output_bytes=7)

    assert {"SessionRepeatsCall"} == agent.firing()


def test_results_that_grow_are_polling() -> None:
    agent = Agent()
    for size in range(50):
        agent.call(output_bytes=size)

    assert set() == agent.firing()


def test_an_error_that_only_numbers_tell_apart_is_the_same() -> None:
    agent = Agent()
    for number in range(8):
        agent.call(
            arguments_hash=f"{number:032x}", status="error", error_message=f"no such order {number} in db-{number}"
        )

    assert "SessionRepeatsError" in agent.firing()
    assert agent.told("SessionRepeatsError")[0]["summary"].endswith("×6")


def test_attempts_of_one_call_are_no_calls() -> None:
    agent = Agent()
    for attempt in range(1, 9):
        agent.call(attempt=attempt, status="error", error_message="refused")

    assert set() == agent.firing()


def test_who_backs_off_does_not_run_away() -> None:
    agent = Agent()
    for wait_s in (1, 2, 4, 8, 16, 32, 64, 128):
        agent.say("error", error_type="rate_limit", component="model", code="429", message="slow down")
        agent.now_ms += wait_s * 1_000

    assert set() == agent.firing()


def test_a_known_tool_is_overdue_soon_and_an_unknown_one_late() -> None:
    agent = Agent()
    for number in range(30):
        agent.call(arguments_hash=f"{number:032x}", result_hash=f"{number:016x}")
    agent.say("tool_start", tool="search", call_id="c-1")
    began_ms = agent.now_ms
    agent.one.state.tick(began_ms + FLOOR_MS - 1)
    agent.one.flush()
    assert set() == agent.firing()
    agent.one.state.tick(began_ms + FLOOR_MS + 101)
    agent.one.flush()

    assert {"SessionCallOverdue"} == agent.firing()
    (alert,) = agent.told("SessionCallOverdue")
    assert "Session s: search(call c-1) silent for more than 30 s" == alert["summary"]
    assert began_ms == alert["explanation"]["since_ms"]

    other = Agent()
    other.say("tool_start", tool="unheard", call_id="c-2")
    other.one.state.tick(T0 + DEFAULT_MS - 1)
    other.one.flush()
    assert set() == other.firing()
    other.one.state.tick(T0 + DEFAULT_MS + 101)
    other.one.flush()
    assert "SessionCallOverdue" in other.firing()


def test_a_heartbeat_is_a_sign_of_life() -> None:
    agent = Agent()
    agent.say("tool_start", tool="unheard", call_id="c")
    for _ in range(10):
        agent.now_ms += DEFAULT_MS // 2
        agent.say("heartbeat", call_id="c")

    assert "SessionCallOverdue" not in agent.firing()


def test_a_call_whose_end_came_before_its_start_does_not_hang() -> None:
    agent = Agent()
    agent.say("tool_end", tool="t", call_id="c")
    agent.say("tool_start", tool="t", call_id="c")
    agent.one.state.tick(T0 + 2 * DEFAULT_MS)
    agent.one.flush()

    assert set() == agent.firing()


def test_old_errors_are_no_row() -> None:
    agent = Agent()
    for number in range(12):
        agent.call(arguments_hash=f"{number:032x}", status="error", error_message="refused")
        if number % 4 == 3:
            agent.now_ms += STALE_MS + 1
        for other in range(FAULT_REACH // 2 if number % 4 == 1 else 0):
            agent.call("read", arguments_hash=f"{number}{other:031x}", result_hash=f"{number}{other:015x}")

    assert "SessionRepeatsError" not in agent.firing()


@pytest.mark.parametrize("after", range(1, 24))
def test_a_restart_between_any_two_calls_changes_nothing(after: int) -> None:
    """Trails, norms and what explains an alert are stored: the same records, whatever was reloaded between them."""
    straight, restarted = Agent(), Agent()
    for agent in (straight, restarted):
        for number in range(24):
            agent.call(("plan", "search")[number % 2] if number > 9 else "search", result_hash="aa" * 8)
            agent.spend()
            if number % 5 == 0:
                agent.call("write", status="timeout")
            if agent is restarted and number == after:
                agent.one.reload()

    assert straight.one.told("alerts") == restarted.one.told("alerts")
    assert straight.one.rows == restarted.one.rows
    assert {"SessionRepeatsCall", "SessionInCycle"} <= {each["alert"] for each in straight.one.told("alerts")}
