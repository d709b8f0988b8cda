"""A gauge is what each source said last: no order of arrival, no cut into flushes and no grouping shows in it."""

from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.event import model
from streams.event.custom import Observation as CustomObservation
from streams.fold import gauges as gauges_module
from streams.fold.gauges import (
    GAUGES,
    OBSERVE,
    SOURCES_MAX,
    VALUE_MAX,
    Gauge,
    GaugeRow,
    Level,
    Merge,
    Newest,
    Observation,
    Sources,
    decode_gauge,
    drop_expired,
    encode_gauge,
    gauge_of,
    is_live,
    level_of,
    merge_into,
    qualified,
    together,
    trim,
    value_at,
)
from streams.fold.measure import DIMENSIONS
from streams.fold.rollup import Delta, RollupBatch, attach
from streams.fold.shapes import CUSTOM_PREFIX

T0 = 1_763_724_000_000
LAST, PEAK = Gauge("last", 60_000), Gauge("max", 0, peak=True)
MERGES: tuple[Merge, ...] = ("sum", "max", "last")


class Said(NamedTuple):
    """One thing a source said: its time, its value, and the offset it stands at."""

    source: str
    value: int
    event_ms: int
    offset: int


@st.composite
def logs(draw: st.DrawFn, most: int = 30) -> list[Said]:
    """Make the observations of one source partition, at rising offsets and any times."""
    count = draw(st.integers(0, most))
    return [
        Said(draw(st.sampled_from("abc")), draw(st.integers(-(10**6), 10**12)), T0 + draw(st.integers(0, 5)), offset)
        for offset in range(count)
    ]


def oracle(said: list[Said], gauge: Gauge, partition: int = 0) -> dict[str, int]:
    """Return what must count: of each source the newest by (event time, partition, offset), or the highest."""
    found: dict[str, list[Said]] = {}
    for one in said:
        found.setdefault(one.source, []).append(one)
    if gauge.peak:
        return {source: max(each.value for each in some) for source, some in found.items()}
    return {
        source: max(some, key=lambda each: (each.event_ms, partition, each.offset)).value
        for source, some in found.items()
    }


def values(sources: Sources) -> dict[str, int]:
    return {source: one.value for source, one in sources.items()}


def flushed(said: list[Said], name: str, partition: int) -> Sources:
    """Return what one flush of these observations sends on."""
    newest = Newest()
    for one in said:
        newest.put("agent", ("a",), name, one.source, one.value, one.event_ms)
    drained = newest.drain(partition, said[-1].offset if said else -1)
    return drained["agent", ("a",)][name].sources if said else {}


# ---- the newest ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["memory_bytes", "temperature", "memory_peak_bytes"])
@given(logs(), st.lists(st.integers(0, 30), max_size=5))
def test_no_cut_into_flushes_shows_in_what_counts(name: str, said: list[Said], cuts: list[int]) -> None:
    gauge = GAUGES[name]
    whole: Sources = {}
    merge_into(whole, gauge, flushed(said, name, 0))
    parts: Sources = {}
    edges = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    for begin, end in pairwise(edges):
        merge_into(parts, gauge, flushed(said[begin:end], name, 0))

    assert oracle(said, gauge) == values(whole) == values(parts)


@pytest.mark.parametrize("gauge", [LAST, PEAK])
@given(st.lists(logs(12), min_size=1, max_size=3), st.data())
def test_no_order_of_arrival_shows_in_what_counts(gauge: Gauge, partitions: list[list[Said]], data: Any) -> None:
    """Observations of several partitions, each merged alone, in any order, some of them twice."""
    everything = [
        (one.source, Observation(one.value, one.event_ms, partition, one.offset))
        for partition, said in enumerate(partitions)
        for one in said
    ]
    in_order: Sources = {}
    for source, one in everything:
        merge_into(in_order, gauge, {source: one})
    shuffled: Sources = {}
    again = data.draw(st.lists(st.sampled_from(everything), max_size=5)) if everything else []
    for source, one in data.draw(st.permutations([*everything, *again])):
        merge_into(shuffled, gauge, {source: one})

    assert in_order == shuffled
    best: dict[str, tuple[Any, int]] = {}
    for source, one in everything:
        rank = (one.value, one.value) if gauge.peak else ((one.event_ms, one.partition, one.offset), one.value)
        best[source] = max(best.get(source, rank), rank)
    assert {source: value for source, (_, value) in best.items()} == values(shuffled)


