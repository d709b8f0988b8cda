"""Gauges in the view: whatever order rows come in, a series says what the live sources of all its rows say together."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import render, series, settle, value

from streams.fold.gauges import GAUGES, GaugeRow, Level, Observation, encode_gauge
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, encode_row
from streams.fold.session import OVERFLOW
from streams.sink import view as view_module
from streams.sink.document import as_json
from streams.sink.exposition import Page
from streams.sink.levels import Levels
from streams.sink.view import BUCKETS, GAUGE, LIFETIME, View
from streams.stage import gauges as stage_gauges
from streams.stage import rollup_rows
from streams.stage.gauges import gauge_key
from streams.stage.keys import dimension_key

T0 = 1_763_724_000_000
Said = dict[str, tuple[int, int]]  # value and event time by source


def gauge_row(gauge: str, agent: str, ordinal: int, **said: tuple[int, int]) -> tuple[bytes, bytes]:
    sources = {name: Observation(number, T0 + at_ms, 0, 0) for name, (number, at_ms) in said.items()}
    stored = encode_gauge(GaugeRow("agent", (agent,), gauge, ordinal, sources))
    return gauge_key((gauge, dimension_key("agent", (agent,)))), stored


def agent_row(agent: str, ordinal: int) -> tuple[bytes, bytes]:
    return LIFETIME + f"agent|{agent}".encode(), encode_row(LifetimeRow("agent", (agent,), ordinal, T0, T0))


def shown(view: View) -> dict[tuple[str, str], Level]:
    settle(view)
    return {(group.labels[0], name): level for group in view.groups("agent") for name, level in group.gauges.items()}


def test_the_view_knows_the_letter_the_second_stage_writes() -> None:
    assert stage_gauges.GAUGE == GAUGE
    assert rollup_rows.Meta(0, 0, {}).forgotten_sources == 0
    known = view_module.Meta.__struct_fields__  # the row goes on behind what a page needs of it
    assert known == rollup_rows.Meta.__struct_fields__[: len(known)]


def test_sums_maxima_and_last_words_of_one_row() -> None:
    view = View(1)
    view.feed(0, [agent_row("a", 0)])
    for gauge in ("memory_bytes", "uptime_us", "temperature"):
        view.feed(0, [gauge_row(gauge, "a", 0, h1=(9, 1), h2=(5, 2))])

    assert {"memory_bytes": 14, "uptime_us": 9, "temperature": 5} == {
        name: level.value for (_, name), level in shown(view).items()
    }


@pytest.mark.parametrize("partitions", [1, 2])
def test_beyond_the_cap_of_series_the_rest_is_merged_by_the_same_rule(partitions: int) -> None:
    view = View(partitions, {"agent": partitions})
    for number, agent in enumerate("abcd"):
        ordinal, partition = number // partitions, number % partitions
        view.feed(partition, [agent_row(agent, ordinal)])
        for gauge in ("memory_bytes", "uptime_us", "temperature"):
            view.feed(partition, [gauge_row(gauge, agent, ordinal, h=(10 * number + 1, -number))])
    found = {key: level.value for key, level in shown(view).items()}

    rest = [10 * number + 1 for number in range(partitions, 4)]
    assert sum(rest) == found[OVERFLOW, "memory_bytes"]
    assert max(rest) == found[OVERFLOW, "uptime_us"]
    assert rest[0] == found[OVERFLOW, "temperature"], "the newest of them"
    assert 1 == found["a", "memory_bytes"]
    total = sum(level for (_, name), level in found.items() if name == "memory_bytes")
    assert 1 + 11 + 21 + 31 == total


def test_a_gauge_that_expired_leaves_the_page_and_its_key_stays() -> None:
    view = View(1)
    key, stored = gauge_row("memory_bytes", "a", 0, h=(5, 0))
    view.feed(0, [agent_row("a", 0), (key, stored)])
    page = Page(view, openmetrics=False)
    settle(view)
    assert 5 == value(series(render(view, page)), "agent_memory_usage_bytes", agent="a")

    view.feed(0, [(key, None)])
    settle(view)
    found = series(render(view, page))
    assert not [name for name, _ in found if name == "agent_memory_usage_bytes"]
    assert 0 == value(found, "agent_events_total", agent="a")
    view.feed(0, [(key, None), (agent_row("a", 0)[0], None)])
    settle(view)
    assert [] == view.groups("agent")
    assert 0 == view.rows


def test_a_gauge_of_a_later_release_is_left_out() -> None:
    view = View(1)
    key, stored = gauge_row("planets", "a", 0, h=(5, 0))
    view.feed(0, [(key, stored), agent_row("a", 0)])
    assert {} == shown(view)

    view.feed(0, [(key, None)])
    assert {} == shown(view)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["memory_bytes", "uptime_us", "temperature"]),
        st.none()
        | st.dictionaries(st.sampled_from("xyz"), st.tuples(st.integers(0, 99), st.integers(0, 3)), min_size=1),
        st.booleans(),
    ),
    max_size=20,
)


@settings(deadline=None)  # many pages each
@given(CHANGES, st.integers(1, 4))
def test_a_page_kept_up_to_date_is_the_page_made_anew(
    changes: list[tuple[int, str, Said | None, bool]], cap: int
) -> None:
    view = View(1, {"agent": cap})
    view.feed(0, [agent_row(f"a{number}", number) for number in range(4)])
    page = Page(view, openmetrics=True)
    for number, gauge, said, look in changes:
        key, stored = gauge_row(gauge, f"a{number}", number, **(said or {}))
        view.feed(0, [(key, None if said is None else stored)])
        if look:
            settle(view)
            assert render(view, openmetrics=True) == render(view, page)
    settle(view)
    assert render(view, openmetrics=True) == render(view, page)
    document = msgspec.json.decode(b"".join(as_json(view, view.samples(), now_ms=T0)))
    told = {
        (metric["name"], each["labels"]["agent"]): each["value"]
        for metric in document["metrics"]
        if "merge" in metric
        for each in metric["series"]
    }
    text = {
        (name, dict(labels)["agent"]): number
        for (name, labels), number in series(render(view)).items()
        if (name in {"agent_memory_usage_bytes", "agent_uptime_seconds", "agent_temperature"})
    }
    assert told == text


def test_json_tells_formulas_and_merges() -> None:
    view = View(1)
    stored = [gauge_row(gauge, "a", 0, h=(5, 0)) for gauge in GAUGES]
    view.feed(0, [agent_row("a", 0), *stored])
    settle(view)
    document = msgspec.json.decode(b"".join(as_json(view, {}, now_ms=T0)))
    found = {metric["name"]: metric for metric in document["metrics"]}

    assert "sum" == found["agent_memory_usage_bytes"]["merge"]
    assert "busy threads / threads" == found["agent_thread_pool_utilization_ratio"]["formula"]
    assert [{"labels": {"agent": "a"}, "value": 1.0}] == found["agent_thread_pool_utilization_ratio"]["series"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9) | st.none()), max_size=30))
def test_levels_are_those_of_the_rows_that_stand_there_now(changes: list[tuple[int, int | None]]) -> None:
    levels, rows = Levels(), dict[int, int]()
    for place, number in changes:
        if number is None:
            levels.drop(place)
            rows.pop(place, None)
        else:
            levels.put(place, "memory_bytes", Level(number, 1, 0, "h"))
            rows[place] = number
        merged = levels.merged().get("memory_bytes")
        assert (sum(rows.values()), len(rows)) == ((merged.value, merged.sources) if merged else (0, 0))
    assert len(rows) == len(levels)


# ---- extremes --------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.lists(st.integers(0, 99), min_size=1, max_size=3)), max_size=20
    )
)
def test_the_extremes_of_a_shared_series_are_those_of_its_rows(changes: list[tuple[int, list[int] | None]]) -> None:
    """Also when a row with the longest duration goes, or begins anew: extremes cannot be subtracted."""
    view = View(1, {"tool": 1})
    rows: dict[int, list[int]] = {}
    for number, durations in changes:
        key = LIFETIME + f"tool|t{number}".encode()
        if durations is None:
            rows.pop(number, None)
            view.feed(0, [(key, None)])
        else:
            rows[number] = durations
            row = LifetimeRow("tool", (f"t{number}",), number, T0, T0)
            buckets = [len(durations)] + [0] * (BUCKETS - 1)
            row.histograms["tool_duration"] = LifetimeHistogram(sum(durations), buckets, min(durations), max(durations))
            view.feed(0, [(key, encode_row(row))])
        settle(view)
        shared = [durations for number, durations in rows.items() if number > 0]
        seen = [group.row.histograms["tool_duration"] for group in view.groups("tool") if group.labels == (OVERFLOW,)]
        everything = [us for durations in shared for us in durations]
        expected = [(min(everything), max(everything), sum(everything))] if everything else []
        assert expected == [(each.min_us, each.max_us, each.sum_us) for each in seen]
