"""Several receivers: what each remembers of a trace is its own, so that it matters which of them gets which spans.

Two translators stand for two receivers: all that a receiver remembers is in its translator.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_made import TRACE, agent, chat, span, tool
from otlp_recording import GOLDEN

from streams.event.codec import decode_record
from streams.event.otel.family import Memory
from streams.event.otel.spans import translate
from streams.event.otel.strange import Strange
from streams.event.otel.wire import SERVER, Span
from streams.worker.ingest_codec import Translator
from streams.worker.ingest_records import Signal

RECORDED: Final = sorted(file.stem for file in GOLDEN.glob("*.pb"))
Ends = Counter[tuple[str, str, str]]  # kind, what is called, status


def one_by_one(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield a recording cut into requests of one span each, with the trace that it belongs to."""
    for resource in ExportTraceServiceRequest.FromString((GOLDEN / f"{name}.pb").read_bytes()).resource_spans:
        for scope in resource.scope_spans:
            for each in scope.spans:
                request = ExportTraceServiceRequest()
                around = request.resource_spans.add(resource=resource.resource)
                around.scope_spans.add(scope=scope.scope, spans=[each])
                yield each.trace_id.hex(), request.SerializeToString()


def ends_of(requests: Iterable[tuple[str, bytes]], choose: Callable[[str], int]) -> Ends:
    """Send each request to the receiver that is chosen by its trace; return the calls that ended."""
    receivers = [Translator(None), Translator(None)]
    found: Ends = Counter()
    for trace_id, body in requests:
        carried = receivers[choose(trace_id)].carry(Signal.TRACES, body, as_json=False)
        for record in carried.records:
            for event in decode_record(record.value).events:
                if (kind := type(event).__name__).endswith("End"):
                    about = getattr(event, "tool", None) or getattr(event, "model", "")
                    found[kind, str(about), str(getattr(event, "status", ""))] += 1
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_receivers_that_get_whole_traces_count_as_one_does(name: str) -> None:
    requests = list(one_by_one(name))

    alone = ends_of(requests, lambda _: 0)

    assert alone.total()
    assert alone == ends_of(requests, lambda trace_id: int(trace_id, 16) % 2)
    assert alone == ends_of(requests, lambda trace_id: int(trace_id[:8], 16) % 2)


def spread(spans: list[Span], places: Iterable[int]) -> Iterator[Any]:
    """Translate spans, each a request of its own to the receiver in its place."""
    memories = [Memory(), Memory()]
    for each, place in zip(spans, places, strict=True):
        yield from translate([each], memories[place], Strange()).events


def served(number: int, parent: int) -> Span:
    return tool(number, parent=parent, kind=SERVER, attributes={"mcp.method.name": "tools/call"})


@pytest.mark.parametrize(
    ("spans", "kind"),
    [
        pytest.param([chat(2, parent=1), chat(1)], "ModelEnd", id="a framework around its client"),
        pytest.param([tool(2, parent=1), served(3, parent=2), agent(1)], "ToolEnd", id="a call and its server"),
        pytest.param(
            [chat(3, parent=2), span(2, {"openinference.span.kind": "CHAIN"}, parent=1), chat(1)],
            "ModelEnd",
            id="with a chain between them",
        ),
    ],
)
def test_spans_of_one_call_that_are_torn_apart_count_twice_and_never_less_than_once(
    spans: list[Span], kind: str
) -> None:
    """This is what routing prevents: the whole trace in one place is the only way that always counts it once."""
    counts = {
        places: sum(type(event).__name__ == kind for event in spread(spans, places))
        for places in product((0, 1), repeat=len(spans))
    }

    assert 1 == counts[(0,) * len(spans)] == counts[(1,) * len(spans)]
    assert {1, 2} == set(counts.values())


def test_torn_apart_a_session_stays_the_traces_and_an_agent_may_be_its_service() -> None:
    named, other = agent(1), chat(2, parent=1)

    together = list(spread([named, other], (0, 0)))
    apart = list(spread([named, other], (0, 1)))

    assert {"scout"} == {event.agent for event in together}
    assert {"scout", "planner"} == {event.agent for event in apart}
    assert {TRACE} == {event.session_id for event in (*together, *apart)}
