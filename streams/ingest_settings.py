"""What can be set about what comes in by other ways than Kafka: OpenTelemetry's signals, and events over HTTP.

Never read by itself: `streams.settings` makes it a part of all settings.
"""

from typing import Final, Literal

from pydantic import Field, SecretStr

from streams.web_settings import WebSettings

INGEST_PORT: Final = 8467  # the exporter's is 8464, a worker's 8465, notify's 8466
INGEST_HTTP_PORT: Final = 8468
MIB: Final = 1024 * 1024


class IngestSettings(WebSettings):
    """The receivers: `agent-streams ingest-otlp` and `agent-streams ingest-http`."""

    ingest_host: str = Field(default="127.0.0.1", min_length=1, description="Where OTLP is received.")
    ingest_port: int = Field(
        default=INGEST_PORT,
        ge=0,
        le=65_535,
        description="Port that OTLP is received on, by HTTP; 0 takes a free one. 4318 is what exporters send to unless "
        "told otherwise.",
        examples=["4318"],
    )
    ingest_http_host: str = Field(default="127.0.0.1", min_length=1, description="Where events are received over HTTP.")
    ingest_http_port: int = Field(
        default=INGEST_HTTP_PORT,
        ge=0,
        le=65_535,
        description="Port that events are received on over HTTP; 0 takes a free one.",
    )
    ingest_client_rate: int = Field(
        default=20_000,
        ge=1,
        le=10_000_000,
        description="Events a second that one address may send over HTTP, twice as many at once; beyond them it is "
        "told when to come again.",
    )
    ingest_token: SecretStr | None = Field(
        default=None,
        description="What senders of OTLP and of events over HTTP have to show: `Authorization: Bearer …`. "
        "Without it: nothing.",
    )
    ingest_body_bytes: int = Field(
        default=16 * MIB,
        ge=1024,
        le=256 * MIB,
        description="Bytes of one request, as it comes and unpacked; a larger one is refused.",
    )
    ingest_held_bytes: int = Field(
        default=64 * MIB,
        ge=1024,
        le=4096 * MIB,
        description="Bytes of requests that wait for Kafka at once; beyond them senders are told to come again.",
    )
    ingest_connections: int = Field(
        default=512, ge=1, le=100_000, description="Connections of senders at once; further ones are refused."
    )
    ingest_claude_code: Literal["events", "metrics"] = Field(
        default="events",
        description="What counts Claude Code's tokens, which it tells twice: its log events or its metrics.",
    )
