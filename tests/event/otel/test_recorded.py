"""What instrumented programs really sent: each run, whichever package told of it, is the ledger of its script."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.json_format import MessageToDict
from ledger_of import Collected, Ledger, ledger_of
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_made import as_otlp_json, translated
from otlp_recording import GOLDEN, SOURCES, Source, environment_of, record

from streams.event.model import Envelope, TokenUsage
from streams.event.otel import fromjson, fromproto
from streams.event.otel.family import Memory
from streams.event.tokens import Usage

ANSWER: Final = Usage(100, 20, 40, 0, 8)  # what each answer of the scripted model costs


def times(answers: int, *, cached: bool = True, reasoning: bool = True) -> Usage:
    """Return the tokens of some answers, as far as a package tells of their parts."""
    each = ANSWER._replace(
        cache_read_tokens=40 if cached else 0,
        reasoning_tokens=8 if reasoning else 0,
    )
    return Usage(*(answers * count for count in each))


TOOLS: Final = {("search", "success"): 1, ("boom", "error"): 1}
REFUSED: Final = {"success": 2, "error": 1}
# requests, models, tools, tokens, errors
LEDGERS: Final = {
    "otel_openai_g1": Ledger({}, REFUSED, {}, times(2, cached=False, reasoning=False), {"rate_limit": 1}),
    "otel_openai_g2": Ledger({}, REFUSED, {}, times(2, cached=False, reasoning=False), {"rate_limit": 1}),
    "openllmetry": Ledger({"success": 1}, REFUSED, TOOLS, times(2), {"rate_limit": 1, "tool_error": 1}),
    "openinference": Ledger(
        {"success": 1, "error": 1}, {"success": 3}, TOOLS, times(3), {"tool_error": 1, "other": 1}
    ),
    "pydantic_ai": Ledger(
        {"success": 1, "error": 2}, {"success": 3, "error": 1}, TOOLS, times(3),
        {"tool_error": 1, "rate_limit": 2, "other": 1},
    ),
    "strands": Ledger({"success": 1}, {"success": 3}, TOOLS, times(3, reasoning=False), {"tool_error": 1}),
    "strands_latest": Ledger({"success": 1}, {"success": 3}, TOOLS, times(3, reasoning=False), {"tool_error": 1}),
}  # fmt: skip
SESSION: Final = "conversation-1"  # what the sources that can are told


def ledger(events: Iterable[Envelope]) -> Ledger:
    out = Collected()
    for event in events:
        out.emit(event)
    return ledger_of(out)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.pb").read_bytes()


def events_of(body: bytes) -> list[Envelope]:
    """Translate a request, of which everything must be known."""
    made, strange = translated(fromproto.spans(body))

    assert 0 == made.rejected
    assert {} == {kind: names for kind, names in strange.report().items() if names}
    return list(made.events)


def test_every_source_has_a_recording() -> None:
    assert SOURCES.keys() == LEDGERS.keys() == {file.stem for file in GOLDEN.glob("*.pb")}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_recorded_run_is_the_ledger_of_its_script(name: str) -> None:
    assert LEDGERS[name] == ledger(events_of(golden(name)))


@pytest.mark.parametrize("name", LEDGERS)
def test_json_says_the_same_as_protobuf(name: str) -> None:
    body = golden(name)

    assert fromproto.spans(body) == fromjson.spans(
        as_otlp_json(MessageToDict(ExportTraceServiceRequest.FromString(body)))
    )


@pytest.mark.parametrize("name", LEDGERS)
def test_what_is_cut_into_requests_counts_the_same(name: str) -> None:
    """Exporters send whenever a batch is full: a span may come long before the one around it."""
    spans = fromproto.spans(golden(name))
    memory = Memory()
    events = [event for span in spans for event in translated([span], memory)[0].events]

    # Which call is around another may be unknown then, and nothing else.
    assert LEDGERS[name] == ledger(replace(event, parent_id=None) for event in events)


@pytest.mark.parametrize("name", ["openllmetry", "openinference", "strands", "strands_latest"])
def test_who_names_a_session_gets_it(name: str) -> None:
    events = events_of(golden(name))

    assert {SESSION} == {event.session_id for event in events}
    assert {"u-1"} == {event.user_id for event in events}
    assert {"planner"} == {event.agent for event in events}


@pytest.mark.parametrize("name", ["pydantic_ai", "strands", "strands_latest"])
def test_sums_of_requests_are_held_against_leaves_and_agree(name: str) -> None:
    usages = [event for event in events_of(golden(name)) if isinstance(event, TokenUsage)]
    sums = {event.call_id: event.input_tokens for event in usages if event.scope == "aggregate"}
    leaves: dict[str | None, int] = dict.fromkeys(sums, 0)
    for event in usages:
        if event.scope == "leaf":
            leaves[event.parent_id] += event.input_tokens

    assert sums
    assert sums == leaves


@pytest.mark.long
@pytest.mark.parametrize("name", SOURCES)
def test_the_packages_still_send_what_was_recorded(name: str, tmp_path: Path) -> None:
    """In an environment made now, with the newest packages the source allows."""
    source: Source = SOURCES[name]
    body = record(source, environment_of(source, tmp_path / "environment"))

    assert LEDGERS[name] == ledger(events_of(body))
