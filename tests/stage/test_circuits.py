"""Stories of circuits through both stages and the commands between: in order, exactly once, and after any restart."""

import json
from typing import Any, Final

import msgspec
import pytest
from one_stage import T0, One, Record
from through_stages import Stages, event

from streams.fold.circuits import pack_codes
from streams.fold.rollup import BreakerOrder, Delta, RollupBatch
from streams.rule.circuit import BreakerState, decode_state
from streams.rule.parse import parse_rules
from streams.stage.commands import CommandsPartition
from streams.stage.plan import Send
from streams.stage.rollup_rows import META_KEY
from streams.stage.rollups import RollupsPartition
from streams.topology import BREAKERS

RULES: Final = parse_rules("""
breakers:
  - {over: tool, window: 4 calls, min_calls: 4, open_for: 30s, half_open_calls: 2, slow_call: 1s, slow_call_rate: 75%}
  - {over: agent, window: 3 calls, min_calls: 3, open_for: 30s, automatic: false}
  - {over: provider, window: 1m, min_calls: 2, ignored_codes: [content_filter]}
  - {over: endpoint, window: 2 calls, initial: metrics_only}
""")


def told(stages: Stages) -> list[dict[str, Any]]:
    return [json.loads(value) for _, value in stages.sent(BREAKERS.suffix) if value]


def states(stages: Stages, breaker: str) -> list[str]:
    return [each["state"] for each in told(stages) if each["breaker"] == breaker]


class Calls:
    """Calls of one session, a second apart."""

    def __init__(self) -> None:
        self.stages = Stages(RULES)
        self.number = 0

    @property
    def now_ms(self) -> int:
        return T0 + self.number * 1000

    def publish(self, kind: str, **fields: Any) -> None:
        self.number += 1
        self.stages.publish([event(kind, self.number, session_id="s", **fields)])

    def tools(self, *statuses: str, duration_ms: int = 5) -> None:
        """End calls of one tool, all in one flush."""
        events = []
        for status in statuses:
            self.number += 1
            fields = {"tool": "search", "status": status, "duration_ms": duration_ms, "session_id": "s"}
            events.append(event("tool_end", self.number, **fields))
        self.stages.publish(events)

    def wait(self, ms: int) -> None:
        self.number += ms // 1000
        self.stages.tick(self.now_ms)


def test_a_flush_that_ends_well_does_not_hide_how_it_began() -> None:
    """Four failures fill the window, whatever comes after them in the same flush."""
    calls = Calls()
    calls.tools("error", "timeout", "error", "error", *["success"] * 20)

    (record,) = told(calls.stages)
    assert ("tool|search", "open", "failure_rate_exceeded") == tuple(
        record[name] for name in ("breaker", "state", "reason")
    )
    assert (4, 4, 4, 0, 1) == tuple(
        record[name] for name in ("window_calls", "calls", "failures", "window_ms", "attempts")
    )


def test_probes_are_the_first_calls_after_the_wait_and_no_more() -> None:
    calls = Calls()
    calls.tools(*["error"] * 4)
    calls.wait(31_000)
    calls.tools("success", "success", *["error"] * 3)
    assert ["open", "half_open", "closed"] == states(calls.stages, "tool|search")

    calls.tools("error")
    assert "open" == states(calls.stages, "tool|search")[-1]
    assert 1 == told(calls.stages)[-1]["attempts"]


def test_slow_calls_open_a_circuit_by_themselves() -> None:
    calls = Calls()
    calls.tools("success", "success", duration_ms=1000)
    calls.tools("success", "success", duration_ms=1001)
    assert [] == told(calls.stages)
    calls.tools("success", duration_ms=1001)

    (record,) = told(calls.stages)
    assert ("slow_call_rate_exceeded", 0.75, 3, 0) == tuple(
        record[name] for name in ("reason", "slow_call_rate", "slow_calls", "failures")
    )


