"""Points of metrics: what only they say counts, what calls say already does not."""

from typing import Any

from streams.event.model import SessionStart, TokenUsage
from streams.event.otel.points import SESSIONS, TOKENS, translate
from streams.event.otel.strange import Strange
from streams.event.otel.wire import Point

TIME_NS = 1_750_000_000_000_000_000


def point(metric: str, value: float, attributes: dict[str, Any], **changes: Any) -> Point:
    about = {"session.id": "s-1", **attributes}
    made = Point(metric, "sum", True, value, TIME_NS - 10**9, TIME_NS, about, {"service.name": "claude-code"}, "s")
    return made._replace(**changes)


def test_a_session_begins() -> None:
    (event,) = translate([point(SESSIONS, 1, {})], Strange()).events

    assert isinstance(event, SessionStart)
    assert ("s-1", "claude-code", TIME_NS // 10**6) == (event.session_id, event.agent, event.time)


def test_tokens_count_where_metrics_are_chosen_to_count_them() -> None:
    told = {"input": 300, "output": 250, "cacheRead": 600, "cacheCreation": 100}
    points = [point(TOKENS, count, {"type": kind, "model": "m"}) for kind, count in told.items()]
    usages = [event for event in translate(points, Strange(), tokens=True).events if isinstance(event, TokenUsage)]

    assert [1000, 250, 600, 100] == [
        sum(getattr(each, name) for each in usages)
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    ]
    assert 4 == len({each.id for each in usages})
    assert not translate(points, Strange()).events


def test_cumulative_sums_are_rejected_and_the_next_step_named() -> None:
    found = translate([point(TOKENS, 7, {"type": "input"}, delta=False)], Strange(), tokens=True)

    assert (1, 0) == (found.rejected, len(found.events))
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta" in found.reason


def test_what_is_known_is_passed_over_and_what_nobody_knows_is_reported() -> None:
    strange = Strange()
    names = ["gen_ai.client.token.usage", "claude_code.cost.usage", "gen_ai.novelty", "process.cpu.time"]
    found = translate([point(name, 1, {}, kind="histogram") for name in names], strange)

    assert (4, 0, []) == (found.items, found.rejected, list(found.events))
    assert {"gen_ai.novelty": 1} == strange.report()["metric"]
