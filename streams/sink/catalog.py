"""Which metrics are there: each one once.  Data only.

Never a label with a session, a request or a user in it, and never a series that is the sum of its neighbours: the
values of a label add up to something, and totals are left to whoever asks.

A name begins with `agent_`; numbers by agent follow at once, all others name what they are by: `agent_tool_…`,
`agent_tool_use_…` (an agent's use of a tool), `agent_model_…`, `agent_provider_…`, `agent_tenant_…`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from streams.event.model import CALL_STATUSES, ERROR_TYPES, TOOL_STATUSES
from streams.fold.measure import (
    AGENT,
    AGENT_TOOL,
    DIMENSIONS,
    MODEL,
    PROVIDER,
    TENANT,
    TOOL,
    Dimension,
)
from streams.sink.budgets import OF_BUDGETS
from streams.sink.catalog_code import OF_CODE
from streams.sink.catalog_services import OF_SERVICES
from streams.sink.catalog_stream import OF_STREAM
from streams.sink.catalog_tokens import OF_LEDGER, OF_USAGE, computed_cost
from streams.sink.catalog_work import OF_MODELS, OF_TROUBLE, OF_WORK
from streams.sink.derived import DERIVED
from streams.sink.measured import GAUGES
from streams.sink.metric import Metric, by, durations, plain
from streams.sink.processes import OF_EXPORTER


def _in_flight(name: str, dimension: Dimension, what: str, noun: str, *, seeds: tuple[str, ...] = ()) -> Metric:
    help_text = f"{what} that have started and neither ended nor been given up."
    return plain(name, dimension, help_text, (f"{noun}_started",), (f"{noun}_ended", f"{noun}_abandoned"), seeds=seeds)


def _calls(prefix: str, dimension: Dimension, what: str, noun: str) -> tuple[Metric, ...]:
    """Return what is counted around the ends of calls, so that starts and ends can be reconciled."""
    return (
        plain(f"{prefix}_started_total", dimension, f"{what} that have started.", (f"{noun}_started",)),
        plain(
            f"{prefix}_abandoned_total",
            dimension,
            f"{what} given up: their session ended, or their start had no identity that an end could name.",
            (f"{noun}_abandoned",),
        ),
        plain(
            f"{prefix}_unmatched_total",
            dimension,
            f"{what} that ended without a start that was seen; they count among the ended.",
            (f"{noun}_unmatched",),
        ),
    )


def _statuses(noun: str, statuses: tuple[str, ...]) -> dict[str, str]:
    return {status: f"{noun}_{status}" for status in statuses}


_TOKENS: Final = {"input": "input_tokens", "output": "output_tokens"}
_CACHED: Final = {"read": "cache_read_tokens", "write": "cache_write_tokens"}
_ERRORS: Final = {kind: f"errors_{kind}" for kind in ERROR_TYPES}
_TOKENS_HELP: Final = (
    "Tokens reported by the leaves of model calls. Input includes what a cache served, output includes reasoning."
)
_COST_HELP: Final = "Cost in US dollars, named by the publisher or computed; what was not priced adds nothing."


def _spending(prefix: str, dimension: Dimension, *, seeds: tuple[str, ...] = ()) -> tuple[Metric, ...]:
    """Return tokens and money of one dimension."""
    return (
        by(f"{prefix}_tokens_total", dimension, _TOKENS_HELP, "type", _TOKENS, unit="tokens", seeds=seeds),
        by(
            f"{prefix}_cache_tokens_total",
            dimension,
            "Input tokens that a prompt cache served (read) or took in (write); part of the input tokens.",
            "operation",
            _CACHED,
            unit="tokens",
        ),
        plain(
            f"{prefix}_reasoning_tokens_total",
            dimension,
            "Output tokens spent on reasoning; part of the output tokens.",
            ("reasoning_tokens",),
            unit="tokens",
        ),
        plain(
            f"{prefix}_cost_usd_total",
            dimension,
            _COST_HELP,
            ("cost_nano_usd",),
            unit="usd",
            seeds=("agent_token_cost_estimate",) if seeds else (),
        ),
        plain(
            f"{prefix}_unpriced_usage_reports_total",
            dimension,
            "Usage reports without a cost: what the cost counters do not hold.",
            ("unpriced",),
        ),
        computed_cost(prefix, dimension),
    )


_BY_AGENT: Final = (
    plain(
        "agent_events_total",
        AGENT,
        "Events folded into the tables, late ones included, duplicates and refused ones not.",
        ("events",),
    ),
    by(
        "agent_requests_total",
        AGENT,
        "Requests to the agent that have ended.",
        "status",
        _statuses("requests", CALL_STATUSES),
        seeds=("agent_requests_total", "crew_requests_total"),
    ),
    *_calls("agent_requests", AGENT, "Requests to the agent", "requests"),
    _in_flight("agent_requests_in_flight", AGENT, "Requests", "requests", seeds=("agent_concurrent_requests",)),
    durations(
        "agent_request_duration_seconds",
        AGENT,
        "How long requests took from start to end.",
        "request_duration",
        seeds=("agent_request_duration", "crew_request_duration_seconds"),
    ),
    *_spending("agent", AGENT, seeds=("agent_tokens_total", "agent_tokens_input_total", "agent_tokens_output_total")),
    by("agent_errors_total", AGENT, "Errors reported by the agent.", "type", _ERRORS, seeds=("agent_errors_total",)),
    plain("agent_heartbeats_total", AGENT, "Signs of life of running requests and tools.", ("heartbeats",)),
    plain("agent_sessions_started_total", AGENT, "Sessions that have begun.", ("sessions_started",)),
    plain(
        "agent_sessions_ended_total",
        AGENT,
        "Sessions that have ended, by an event or by silence.",
        ("sessions_ended",),
    ),
    plain(
        "agent_sessions_active",
        AGENT,
        "Sessions that have begun and not ended.",
        ("sessions_started",),
        ("sessions_ended",),
    ),
)

_BY_TOOL: Final = (
    by(
        "agent_tool_calls_total",
        TOOL,
        "Tool calls that have ended.",
        "status",
        _statuses("tool_calls", TOOL_STATUSES),
        seeds=(
            "agent_tool_calls_total",
            "agent_tool_errors",
            "agent_tool_timeout_rate",
            "agent_tool_validation_failures",
        ),
    ),
    *_calls("agent_tool_calls", TOOL, "Tool calls", "tool_calls"),
    _in_flight(
        "agent_tool_calls_in_flight", TOOL, "Tool calls", "tool_calls", seeds=("agent_tool_parallel_executions",)
    ),
    durations(
        "agent_tool_call_duration_seconds",
        TOOL,
        "How long tool calls took.",
        "tool_duration",
        seeds=("agent_tool_execution_duration",),
    ),
    plain(
        "agent_tool_retries_total",
        TOOL,
        "Tool calls that were not the first attempt.",
        ("tool_retries",),
        seeds=("agent_tool_retry_attempts",),
    ),
    plain("agent_tool_input_bytes_total", TOOL, "Bytes handed to tools.", ("tool_input_bytes",), unit="bytes"),
    plain("agent_tool_output_bytes_total", TOOL, "Bytes returned by tools.", ("tool_output_bytes",), unit="bytes"),
)

_BY_AGENT_AND_TOOL: Final = (
    by(
        "agent_tool_uses_total",
        AGENT_TOOL,
        "Tool calls that have ended, by the agent that made them.",
        "status",
        _statuses("tool_calls", TOOL_STATUSES),
    ),
    _in_flight("agent_tool_uses_in_flight", AGENT_TOOL, "Tool calls of an agent", "tool_calls"),
    durations(
        "agent_tool_use_duration_seconds",
        AGENT_TOOL,
        "How long tool calls took, by the agent that made them.",
        "tool_duration",
    ),
    plain(
        "agent_tool_use_retries_total",
        AGENT_TOOL,
        "Tool calls of an agent that were not the first attempt.",
        ("tool_retries",),
    ),
    plain(
        "agent_tool_use_input_bytes_total",
        AGENT_TOOL,
        "Bytes an agent handed to a tool.",
        ("tool_input_bytes",),
        unit="bytes",
    ),
    plain(
        "agent_tool_use_output_bytes_total",
        AGENT_TOOL,
        "Bytes a tool returned to an agent.",
        ("tool_output_bytes",),
        unit="bytes",
    ),
)

_BY_MODEL: Final = (
    by(
        "agent_model_calls_total",
        MODEL,
        "Model calls that have ended.",
        "status",
        _statuses("model_calls", CALL_STATUSES),
        seeds=("agent_model_invocations_total",),
    ),
    *_calls("agent_model_calls", MODEL, "Model calls", "model_calls"),
    _in_flight("agent_model_calls_in_flight", MODEL, "Model calls", "model_calls"),
    durations(
        "agent_model_call_duration_seconds",
        MODEL,
        "How long model calls took.",
        "model_duration",
        seeds=("agent_model_invocation_duration",),
    ),
    durations(
        "agent_model_time_to_first_token_seconds",
        MODEL,
        "How long model calls took until their first token.",
        "first_token",
    ),
    *_spending("agent_model", MODEL),
    plain(
        "agent_model_usage_reports_total",
        MODEL,
        "Usage reports that were added up: those of leaves.",
        ("usage_reports",),
    ),
    plain(
        "agent_model_aggregate_usage_reports_total",
        MODEL,
        "Usage reports that repeat what leaves reported; counted here and added up nowhere.",
        ("usage_aggregates",),
    ),
)

_BY_PROVIDER: Final = (
    by(
        "agent_provider_calls_total",
        PROVIDER,
        "Model calls that have ended, by provider.",
        "status",
        _statuses("model_calls", CALL_STATUSES),
    ),
    durations(
        "agent_provider_call_duration_seconds", PROVIDER, "How long model calls took, by provider.", "model_duration"
    ),
    durations(
        "agent_provider_time_to_first_token_seconds",
        PROVIDER,
        "How long model calls took until their first token, by provider.",
        "first_token",
    ),
    *_spending("agent_provider", PROVIDER),
)

_BY_TENANT: Final = (
    plain("agent_tenant_events_total", TENANT, "Events of a tenant folded into the tables.", ("events",)),
    by(
        "agent_tenant_requests_total",
        TENANT,
        "Requests of a tenant that have ended.",
        "status",
        _statuses("requests", CALL_STATUSES),
    ),
    *_spending("agent_tenant", TENANT),
    by("agent_tenant_errors_total", TENANT, "Errors reported for a tenant.", "type", _ERRORS),
)

METRICS: Final = (
    *_BY_AGENT,
    *OF_LEDGER,
    *_BY_TOOL,
    *_BY_AGENT_AND_TOOL,
    *_BY_MODEL,
    *OF_USAGE,
    *_BY_PROVIDER,
    *_BY_TENANT,
    *OF_WORK,
    *OF_MODELS,
    *OF_TROUBLE,
    *OF_SERVICES,
    *OF_CODE,
    *GAUGES,
    *DERIVED,
    *OF_BUDGETS,
    *OF_STREAM,
    *OF_EXPORTER,
)


def by_dimension(metrics: Sequence[Metric]) -> Mapping[str, tuple[Metric, ...]]:
    """Sort metrics by the rows they read, each in the order given."""
    return {
        name: tuple(metric for metric in metrics if metric.dimension is dimension)
        for name, dimension in DIMENSIONS.items()
    }


OF_DIMENSION: Final = by_dimension(METRICS)
