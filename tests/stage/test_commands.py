"""Stories of commands: validated, once each, to the owners alone, and carried out where they stand in the log."""

import json
import random
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage import T0, Record

from streams.errors import SequenceGap, StateRefused
from streams.event.command import Reset, Scope
from streams.fold.baseline import since_reset
from streams.fold.measure import DIMENSIONS, Dimension
from streams.fold.rollup import Delta, LifetimeRow, ResetOrder, RollupBatch
from streams.fold.session import OVERFLOW
from streams.fold.streamtime import PANE_MS
from streams.rule.parse import parse_rules
from streams.sink.catalog import OF_DIMENSION
from streams.stage import commands
from streams.stage.commands import META_KEY, Accepted, CommandsPartition, accepted_key
from streams.stage.keys import dimension_key, partition_of
from streams.stage.orders import RESETTABLE, route_reset
from streams.stage.plan import Plan, Send
from streams.stage.rollups import RollupsPartition

PARTITIONS: Final = 3
RULES: Final = parse_rules("""
groups:
  - name: g
    rules:
      - {alert: Failing, over: tool, value: {sum: events}, window: 1m, above: 3, severity: critical}
""")


def reset(command_id: str = "c", scope: Any = "all", **fields: Any) -> bytes:
    return json.dumps({"kind": "reset", "id": command_id, "time": T0, "by": "ops", "scope": scope, **fields}).encode()


def of_tool(name: str) -> dict[str, Any]:
    return {"dimension": "tool", "labels": {"tool": name}}


