"""`agent-streams ingest-http`: takes events from programs that have no Kafka client.

Never judges more than whether something is an event: what is made of it is decided by the workers.
"""

from typing import Annotated, Final

import typer

from streams.worker import logs, wiring
from streams.worker.cli.ingest_otlp import limits
from streams.worker.cli.options import Bootstrap, Prefix, connection, load
from streams.worker.ingest_http import HttpConfig, run

EXAMPLES: Final = (
    "agent-streams ingest-http",
    "curl -d @events.json -H 'Content-Type: application/json' http://127.0.0.1:8468/v1/events",
    "curl --data-binary @events.jsonl -H 'Content-Type: application/x-ndjson' http://127.0.0.1:8468/v1/events",
)


def ingest_http(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8468")
    ] = None,
) -> None:
    """Receive events over HTTP (POST /v1/events: an object, an array, or one per line), until a signal."""
    settings = load(bootstrap, prefix, ingest_http_host=host, ingest_http_port=port)
    logs.configure(settings.log_level, settings.log_format)
    code = run(
        HttpConfig(
            connection=connection(settings),
            prefix=settings.topic_prefix,
            web=wiring.web(settings, host=settings.ingest_http_host, port=settings.ingest_http_port),
            limits=limits(settings),
            client_rate=settings.ingest_client_rate,
            customs=wiring.customs(settings),
            redactor=wiring.redactor(settings),
        )
    )
    if code:
        raise typer.Exit(code)