@pytest.mark.parametrize("gauge", [LAST, PEAK])
@given(logs(12), logs(12), logs(12))
def test_merging_is_associative_and_a_repeat_changes_nothing(
    gauge: Gauge, one: list[Said], two: list[Said], three: list[Said]
) -> None:
    tables = [
        {each.source: Observation(each.value, each.event_ms, number, each.offset) for each in said}
        for number, said in enumerate((one, two, three))
    ]
    left = dict(tables[0])
    merge_into(left, gauge, tables[1])
    merge_into(left, gauge, tables[2])
    inner = dict(tables[1])
    merge_into(inner, gauge, tables[2])
    right = dict(tables[0])
    merge_into(right, gauge, inner)

    assert left == right
    assert not any(merge_into(left, gauge, table) for table in tables)


def test_a_late_observation_never_replaces_a_newer_one() -> None:
    sources = {"a": Observation(5, T0, 0, 10)}

    assert not merge_into(sources, LAST, {"a": Observation(9, T0 - 1, 3, 99)})
    assert merge_into(sources, LAST, {"a": Observation(7, T0, 0, 11)})
    assert merge_into(sources, LAST, {"a": Observation(8, T0, 1, 0)}), "a higher partition wins at the same moment"
    assert {"a": 8} == values(sources)


def test_events_of_one_record_count_in_their_order() -> None:
    assert {"a": 2} == values(flushed([Said("a", 1, T0, 7), Said("a", 2, T0, 7)], "memory_bytes", 0))


# ---- time to live ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_ms", "value"), [(0, 5), (59_999, 5), (60_000, None), (10**9, None)])
def test_an_observation_holds_for_its_time_to_live_the_end_excluded(age_ms: int, value: int | None) -> None:
    sources = {"a": Observation(5, T0, 0, 0)}

    assert value == value_at(LAST, sources, T0 + age_ms)
    assert (value is None) == drop_expired(sources, LAST, T0 + age_ms)
    assert (value is None) == (not sources)


def test_a_peak_is_for_ever() -> None:
    assert is_live(PEAK, T0, T0 + 10**12)


@given(logs(), st.integers(0, 5))
def test_dropping_what_expired_changes_no_value(said: list[Said], age: int) -> None:
    """The value at a moment is the same whether the table was cleaned before or not."""
    gauge, now_ms = Gauge("sum", 3), T0 + age + 3
    sources: Sources = {}
    for one in said:
        merge_into(sources, gauge, {one.source: Observation(one.value, one.event_ms, 0, one.offset)})
    before = value_at(gauge, sources, now_ms)
    drop_expired(sources, gauge, now_ms)

    assert before == value_at(gauge, sources, now_ms)


# ---- several sources -------------------------------------------------------------------------------------------

levels = st.builds(
    Level, st.integers(-(2**60), 2**60), st.integers(1, 99), st.integers(T0, T0 + 3), st.sampled_from("abc")
)


@pytest.mark.parametrize("merge", MERGES)
@given(st.lists(levels, max_size=8), st.integers(0, 8), st.data())
def test_sources_may_be_grouped_and_ordered_in_any_way(merge: Merge, some: list[Level], cut: int, data: Any) -> None:
    shuffled = data.draw(st.permutations(some))
    groups = [together(merge, shuffled[:cut]), together(merge, shuffled[cut:])]

    assert together(merge, some) == together(merge, [each for each in groups if each is not None])


@given(logs())
def test_each_rule_says_what_it_is_called(said: list[Said]) -> None:
    sources: Sources = {}
    for one in said:
        merge_into(sources, LAST, {one.source: Observation(one.value, one.event_ms, 0, one.offset)})
    counting = list(values(sources).values())
    newest = max(sources.items(), key=lambda each: (each[1].event_ms, each[0]), default=None)

    assert (sum(counting) if counting else None) == value_at(Gauge("sum", 0), sources, T0)
    assert max(counting, default=None) == value_at(Gauge("max", 0), sources, T0)
    assert (newest and newest[1].value) == value_at(Gauge("last", 0), sources, T0)
    level = level_of(LAST, sources)
    assert len(sources) == (0 if level is None else level.sources)


# ---- room ------------------------------------------------------------------------------------------------------


