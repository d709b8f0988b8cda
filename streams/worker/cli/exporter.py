"""`agent-streams exporter`: one process that shows what the workers have committed, for Prometheus.

Never owns a partition: it can be started, stopped and doubled at any time.
"""

from typing import Annotated, Final

import typer

from streams.settings import Settings
from streams.worker import logs, wiring
from streams.worker.cli.options import Bootstrap, Prefix, connection, load
from streams.worker.exporter import ExporterConfig, run
from streams.worker.otlp import OtlpConfig, headers_of

EXAMPLES: Final = (
    "agent-streams exporter",
    "agent-streams exporter --bootstrap broker-1:9092 --host 0.0.0.0 --port 8464",
    "curl http://127.0.0.1:8464/metrics",
)


def exporter(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8464")
    ] = None,
) -> None:
    """Serve /metrics until a signal: every number exact, through crashes, scaling and rebalances of workers."""
    settings = load(bootstrap, prefix, exporter_host=host, exporter_port=port)
    logs.configure(settings.log_level, settings.log_format)
    config = ExporterConfig(
        connection=connection(settings),
        prefix=settings.topic_prefix,
        web=wiring.web(settings, host=settings.exporter_host, port=settings.exporter_port),
        customs=wiring.customs(settings),
        otlp=_otlp(settings),
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
    )
    code = run(config)
    if code:
        raise typer.Exit(code)


def _otlp(settings: Settings) -> OtlpConfig | None:
    if settings.otlp_endpoint is None:
        return None
    headers = settings.otlp_headers
    return OtlpConfig(
        endpoint=settings.otlp_endpoint,
        headers=headers_of(headers.get_secret_value()) if headers else {},
        interval_ms=settings.otlp_interval_ms,
        timeout_ms=settings.otlp_timeout_ms,
        genai=settings.otlp_genai,
    )
