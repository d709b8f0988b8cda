"""Stories of gauges in the second stage: replays, restarts, time, full dimensions, and state of earlier releases."""

import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage import T0, One, happen
from through_stages import Stages, event

from streams.errors import StateRefused
from streams.fold import gauges as fold_gauges
from streams.fold.gauges import (
    GAUGES,
    PROCESS_TTL_MS,
    GaugeDelta,
    GaugeRow,
    Observation,
    decode_gauge,
    encode_gauge,
)
from streams.fold.measure import DIMENSIONS, Dimension
from streams.fold.rollup import Delta, RollupBatch
from streams.fold.session import OVERFLOW
from streams.fold.shapes import CUSTOM_PREFIX
from streams.stage import gauges as stage_gauges
from streams.stage.gauges import GAUGE, gauge_key
from streams.stage.rollup_rows import META_KEY
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition

MEMORY = "memory_bytes"


def second(partitions: int = 1) -> One[RollupsPartition]:
    return One(lambda: RollupsPartition(0, partitions))


class Upstream:
    """What a partition of the first stage would send."""

    def __init__(self, one: One[RollupsPartition], source: int = 0) -> None:
        self._one = one
        self._source = source
        self.sequence = 0

    def send(self, *deltas: Delta, at_ms: int = 0) -> None:
        """Write one batch and feed it."""
        self.sequence += 1
        batch = RollupBatch(self._source, self.sequence, 1, T0 + at_ms, list(deltas))
        self._one.state.feed([self._one.write(msgspec.json.encode(batch), T0 + at_ms)])


def said(agent: str, *sources: tuple[str, int, int], gauge: str = MEMORY, partition: int = 0, offset: int = 0) -> Delta:
    """Make a delta of one agent: source, value and time after the beginning."""
    newest = {name: Observation(value, T0 + at_ms, partition, offset) for name, value, at_ms in sources}
    return Delta("agent", (agent,), -1, {}, gauges={gauge: GaugeDelta(newest)})


def stored(one: One[Any]) -> dict[tuple[str, tuple[str, ...]], dict[str, int]]:
    """Return the values in the changelog by gauge, labels and source."""
    rows = [decode_gauge(value) for key, value in one.rows.items() if key[:1] == GAUGE]
    return {(row.gauge, row.labels): {name: one.value for name, one in row.sources.items()} for row in rows}


def value(one: One[RollupsPartition], agent: str, gauge: str = MEMORY) -> int | None:
    return one.state.gauges.value(gauge, f"agent|{agent}", one.state.clock_ms)


# ---- what counts -----------------------------------------------------------------------------------------------


def test_processes_of_an_agent_add_up_and_the_newest_word_of_each_counts() -> None:
    one = second()
    early, other = Upstream(one), Upstream(one, 1)
    early.send(said("a", ("h1", 10, 0), ("h2", 5, 0)))
    other.send(said("a", ("h1", 7, -1_000), partition=1, offset=99))
    other.send(said("a", ("h2", 6, 1), partition=1, offset=100))
    one.flush()

    assert {(MEMORY, ("a",)): {"h1": 10, "h2": 6}} == stored(one)
    assert 16 == value(one, "a")


def test_a_row_is_written_only_when_it_says_something_new() -> None:
    one = second()
    upstream = Upstream(one)
    upstream.send(said("a", ("h1", 10, 0)))
    first = one.flush()
    upstream.send(said("a", ("h1", 9, -5)))
    again = one.flush()

    assert first is not None
    assert again is not None
    assert [b"gmemory_bytes:agent|a"] == [key for key, _ in first.rows if key[:1] == GAUGE]
    assert [] == [key for key, _ in again.rows if key[:1] == GAUGE]


def test_an_unknown_gauge_is_refused() -> None:
    with pytest.raises(StateRefused, match="gauge planets"):
        Upstream(second()).send(said("a", ("h", 1, 0), gauge="planets"))