def test_beyond_its_room_a_gauge_forgets_whom_it_heard_of_longest_ago() -> None:
    sources = {f"s{number:04d}": Observation(1, T0 + number % 400, 0, number) for number in range(SOURCES_MAX + 40)}
    oldest = sorted((one.event_ms, source) for source, one in sources.items())[:40]

    assert 40 == trim(sources)
    assert SOURCES_MAX == len(sources)
    assert not sources.keys() & {source for _, source in oldest}
    assert 0 == trim(sources)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60), st.integers(1, 59))
def test_what_has_no_room_does_not_hang_on_the_cut_into_flushes(said: list[tuple[int, int]], every: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gauges_module, "trim", lambda sources: trim(sources, 4))
        story = [Said(f"s{source}", at, T0 + at, at) for at, (source, _) in enumerate(said)]
        story = [one._replace(event_ms=T0 + late) for one, (_, late) in zip(story, said, strict=True)]
        whole: Sources = {}
        parts: Sources = {}
        merge_into(whole, LAST, flushed(story, "temperature", 0))
        trim(whole, 4)
        for begin in range(0, len(story), every):
            merge_into(parts, LAST, flushed(story[begin : begin + every], "temperature", 0))
            trim(parts, 4)

    assert values(whole) == values(parts)


# ---- events ----------------------------------------------------------------------------------------------------

USED: dict[str, Any] = {
    "memory_bytes": 2**53 - 1, "pool_active": 2, "pool_idle": 3, "threads_busy": 4, "threads_total": 5,
    "async_tasks": 6, "queue_depth": 7, "batch_efficiency": 0.25, "uptime_ms": 9, "cpu": 1.5,
}  # fmt: skip


def observed(kind: type[model.Envelope], **fields: Any) -> dict[tuple[str, tuple[str, ...], str], tuple[str, int]]:
    newest = Newest()
    newest.observe(kind(**{"id": "e", "time": T0, "agent": "a", **fields}), T0)
    return {
        (dimension, labels, name): (source, one.value)
        for (dimension, labels), gauges in newest.drain(0, 0).items()
        for name, delta in gauges.items()
        for source, one in delta.sources.items()
    }


def test_a_process_is_its_source_and_every_field_is_a_gauge() -> None:
    found = observed(model.Resource, source="host", session_id="s", **USED)
    agent = ("agent", ("a",))

    assert {
        (*agent, "memory_bytes"): ("host", 2**53 - 1),
        (*agent, "memory_peak_bytes"): ("", 2**53 - 1),
        (*agent, "pool_active"): ("host", 2),
        (*agent, "pool_idle"): ("host", 3),
        (*agent, "threads_busy"): ("host", 4),
        (*agent, "threads_total"): ("host", 5),
        (*agent, "async_tasks"): ("host", 6),
        (*agent, "queue_depth"): ("host", 7),
        (*agent, "batch_efficiency"): ("host", 250_000),
        (*agent, "uptime_us"): ("host", 9_000),
        (*agent, "cpu"): ("host", 1_500_000),
    } == found
    assert {} == observed(model.Resource)


def test_a_conversation_is_its_session_and_its_fullness_is_of_its_own_limit() -> None:
    agent = ("agent", ("a",))
    assert {
        (*agent, "context_tokens"): ("s", 300),
        (*agent, "context_limit_tokens"): ("s", 900),
        (*agent, "context_used"): ("s", 333_333),
    } == observed(model.Message, role="user", session_id="s", source="host", context_tokens=300, context_limit=900)
    assert {(*agent, "context_tokens"): ("a", 300)} == observed(model.Message, role="user", context_tokens=300)
    nothing_fits = observed(model.Message, role="user", context_tokens=300, context_limit=0)
    assert (*agent, "context_used") not in nothing_fits


@pytest.mark.parametrize("kind", [model.ToolStart, model.ToolEnd])
def test_a_queue_is_of_a_tool_and_of_an_agent_s_use_of_it(kind: type[model.Envelope]) -> None:
    assert {
        ("tool", ("t",), "tool_queue_depth"): ("a|host", 3),
        ("agent_tool", ("a", "t"), "tool_queue_depth"): ("host", 3),
    } == observed(kind, tool="t", queue_depth=3, source="host")
    assert {} == observed(kind, tool="t")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (model.ModelStart, {"model": "m", "temperature": 0.7}),
        (model.ModelEnd, {"model": "m", "temperature": 0.7}),
        (model.ParameterChange, {"before": 0, "after": 0.7}),
    ],
)
def test_a_temperature_may_be_chosen_in_three_ways(kind: type[model.Envelope], fields: dict[str, Any]) -> None:
    assert {("agent", ("a",), "temperature"): ("a", 700_000)} == observed(kind, **fields)


