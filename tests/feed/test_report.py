"""What an emitter says of itself is what happened, under the same names everywhere."""

import re
from pathlib import Path

from feed_recording import Recording, until
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.event.model import ToolEnd
from streams.feed import Emitter, EmitterConfig
from streams.feed import report as module
from streams.feed.prometheus import EmitterCollector
from streams.feed.report import Row, resource_of

PAGE = (Path(__file__).parents[2] / "docs/emitter.md").read_text(encoding="utf-8")


def event(number: int) -> ToolEnd:
    return ToolEnd(
        id=str(number), time=number, agent="a", session_id=f"s{number}", tool="t", error_message="a@b.example"
    )


def test_the_counters_are_what_happened_and_prometheus_shows_the_same() -> None:
    recording = Recording()
    out = Emitter(EmitterConfig(sample=0.5), outlet=recording.outlet)
    registry = CollectorRegistry()
    registry.register(EmitterCollector(out))
    for number in range(500):
        out.emit(event(number))
    assert out.close()
    counters = dict(out.counters())
    shown = {
        sample.name + "".join(f'{{{name}="{value}"}}' for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }

    assert shown == counters
    sent = len(recording.ids())
    assert (500, sent, 500 - sent, 0) == tuple(
        counters[name]
        for name in (
            "agent_emitter_events_total",
            "agent_emitter_acknowledged_events_total",
            'agent_emitter_dropped_events_total{reason="sampled"}',
            "agent_emitter_queue_events",
        )
    )
    assert 0.5 == counters["agent_emitter_sample_ratio"]
    assert sent == counters['agent_emitter_redactions_total{pattern="email"}']
    assert 0 < counters["agent_emitter_send_seconds_max"] <= counters["agent_emitter_send_seconds_total"]
    assert 0 < counters["agent_emitter_caller_seconds"] <= counters["agent_emitter_caller_seconds_max"]


def test_what_waits_is_an_event_where_that_is_wanted() -> None:
    out = Emitter(EmitterConfig(), outlet=Recording(fail_opens=10**9).outlet)
    for number in range(7):
        out.emit(event(number))
    until(lambda: out._life.sender.held_events == 7)  # no longer on its way from one side's count to the other's
    told = resource_of(out.stats(), agent="a", now_ms=5)
    out.close(timeout_ms=1)

    assert (7, 5, "a") == (told.queue_depth, told.time, told.agent)


def test_the_page_names_every_metric_as_it_is() -> None:
    rows = [row for row in vars(module).values() if isinstance(row, Row)]
    expected = [f"| `{row.name}`{f' by {row.label}' if row.label else ''} | {row.kind}: {row.help} |" for row in rows]

    assert expected == re.findall(r"^\| `agent_emitter_.*$", PAGE, re.MULTILINE)
