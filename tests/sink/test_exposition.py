"""The texts: read back by the official parsers, the same whether rendered bit by bit or at once, and quick."""

import os
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_watch import longest_step_s, slowness
from pages import families, full_view, own_samples, render, series, settle, total, value

from streams.fold.families import FAMILIES
from streams.fold.gauges import GaugeRow, Observation, encode_gauge
from streams.fold.measure import CUSTOM, DIMENSIONS, MEASURES
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, encode_row
from streams.fold.session import OVERFLOW
from streams.sink.catalog import METRICS, OF_DIMENSION
from streams.sink.exposition import BOUNDS, Page
from streams.sink.view import BUCKETS, LIFETIME, View
from streams.stage.gauges import gauge_key
from streams.stage.keys import dimension_key

GOLDEN = Path(__file__).parent.parent / "golden"
DURATIONS = ("request_duration", "model_duration", "first_token", "tool_duration")
CREATED_MS = 1_763_724_000_123
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ['a"b', "a\\b", "a\nb", "\\n", '"', "\\", "a,b={}", "# EOF", "%s %d", "{x}", "é", " ", "le", OVERFLOW]
)


def row(dimension: str, labels: tuple[str, ...], ordinal: int = 0, **sums: int) -> LifetimeRow:
    return LifetimeRow(dimension, labels, ordinal, CREATED_MS, CREATED_MS, 9, sums)


def stored(row: LifetimeRow) -> tuple[bytes, bytes]:
    return LIFETIME + dimension_key(row.dimension, row.labels).encode(), encode_row(row)


def view_of(*rows: LifetimeRow, **keys_max: int) -> View:
    view = View(1, keys_max)
    view.feed(0, [stored(each) for each in rows])
    settle(view)
    return view


# ---- what a page says ------------------------------------------------------------------------------------------


def golden_view() -> View:
    """Two agents, a tool with a nasty name, keys beyond the cap, a histogram, and gauges of three processes."""
    slow = row("tool", ('say "hi"\\\nthere',), 0, tool_calls_success=3, tool_calls_error=1, tool_output_bytes=2**53)
    buckets = [1, 2, 0, 1, *([0] * (BUCKETS - 5)), 4]
    slow.histograms["tool_duration"] = LifetimeHistogram(1_234_567, buckets, 9_000, 400_000_000)
    planner = row(
        "agent", ("planner",), 0, requests_success=2, requests_started=3, requests_ended=2,
        input_tokens=1_000, cost_nano_usd=1_234_567_891,
    )  # fmt: skip
    others = [row("tool", (f"t{number}",), number, tool_calls_success=number) for number in (1, 2)]
    view = view_of(slow, planner, row("agent", ("writer",), 1), *others, tool=1)
    said = {"memory_bytes": (3, 4), "threads_busy": (1,), "threads_total": (8,), "cpu": (1_500_000,)}
    for gauge, numbers in said.items():
        sources = {f"h{at}": Observation(number, CREATED_MS, 0, at) for at, number in enumerate(numbers)}
        stored_row = encode_gauge(GaugeRow("agent", ("planner",), gauge, 0, sources))
        view.feed(0, [(gauge_key((gauge, "agent|planner")), stored_row)])
    settle(view)
    return view


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_page_is_the_golden_one(openmetrics: bool) -> None:
    """A change of the text must be seen and meant: WRITE_GOLDEN=1 writes the files anew."""
    golden = GOLDEN / ("exposition.om.txt" if openmetrics else "exposition.txt")
    text = render(golden_view(), openmetrics=openmetrics)
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text)

    assert golden.read_text() == text


@given(TEXTS, TEXTS, st.integers(0, 2**63 - 1), st.booleans())
def test_whatever_a_name_holds_the_official_parser_reads_it_back(agent: str, tool: str, count: int, om: bool) -> None:
    found = series(render(view_of(row("agent_tool", (agent, tool), 0, tool_calls_timeout=count)), openmetrics=om))

    assert float(count) == value(found, "agent_tool_uses_total", agent=agent, tool=tool, status="timeout")


