"""Clients that send one event in ten again within a minute, in another order: the totals are those of each one once."""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest
from fault_table import record
from fleet import Fleet
from one_stage import Record
from through_stages import Stages
from truth import recount

pytestmark = pytest.mark.fault("T20")

EVENTS: Final = 6_000
SHARE: Final = 0.1
WITHIN_MS: Final = 60_000
STEP_MS: Final = 20
APART: Final = 60  # places that a record may be moved: fewer than the 64 numbers that a mark remembers


def repeated(events: Iterable[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], int]:
    """Send some events again, up to a minute later, and let neighbours change places; return how many were repeated."""
    rng = random.Random(seed)
    sent: list[tuple[float, dict[str, Any]]] = []
    repeats = 0
    for number, event in enumerate(events):
        sent.append((number + rng.uniform(0, APART / 2), event))
        if rng.random() < SHARE:
            repeats += 1
            sent.append((number + rng.uniform(0, WITHIN_MS / STEP_MS), event))
    return [event for _, event in sorted(sent, key=lambda each: each[0])], repeats


def without_numbers(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for event in events:
        yield {name: value for name, value in event.items() if name not in {"seq", "source"}}


def totals_of(stages: Stages) -> dict[str, dict[str, int]]:
    """Return what matters of every session."""
    found: dict[str, dict[str, int]] = {}
    for partition in stages.sessions:
        for key, row in partition.sessions():
            if isinstance(key, str):
                found[key] = {
                    "events": row.events, "tool_calls": row.tool_calls, "tool_us": row.tool_us,
                    "input_tokens": row.input_tokens, "output_tokens": row.output_tokens,
                }  # fmt: skip
    return found


@pytest.mark.parametrize("numbered", [True, False], ids=["by-source-and-seq", "by-id"])
def test_repeats_and_disorder_change_no_total(numbered: bool) -> None:
    events = list(Fleet(20, sessions=40, tools=6, step_ms=STEP_MS).events(EVENTS))
    if not numbered:
        events = list(without_numbers(events))
    sent, repeats = repeated(events, 20)
    stages = Stages()
    for at in range(0, len(sent), 500):
        stages.publish(sent[at : at + 500], timestamp_ms=events[-1]["time"])
    truth, _ = recount(events)
    counters: dict[str, int] = {}
    for partition in stages.sessions:
        for name, count in partition.counters().items():
            counters[name] = counters.get(name, 0) + count

    names = ("events", "tool_calls", "tool_us", "input_tokens", "output_tokens")
    assert {key: {name: each.get(name, 0) for name in names} for key, each in truth.items()} == totals_of(stages)
    assert (EVENTS, repeats) == (counters["applied"] + counters.get("late", 0), counters["duplicate"])
    record("T20", "by-source-and-seq" if numbered else "by-id", events=EVENTS, repeated=repeats, missing=0, twice=0)


def test_records_that_are_read_again_are_not_duplicates_of_a_client() -> None:
    """After a restart the log is read on from where the state ends: what lies before it is skipped, not counted."""
    stages = Stages(events=1)
    first = list(Fleet(3, sessions=3).events(50))
    stages.publish(first)
    before = stages.sessions[0].counters()
    stages.sessions[0].feed([Record(number, 0, None, json.dumps(event).encode()) for number, event in enumerate(first)])

    assert before == stages.sessions[0].counters()
