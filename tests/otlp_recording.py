"""Records what instrumented programs really send: `python tests/otlp_recording.py` writes tests/golden/otlp anew.

Each source runs in an environment of its own, because their packages and ours do not go together.  Of what was sent
only the traces of stacks are taken out, which name files of the machine it was recorded on.
"""

import gzip
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROGRAMS: Final = Path(__file__).parent / "otlp_sources"
GOLDEN: Final = Path(__file__).parent / "golden" / "otlp"
EXPORTER: Final = "opentelemetry-exporter-otlp-proto-http"
RUN_S: Final = 120.0
_STACK: Final = "exception.stacktrace"
_STACK_BEGINS: Final = "Traceback (most recent call last)"


class Source(NamedTuple):
    """A program, what it needs, and what it is told by its environment."""

    program: str
    requirements: Sequence[str]
    environment: Mapping[str, str] = {}


_LATEST: Final = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
SOURCES: Final[Mapping[str, Source]] = {
    "otel_openai_g1": Source(
        "otel_openai",
        (f"{EXPORTER}<1.35", "opentelemetry-sdk<1.35", "opentelemetry-instrumentation<0.56",
         "opentelemetry-instrumentation-openai-v2==2.1b0", "openai<2", "httpx", "setuptools"),
    ),
    "otel_openai_g2": Source(
        "otel_openai",
        (EXPORTER, "opentelemetry-instrumentation-openai-v2==2.4b0", "opentelemetry-util-genai==1.1b0", "openai<3",
         "httpx"),
        _LATEST,
    ),
    "openllmetry": Source(
        "openllmetry_openai",
        (EXPORTER, "traceloop-sdk>=0.62", "opentelemetry-instrumentation-openai>=0.62", "openai<3", "httpx"),
    ),
    "openinference": Source(
        "openinference_langchain",
        (EXPORTER, "openinference-instrumentation-langchain>=0.1.80", "langchain-openai", "langchain", "openai<3",
         "httpx"),
    ),
    "pydantic_ai": Source("pydantic_ai_spans", (EXPORTER, "pydantic-ai-slim[openai]>=2.68")),
    "strands": Source("strands_spans", (EXPORTER, "strands-agents[openai]>=1.62")),
    "strands_latest": Source("strands_spans", (EXPORTER, "strands-agents[openai]>=1.62"), _LATEST),
}  # fmt: skip


def environment_of(source: Source, folder: Path) -> Path:
    """Make an environment for a source; return its Python."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *source.requirements], check=True)
    return python


def run(source: Source, python: Path, endpoint: str) -> None:
    """Run a source that exports to an address."""
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", **source.environment}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    command = [str(python), str(PROGRAMS / f"{source.program}.py")]
    done = subprocess.run(command, env={**kept, **told}, timeout=RUN_S, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def record(source: Source, python: Path) -> bytes:
    """Run a source and return all it sent, as one export request."""
    with _taking() as (endpoint, bodies):
        run(source, python, endpoint)
    assert bodies, f"{source.program} sent nothing"
    return without_stacks(b"".join(bodies))  # messages of protobuf side by side are one


def without_stacks(body: bytes) -> bytes:
    """Take the traces of stacks out."""
    request = ExportTraceServiceRequest.FromString(body)
    spans = (each for of in request.resource_spans for scoped in of.scope_spans for each in scoped.spans)
    for span in spans:
        span.status.message = span.status.message.partition(_STACK_BEGINS)[0]
        for event in span.events:
            kept = [pair for pair in event.attributes if pair.key != _STACK]
            del event.attributes[:]
            event.attributes.extend(kept)
    return request.SerializeToString()


@contextmanager
def _taking() -> Iterator[tuple[str, list[bytes]]]:
    """Take export requests of traces, as any collector does."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Record all sources, or those named."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            body = record(SOURCES[name], environment_of(SOURCES[name], Path(folder)))
        (GOLDEN / f"{name}.pb").write_bytes(body)


if __name__ == "__main__":
    main()
