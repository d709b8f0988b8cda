"""Advice: every row can be provoked by events, none speaks of little data, and numbers are those of the window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from through_stages import Stages

from streams.fold.families import FAMILIES
from streams.fold.measure import DIMENSIONS, PARTITION
from streams.sink.advice import ADVICE, KEYS_SHOWN, Advice, Figures, advise, evidence, reference, together
from streams.topology import ROLLUPS_CHANGELOG
from streams.worker.cli.advice import figures, text
from streams.worker.tables import Tables

DOCS: Final = Path(__file__).parents[2] / "docs/advice.md"
T0: Final = 1_763_724_000_000
HOUR_MS: Final = 3_600_000


def of(kind: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Make events of one kind, a second apart."""
    return [{"kind": kind, "agent": "planner", "time": T0 + n * 1000, **fields} for n in range(count)]


def tool_ends(tool: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    return of("tool_end", count, tool=tool, duration_ms=100, **fields)


def told_of(events: Sequence[dict[str, Any]], since_ms: int = T0 - HOUR_MS) -> dict[str, list[str]]:
    """Publish events and return which advice is given about which keys."""
    stages = Stages(events=1)
    stages.publish([{"id": f"e{n}", **event} for n, event in enumerate(events)])
    found = Tables()
    for number, rows in stages.changelog():
        for key, value in rows:
            found.take(ROLLUPS_CHANGELOG.suffix, number, key, value)
    given: dict[str, list[str]] = {}
    for each in advise(figures(found, since_ms)):
        given.setdefault(each.name, []).append(" ".join(each.labels.values()))
    return given


USAGE: Final[dict[str, Any]] = {"model": "m", "cost_nano_usd": 1}
GET: Final[dict[str, Any]] = {"cache": "c", "operation": "get"}
# What a row needs to speak; without the last event it is too little.
PROVOKED: Final[dict[str, list[dict[str, Any]]]] = {
    "discovery-misses": of("discovery", 6, keyword_hash="k", results=0)
    + of("discovery", 14, keyword_hash="k", results=3),
    "execution-slow": of("execution", 20, language="python", duration_ms=2_001),
    "execution-fails": of("execution", 5, language="sh", status="error") + of("execution", 15, language="sh"),
    "skill-unused": of("skill", 4, skill="rare", action="executed") + of("skill", 46, skill="used", action="executed"),
    "detection-low": of("security", 18, action="pii_detected") + of("security", 20, action="audit"),
    "filtering-weak": of("filtering", 2, operation="map", input_bytes=500_000, output_bytes=450_000),
    "tool-fails": tool_ends("t", 4, status="error") + tool_ends("t", 6),
    "tool-retried": tool_ends("t", 21, attempt=2) + tool_ends("t", 10),
    "tool-dominates": tool_ends("slow", 26) + tool_ends("quick", 24),
    "tool-unpaired": tool_ends("t", 50),
    "model-fails": of("model_end", 3, model="m", status="error") + of("model_end", 17, model="m"),
    "answers-cut-off": of("model_end", 3, model="m", finish_reason="max_tokens") + of("model_end", 47, model="m"),
    "prompt-cache-unused": of("token_usage", 2, input_tokens=500_000, cache_read_tokens=49_000, **USAGE),
    "reasoning-heavy": of("token_usage", 2, output_tokens=50_000, reasoning_tokens=30_001, **USAGE),
    "unpriced": of("token_usage", 20, model="m", input_tokens=1),
    "usage-inconsistent": of("token_usage", 20, input_tokens=1, cache_read_tokens=2, **USAGE),
    "context-full": of("message", 20, role="user", context_tokens=81, context_limit=100),
    "cache-misses": of("cache", 51, **GET, result="miss") + of("cache", 49, **GET, result="hit"),
    "rate-limited": of("rate_limit", 3, endpoint="/e", result="denied")
    + of("rate_limit", 47, endpoint="/e", result="allowed"),
    "requests-abandoned": of("agent_start", 20),
}


def test_every_row_has_a_story() -> None:
    assert set(PROVOKED) == {row.name for row in ADVICE if row.dimension is not PARTITION}
    assert len(ADVICE) == len({row.name for row in ADVICE})


@pytest.mark.parametrize("name", PROVOKED)
def test_a_row_speaks_when_there_is_enough_and_not_one_observation_before(name: str) -> None:
    events = PROVOKED[name]
    row = next(row for row in ADVICE if row.name == name)

    assert name in told_of(events)
    assert name not in told_of(events[:-1]), row.counted


@pytest.mark.parametrize("name", [row.name for row in ADVICE if row.dimension is PARTITION])
def test_trouble_of_the_stream_is_advised_on(name: str) -> None:
    """A thousand events are too many to publish for each; the figures are those of a partition's row."""
    row = next(row for row in ADVICE if row.name == name)
    measure = name.removeprefix("events-").replace("repeated", "duplicate")
    bad = int(row.limit * 1_000) + 1

    assert [name] == [each.name for each in advise({"partition": [Figures(("0",), {"received": 1_000, measure: bad})]})]
    assert [] == advise({"partition": [Figures(("0",), {"received": 999, measure: bad})]})


@pytest.mark.parametrize("row", ADVICE, ids=lambda row: row.name)
def test_a_row_reads_what_its_rows_hold_and_says_what_to_do(row: Advice) -> None:
    names = dict.fromkeys(FAMILIES[row.dimension.name].measures, 1_000_000)
    histograms = dict.fromkeys(FAMILIES[row.dimension.name].histograms, (1_000_000, 10))
    held = Figures(row.dimension.columns, names, histograms)
    other = Figures(tuple("x" for _ in row.dimension.columns), names, histograms)

    assert row.look(held, together([held, other])) is not None, "it reads what rows of this kind do not hold"
    assert row.todo.endswith(".")
    assert row.least > 1
    assert DIMENSIONS[row.dimension.name] is row.dimension
    assert "{value}" in row.says


def test_documentation_is_the_table() -> None:
    _, _, rest = DOCS.read_text("utf-8").partition("<!-- advice -->\n")
    table, end, _ = rest.partition("<!-- end -->")

    assert end, "docs/advice.md has lost its comments"
    assert reference() == table


def test_nothing_is_said_of_nothing() -> None:
    assert [] == advise({})
    assert {} == told_of(of("heartbeat", 1))


def test_what_happened_before_the_window_is_no_reason() -> None:
    events = PROVOKED["tool-fails"]

    assert "tool-fails" not in told_of(events, since_ms=T0 + HOUR_MS)


def test_the_worst_keys_come_first_and_the_rest_is_counted() -> None:
    keys = [Figures((f"t{n}",), {"tool_calls_error": 10 + n, "tool_calls_success": 10}) for n in range(KEYS_SHOWN + 3)]
    given = advise({"tool": keys})

    assert [f"t{KEYS_SHOWN + 2 - n}" for n in range(KEYS_SHOWN)] == [each.labels["tool"] for each in given]
    assert {3} == {each.more for each in given}


def test_the_row_that_many_keys_share_is_nobody_s() -> None:
    shared = Figures(("__other__",), {"tool_calls_error": 100})

    assert [] == advise({"tool": [shared]})


def test_evidence_names_value_limit_count_and_window() -> None:
    (given,) = advise({"tool": [Figures(("search",), {"tool_calls_error": 4, "tool_calls_success": 6})]})

    assert "40% of the calls of search fail." == given.says
    assert "40%, above 30%, over 10 calls within 1d (nothing is said below 10)" == evidence(given, 24 * HOUR_MS)
    assert given.says in text([given], HOUR_MS).plain
    assert "Nothing to advise" in text([], HOUR_MS).plain