@pytest.mark.parametrize(
    "fields", [{"after": None}, {"after": 11}, {"after": -0.1}, {"after": 2.0**53}, {"parameter": "top_p", "after": 1}]
)
def test_what_is_no_temperature_is_no_gauge(fields: dict[str, Any]) -> None:
    assert {} == observed(model.ParameterChange, **fields)


def test_observations_are_of_gauges_and_dimensions_that_exist_and_fit_into_what_is_stored() -> None:
    most: dict[type, dict[str, Any]] = {
        model.Resource: dict.fromkeys(USED, 2**53 - 1) | {"batch_efficiency": 1, "cpu": 4096},
        model.Message: {"role": "user", "context_tokens": 10**9, "context_limit": 1},
        model.ToolStart: {"tool": "t", "queue_depth": 2**53 - 1},
        model.ToolEnd: {"tool": "t", "queue_depth": 2**53 - 1},
        model.ModelStart: {"model": "m", "temperature": 10},
        model.ModelEnd: {"model": "m", "temperature": 10},
        model.ParameterChange: {"after": 10},
        CustomObservation: {"metric": "m", "metric_kind": "gauge", "value": 10**9, "values_json": "[]"},
    }
    assert OBSERVE.keys() == most.keys()
    for kind, fields in most.items():
        for (dimension, labels, name), (_, value) in observed(kind, **fields).items():
            assert gauge_of(name) is not None
            assert len(labels) == len(DIMENSIONS[dimension].columns)
            assert 0 <= value <= VALUE_MAX


@pytest.mark.parametrize("kind", ["gauge", "counter", "histogram"])
def test_only_a_gauge_of_a_publisher_s_own_is_one(kind: str) -> None:
    fields = {"metric": "stock", "metric_kind": kind, "value": -2.5, "values_json": '["a|b"]', "source": "till"}
    expected = {("custom", ("stock", '["a|b"]'), "custom:stock"): ("till", -2_500_000)}

    assert (expected if kind == "gauge" else {}) == observed(CustomObservation, **fields)


def test_a_publisher_s_own_gauge_is_known_by_its_prefix() -> None:
    assert gauge_of(f"{CUSTOM_PREFIX}queue") is not None
    assert gauge_of("queue") is None


@given(st.lists(st.lists(st.text("a|\\", max_size=3), min_size=2, max_size=2), max_size=20))
def test_qualified_names_never_meet(pairs: list[list[str]]) -> None:
    names = {(label, source): qualified(source, (label,)) for label, source in pairs}

    assert len(names) == len(set(names.values()))


# ---- transport and storage -------------------------------------------------------------------------------------


def test_gauges_go_with_a_delta_of_their_key_or_one_of_their_own() -> None:
    newest = Newest()
    newest.observe(model.ToolStart(id="e", time=T0, agent="a", tool="t", queue_depth=3), T0)
    deltas = [Delta("tool", ("t",), pane_ms, {"events": 1}) for pane_ms in (T0, -1)]
    attach(deltas, newest.drain(0, 5))
    sent = msgspec.json.decode(msgspec.json.encode(RollupBatch(0, 1, 1, T0, deltas)), type=RollupBatch).deltas

    assert deltas == sent
    assert [("tool", T0, 1), ("tool", -1, 0), ("agent_tool", -1, 1)] == [
        (delta.dimension, delta.pane_ms, len(delta.gauges)) for delta in sent
    ]
    assert not newest


def test_a_batch_of_an_earlier_release_has_no_gauges() -> None:
    old = b'{"source":0,"sequence":1,"events":1,"watermark_ms":5,"deltas":[["tool",["t"],0,{"events":1},{},{}]]}'

    assert {} == msgspec.json.decode(old, type=RollupBatch).deltas[0].gauges


@given(logs())
def test_stored_rows_come_back(said: list[Said]) -> None:
    row = GaugeRow("agent", ("a",), "memory_bytes", 3, flushed(said, "memory_bytes", 4))

    assert row == decode_gauge(encode_gauge(row))
