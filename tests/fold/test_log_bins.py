"""Lifetime log bins: kept only where asked for, exactly the durations themselves, and pushed as they are."""

import random
from collections import Counter
from math import log2
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pages import render, series, settle
from through_stages import Stages, event

from streams.fold.rollup import LIFETIME_SCALE
from streams.sink.otlp import Source, requests
from streams.sink.view import View

NAME: Final = "agent_tool_call_duration_microseconds"
NOW_MS: Final = 1_763_724_900_000


def ended(number: int, duration_ms: float, tool: str = "search") -> dict[str, Any]:
    return event("tool_end", number, session_id="s", tool=tool, duration_ms=duration_ms)


def view_of(stages: Stages, **keys_max: int) -> View:
    view = View(len(stages.rollups), keys_max)
    for number, rows in stages.changelog():
        view.feed(number, rows)
    settle(view)
    return view


def points(view: View) -> dict[str, Any]:
    """Return the pushed points of the metric by tool."""
    made = requests(view, view.samples(), Source((), "1", "v1.41"), now_ms=NOW_MS)
    found = [ExportMetricsServiceRequest.FromString(each.body) for each in made if each is not None]
    return {
        point.attributes[0].value.string_value: point
        for request in found
        for metric in request.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == NAME
        for point in metric.exponential_histogram.data_points
    }


def test_without_being_asked_nothing_is_kept_and_the_pages_do_not_differ() -> None:
    kept, plain = Stages(log_bins=True), Stages()
    for stages in (kept, plain):
        stages.publish([ended(number, 7 * number) for number in range(50)])

    assert not points(view_of(plain))
    assert points(view_of(kept))
    assert render(view_of(plain)) == render(view_of(kept))


def test_every_duration_is_in_the_bin_that_holds_it() -> None:
    """Bin i of scale s holds (2^(i/2^s), 2^((i+1)/2^s)]; counted here with logarithms, over many flushes."""
    rng = random.Random(7)
    us = [0, 0, 1, 2, 1024, *(int(10 ** rng.uniform(0.1, 9)) for _ in range(400))]
    stages = Stages(log_bins=True)
    for begin in range(0, len(us), 40):
        stages.publish([ended(begin + at, each / 1000) for at, each in enumerate(us[begin : begin + 40])])
    point = points(view_of(stages))["search"]

    expected = Counter(-(-log2(each) * 2**LIFETIME_SCALE // 1) - 1 for each in us if each)
    found = {point.positive.offset + at: n for at, n in enumerate(point.positive.bucket_counts) if n}
    assert expected == found
    assert (len(us), 2, sum(us), LIFETIME_SCALE) == (point.count, point.zero_count, point.sum, point.scale)


def test_it_says_since_when_and_counts_what_came_in_time() -> None:
    stages = Stages(log_bins=True)
    stages.publish([ended(4_000, 30)])
    stages.publish([ended(1, 30)])  # late: it has no bins
    view = view_of(stages)
    point = points(view)["search"]

    assert 1 == point.count
    assert 2 == series(render(view))["agent_tool_call_duration_seconds_count", frozenset({("tool", "search")})]
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano == NOW_MS * 10**6


def test_what_is_switched_off_goes_with_the_next_change() -> None:
    """Frozen numbers would pass for new ones; switched on again they begin anew, and say so."""
    stages = Stages(log_bins=True, rollups=1)
    stages.publish([ended(1, 30)])
    stages.rollups[0]._log_bins = False
    stages.publish([ended(2, 30)])
    assert not points(view_of(stages))
    stages.rollups[0]._log_bins = True
    stages.publish([ended(700, 30)])
    point = points(view_of(stages))["search"]

    assert 1 == point.count
    assert point.start_time_unix_nano >= 1_763_724_002_000 * 10**6


def test_rows_that_share_the_overflow_series_are_added_up() -> None:
    stages = Stages(log_bins=True, rollups=1)
    stages.publish([ended(number, 30, f"t{number}") for number in range(5)])
    found = points(view_of(stages, tool=2))

    assert [1, 1, 3] == sorted(point.count for point in found.values())
