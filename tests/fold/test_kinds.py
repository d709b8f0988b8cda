"""Rare kinds: what their contributions add up to is what a recount of the published events says."""

import json
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from rare import CUSTOMS, rare_events, session_end
from rare_ledger import BOUNDS, buckets, rare_parts

from streams.event.codec import decode_record
from streams.event.model import KINDS
from streams.fold.apply import apply
from streams.fold.cells import Cells, Target
from streams.fold.families import FAMILIES
from streams.fold.kinds import CONTRIBUTE
from streams.fold.live import LiveRow
from streams.fold.measure import CIRCUIT_MEASURES, DIMENSIONS, RARE
from streams.fold.merge import add_delta
from streams.fold.rollup import Delta, LifetimeRow, PaneRow
from streams.fold.shapes import SHAPES, bounds_of

T0: Final = 1_763_724_000_000
STORY: Final = [*rare_events(), session_end()]
NAMES: Final = {dimension.name for dimension in RARE}
# How a call between agents found its start is the session's business, and tested with it.
MATCHES: Final = {"a2a_ended", "a2a_abandoned", "a2a_unmatched"}

told = st.tuples(
    st.sampled_from(STORY),
    st.sampled_from("ab"),
    st.sampled_from((-1, T0, T0 + 10_000)),
    st.integers(0, 400_000),
)


def deltas_of(story: list[tuple[dict[str, Any], int]]) -> list[Delta]:
    cells = Cells()
    row = LiveRow("a", None, None, T0, T0, T0)
    for event, pane_ms in story:
        (decoded,) = decode_record(json.dumps(event).encode(), CUSTOMS).events
        apply(row, None, decoded, cells, pane_ms, T0)
    return cells.deltas()


@settings(max_examples=150, deadline=None)
@given(st.lists(told, max_size=40))
def test_contributions_are_what_a_recount_says(chosen: list[tuple[dict[str, Any], str, int, int]]) -> None:
    story = [
        ({**event, "agent": agent, **({"duration_ms": ms} if "duration_ms" in event else {})}, pane_ms)
        for event, agent, pane_ms, ms in chosen
    ]
    sums: dict[Target, dict[str, int]] = {}
    samples: dict[Target, dict[str, list[int]]] = {}
    for event, pane_ms in story:
        for part in rare_parts(event):
            place = part.dimension, part.labels, pane_ms
            totals = sums.setdefault(place, {})
            for name, by in part.sums.items():
                totals[name] = totals.get(name, 0) + by
            for name, value in part.samples.items():
                samples.setdefault(place, {}).setdefault(name, []).append(value)
    found = [delta for delta in deltas_of(story) if delta.dimension in NAMES]
    of_place = {(delta.dimension, delta.labels, delta.pane_ms): delta for delta in found}

    assert len(found) == len(of_place)
    for place, delta in of_place.items():
        assert sums.get(place, {}) == {name: by for name, by in delta.sums.items() if name not in MATCHES}
        told_here = samples.get(place, {})
        assert {name: sum(values) for name, values in told_here.items()} == {
            name: histogram.sum_us for name, histogram in delta.histograms.items()
        }
        for name, values in told_here.items():
            counts = {bucket: count for bucket, count in enumerate(buckets(name, values)) if count}
            assert counts == delta.histograms[name].buckets
            assert (len(values) if place[2] >= 0 else 0) == sum(delta.histograms[name].bins.values())
    assert sums.keys() <= of_place.keys()


def test_every_kind_that_is_no_everyday_one_contributes() -> None:
    everyday = {
        "session_start", "agent_start", "agent_end", "heartbeat", "model_start", "model_end", "token_usage",
        "tool_start", "tool_end", "custom",
    }  # fmt: skip

    assert {kind for name, kind in KINDS.items() if name not in everyday} == {
        kind for kind in CONTRIBUTE if kind in KINDS.values()
    }


def test_the_story_fills_every_measure_and_histogram_of_every_rare_dimension() -> None:
    """So whatever is tested with it is tested for all."""
    filled: dict[str, set[str]] = {}
    for delta in deltas_of([(event, T0) for event in [*STORY, *other_values()]]):
        filled.setdefault(delta.dimension, set()).update(delta.sums, delta.histograms)

    assert NAMES <= filled.keys()
    for name in NAMES - {"custom"}:
        family = FAMILIES[name]
        assert {*family.measures, *family.histograms} - set(CIRCUIT_MEASURES) == filled[name], name


def other_values() -> list[dict[str, Any]]:
    """Return the events of the story with the words that it does not use."""
    words: dict[str, list[dict[str, Any]]] = {
        "ccr": [{"status": status} for status in ("error", "cancelled")],
        "execution": [{"status": status} for status in ("timeout", "cancelled")],
        "skill": [{"action": "executed", "status": status} for status in ("timeout", "cancelled")],
        "agent_end": [{"status": status, "endpoint": "/ask"} for status in ("timeout", "cancelled")],
        "message": [{"role": role} for role in ("system", "tool")],
        "guard": [{"denied_by": by} for by in ("budget", "loop", "rule", "unknown")],
        "payload": [{"direction": "request", "cut_bytes": 1}],
        "error": [
            {"error_type": kind} for kind in ("rate_limit", "auth_failure", "network", "validation", "tool_error")
        ],
    }
    firsts = {event["kind"]: event for event in reversed(STORY)}
    return [{**firsts[kind], **change} for kind, changes in words.items() for change in changes]


def test_observations_are_counted_in_their_own_buckets() -> None:
    """Down to the rows of the second stage."""
    cache = next(event for event in STORY if event["kind"] == "cache")
    story = [({**cache, "duration_ms": number}, T0) for number in range(120)]
    (many,) = [delta for delta in deltas_of(story) if delta.dimension == "cache"]
    row, pane = LifetimeRow("cache", many.labels, 0, 0, 0), PaneRow(10_000, T0)
    add_delta(row, pane, many)

    durations = [number * 1000 for number in range(120)]
    assert buckets("cache_duration", durations) == row.histograms["cache_duration"].buckets
    assert len(durations) == sum(pane.histograms["cache_duration"].bins.values())


def test_every_histogram_has_the_buckets_that_were_promised() -> None:
    for name, uppers in BOUNDS.items():
        assert tuple(uppers) == bounds_of(name).uppers, name
    for name, shape in SHAPES.items():
        assert sorted(set(shape.bounds.uppers)) == list(shape.bounds.uppers), name


def test_what_is_left_out_is_called_unknown() -> None:
    bare: dict[str, Any] = {"kind": "security", "id": "x", "time": T0, "agent": "a", "action": "audit"}
    (delta,) = [delta for delta in deltas_of([(bare, T0)]) if delta.dimension == "security"]

    assert ("unknown", "unknown") == delta.labels


def test_every_dimension_has_as_many_labels_as_its_keys() -> None:
    for delta in deltas_of([(event, T0) for event in STORY]):
        assert len(DIMENSIONS[delta.dimension].columns) == len(delta.labels)
