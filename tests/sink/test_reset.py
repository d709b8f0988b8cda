"""Rows that were reset, on every page: counters and histograms begin anew, gauges and lifetimes stay."""

import random
from collections.abc import Iterable
from typing import Any

import msgspec
from pages import promtool, series, settle, value

from streams.fold.baseline import created_ms, reset, since_reset
from streams.fold.merge import add_delta
from streams.fold.rollup import Delta, LifetimeRow, ResetOrder, encode_row
from streams.fold.session import OVERFLOW
from streams.sink.document import as_json
from streams.sink.exposition import Page
from streams.sink.view import LIFETIME, View
from streams.stage.keys import dimension_key

CREATED_MS = 1_763_724_000_000
RESET_MS = CREATED_MS + 5_000
CALLS = {"tool_calls_started": 3, "tool_calls_ended": 2, "tool_calls_success": 2, "tool_retries": 7}


def row(name: str, ordinal: int = 0) -> LifetimeRow:
    return LifetimeRow("tool", (name,), ordinal, CREATED_MS, CREATED_MS)


def grow(one: LifetimeRow, times: int = 1) -> None:
    for _ in range(times):
        add_delta(one, None, Delta("tool", one.labels, -1, dict(CALLS), {"tool_duration": [20_000, 70_000]}))


def order(at_ms: int = RESET_MS, *names: str) -> ResetOrder:
    return ResetOrder("c", at_ms, names={"tool": list(names)} if names else None)


def fed(view: View, *rows: LifetimeRow) -> View:
    stored = [(LIFETIME + dimension_key(each.dimension, each.labels).encode(), encode_row(each)) for each in rows]
    view.feed(0, stored)
    settle(view)
    return view


def page_of(view: View, *, openmetrics: bool = False) -> str:
    page = Page(view, openmetrics=openmetrics)
    for _ in page.refresh():
        pass
    return b"".join(page.blocks(view.samples())).decode()


def document_of(view: View, metric: str) -> list[dict[str, Any]]:
    found = msgspec.json.decode(b"".join(as_json(view, view.samples(), now_ms=RESET_MS)))
    (series_,) = (each["series"] for each in found["metrics"] if each["name"] == metric)
    return list(series_)


def test_counters_and_histograms_begin_anew_and_gauges_stay() -> None:
    one = row("t")
    grow(one, 3)
    reset(one, order())
    grow(one)
    view = fed(View(1), one)
    text, openmetrics = page_of(view), page_of(view, openmetrics=True)

    for found in (series(text), series(openmetrics)):
        assert 2 == value(found, "agent_tool_calls_total", tool="t", status="success")
        assert 7 == value(found, "agent_tool_retries_total", tool="t")
        assert 2 == value(found, "agent_tool_call_duration_seconds_count", tool="t")
        assert 0.09 == value(found, "agent_tool_call_duration_seconds_sum", tool="t")
        assert 1 == value(found, "agent_tool_call_duration_seconds_bucket", tool="t", le="0.02")
        assert 4 == value(found, "agent_tool_calls_in_flight", tool="t"), "4 × (3 started − 2 ended)"
    assert RESET_MS / 1000 == value(series(openmetrics), "agent_tool_retries_created", tool="t")
    assert ("", "", 0) == promtool(text)


def test_json_has_both_numbers_where_something_was_reset() -> None:
    one, other = row("t"), row("u", 1)
    for each in (one, other):
        grow(each, 3)
    reset(one, order(RESET_MS, "tool_retries", "tool_duration"))
    grow(one)
    view = fed(View(1), one, other)

    assert [
        {"labels": {"tool": "t"}, "value": 7, "created_ms": RESET_MS, "lifetime": {"value": 28}, "reset_ms": RESET_MS},
        {"labels": {"tool": "u"}, "value": 21, "created_ms": CREATED_MS},
    ] == document_of(view, "agent_tool_retries_total")
    histogram = document_of(view, "agent_tool_call_duration_seconds")[0]
    assert (2, 8) == (histogram["count"], histogram["lifetime"]["count"])
    assert all("reset_ms" not in each for each in document_of(view, "agent_tool_calls_total"))
    created = series(page_of(view, openmetrics=True))
    assert RESET_MS / 1000 == value(created, "agent_tool_retries_created", tool="t")
    assert CREATED_MS / 1000 == value(created, "agent_tool_calls_created", tool="t", status="success")


def test_a_page_that_is_kept_follows_a_reset() -> None:
    one = row("t")
    grow(one)
    view = fed(View(1), one)
    page = Page(view, openmetrics=False)

    def shown() -> float:
        for _ in page.refresh():
            pass
        text = b"".join(page.blocks(view.samples())).decode()
        return value(series(text), "agent_tool_retries_total", tool="t")

    before = shown()
    reset(one, order())
    fed(view, one)
    assert [7, 0] == [before, shown()]


def test_named_and_overflow_add_up_however_rows_are_reset() -> None:
    """The same page for whoever read every version of every row and for whoever came last."""
    luck = random.Random(4)
    rows = [row(f"t{number}", number) for number in range(7)]
    followed = fed(View(1, {"tool": 2}), *rows)
    for _ in range(400):
        one = luck.choice(rows)
        if luck.random() < 0.15:
            names = luck.choice(((), ("tool_retries",), ("tool_duration", "tool_calls_success")))
            reset(one, order(RESET_MS + luck.randrange(9_000), *names))
        else:
            grow(one)
        fed(followed, one)
        latest = fed(View(1, {"tool": 2}), *rows)
        assert shown(latest) == shown(followed)

    everything = sum(since_reset(each).sums["tool_retries"] for each in rows)
    assert everything == sum(each["tool_retries"] for each in shown(followed).values())
    assert {("t0",), ("t1",), (OVERFLOW,)} == shown(followed).keys()


def shown(view: View) -> dict[tuple[str, ...], dict[str, int]]:
    """Return what is shown by labels: every number, and when it began."""
    return {group.labels: dict(_numbers(group.shown)) for group in view.groups("tool")}


def _numbers(one: LifetimeRow) -> Iterable[tuple[str, int]]:
    for name, number in one.sums.items():
        yield name, number
        yield f"{name} since", created_ms(one, (name,))
    for name, histogram in one.histograms.items():
        yield name, histogram.sum_us
        yield f"{name} since", created_ms(one, (name,))
        yield from ((f"{name} {at}", count) for at, count in enumerate(histogram.buckets))


def test_an_overflow_series_that_goes_down_says_since_when() -> None:
    """One of its keys was reset: what is left began no earlier than that."""
    rows = [row(f"t{number}", number) for number in range(3)]
    for each in rows:
        grow(each)
    reset(rows[2], order())
    found = series(page_of(fed(View(1, {"tool": 1}), *rows), openmetrics=True))

    assert 7 == value(found, "agent_tool_retries_total", tool=OVERFLOW)
    assert RESET_MS / 1000 == value(found, "agent_tool_retries_created", tool=OVERFLOW)
    assert CREATED_MS / 1000 == value(found, "agent_tool_retries_created", tool="t0")
