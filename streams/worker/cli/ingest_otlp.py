"""`agent-streams ingest-otlp`: takes what OpenTelemetry's exporters send and makes events of it.

Never judges: what is made of the events is decided by the workers.
"""

from typing import Annotated, Final

import typer

from streams.errors import ConfigError
from streams.settings import Settings
from streams.worker import logs, wiring
from streams.worker.cli.options import Bootstrap, Prefix, connection, load
from streams.worker.ingest_door import Limits
from streams.worker.ingest_records import Signal

EXAMPLES: Final = (
    "agent-streams ingest-otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:8467 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf python agent.py",
    "agent-streams ingest-otlp --port 4318",
    "agent-streams ingest-otlp --from-topic otlp_spans",
    "curl http://127.0.0.1:8467/strange",
)


def ingest_otlp(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8467")
    ] = None,
    from_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Read OTLP from this topic instead, as a collector's Kafka exporter writes it, each record exactly "
            "once.",
            show_default=False,
        ),
    ] = None,
    signal: Annotated[
        str | None,
        typer.Option(
            metavar="traces|logs|metrics",
            help="What the topic holds; without it its name has to end in spans, traces, logs or metrics.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Receive OTLP over HTTP (traces, logs, metrics), or read it from a topic, and write events, until a signal."""
    settings = load(bootstrap, prefix, ingest_host=host, ingest_port=port)
    if signal is not None and from_topic is None:
        raise ConfigError("--signal: given without --from-topic; over HTTP the path says it")
    logs.configure(settings.log_level, settings.log_format)
    code = _receive(settings) if from_topic is None else _read(settings, from_topic, signal)
    if code:
        raise typer.Exit(code)


def _receive(settings: Settings) -> int:
    _needs_otlp()
    from streams.worker.ingest import IngestConfig, run  # noqa: PLC0415  the extra may not be installed

    return run(
        IngestConfig(
            connection=connection(settings),
            prefix=settings.topic_prefix,
            web=wiring.web(settings, host=settings.ingest_host, port=settings.ingest_port),
            limits=limits(settings),
            claude_code=settings.ingest_claude_code,
            redactor=wiring.redactor(settings),
        )
    )


def limits(settings: Settings) -> Limits:
    """Return what receivers over HTTP take."""
    token = settings.ingest_token
    return Limits(
        token=token.get_secret_value() if token else None,
        body_bytes=settings.ingest_body_bytes,
        held_bytes=settings.ingest_held_bytes,
        connections=settings.ingest_connections,
    )


def _read(settings: Settings, topic: str, named: str | None) -> int:
    _needs_otlp()
    from streams.worker.ingest_topic import TopicConfig, run, signal_of  # noqa: PLC0415  the extra may not be installed

    if named is not None and named not in set(Signal):
        raise ConfigError(f"--signal: {named!r} given, expected one of {', '.join(Signal)}")
    signal = Signal(named) if named is not None else signal_of(topic)
    if signal is None:
        raise ConfigError(f"--from-topic: {topic!r} does not say what it holds: add --signal traces, logs or metrics")
    return run(
        TopicConfig(
            connection=connection(settings),
            topic=topic,
            signal=signal,
            web=wiring.web(settings, host=settings.ingest_host, port=settings.ingest_port),
            prefix=settings.topic_prefix,
            claude_code=settings.ingest_claude_code,
            redactor=wiring.redactor(settings),
        )
    )


def _needs_otlp() -> None:
    try:
        import opentelemetry.proto.trace.v1.trace_pb2  # noqa: F401, PLC0415  what the extra brings
    except ImportError as error:
        raise ConfigError("the receiver of OTLP needs an extra: pip install 'agent-streams[otlp]'") from error
