"""What an instrumented program talks to while it is recorded: a model behind HTTP, scripted, and the OTLP exporter.

Runs in an environment of its own, where the product is not installed; needs nothing but the OpenTelemetry SDK.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MODEL: Final = "gpt-4o-mini"
ANSWERED: Final = "gpt-4o-mini-2024-07-18"
# What every answer of the scripted model costs: cached ones are part of the prompt, reasoning of the completion.
USAGE: Final = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
REFUSED: Final = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}


def says(text: str) -> dict[str, Any]:
    """Return an answer in words."""
    return _answer({"role": "assistant", "content": text}, "stop")


def calls(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that asks for a tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    called = [{"id": f"call_{tool}", "type": "function", "function": function}]
    return _answer({"role": "assistant", "content": None, "tool_calls": called}, "tool_calls")


def _answer(message: dict[str, Any], reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_750_000_000, "model": ANSWERED,
        "choices": [choice], "usage": USAGE,
    }  # fmt: skip


@contextmanager
def scripted_model(answers: Sequence[dict[str, Any] | int]) -> Iterator[str]:
    """Serve these answers in their order at an OpenAI-compatible address; a number is an HTTP error."""
    waiting = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = waiting.pop(0)
            if isinstance(answer, int):
                self._send(answer, "application/json", json.dumps(REFUSED).encode())
            elif asked.get("stream"):
                self._send(200, "text/event-stream", _stream(answer))
            else:
                self._send(200, "application/json", json.dumps(answer).encode())

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _stream(answer: dict[str, Any]) -> bytes:
    """Return an answer as server-sent events, the usage last."""
    (choice,) = answer["choices"]
    about = {key: answer[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    words = (choice["message"]["content"] or "").split()
    deltas = [{"role": "assistant", "content": word} for word in words]
    if called := choice["message"].get("tool_calls"):
        deltas.append({"role": "assistant", "tool_calls": [{"index": 0, **each} for each in called]})
    parts = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    parts.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    chunks = [{**about, "choices": [part]} for part in parts]
    chunks.append({**about, "choices": [], "usage": USAGE})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


@contextmanager
def exporting(service: str) -> Iterator[TracerProvider]:
    """Return a provider whose spans go by OTLP to where OTEL_EXPORTER_OTLP_ENDPOINT says, all of them at the end."""
    assert os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider
    finally:
        provider.shutdown()