def test_a_publisher_s_own_gauge_is_kept_by_its_name() -> None:
    one = second()
    name = f"{CUSTOM_PREFIX}backlog:eu"
    Upstream(one).send(said("a", ("h1", 3, 0), ("h2", 4, 1), gauge=name))
    one.flush()
    one.reload()

    assert 4 == value(one, "a", name), "the word that came last"
    assert {(name, ("a",)): {"h1": 3, "h2": 4}} == stored(one)


# ---- time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_a_source_that_falls_silent_goes_by_tick_and_the_others_stay(restart: bool) -> None:
    one = second()
    Upstream(one).send(said("a", ("h1", 10, 0), ("h2", 5, 2_000)))
    one.flush()
    for now_ms, expected in (
        (PROCESS_TTL_MS - 1, {"h1": 10, "h2": 5}),
        (PROCESS_TTL_MS, {"h2": 5}),
        (PROCESS_TTL_MS + 2_000, None),
    ):
        if restart:
            one.reload()
        one.state.tick(T0 + now_ms)
        one.flush()
        assert expected == stored(one).get((MEMORY, ("a",)))
    assert value(one, "a") is None
    assert not one.state.gauges
    assert not one.state.gauges._due


def test_what_is_dead_on_arrival_is_not_stored() -> None:
    one = second()
    Upstream(one).send(said("a", ("h1", 10, 0)), at_ms=PROCESS_TTL_MS)
    one.flush()

    assert {} == stored(one)


def test_a_source_that_goes_on_is_looked_at_once_per_life_and_not_once_per_word() -> None:
    one = second()
    upstream = Upstream(one)
    for at_ms in range(0, 3 * PROCESS_TTL_MS, 10_000):
        upstream.send(said("a", ("h1", at_ms, at_ms)), at_ms=at_ms)
        one.state.tick(T0 + at_ms + 5)
        assert len(one.state.gauges._due) == 1
    one.flush()

    assert {(MEMORY, ("a",)): {"h1": 3 * PROCESS_TTL_MS - 10_000}} == stored(one)


def test_an_older_source_that_joins_goes_in_its_own_time() -> None:
    one = second()
    upstream = Upstream(one)
    upstream.send(said("a", ("h1", 1, 60_000)))
    upstream.send(said("a", ("h2", 2, 1_000)))
    one.state.tick(T0 + PROCESS_TTL_MS + 1_000)
    one.flush()

    assert {(MEMORY, ("a",)): {"h1": 1}} == stored(one)


def test_a_peak_outlives_everybody() -> None:
    one = second()
    upstream = Upstream(one)
    for number, peak in enumerate((5, 9, 7)):
        upstream.send(said("a", ("", peak, number), gauge="memory_peak_bytes"))
    one.flush()
    one.reload()
    one.state.tick(T0 + 10**10)
    one.flush()

    assert 9 == value(one, "a", "memory_peak_bytes")


def test_a_wave_of_expiries_is_spread_over_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_gauges, "EXPIRE_PER_STEP", 3)
    one = second()
    Upstream(one).send(*(said(f"a{number}", ("h", 1, 0)) for number in range(10)))
    one.flush()
    left = []
    for later in range(3):
        one.state.tick(T0 + PROCESS_TTL_MS + later)
        left.append(len(one.state.gauges))
        one.flush()  # as much again

    assert [7, 1, 0] == left
    assert {} == stored(one)


# ---- room ------------------------------------------------------------------------------------------------------