def test_without_automatism_somebody_has_to_ask_after_the_wait() -> None:
    """Who asks is seen by the start of a call, or by a guard that denied one."""
    for kind, fields in (
        ("agent_start", {"call_id": "c"}),
        ("guard", {"target": "agent|planner", "denied_by": "breaker"}),
    ):
        calls = Calls()
        for _ in range(3):
            calls.publish("agent_end", status="error")
        calls.publish("agent_start", call_id="early")
        calls.wait(31_000)
        calls.publish("tool_start", tool="other")
        assert ["open"] == states(calls.stages, "agent|planner")

        calls.publish(kind, **fields)
        assert ["open", "half_open"] == states(calls.stages, "agent|planner")


def test_error_codes_are_left_out_of_a_window_of_time() -> None:
    calls = Calls()
    for code in ("content_filter", "content_filter", "content_filter", "overloaded"):
        calls.publish("model_end", model="m", provider="p", status="error", error_code=code)
    assert [] == told(calls.stages)

    calls.publish("model_end", model="m", provider="p", status="error", error_code="overloaded")
    assert [("provider|p", "open", 2)] == [
        (each["breaker"], each["state"], each["calls"]) for each in told(calls.stages)
    ]


def test_a_circuit_that_begins_in_another_state_says_so() -> None:
    calls = Calls()
    for _ in range(3):
        calls.publish("agent_end", status="error", endpoint="/chat")

    begun, exceeded = [each for each in told(calls.stages) if each["over"] == "endpoint"]
    assert ("metrics_only", "initial_state", []) == tuple(begun[name] for name in ("state", "reason", "events"))
    assert ("metrics_only", ["failure_rate_exceeded"]) == (exceeded["state"], exceeded["events"])


# ---- commands ----------------------------------------------------------------------------------------------------


def order(command_id: str, action: str, breaker: str, **fields: Any) -> bytes:
    told = {"kind": "breaker", "id": command_id, "time": T0, "by": "ops", "action": action, "breaker": breaker}
    return json.dumps({**told, **fields}).encode()


def sends_of(*commands: bytes, partitions: int = 1) -> list[Send]:
    desk = CommandsPartition(0, partitions)
    desk.feed([Record(at, T0, None, value) for at, value in enumerate(commands)])
    plan = desk.plan()
    assert plan is not None
    return plan.sends


def second() -> One[RollupsPartition]:
    return One(lambda: RollupsPartition(0, 1, RULES))


def batch(*codes: int, sequence: int = 1, tool: str = "search") -> bytes:
    delta = Delta("tool", (tool,), T0, {"events": len(codes)}, outcomes=pack_codes(codes) if codes else b"")
    return msgspec.json.encode(RollupBatch(0, sequence, len(codes), T0, [delta]))


def test_a_command_takes_its_place_in_the_log_among_the_calls() -> None:
    """Three failures before it and three after it: the window of four never had four of them."""
    one = second()
    (reset,) = sends_of(order("c", "reset", "tool|search", note="try again"))
    one.state.feed([one.write(batch(1, 1, 1)), one.write(reset.value), one.write(batch(1, 1, 1, sequence=2))])
    one.flush()
    (record,) = one.told("breakers")
    assert ("closed", "reset", ["reset"], "c", "ops", "try again") == tuple(
        record[name] for name in ("state", "reason", "events", "command", "by", "note")
    )

    one.state.feed([one.write(batch(1, sequence=3))])
    one.flush()
    assert "open" == one.told("breakers")[-1]["state"]


def test_after_a_torn_transaction_calls_and_commands_still_count_once() -> None:
    """The rows of the circuit and of its key were left behind, the meta row was not."""
    one = second()
    one.state.feed([one.write(batch(0, 0, 1))])
    one.flush()
    meta = one.rows[META_KEY]
    (forced,) = sends_of(order("c", "metrics-only", "tool|fetch"))
    one.state.feed([one.write(batch(0, 0, sequence=2)), one.write(forced.value)])
    one.flush()
    one.rows[META_KEY] = meta
    one.reload()
    one.replay()
    one.flush()

    rows = {key: decode_state(value) for key, value in one.rows.items() if key[:1] == b"b"}
    search, fetch = rows[b'b["tool","search"]'], rows[b'b["tool","fetch"]']
    assert (4, 1) == (search.live_calls, search.live_failures)
    assert (5, 1, "c") == (int(fetch.state), fetch.transition, fetch.command)


