"""Traces beside durations: the last per bucket, from the event to the OpenMetrics page, and in no number anywhere."""

from typing import Any, Final

import pytest
from pages import families, render, series, settle
from through_stages import Stages, event

from streams.event.codec import decode_record
from streams.fold.exemplars import KEYS_MAX, TRACE_ID_CHARS_MAX, Exemplars
from streams.fold.rollup import Delta, Exemplar
from streams.fold.session import OVERFLOW
from streams.sink.catalog import METRICS
from streams.sink.view import View

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
MODEL: Final = {"model": "gpt-5", "provider": "openai"}


def view_of(stages: Stages, **keys_max: int) -> View:
    view = View(len(stages.rollups), keys_max)
    for number, rows in stages.changelog():
        view.feed(number, rows)
    settle(view)
    return view


def exemplars(view: View) -> dict[tuple[str, frozenset[tuple[str, str]]], tuple[str, float, float]]:
    """Return trace, value and moment by sample name and labels, as the official parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.value,
            float(sample.exemplar.timestamp or 0),
        )
        for family in families(render(view, openmetrics=True))
        for sample in family.samples
        if sample.exemplar
    }


def named(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"{name}_bucket", frozenset(labels.items())


def ended(number: int, duration_ms: float, **fields: Any) -> dict[str, Any]:
    return event("tool_end", number, session_id="s", tool="search", duration_ms=duration_ms, **fields)


def test_every_exported_duration_of_a_traced_event_has_its_trace_in_its_bucket() -> None:
    stages = Stages()
    stages.publish(
        [
            ended(1, 30, trace_id="tool"),
            event("model_end", 2, session_id="s", duration_ms=700, first_token_ms=120, trace_id="model", **MODEL),
            event("agent_end", 3, session_id="s", duration_ms=90_000, trace_id="request"),
        ]
    )
    found = exemplars(view_of(stages))

    at = 1_763_724_000
    assert {
        named("agent_tool_call_duration_seconds", tool="search", le="0.04"): ("tool", 0.03, at + 1),
        named("agent_tool_use_duration_seconds", agent="planner", tool="search", le="0.04"): ("tool", 0.03, at + 1),
        named("agent_model_call_duration_seconds", model="gpt-5", le="1.28"): ("model", 0.7, at + 2),
        named("agent_model_time_to_first_token_seconds", model="gpt-5", le="0.16"): ("model", 0.12, at + 2),
        named("agent_provider_call_duration_seconds", provider="openai", le="1.28"): ("model", 0.7, at + 2),
        named("agent_provider_time_to_first_token_seconds", provider="openai", le="0.16"): ("model", 0.12, at + 2),
        named("agent_request_duration_seconds", agent="planner", le="+Inf"): ("request", 90.0, at + 3),
    } == found
    assert {name.removesuffix("_bucket") for name, _ in found} <= {each.name for each in METRICS}


def test_the_last_trace_of_a_bucket_stays_and_other_buckets_keep_theirs() -> None:
    stages = Stages()
    for number, (duration_ms, trace) in enumerate([(30, "first"), (3_000, "slow"), (25, "second"), (28, None)]):
        stages.publish([ended(number, duration_ms, **({"trace_id": trace} if trace else {}))])
    found = exemplars(view_of(stages))

    name = "agent_tool_call_duration_seconds"
    assert {"0.04": "second", "5.12": "slow"} == {
        dict(labels)["le"]: trace for (sample, labels), (trace, _, _) in found.items() if sample == f"{name}_bucket"
    }


def test_the_text_page_has_none_and_no_number_depends_on_them() -> None:
    with_traces, without = Stages(), Stages()
    for number in range(20):
        with_traces.publish([ended(number, 10 * number, trace_id=f"t{number}")])
        without.publish([ended(number, 10 * number)])

    assert render(view_of(without)) == render(view_of(with_traces))
    assert series(render(view_of(without), openmetrics=True)) == series(render(view_of(with_traces), openmetrics=True))


def test_rows_that_share_the_overflow_series_show_their_newest_trace() -> None:
    stages = Stages(rollups=1)
    for number in range(4):
        fields = {"session_id": "s", "tool": f"t{number}", "duration_ms": 30, "trace_id": f"trace-{number}"}
        stages.publish([event("tool_end", number, **fields)])
    found = exemplars(view_of(stages, tool=1))

    name = "agent_tool_call_duration_seconds"
    assert "trace-0" == found[named(name, tool="t0", le="0.04")][0]
    assert "trace-3" == found[named(name, tool=OVERFLOW, le="0.04")][0]


@pytest.mark.parametrize("trace", [TRACE, "urn:trace/1.2_3", "x" * TRACE_ID_CHARS_MAX])
def test_whatever_a_trace_is_called_it_is_read_back(trace: str) -> None:
    stages = Stages()
    stages.publish([ended(1, 30, trace_id=trace)])

    assert {trace} == {found for found, _, _ in exemplars(view_of(stages)).values()}


@pytest.mark.parametrize("trace", ["x" * (TRACE_ID_CHARS_MAX + 1), 'a"b', "a\\b", "a\nb", "é", "a b"])
def test_a_trace_id_that_does_not_fit_the_format_is_left_out(trace: str) -> None:
    stages = Stages()
    stages.publish([ended(1, 30, trace_id=trace)])

    assert not exemplars(view_of(stages))


def test_a_flush_tells_at_most_one_per_key_and_of_so_many_keys() -> None:
    noted = Exemplars()
    for number in range(KEYS_MAX + 50):
        text = (
            f'{{"kind":"tool_end","id":"{number}","time":{number},"agent":"a","tool":"t{number}","duration_ms":1.5,'
            f'"trace_id":"{TRACE}"}}'
        )
        (one,) = decode_record(text.encode()).events
        noted.note(one, number)
        noted.note(one, number + 1)
    deltas = [Delta("tool", (f"t{number}",), pane_ms) for number in range(KEYS_MAX + 50) for pane_ms in (0, 10_000)]
    noted.attach(deltas)
    told = [delta for delta in deltas if delta.exemplars]

    assert KEYS_MAX == len(told) == len({delta.labels for delta in told})
    assert {"tool_duration": Exemplar(TRACE, 1_500, 1)} == told[0].exemplars
    noted.attach(more := [Delta("tool", ("t0",), 0)])
    assert not more[0].exemplars, "what was told is forgotten"
