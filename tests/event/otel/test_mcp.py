"""The MCP SDK tells of its calls by itself: its real spans, client and server, are the calls that were made."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mcp.client import Client
from mcp.server import MCPServer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_made import translated

from streams.event.model import ToolEnd
from streams.event.otel import fromproto


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Let everybody who asks for a tracer in this block get one that keeps spans."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with monkeypatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield kept


async def test_calls_over_mcp_count_once_and_a_result_that_failed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MCPServer("weather")

    @server.tool()
    def search(text: str) -> str:
        return f"found {text}"

    @server.tool()
    def boom() -> str:
        raise ValueError("no luck")

    with recorded(monkeypatch) as kept:
        async with Client(server) as client:
            await client.call_tool("search", {"text": "it"})
            assert (await client.call_tool("boom", {})).is_error
    spans = fromproto.spans(encode_spans(kept.get_finished_spans()).SerializeToString())
    found, strange = translated(spans)

    calls = Counter((event.tool, event.status) for event in found.events if isinstance(event, ToolEnd))
    assert {("search", "success"): 1, ("boom", "error"): 1} == calls
    assert not strange.totals()["span"]