@pytest.mark.parametrize("whole_before", [0, 2])
def test_a_pattern_is_about_the_rows_before_it_wherever_the_transaction_with_it_was_torn(whole_before: int) -> None:
    """Of rows that were left behind it means those that had come, not those that came later, restarts or not."""
    values = [
        to_all("a", sequence=1), batch(0, 1, sequence=2), to_all("b", sequence=3), batch(0, sequence=4),
        batch(1, 1, 0, sequence=5, tool="fetch"), batch(sequence=6, tool="idle"),
        batch(1, 1, sequence=7, tool="once"), to_all("c", sequence=8),
        batch(1, 1, 1, sequence=9, tool="late"), batch(1, 0, sequence=10, tool="fetch"),
        batch(sequence=11, tool="last"),  # no call has ended: it has no circuit until it is told something
    ]  # fmt: skip
    whole = second()
    records = [whole.write(value) for value in values]
    whole.state.feed(records[:whole_before])
    whole.flush()
    stored = dict(whole.rows)
    whole.state.feed(records[whole_before:])
    plan = whole.flush()
    assert plan is not None
    expected = circuits_of(whole)
    assert {"fetch": 1, "idle": 1, "late": 0, "once": 1, "search": 2} == {
        names: state.transition for names, state in expected.items()
    }

    for torn in range(len(plan.rows)):  # all but the meta row, which ends it
        for at_once in (1, 2, 11):
            again = second()
            again.rows = stored | {key: row for key, row in plan.rows[:torn] if row is not None}
            for at in range(whole_before, len(records), at_once):
                again.reload()
                again.state.feed(records[at : at + at_once])
                again.flush()
            assert expected == circuits_of(again), f"torn behind {torn} rows, {at_once} records at once"


def to_all(command: str, *, sequence: int) -> bytes:
    """Write a command to reset the circuits of all tools, between batches of the same source."""
    orders = [BreakerOrder(command, T0, "reset", "tool|*", "ops")]
    return msgspec.json.encode(RollupBatch(0, sequence, 0, T0, [], breaker_orders=orders))


def circuits_of(one: One[RollupsPartition]) -> dict[str, BreakerState]:
    """Return the stored circuits by their tool, without how far they have read."""
    states = {json.loads(key[1:])[1]: decode_state(value) for key, value in one.rows.items() if key[:1] == b"b"}
    return {tool: msgspec.structs.replace(state, stamp=-1) for tool, state in states.items()}


def test_orders_to_one_circuit_go_to_its_owner_and_patterns_to_everybody() -> None:
    one = sends_of(order("c", "disable", "tool|search"), partitions=3)
    everybody = sends_of(order("c", "disable", "tool|*"), partitions=3)

    assert 1 == len(one)
    assert [0, 1, 2] == [send.partition for send in everybody]
    (told,) = json.loads(everybody[0].value or b"")["breaker_orders"]
    assert ["breaker", "c", T0, "disable", "tool|*", "ops", ""] == told


@pytest.mark.parametrize(
    "breaker", ["search", "tool", "tool|", "tool|a|b", "planet|a", "session|*", "tool|__other__", "agent_tool|a"]
)
def test_names_that_no_circuit_can_have_are_refused(breaker: str) -> None:
    (letter,) = sends_of(order("c", "disable", breaker))

    assert "dead-letter" == letter.topic
    assert "invalid" == json.loads(letter.value or b"")["reason"]


def test_a_command_to_a_key_that_nobody_guards_moves_nothing() -> None:
    one = second()
    (send,) = sends_of(order("c", "disable", "model|m"))
    one.state.feed([one.write(send.value)])
    one.flush()

    assert [] == one.told("breakers")