def test_beyond_the_cap_keys_share_a_row_in_which_their_sources_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two agents on one host, both without a row of their own: the overflow's sum holds both, its peak the higher."""
    monkeypatch.setitem(DIMENSIONS, "agent", Dimension("agent", ("agent",), 1))
    one = second()
    upstream = Upstream(one)
    for number, agent in enumerate(("a", "b", "c", "b")):
        upstream.send(said(agent, ("host", 10 + number, number)))
        upstream.send(said(agent, ("", 10 + number, number), gauge="memory_peak_bytes"))
        one.flush()
        one.reload()

    assert {"host": 10} == stored(one)[MEMORY, ("a",)]
    assert {"b|host": 13, "c|host": 12} == stored(one)[MEMORY, (OVERFLOW,)]
    assert 25 == value(one, OVERFLOW)
    assert 13 == value(one, OVERFLOW, "memory_peak_bytes")


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_sources_without_room_are_counted(monkeypatch: pytest.MonkeyPatch, restart: bool) -> None:
    limited = fold_gauges.trim
    for module in (fold_gauges, stage_gauges):
        monkeypatch.setattr(module, "trim", lambda sources: limited(sources, 3))
    one = second()
    upstream = Upstream(one)
    for number in range(5):
        upstream.send(said("a", (f"h{number}", number, number)))
        one.flush()
        if restart:
            one.reload()
    dropped = Delta("agent", ("a",), -1, {}, gauges={MEMORY: GaugeDelta({"x": Observation(9, T0 + 9, 0, 9)}, 4)})
    upstream.send(dropped)
    one.flush()

    assert {"h3": 3, "h4": 4, "x": 9} == stored(one)[MEMORY, ("a",)]
    assert 3 + 4 == one.state.gauges.forgotten
    assert 7 == msgspec.msgpack.decode(one.rows[META_KEY])[5]


# ---- restarts --------------------------------------------------------------------------------------------------


def live(seed: int, *, restarts: bool) -> One[RollupsPartition]:
    """Feed an hour of observations of some agents and hosts, a third of them late; flush and tick now and then."""
    rng = random.Random(seed)
    one = second()
    upstreams = [Upstream(one, number) for number in range(2)]
    for step in range(150):
        at_ms, number = step * 25_000, rng.randrange(2)
        deltas = [
            said(
                f"a{rng.randrange(4)}",
                (f"h{rng.randrange(3)}", rng.randrange(100), at_ms - rng.choice((0, 0, 1_000, 400_000))),
                gauge=rng.choice((*GAUGES, MEMORY)),
                partition=number,
                offset=step,
            )
            for _ in range(rng.randrange(4))
        ]
        upstreams[number].send(*deltas, at_ms=at_ms)
        if rng.random() < 0.4:
            one.flush()
            if restarts:
                one.reload()
                one.replay()
        if rng.random() < 0.3:
            one.state.tick(T0 + at_ms + rng.randrange(30_000))
    one.flush()
    return one


@pytest.mark.parametrize("seed", range(4))
def test_restarts_at_every_flush_change_no_row(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIMENSIONS, "agent", Dimension("agent", ("agent",), 2))
    lasting, restarted = live(seed, restarts=False), live(seed, restarts=True)

    assert lasting.rows == restarted.rows
    assert lasting.state.gauges.rows() == restarted.state.gauges.rows()
    assert any(plan_row[1] is None for plan in lasting.plans for plan_row in plan.rows if plan_row[0][:1] == GAUGE)
    assert stored(lasting)


def test_gauges_of_a_torn_transaction_are_folded_once_more_without_a_trace() -> None:
    """The gauge's row did not make it, its key's row did: the batch comes again, and only the gauge takes it."""
    one = second()
    upstream = Upstream(one)
    upstream.send(said("a", ("h1", 1, 0)))
    one.flush()
    meta, gauge = one.rows[META_KEY], one.rows[gauge_key((MEMORY, "agent|a"))]
    upstream.send(Delta("agent", ("a",), T0, {"events": 1}, gauges=said("a", ("h1", 2, 1)).gauges))
    one.flush()
    one.rows[META_KEY], one.rows[gauge_key((MEMORY, "agent|a"))] = meta, gauge
    one.reload()
    one.replay()
    one.flush()

    assert {(MEMORY, ("a",)): {"h1": 2}} == stored(one)