@settings(deadline=None)
@given(st.sampled_from([name for name in DIMENSIONS if name != CUSTOM.name]), st.data(), st.booleans())
def test_every_number_of_a_row_is_on_the_page_in_its_exported_unit(name: str, data: st.DataObject, om: bool) -> None:
    columns = DIMENSIONS[name].columns
    labels = tuple(f"{column}-1" for column in columns)
    measures = st.sampled_from(FAMILIES[name].measures)
    sums = data.draw(st.dictionaries(measures, st.integers(0, 10**15)))
    for streamed in [each for each in sums if each.endswith("_streaming")]:
        sums[streamed.replace("streaming", "success")] = sums[streamed]  # what was streamed has ended
    found = series(render(view_of(row(name, labels, 0, **sums)), openmetrics=om))
    named = dict(zip(columns, labels, strict=True))
    for metric in OF_DIMENSION[name]:
        for part in metric.parts:
            own = {metric.own_label: part.value} if metric.own_label and part.value else {}
            stored_value = sum(sums.get(each, 0) for each in part.plus) - sum(sums.get(each, 0) for each in part.minus)
            assert stored_value / metric.scale == value(found, metric.name, **named, **own)


@given(st.lists(st.integers(0, 10**12), min_size=BUCKETS, max_size=BUCKETS), st.integers(0, 10**18), st.booleans())
def test_histograms_are_cumulative_and_complete(buckets: list[int], sum_us: int, om: bool) -> None:
    seen = row("model", ("m",))
    seen.histograms["first_token"] = LifetimeHistogram(sum_us, buckets)
    found = series(render(view_of(seen), openmetrics=om))

    name = "agent_model_time_to_first_token_seconds"
    for bound, cumulative in zip(BOUNDS, accumulate(buckets), strict=True):
        assert cumulative == value(found, f"{name}_bucket", model="m", le=bound)
    assert (
        sum(buckets) == value(found, f"{name}_count", model="m") == value(found, f"{name}_bucket", model="m", le="+Inf")
    )
    assert sum_us / 1e6 == value(found, f"{name}_sum", model="m")


def test_bounds_are_those_of_the_conventions_for_models() -> None:
    assert "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92 +Inf" == " ".join(BOUNDS)


def test_only_openmetrics_says_when_a_counter_began() -> None:
    view = golden_view()
    openmetrics = series(render(view, openmetrics=True))

    assert "_created" not in render(view)
    assert CREATED_MS / 1000 == value(openmetrics, "agent_requests_created", agent="planner", status="success")
    assert CREATED_MS / 1000 == value(openmetrics, "agent_tool_call_duration_seconds_created", tool='say "hi"\\\nthere')
    assert not [name for name, _ in openmetrics if name == "agent_requests_in_flight_created"]


def test_a_row_without_a_beginning_has_none_on_the_page() -> None:
    unknown = row("tool", ("t",), tool_calls_success=1)
    unknown.created_ms = -1
    text = render(view_of(unknown), openmetrics=True)

    assert families(text)
    assert "agent_tool_calls_created" not in text


def test_openmetrics_knows_kinds_and_units() -> None:
    kinds = {family.name: (family.type, family.unit) for family in families(render(full_view()[1], openmetrics=True))}

    expected = {metric.family: (metric.kind, metric.unit) for metric in METRICS}
    assert expected == kinds


def test_both_texts_say_the_same() -> None:
    _, view = full_view()
    text, openmetrics = series(render(view)), series(render(view, openmetrics=True))

    assert text == {key: number for key, number in openmetrics.items() if not key[0].endswith("_created")}


def test_overflow_and_named_series_add_up_to_all() -> None:
    stages, view = full_view()
    small = View(len(stages.rollups), {"tool": 4, "agent": 2, "agent_tool": 6})
    for number, rows in stages.changelog():
        small.feed(number, rows)
    settle(small)
    all_of_them, few = series(render(view)), series(render(small))

    for metric in METRICS:
        if metric.formula is not None or metric.merge in {"max", "last"}:
            continue  # no sums
        if metric.dimension is not None and metric.dimension.name in {"tool", "agent", "agent_tool"}:
            for suffix in ("_count", "_sum") if metric.histogram else ("",):
                assert pytest.approx(total(all_of_them, metric.name + suffix), rel=1e-12) == total(
                    few, metric.name + suffix
                )
    assert value(few, "agent_tool_calls_total", tool=OVERFLOW, status="success") > 0


