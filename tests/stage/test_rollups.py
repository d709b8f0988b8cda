"""Stories of the second stage: every delta once, exact totals at the cap, breakers by tick, and restarts unseen."""

import random
from operator import itemgetter
from typing import Any

import msgspec
import pytest
from one_stage import T0, One

from streams.errors import InvariantBroken, SequenceGap, StateRefused
from streams.fold.measure import DIMENSIONS, Dimension
from streams.fold.rollup import Delta, LifetimeRow, RollupBatch, decode_lifetime, decode_pane
from streams.fold.session import OVERFLOW
from streams.fold.streamtime import HOUR_MS, MINUTE_MS, PANE_MS
from streams.rule.parse import parse_rules
from streams.stage.rollup_rows import META_KEY, lifetime_key
from streams.stage.rollups import RollupsPartition

RULES = parse_rules("""
groups:
  - name: g
    rules:
      - {alert: Failing, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 5, severity: critical,
         summary: "{tool}"}
breakers:
  - {over: tool, failure_rate: 50%, window: 1m, min_calls: 4, open_for: 30s, half_open_calls: 2}
""")


def second(partitions: int = 1) -> One[RollupsPartition]:
    return One(lambda: RollupsPartition(0, partitions, RULES))


class Upstream:
    """What a partition of the first stage would send."""

    def __init__(self, one: One[RollupsPartition], source: int = 0) -> None:
        self._one = one
        self._source = source
        self.sequence = 0
        self.events = 0

    def record(self, *deltas: Delta, at_ms: int = 0, sequence: int | None = None) -> Any:
        """Write one batch to the log."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        self.events += sum(delta.sums.get("events", 0) for delta in deltas)
        batch = RollupBatch(self._source, self.sequence, self.events, T0 + at_ms, list(deltas))
        return self._one.write(msgspec.json.encode(batch), T0 + at_ms)

    def send(self, *deltas: Delta, at_ms: int = 0, sequence: int | None = None) -> None:
        """Write one batch and feed it."""
        self._one.state.feed([self.record(*deltas, at_ms=at_ms, sequence=sequence)])


def tool(name: str, at_ms: int = 0, **sums: int) -> Delta:
    """Make a delta of one tool in the pane of a moment after the beginning."""
    return Delta("tool", (name,), T0 + at_ms - (T0 + at_ms) % PANE_MS, sums or {"events": 1})


def rows_of(one: One[RollupsPartition]) -> dict[str, LifetimeRow]:
    """Return the stored lifetime rows."""
    return {key[1:].decode(): decode_lifetime(value) for key, value in one.rows.items() if key[:1] == b"l"}


def in_panes(one: One[RollupsPartition], measure: str = "events") -> int:
    """Sum a measure over all stored panes."""
    return sum(decode_pane(value).sums.get(measure, 0) for key, value in one.rows.items() if key[:1] == b"p")


# ---- sequences -------------------------------------------------------------------------------------------------


def test_the_last_batch_again_is_skipped() -> None:
    one = second()
    upstream = Upstream(one)
    upstream.send(tool("t"))
    upstream.send(tool("t"))
    one.flush()

    one.reload()
    one.state.feed([one.write(one.log[-1].value, T0)])
    upstream.send(tool("t"))
    one.flush()

    assert {"events": 3} == rows_of(one)["tool|t"].sums
    assert 4 == one.state.next_offset


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_sequence_that_comes_again_with_other_contents_ends_the_process(sequence: int) -> None:
    """A flush that was aborted and the one in its place: both visible, only one of them counted upstream."""
    upstream = Upstream(second())
    upstream.send(tool("t"))
    upstream.send(tool("t"))

    with pytest.raises(InvariantBroken, match=rf"offset 2: source partition 0 sent sequence {sequence} again after 2"):
        upstream.send(tool("t", errors=1), sequence=sequence)


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_a_gap_ends_the_process_and_names_both_numbers(restart: bool) -> None:
    one = second()
    upstream = Upstream(one, source=3)
    upstream.send(tool("t"))
    one.flush()
    if restart:
        one.reload()

    with pytest.raises(SequenceGap, match=r"source partition 3 sent sequence 3 after 1") as caught:
        upstream.send(tool("t"), sequence=3)
    assert 76 == caught.value.exit_code


def test_upstreams_have_sequences_of_their_own() -> None:
    one = second()
    for source in range(4):
        upstream = Upstream(one, source)
        upstream.send(tool("t"))
        upstream.send(tool("t"))
    one.flush()

    assert {"events": 8} == rows_of(one)["tool|t"].sums


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[" * 2_000, b"\xff", b'{"source": "x"}'])
def test_what_is_no_batch_ends_the_process(value: bytes | None) -> None:
    one = second()

    with pytest.raises(InvariantBroken, match="offset 0: not a rollup batch"):
        one.state.feed([one.write(value)])


def test_a_batch_or_dimension_of_a_newer_release_is_refused() -> None:
    one = second()
    newer = RollupBatch(0, 1, 1, T0, [], schema=2)
    with pytest.raises(StateRefused, match="schema 2"):
        one.state.feed([one.write(msgspec.json.encode(newer))])

    one = second()
    with pytest.raises(StateRefused, match="dimension planet"):
        Upstream(one).send(Delta("planet", ("mars",), T0, {"events": 1}))


# ---- caps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("partitions", "named"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_beyond_the_cap_the_rest_shares_one_row_and_totals_are_exact(
    monkeypatch: pytest.MonkeyPatch, partitions: int, named: int
) -> None:
    monkeypatch.setitem(DIMENSIONS, "tool", Dimension("tool", ("tool",), 5))
    one = second(partitions)
    upstream = Upstream(one)
    for number in range(40):
        upstream.send(tool(f"t{number % 20}", events=number))
        one.flush()
        if number % 7 == 0:
            one.reload()

    rows = rows_of(one)
    assert [f"tool|{OVERFLOW}", *(f"tool|t{n}" for n in range(named))] == sorted(rows)
    assert [-1, *range(named)] == sorted(row.ordinal for row in rows.values())
    assert sum(range(40)) == sum(row.sums["events"] for row in rows.values()) == in_panes(one)
    assert {"events": 0 + 20} == rows["tool|t0"].sums


def test_the_overflow_of_several_columns_has_a_value_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "agent_tool", Dimension("agent_tool", ("agent", "tool"), 1))
    one = second()
    Upstream(one).send(*(Delta("agent_tool", ("a", name), T0, {"events": 1}) for name in ("x", "y", "z")))
    one.flush()

    assert {("a", "x"): 1, (OVERFLOW, OVERFLOW): 2} == {row.labels: row.sums["events"] for row in rows_of(one).values()}


def test_a_tool_that_calls_itself_as_the_overflow_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "tool", Dimension("tool", ("tool",), 1))
    one = second()
    Upstream(one).send(tool(OVERFLOW), tool("x"), tool("y"), tool(OVERFLOW))
    one.flush()

    assert 4 == sum(row.sums["events"] for row in rows_of(one).values())


def test_keys_with_bars_stay_apart() -> None:
    one = second()
    labels = [("a|b", "c"), ("a", "b|c"), ("a\\", "b"), ("a\\|b", "c")]
    Upstream(one).send(*(Delta("agent_tool", pair, T0, {"events": 1}) for pair in labels))
    one.flush()

    assert sorted(labels) == sorted(row.labels for row in rows_of(one).values())


# ---- time ------------------------------------------------------------------------------------------------------


def test_a_late_delta_counts_in_lifetime_numbers_only() -> None:
    one = second()
    Upstream(one).send(tool("t"), Delta("tool", ("t",), -1, {"events": 5}))
    one.flush()

    assert {"events": 6} == rows_of(one)["tool|t"].sums
    assert 1 == in_panes(one)


def test_panes_grow_coarser_by_tick_and_keep_their_sum_for_a_day() -> None:
    one = second()
    upstream = Upstream(one)
    for pane in range(30):
        upstream.send(tool("t", pane * PANE_MS), at_ms=pane * PANE_MS)
    one.flush()
    sizes: list[set[bytes]] = []
    for now_ms in (0, 11 * MINUTE_MS, 3 * HOUR_MS, 30 * HOUR_MS):
        one.state.tick(T0 + now_ms)
        one.flush()
        sizes.append({key.split(b":")[0] for key in one.rows if key[:1] == b"p"})
        assert (30 if now_ms < 24 * HOUR_MS else 0) == in_panes(one)

    assert [{b"p10000"}, {b"p60000"}, {b"p3600000"}, set()] == sizes
    assert {"events": 30} == rows_of(one)["tool|t"].sums


def test_time_ticks_only_forward() -> None:
    one = second()
    Upstream(one).send(tool("t"), at_ms=5_000)
    one.state.tick(T0)
    assert T0 + 5_000 == one.state.clock_ms

    one.state.tick(T0 + 6_000)
    assert T0 + 6_000 == one.state.clock_ms


# ---- rules -----------------------------------------------------------------------------------------------------


def test_an_alert_fires_in_the_flush_that_passes_the_limit() -> None:
    one = second()
    upstream = Upstream(one)
    upstream.send(tool("t", tool_calls_error=5))
    one.flush()
    assert [] == one.told("alerts")

    upstream.send(tool("t", tool_calls_error=1))
    one.flush()
    assert [("firing", 6)] == [(alert["state"], alert["value"]) for alert in one.told("alerts")]

    one.state.tick(T0 + 2 * MINUTE_MS)
    one.flush()
    assert ["firing", "resolved"] == [alert["state"] for alert in one.told("alerts")]


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
@pytest.mark.parametrize(("outcome", "last"), [("success", "closed"), ("error", "open")])
def test_a_breaker_opens_half_opens_by_tick_and_is_decided_by_its_probes(
    restart: bool, outcome: str, last: str
) -> None:
    one = second()
    upstream = Upstream(one)

    def flush() -> list[str]:
        one.flush()
        if restart:
            one.reload()
        return [told["state"] for told in one.told("breakers")]

    upstream.send(tool("t", tool_calls_error=2, tool_calls_success=1))
    assert [] == flush()
    upstream.send(tool("t", tool_calls_success=1))
    assert ["open"] == flush()
    one.state.tick(T0 + 29_999)
    assert ["open"] == flush()
    for wait_ms in (30_000, 31_000, 40_000):
        one.state.tick(T0 + wait_ms)
    assert ["open", "half_open"] == flush()
    upstream.send(tool("t", 41_000, **{f"tool_calls_{outcome}": 2}), at_ms=41_000)
    assert ["open", "half_open", last] == flush()


# ---- restarts --------------------------------------------------------------------------------------------------


def story(seed: int) -> list[list[Delta]]:
    """Make batches over some hours: deltas of many keys, some of them late."""
    rng = random.Random(seed)
    batches: list[list[Delta]] = []
    for number in range(120):
        at_ms = number * 45_000
        batches.append(
            [
                Delta(
                    "tool",
                    (f"t{rng.randrange(8)}",),
                    -1 if rng.random() < 0.1 else T0 + at_ms - (T0 + at_ms) % PANE_MS - rng.randrange(8) * PANE_MS,
                    {
                        "events": rng.randrange(9),
                        "tool_calls_error": rng.randrange(7),
                        "tool_calls_success": rng.randrange(5),
                    },
                    {"tool_duration": [rng.randrange(10**7) for _ in range(rng.randrange(4))]},
                )
                for _ in range(rng.randrange(9))
            ]
        )
    return batches


def live(batches: list[list[Delta]], *, restarts: bool) -> One[RollupsPartition]:
    """Feed a story, three batches to a flush, with a tick after each; restart at every flush or never."""
    one = second()
    upstream = Upstream(one)
    for number, batch in enumerate(batches):
        upstream.send(*batch, at_ms=number * 45_000)
        if number % 3 == 2:
            one.flush()
            if restarts:
                one.reload()
                one.replay()
            one.state.tick(T0 + number * 45_000 + 1_000)
            one.flush()
    return one


@pytest.mark.parametrize("seed", range(4))
def test_restarts_at_every_flush_change_no_row_and_no_verdict(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "tool", Dimension("tool", ("tool",), 5))
    batches = story(seed)
    lasting, restarted = live(batches, restarts=False), live(batches, restarts=True)

    assert rows_of(lasting) == rows_of(restarted)
    assert lasting.rows == restarted.rows
    # What different keys say at the same moment may change places: nothing depends on that order.
    for topic, key in (("alerts", "fingerprint"), ("breakers", "breaker")):
        said = sorted(lasting.told(topic), key=itemgetter(key))
        again = sorted(restarted.told(topic), key=itemgetter(key))
        assert said == again
        assert said
    everything = sum(delta.sums["events"] for batch in batches for delta in batch)
    assert everything == sum(row.sums["events"] for row in rows_of(restarted).values())


def test_offsets_folded_before_are_skipped() -> None:
    one = second()
    upstream = Upstream(one)
    upstream.send(tool("t"))
    upstream.send(tool("t"))
    one.replay()
    one.flush()
    one.replay()

    assert {"events": 2} == rows_of(one)["tool|t"].sums
    assert one.flush() is None


def test_rows_of_a_torn_transaction_are_not_added_to_again() -> None:
    """Without the meta row the batch comes again; the row knows that it holds it already."""
    one = second()
    upstream = Upstream(one)
    upstream.send(tool("t"))
    one.flush()
    meta = one.rows[META_KEY]
    upstream.send(tool("t"), tool("u"))
    one.flush()
    one.rows[META_KEY] = meta
    del one.rows[lifetime_key("tool|u")]
    one.rows = {key: value for key, value in one.rows.items() if not key.endswith(b"|u")}
    one.reload()
    one.replay()
    one.flush()

    assert {"tool|t": {"events": 2}, "tool|u": {"events": 1}} == {key: row.sums for key, row in rows_of(one).items()}


def test_state_of_a_newer_release_is_refused() -> None:
    one = second()
    Upstream(one).send(tool("t"))
    one.flush()
    meta = msgspec.msgpack.decode(one.rows[META_KEY], strict=False)
    for key, value in (
        (META_KEY, msgspec.msgpack.encode([*meta[:4], 99, *meta[5:]])),
        (b"ltool|t", b"\xff"),
        (b"p10000:0:tool|unknown", next(value for name, value in one.rows.items() if name[:1] == b"p")),
        (b"zzz", b""),
    ):
        state = RollupsPartition(0, 1)
        state.load({**one.rows, key: value}.items())
        with pytest.raises(StateRefused, match="rollups partition 0"):
            state.loaded()
