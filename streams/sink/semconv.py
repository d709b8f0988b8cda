"""What does OpenTelemetry call our metrics?  One table per generation of its conventions for generative AI.  Data only.

Never two names for one number: what has a conventional name is exported under that, everything else under ours.
The conventions ask for the provider on every number of model calls, so theirs are made of the rows by provider; the
rows by model keep our names.  Sources: OpenTelemetry semantic conventions v1.36.0 and v1.41.1 (docs/gen-ai), and the
repository semantic-conventions-genai for what comes after.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

NONE: Final = "none"

CHAT: Final = (("gen_ai.operation.name", "chat"),)  # events of model calls tell no other operation


class Conventional(NamedTuple):
    """A conventional name; `attributes` replaces our labels, `constants` are on every point."""

    name: str
    attributes: Mapping[str, str]
    constants: tuple[tuple[str, str], ...]


class Generation(NamedTuple):
    """One generation: conventional names by ours, and how it calls a provider."""

    metrics: Mapping[str, Conventional]
    provider: str


_SYSTEM: Final = {"provider": "gen_ai.system"}
_PROVIDER: Final = {"provider": "gen_ai.provider.name"}
_V1_41: Final = {
    "agent_provider_call_duration_seconds": Conventional("gen_ai.client.operation.duration", _PROVIDER, CHAT),
    "agent_provider_time_to_first_token_seconds": Conventional(
        "gen_ai.client.operation.time_to_first_chunk", _PROVIDER, CHAT
    ),
}

GENERATIONS: Final[Mapping[str, Generation | None]] = {
    NONE: None,
    # Its time to first token is a server's own measurement, so what callers saw keeps our name.
    "v1.36": Generation(
        {"agent_provider_call_duration_seconds": Conventional("gen_ai.client.operation.duration", _SYSTEM, CHAT)},
        "gen_ai.system",
    ),
    "v1.41": Generation(_V1_41, "gen_ai.provider.name"),
    # Only what is merged there; renamings that are still proposals are left out.
    "development": Generation(
        {
            **_V1_41,
            "agent_request_duration_seconds": Conventional(
                "gen_ai.invoke_agent.duration",
                {"agent": "gen_ai.agent.name"},
                (("gen_ai.operation.name", "invoke_agent"),),
            ),
            "agent_tool_use_duration_seconds": Conventional(
                "gen_ai.execute_tool.duration",
                {"agent": "gen_ai.agent.name", "tool": "gen_ai.tool.name"},
                (("gen_ai.operation.name", "execute_tool"),),
            ),
        },
        "gen_ai.provider.name",
    ),
}

# A histogram of tokens per call: rows hold its count and its sum, so it has one bucket, from nothing to infinity.
USAGE: Final = "gen_ai.client.token.usage"
USAGE_HELP: Final = "Tokens reported per model call; count and sum, without buckets."
USAGE_COUNT: Final = "usage_reports"
USAGE_SUMS: Final = {"input": "input_tokens", "output": "output_tokens"}
USAGE_REPLACES: Final = "agent_provider_tokens_total"

# Units of the Unified Code for Units of Measure; what stands in braces is a comment and no part of a unit.
UNITS: Final[Mapping[str, str]] = {"": "", "seconds": "s", "bytes": "By", "tokens": "{token}", "usd": "{USD}"}
