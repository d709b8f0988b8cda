"""What can be set about what leaves the system besides /metrics: bodies of requests, and metrics pushed by OTLP?

Never read by itself: `streams.settings` makes it a part of all settings.
"""

import re
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from streams.profiles import Profile
from streams.rule.faults import Faults
from streams.variables import PREFIX

# Three generations of OpenTelemetry's conventions for generative AI are in use; or none of them: our names alone.
GenAi = Literal["none", "v1.36", "v1.41", "development"]

NOTIFY_PORT: Final = 8466  # the exporter's is 8464, a worker's 8465

_URL: Final = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_HEADER: Final = re.compile(r"\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+\s*=[^\r\n,]*")  # RFC 9110: a token, then any value


class OutputSettings(BaseSettings):
    """The profile, and what leaves the system."""

    profile: Profile = Field(
        default="production",
        description="Which defaults hold where nothing is set: development logs at debug, logs payloads, and flushes "
        "after 10, 50 and 250 ms.",
    )

    # ---- bodies of requests and responses
    payloads: bool = Field(
        default=False,
        description="Write the bodies of requests and responses, redacted and cut, to a topic of their own. "
        "Without it they are counted and dropped. On in the development profile.",
    )
    payload_chars: int = Field(
        default=4_096,
        ge=256,
        le=65_536,
        description="Characters of a body that are kept; the record says what was cut.",
    )
    payload_retention_ms: int = Field(
        default=259_200_000,
        ge=60_000,
        le=31_536_000_000,
        description="How long bodies are kept, when topics are created: 3 days.",
    )
    redaction_file: Path | None = Field(
        default=None,
        description="Redaction patterns of your own: a name, white space and a regular expression per line. Emitters "
        "read this variable too.",
        examples=["/etc/agent-streams/redaction.txt"],
    )

    # ---- OTLP
    otlp_endpoint: str | None = Field(
        default=None,
        description="OpenTelemetry collector that the exporter pushes its metrics to, by HTTP with protobuf: "
        "/v1/metrics is appended. Without it: nothing is pushed.",
        examples=["http://localhost:4318"],
    )
    otlp_headers: SecretStr | None = Field(
        default=None,
        description="Headers of every push, such as a login: name=value, several separated by commas.",
        examples=["Authorization=Bearer 0123"],
    )
    exponential_histograms: bool = Field(
        default=False,
        description="Workers also keep durations in bins 9 % wide, and the exporter pushes them as exponential "
        "histograms. Rows of the tables become about 1 KB larger.",
    )
    otlp_interval_ms: int = Field(default=60_000, ge=1_000, le=3_600_000, description="How often metrics are pushed.")
    otlp_timeout_ms: int = Field(
        default=10_000, ge=100, le=600_000, description="A push that takes longer counts as failed."
    )
    otlp_genai: GenAi = Field(
        default="v1.41",
        description="Which generation of OpenTelemetry's names for generative AI is used where there is one.",
    )

    # ---- notifications
    receivers_file: Path | None = Field(
        default=None,
        description="Who is told about alerts (YAML), for `agent-streams notify`.",
        examples=["/etc/agent-streams/receivers.yaml"],
    )
    notify_host: str = Field(
        default="127.0.0.1", min_length=1, description="Where notify shows its health and its own metrics."
    )
    notify_port: int = Field(
        default=NOTIFY_PORT, ge=0, le=65_535, description="Port of notify's /metrics; 0 takes a free one."
    )
    notify_group: str = Field(
        default="notify",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Replicas of notify with one name stand by for each other: one of them sends.",
    )


def check_otlp(settings: Any, faults: Faults) -> None:
    """Note what is wrong with the collector's address and headers; neither is ever shown."""
    endpoint, headers = settings.otlp_endpoint, settings.otlp_headers
    if endpoint is not None and not _URL.fullmatch(endpoint):
        example = "set it to http://localhost:4318, for example; a login belongs into the headers"
        faults.note(f"{PREFIX}OTLP_ENDPOINT", "(hidden)", "http:// or https:// and an address", example)
    if headers is not None and not all(_HEADER.fullmatch(each) for each in headers.get_secret_value().split(",")):
        example = "write name=value, several separated by commas"
        faults.note(f"{PREFIX}OTLP_HEADERS", "(hidden)", "headers", example)
    if settings.otlp_timeout_ms > settings.otlp_interval_ms:
        limit = f"at most {PREFIX}OTLP_INTERVAL_MS ({settings.otlp_interval_ms})"
        faults.note(
            f"{PREFIX}OTLP_TIMEOUT_MS", settings.otlp_timeout_ms, limit, f"set it to {settings.otlp_interval_ms}"
        )


OTLP_FIELDS: Final = ("otlp_endpoint", "otlp_headers", "otlp_interval_ms", "otlp_timeout_ms")