def test_a_changelog_of_an_earlier_release_loads() -> None:
    """Without gauge rows, with histograms of two fields and a meta row that counts no sources."""
    one = second()
    upstream = Upstream(one)
    upstream.send(Delta("tool", ("t",), T0, {"events": 1}, {"tool_duration": [5]}))
    one.flush()
    meta = msgspec.msgpack.decode(one.rows[META_KEY], strict=False)
    row = msgspec.msgpack.decode(one.rows[b"ltool|t"])
    row[7] = {name: histogram[:2] for name, histogram in row[7].items()}
    one.rows |= {META_KEY: msgspec.msgpack.encode(meta[:5]), b"ltool|t": msgspec.msgpack.encode(row)}
    one.reload()
    assert 0 == one.state.gauges.forgotten

    upstream.send(Delta("tool", ("t",), T0, {"events": 1}, {"tool_duration": [9, 7]}), said("a", ("h", 1, 0)))
    one.flush()
    (keyed,) = [keyed for keyed in one.state.keyed() if keyed.key == "tool|t"]
    histogram = keyed.row.histograms["tool_duration"]

    assert (21, 3, 7, 9) == (histogram.sum_us, sum(histogram.buckets), histogram.min_us, histogram.max_us)
    assert 1 == value(one, "a")


@pytest.mark.parametrize(
    ("key", "stored_row"),
    [
        (b"gmemory_bytes:agent|a", b"\xff"),
        (b"gplanets:agent|a", encode_gauge(GaugeRow("agent", ("a",), "planets", 0, {}))),
        (b"gmemory_bytes:agent|a", encode_gauge(GaugeRow("agent", ("a",), "cpu", 0, {}))),
    ],
)
def test_gauge_rows_of_a_newer_release_are_refused(key: bytes, stored_row: bytes) -> None:
    state = RollupsPartition(0, 1)
    state.load([(key, stored_row)])

    with pytest.raises(StateRefused, match="rollups partition 0"):
        state.loaded()


# ---- both stages -----------------------------------------------------------------------------------------------


def reports(story: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Make resource events: host, memory and time after the beginning."""
    return [
        {"kind": "resource", "id": f"e{number}", "time": T0 + at_ms, "agent": "a", "source": f"h{host}",
         "memory_bytes": memory, "cpu": memory / 8}
        for number, (host, memory, at_ms) in enumerate(story)
    ]  # fmt: skip


stories = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 30) | st.just(-400_000)), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(stories, st.lists(st.integers(1, 24), max_size=4))
def test_no_flush_of_the_first_stage_shows_in_the_second(story: list[tuple[int, int, int]], cuts: list[int]) -> None:
    """Late events and repeats among them: what counts is what a recount of the log says."""
    events = reports(story)
    events += events[::3]
    found = []
    for edges in ([0, len(events)], sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})):
        stages = Stages(events=1, rollups=1)
        for begin, end in pairwise(edges):
            stages.publish(events[begin:end])
        found.append({place: row.sources for place, row in stages.rollups[0].gauges.rows().items()})
    newest: dict[str, tuple[int, int, int]] = {}
    for offset, (host, memory, at_ms) in enumerate(story):
        newest[f"h{host}"] = max(newest.get(f"h{host}", (at_ms, offset, memory)), (at_ms, offset, memory))
    clock_ms = max((at_ms for _, _, at_ms in story), default=0)
    alive = {host: memory for host, (at_ms, _, memory) in newest.items() if clock_ms < at_ms + PROCESS_TTL_MS}

    for gauges in found:
        rows = {place[0]: {host: one.value for host, one in sources.items()} for place, sources in gauges.items()}
        assert alive == rows.get(MEMORY, {})
        assert {host: memory * 125_000 for host, memory in alive.items()} == rows.get("cpu", {})
        assert max((memory for _, memory, _ in story), default=None) == rows.get("memory_peak_bytes", {}).get("")


def test_a_skewed_clock_holds_as_of_its_record() -> None:
    one = One(lambda: SessionsPartition(0, 1, 1))
    happen(one, event("resource", 0, memory_bytes=1, time=T0 + 10**9), timestamp_ms=T0)
    one.flush()
    (sent,) = one.sent("rollups")
    deltas = msgspec.json.decode(sent.value or b"", type=RollupBatch).deltas

    (found,) = [delta.gauges[MEMORY] for delta in deltas if delta.gauges]
    assert {"planner": Observation(1, T0, 0, 0)} == found.sources
