"""Requests of OTLP made by hand, and their translation, for tests."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.event.otel.family import Memory
from streams.event.otel.spans import Translated, translate
from streams.event.otel.strange import Strange
from streams.event.otel.wire import Span, SpanEvent

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
BEGAN_NS: Final = 1_750_000_000_000_000_000
MS: Final = 1_000_000


def span(
    number: int,
    attributes: Mapping[str, Any],
    *,
    parent: int = 0,
    name: str = "work",
    ms: int = 100,
    failed: bool = False,
    kind: int = 1,
    events: Sequence[SpanEvent] = (),
    resource: Mapping[str, Any] | None = None,
    trace: str = TRACE,
) -> Span:
    """Return a span with small numbers for ids; one of 0 ms still goes on."""
    began = BEGAN_NS + number * MS
    return Span(
        trace, f"{number:016x}", f"{parent:016x}" if parent else "", name, kind, began, began + ms * MS if ms else 0,
        failed, "", attributes, events, resource or {"service.name": "planner"}, "by hand",
    )  # fmt: skip


def chat(number: int, *, parent: int = 0, tokens: int = 100, **more: Any) -> Span:
    """Return a call of a model, as the conventions of v1.37 say it."""
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 10,
        **more.pop("attributes", {}),
    }
    return span(number, about, parent=parent, name="chat gpt-4o", kind=3, **more)


def tool(number: int, named: str = "search", *, parent: int = 0, **more: Any) -> Span:
    """Return a call of a tool."""
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": named, **more.pop("attributes", {})}
    return span(number, about, parent=parent, name=f"execute_tool {named}", **more)


def agent(number: int, *, parent: int = 0, **more: Any) -> Span:
    """Return a request to an agent."""
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "scout", **more.pop("attributes", {})}
    return span(number, about, parent=parent, name="invoke_agent scout", **more)


def raised(kind: str, message: str = "no luck") -> SpanEvent:
    """Return the event of an exception."""
    return SpanEvent("exception", BEGAN_NS, {"exception.type": kind, "exception.message": message})


def translated(spans: Sequence[Span], memory: Memory | None = None) -> tuple[Translated, Strange]:
    """Translate spans; return what nobody knows, too."""
    strange = Strange()
    return translate(spans, memory or Memory(), strange), strange


def as_otlp_json(request: Any) -> bytes:
    """Make of protobuf's own JSON the one of OTLP, where ids are hex and enumerations are numbers."""
    return json.dumps(_otlp(request)).encode()


_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_CODES: Final = ("UNSET", "OK", "ERROR")


def _otlp(value: Any) -> Any:
    if isinstance(value, list):
        return [_otlp(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _field(key, each) for key, each in value.items()}


def _field(key: str, value: Any) -> Any:
    if key in {"traceId", "spanId", "parentSpanId"}:
        return base64.b64decode(value).hex()
    if key == "kind" and isinstance(value, str):
        return _KINDS.index(value.removeprefix("SPAN_KIND_"))
    if key == "code" and isinstance(value, str):
        return _CODES.index(value.removeprefix("STATUS_CODE_"))
    return _otlp(value)