class Desk:
    """The commands topic, its stage and its changelog."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self._partitions = partitions
        self.state = CommandsPartition(0, partitions)
        self.log: list[Record] = []
        self.rows: dict[bytes, bytes] = {}
        self.sends: list[Send] = []

    def tell(self, *values: bytes | None) -> None:
        """Append commands, and feed them."""
        for value in values:
            self.log.append(Record(len(self.log), T0, None, value))
            self.state.feed(self.log[-1:])

    def flush(self) -> Plan | None:
        """Plan, and write what is planned."""
        plan = self.state.plan()
        for key, value in () if plan is None else plan.rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.sends += [] if plan is None else plan.sends
        return plan

    def reload(self) -> None:
        """Throw the partition away, build it from the changelog, and read the whole log again."""
        self.state = CommandsPartition(0, self._partitions)
        self.state.load(self.rows.items())
        self.state.loaded()
        self.state.feed(self.log)

    def sent(self) -> list[tuple[int | None, str]]:
        """Return where orders went, and of which command."""
        batches = [(send.partition, batch(send)) for send in self.sends if send.topic == "rollups"]
        return [(partition, order.command) for partition, each in batches for order in each.orders]

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(send.value or b"") for send in self.sends if send.topic == "dead-letter"]


def batch(send: Send) -> RollupBatch:
    return msgspec.json.decode(send.value or b"", type=RollupBatch)


# ---- what is accepted ------------------------------------------------------------------------------------------


def test_an_order_goes_to_the_owner_of_its_key_and_to_nobody_else() -> None:
    desk = Desk()
    desk.tell(reset("one", of_tool("search")), reset("all"), reset("other", of_tool(OVERFLOW)))
    desk.flush()
    owner = partition_of(dimension_key("tool", ("search",)).encode(), PARTITIONS)

    everywhere = range(PARTITIONS)
    assert [(owner, "one"), *((n, "all") for n in everywhere), *((n, "other") for n in everywhere)] == desk.sent()


def test_orders_are_numbered_without_gaps_by_partition() -> None:
    desk = Desk()
    for number in range(20):
        desk.tell(reset(f"c{number}", of_tool(f"t{number % 5}")), reset(f"all{number}"))
        if number % 7 == 0:
            desk.flush()
            desk.reload()
    desk.flush()

    for partition in range(PARTITIONS):
        batches = [batch(send) for send in desk.sends if send.partition == partition]
        assert list(range(1, len(batches) + 1)) == [each.sequence for each in batches]
        assert {-1} == {each.source for each in batches}
        headers = [dict(send.headers) for send in desk.sends if send.partition == partition]
        assert [b"%d" % each.sequence for each in batches] == [each["sequence"] for each in headers]


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_a_repeated_id_happens_once(restart: bool) -> None:
    desk = Desk(1)
    desk.tell(reset("a"), reset("a", of_tool("search")))
    desk.flush()
    if restart:
        desk.reload()
    desk.tell(reset("a"), reset("b"))
    desk.flush()

    assert [(0, "a"), (0, "b")] == desk.sent()
    assert {"accepted": 2, "repeated": 2, "rejected": 0} == desk.state.counters()
    assert not desk.letters()


def test_a_refused_command_may_be_corrected_under_its_id() -> None:
    desk = Desk(1)
    desk.tell(reset("a", {"dimension": "planet"}), reset("a", of_tool("search")))
    desk.flush()

    assert [(0, "a")] == desk.sent()


def test_ids_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "IDS_MAX", 3)
    desk = Desk(1)
    desk.tell(*(reset(f"c{number}") for number in range(5)))
    desk.flush()

    assert {accepted_key(f"c{number}") for number in (2, 3, 4)} | {META_KEY} == desk.rows.keys()
    desk.reload()
    desk.tell(reset("c4"), reset("c0"))
    desk.flush()
    assert ["c0", "c1", "c2", "c3", "c4", "c0"] == [command for _, command in desk.sent()]
    assert Accepted(6, {0: 6}) == desk.state.accepted()["c0"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"{", "malformed"),
        (reset(kind="explode"), "unknown_kind"),
        (reset(schema=2), "unknown_schema"),
        (reset(time="soon"), "time"),
        (reset(lables={}), "invalid"),
        (reset(scope={"dimension": "planet"}), "invalid"),
        (reset(scope={"dimension": "all"}), "invalid"),
        (reset(scope={"dimension": "tool", "labels": {"agent": "a"}}), "invalid"),
        (reset(metrics=["agent_tool_calls_in_flight"]), "invalid"),
        (reset(metrics=["agent_tool_*", "nothing"]), "invalid"),
        (reset(scope=of_tool("t"), metrics=["agent_model_*"]), "invalid"),
        (reset(metrics=["agent_tool_calls_tota?"]), "invalid"),
    ],
)
def test_what_makes_no_sense_is_a_dead_letter_that_says_where_it_stood(value: bytes | None, reason: str) -> None:
    desk = Desk()
    desk.tell(reset("good"), value)
    desk.flush()

    (letter,) = desk.letters()
    assert ("commands", 0, 1, reason) == tuple(letter[name] for name in ("topic", "partition", "offset", "reason"))
    assert {"accepted": 1, "repeated": 0, "rejected": 1} == desk.state.counters()
    assert desk.state.next_offset == 2


def test_offsets_taken_before_are_skipped_and_a_torn_flush_is_taken_again() -> None:
    """A row without its meta row: the command was not forwarded, though it looks accepted."""
    desk = Desk(1)
    desk.tell(reset("a"))
    desk.flush()
    whole = dict(desk.rows)
    desk.reload()
    assert desk.flush() is None
    desk.tell(reset("b"))
    plan = desk.state.plan()
    assert plan is not None
    desk.rows = {**whole, **{key: value for key, value in plan.rows if key != META_KEY and value is not None}}
    desk.reload()
    desk.flush()

    assert [(0, "a"), (0, "b")] == desk.sent()


def test_state_of_a_newer_release_is_refused() -> None:
    desk = Desk()
    desk.tell(reset("a"))
    desk.flush()
    meta = msgspec.msgpack.decode(desk.rows[META_KEY], strict=False)
    for key, value in ((META_KEY, msgspec.msgpack.encode([*meta[:3], 9, *meta[4:]])), (b"ix", b"\xc1"), (b"z", b"")):
        state = CommandsPartition(0, 1)
        state.load({**desk.rows, key: value}.items())
        with pytest.raises(StateRefused, match="commands partition 0"):
            state.loaded()


def test_metrics_that_share_a_number_are_reset_together() -> None:
    """Else the reset of one would be seen in the other."""
    for dimension, metrics in RESETTABLE.items():
        for metric in metrics:
            routed = route_reset(Reset(id="1", time=T0, by="ops", scope=Scope(dimension), metrics=[metric]), T0, 1)
            assert not isinstance(routed, str)
            assert isinstance(routed.order, ResetOrder)
            assert routed.order.names is not None
            reset_too = set(routed.order.names[dimension])
            for name, made_of in metrics.items():
                assert reset_too.issuperset(made_of) or reset_too.isdisjoint(made_of), (metric, name)
        assert {metric.name for metric in OF_DIMENSION[dimension] if metric.grows} == metrics.keys()


# ---- what is carried out ---------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A delta of some tool, or a reset of one tool or of all."""

    tool: str | None
    events: int | None  # None: a reset


