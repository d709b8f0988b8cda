"""What a micro-batch adds is what adding its values one by one to every dimension adds."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event import model
from streams.fold import cells as cells_module
from streams.fold.apply import apply
from streams.fold.cells import Cells, ExtrasCell, LedgerCell, Target, UsageCell
from streams.fold.live import LiveRow
from streams.fold.measure import DIMENSIONS, HISTOGRAMS, MEANINGS, MEASURES, RARE, TOOL_ENDED
from streams.fold.rollup import Delta
from streams.fold.shapes import bounds_of

T0 = 1_763_724_000_000

# code of the meaning, pane start (−1: late), agent, tenant, name of tool or model, provider
CellKey = tuple[int, int, str, str | None, str | None, str | None]


# ---- the slow and obvious way ----------------------------------------------------------------------------------


def places_of(key: CellKey) -> list[Target]:
    """Name every key that a value counts for."""
    code, pane_ms, agent, tenant, name, provider = key
    labels: dict[str, str | None] = {"agent": agent, "tenant": tenant}
    family = MEANINGS[code].family
    if family == "tool":
        labels["tool"] = name
    elif family == "model":
        labels |= {"model": name, "provider": provider}
    found: list[Target] = []
    for dimension in set(DIMENSIONS.values()) - set(RARE):
        values = tuple(labels.get(column) for column in dimension.columns)
        if all(value is not None for value in values):
            found.append((dimension.name, tuple(str(value) for value in values), pane_ms))
    return found


def recount(story: list[tuple[CellKey, Any]]) -> dict[Target, tuple[dict[str, int], dict[str, list[int]]]]:
    """Add values one by one: sums and durations by place."""
    found: dict[Target, tuple[dict[str, int], dict[str, list[int]]]] = {}
    for key, value in story:
        meaning = MEANINGS[key[0]]
        for place in places_of(key):
            sums, durations = found.setdefault(place, ({}, {}))
            for name in meaning.ones:
                sums[name] = sums.get(name, 0) + 1
            for name, amount in zip(meaning.amounts, value if meaning.amounts else (), strict=True):
                sums[name] = sums.get(name, 0) + amount
            if meaning.histogram is not None:
                durations.setdefault(meaning.histogram, []).append(value)
    return found


def gather(cells: Cells, story: list[tuple[CellKey, Any]]) -> list[Delta]:
    for key, value in story:
        cell = cells.of(*key)
        if isinstance(cell, UsageCell):
            cell.use(*value)
        elif isinstance(cell, ExtrasCell):
            cell.add(*value)
        elif isinstance(cell, LedgerCell):
            cell.settle(*value)
        elif MEANINGS[key[0]].histogram is not None:
            cell.observe(value)
        else:
            cell.one()
    return cells.deltas()


def check(expected: dict[Target, tuple[dict[str, int], dict[str, list[int]]]], deltas: list[Delta]) -> None:
    assert sorted(expected) == sorted((delta.dimension, delta.labels, delta.pane_ms) for delta in deltas)
    for delta in deltas:
        sums, durations = expected[delta.dimension, delta.labels, delta.pane_ms]
        assert {name: value for name, value in sums.items() if value} == delta.sums
        assert durations.keys() == delta.histograms.keys()
        for name, histogram in delta.histograms.items():
            places = [bounds_of(name).place(value) for value in durations[name]]
            assert sum(durations[name]) == histogram.sum_us
            assert Counter(bucket for bucket, _ in places) == histogram.buckets
            assert (Counter(index for _, index in places) if delta.pane_ms >= 0 else {}) == histogram.bins


# ---- stories ---------------------------------------------------------------------------------------------------


@st.composite
def values(draw: st.DrawFn) -> tuple[CellKey, Any]:
    code = draw(st.integers(0, len(MEANINGS) - 1))
    meaning = MEANINGS[code]
    named = meaning.family in {"tool", "model"}
    key: CellKey = (
        code,
        draw(st.sampled_from((-1, T0, T0 + 10_000))),
        draw(st.sampled_from("ab")),
        draw(st.sampled_from((None, "acme", "initech"))),
        draw(st.sampled_from("xyz")) if named else None,
        draw(st.sampled_from((None, "p"))) if meaning.family == "model" else None,
    )
    amount = st.integers(0, 10**7)
    if meaning.amounts:
        return key, tuple(draw(amount) for _ in meaning.amounts)
    return key, draw(amount) if meaning.histogram else 0


@settings(max_examples=200)
@given(st.lists(st.lists(values(), max_size=60), min_size=1, max_size=3), st.sampled_from((0, 50_000)))
def test_deltas_are_what_a_recount_says_along_every_dimension(
    batches: list[list[tuple[CellKey, Any]]], kept_max: int
) -> None:
    """Whether cells live on from one batch to the next or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "CELLS_KEPT_MAX", kept_max)
        cells = Cells()
        for story in batches:
            check(recount(story), gather(cells, story))
            assert not cells


def test_late_durations_have_no_log_bins() -> None:
    """There is no pane to keep them in."""
    key: CellKey = (TOOL_ENDED["success", 1], -1, "a", None, "t", None)
    deltas = gather(Cells(), [(key, number) for number in range(9)])

    assert ["agent", "agent_tool", "all", "tool"] == sorted(delta.dimension for delta in deltas)
    assert all({} == delta.histograms["tool_duration"].bins for delta in deltas)
    assert all(9 == sum(delta.histograms["tool_duration"].buckets.values()) for delta in deltas)


def test_names_of_measures_and_histograms_never_meet() -> None:
    assert not set(MEASURES) & set(HISTOGRAMS)


def test_every_kind_of_event_counts_once_for_all_and_for_its_agent() -> None:
    """Whatever an event means besides, `events` grows by one."""
    required: dict[str, dict[str, Any]] = {
        "model_start": {"model": "m"}, "model_end": {"model": "m"}, "token_usage": {"model": "m"},
        "model_switch": {"from_model": "m", "to_model": "n"}, "tool_start": {"tool": "t"}, "tool_end": {"tool": "t"},
        "cycle": {"phase": "planning"},
        "message": {"role": "user"}, "rate_limit": {"endpoint": "/", "result": "denied"},
        "degraded": {"reason": "r"},
        "guard": {"target": "t", "denied_by": "loop"},
        "cache": {"cache": "c", "operation": "get", "result": "hit"}, "discovery": {"keyword_hash": "k"},
        "execution": {"language": "python"}, "filtering": {"operation": "map"},
        "skill": {"skill": "s", "action": "saved"}, "security": {"action": "audit"},
        "a2a_start": {"target": "b", "operation": "o"}, "a2a_end": {"target": "b", "operation": "o"},
        "ccr": {"provider": "p", "task_type": "chat"}, "payload": {"direction": "request", "body": ""},
        "custom": {"metric": "m", "metric_kind": "gauge", "value": 1},
    }  # fmt: skip
    for name, kind in model.KINDS.items():
        row = LiveRow("a", None, None, T0, T0, T0)
        cells = Cells()
        event = kind(id="e", time=T0, agent="a", **required.get(name, {}))
        apply(row, None, event, cells, T0, T0)
        found = {(delta.dimension, delta.labels): delta.sums.get("events") for delta in cells.deltas()}

        assert 1 == found["all", ()] == found["agent", ("a",)], name