def test_an_empty_view_makes_a_valid_page() -> None:
    view = View(1)

    assert families(render(view, openmetrics=True))
    assert families(render(view))


# ---- bit by bit ------------------------------------------------------------------------------------------------

CHANGES = st.lists(
    st.tuples(st.sampled_from(["tool", "agent"]), st.integers(0, 5), st.none() | st.integers(0, 99), st.booleans()),
    max_size=25,
)


@settings(deadline=None)
@given(CHANGES, st.booleans())
def test_a_page_kept_up_to_date_is_the_page_made_anew(
    changes: list[tuple[str, int, int | None, bool]], om: bool
) -> None:
    view = View(1, {"tool": 3})
    page = Page(view, openmetrics=om)
    for dimension, number, count, look in changes:
        key, written = stored(row(dimension, (f"k{number}",), number, tool_calls_success=count or 0, requests_error=1))
        view.feed(0, [(key, None if count is None else written)])
        if look:
            settle(view)
            assert render(view, openmetrics=om) == render(view, page)
    settle(view)
    assert render(view, openmetrics=om) == render(view, page)


@given(st.permutations(range(12)))
def test_pages_do_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    rows = [row("tool", (f"tool-{number}",), number, tool_calls_success=number) for number in range(12)]
    other = [rows[number] for number in order]

    assert render(view_of(*rows, tool=6)) == render(view_of(*other, tool=6))


# ---- speed -----------------------------------------------------------------------------------------------------


def busy_rows(round_number: int) -> list[tuple[bytes, bytes]]:
    """Return rows of about 10,000 series, all of them different from the round before."""
    counts = {"agent": 40, "tool": 90, "model": 12, "provider": 4, "tenant": 20, "agent_tool": 145}
    rows = []
    for name, count in counts.items():
        for number in range(count):
            labels = tuple(f"{column}-name-{number:04d}" for column in DIMENSIONS[name].columns)
            each = row(name, labels, number, **{m: at * 1_000 + round_number for at, m in enumerate(MEASURES)})
            mine = {"agent": ("request_duration",), "tenant": ()}.get(name, DURATIONS)
            each.histograms = {
                histogram: LifetimeHistogram(
                    123_456_789 + round_number, list(range(round_number, round_number + BUCKETS))
                )
                for histogram in mine
            }
            rows.append(stored(each))
    return rows


def into(blocks: list[bytes], view: View, page: Page, rows: list[tuple[bytes, bytes]]) -> Iterator[None]:
    """Feed rows and make the page of them, step by step."""
    view.feed(0, rows)
    for steps in (view.settle(), page.refresh(), page.blocks({**view.samples(), **own_samples()})):
        for step in steps:
            blocks.append(step or b"")
            yield


@pytest.mark.parametrize("openmetrics", [False, True])
def test_ten_thousand_series_that_have_all_changed_take_less_than_50_ms(openmetrics: bool) -> None:
    """And no step of it holds the loop for 5 ms; in processor time, and the best of some rounds."""
    view = View(1)
    page = Page(view, openmetrics=openmetrics)
    took_ms, longest_ms, text = [], [], ""
    for round_number in range(8):
        rows = busy_rows(round_number)
        blocks: list[bytes] = []
        started_s = time.thread_time()
        longest_ms.append(longest_step_s(into(blocks, view, page, rows)) * 1000)
        took_ms.append((time.thread_time() - started_s) * 1000)
        text = b"".join(blocks).decode()

    assert 10_000 <= sum(not line.startswith("#") and "_created" not in line for line in text.splitlines()) < 11_000
    slow = slowness()
    assert min(took_ms) < 50 * slow
    assert min(longest_ms) < 5 * slow