class Owner:
    """One partition of rollups, fed by one partition of events and one of commands."""

    def __init__(self) -> None:
        self.state = RollupsPartition(0, 1, RULES)
        self.rows: dict[bytes, bytes] = {}
        self.alerts: list[str] = []
        self._desk = Desk(1)
        self._log: list[Record] = []
        self._sequence = 0
        self._events = 0

    def add(self, tool: str, events: int) -> None:
        """Pass on a delta."""
        self._sequence, self._events = self._sequence + 1, self._events + events
        delta = Delta("tool", (tool,), T0 - T0 % PANE_MS, {"events": events, "tool_retries": events})
        self.feed(msgspec.json.encode(RollupBatch(0, self._sequence, self._events, T0, [delta])))

    def order(self, scope: Any, at_ms: int = T0, **fields: Any) -> None:
        """Pass a command through its stage."""
        self._desk.tell(reset(f"c{len(self._desk.log)}", scope, time=at_ms, **fields))
        sent = len(self._desk.sends)
        self._desk.flush()
        for send in self._desk.sends[sent:]:
            self.feed(send.value)

    def feed(self, value: bytes | None) -> None:
        """Append a record to the log, and feed it."""
        self._log.append(Record(len(self._log), T0, None, value))
        self.state.feed(self._log[-1:])

    def flush(self, *, rows: int | None = None) -> None:
        """Plan and write; `rows`: only the first so many, as a torn transaction would, which never has the last."""
        plan = self.state.plan()
        if plan is None:
            return
        for key, value in plan.rows if rows is None else plan.rows[:-1][:rows]:
            assert value is not None
            self.rows[key] = value
        self.alerts += [json.loads(send.value)["state"] for send in plan.sends if send.value]

    def reload(self) -> None:
        """Throw the partition away, build it from the changelog, and read the whole log again."""
        self.state = RollupsPartition(0, 1, RULES)
        self.state.load(self.rows.items())
        self.state.loaded()
        self.state.feed(self._log)

    def shown(self) -> dict[str, int]:
        return {key: row.sums.get("events", 0) for key, row in self._shown()}

    def retries(self) -> dict[str, int]:
        return {key: row.sums.get("tool_retries", 0) for key, row in self._shown()}

    def lifetimes(self) -> dict[str, int]:
        return {each.row.labels[0]: each.row.sums["events"] for each in self.state.keyed()}

    def _shown(self) -> list[tuple[str, LifetimeRow]]:
        return [(each.row.labels[0], since_reset(each.row)) for each in self.state.keyed()]


tools = st.sampled_from(["a", "b", "c", "d"])
steps = st.builds(Step, tools, st.integers(0, 1_000)) | st.builds(Step, st.none() | tools, st.none())


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=30), st.integers(0, 2**32))
def test_exported_is_the_sum_since_the_last_reset_at_its_place_of_the_log(story: list[Step], seed: int) -> None:
    """Any interleaving of deltas and resets, flushed, torn and reloaded anywhere; two rows, and one for the rest."""
    luck = random.Random(seed)
    kept = DIMENSIONS["tool"]
    DIMENSIONS["tool"] = Dimension("tool", ("tool",), 2)
    try:
        owner = Owner()
        shown: dict[str, int] = {}
        lifetimes: dict[str, int] = {}
        for tool, events in story:
            if events is not None:
                assert tool is not None
                row = tool if tool in shown or len(shown.keys() - {OVERFLOW}) < 2 else OVERFLOW
                owner.add(tool, events)
                shown[row] = shown.get(row, 0) + events
                lifetimes[row] = lifetimes.get(row, 0) + events
            else:
                owner.order("all" if tool is None else of_tool(tool))
                shown.update({row: 0 for row in shown if tool in {None, row}})
            if luck.random() < 0.3:
                owner.flush(rows=None if luck.random() < 0.6 else luck.randrange(5))
                owner.reload()
        assert (shown, lifetimes) == (owner.shown(), owner.lifetimes())
    finally:
        DIMENSIONS["tool"] = kept


def test_a_repeated_order_is_skipped_and_a_gap_ends_the_process() -> None:
    owner = Owner()
    owner.add("a", 3)
    owner.order("all")
    owner.add("a", 4)
    owner.feed(owner._log[1].value)
    assert {"a": 4} == owner.shown()

    desk = Desk(1)
    desk.tell(*(reset(f"c{number}") for number in range(3)))
    desk.flush()
    with pytest.raises(SequenceGap, match="commands partition 0 sent sequence 3 after 1"):
        owner.feed(desk.sends[2].value)


def test_alerts_and_windows_do_not_notice_a_reset() -> None:
    """Four events of the last minute fire; a reset neither resolves the alert nor lets four more count as few."""
    owner = Owner()
    owner.add("a", 4)
    owner.flush()
    owner.order("all")
    owner.flush()
    owner.add("a", 1)
    owner.flush()

    assert ["firing"] == owner.alerts
    assert {"a": 1} == owner.shown()
    assert 5 == sum(pane.sums["events"] for each in owner.state.keyed() for pane in each.panes.rows.values())


def test_only_the_metrics_that_are_named_begin_anew() -> None:
    owner = Owner()
    owner.add("a", 4)
    owner.order(of_tool("a"), metrics=["agent_tool_retries_*"])
    owner.add("a", 1)

    assert ({"a": 5}, {"a": 1}) == (owner.shown(), owner.retries())


def test_what_has_no_row_of_its_own_is_not_reset_with_the_overflow_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "tool", Dimension("tool", ("tool",), 1))
    owner = Owner()
    for tool in ("a", "b", "c"):
        owner.add(tool, 2)
    owner.order(of_tool("b"))
    assert {"a": 2, OVERFLOW: 4} == owner.shown()

    owner.order(of_tool(OVERFLOW))
    owner.add("b", 1)
    assert {"a": 2, OVERFLOW: 1} == owner.shown()
