"""Which metrics tell how services around agents do: calls between agents, caches, limits, routing.  Data only.

A call between agents is labelled with the agent that was asked: who asks is counted with its requests.
"""

from typing import Final

from streams.event.model import CALL_STATUSES
from streams.fold.families import CACHE_RESULTS, RATE_RESULTS
from streams.fold.measure import A2A, A2A_AGENT, CACHE, CCR, CCR_PROVIDER, RATE_LIMIT
from streams.sink.metric import by, durations, observed, plain

OF_SERVICES: Final = (
    plain(
        "agent_a2a_requests_total",
        A2A,
        "Calls from one agent to another that have ended.",
        ("a2a_requests",),
        seeds=("a2a_requests_total",),
    ),
    durations(
        "agent_a2a_request_duration_seconds",
        A2A,
        "How long calls from one agent to another took.",
        "a2a_duration",
        seeds=("a2a_request_duration_seconds",),
    ),
    plain(
        "agent_a2a_active_tasks",
        A2A_AGENT,
        "Calls to an agent that have started and neither ended nor been given up.",
        ("a2a_started",),
        ("a2a_ended", "a2a_abandoned"),
        seeds=("a2a_active_tasks",),
    ),
    plain("agent_a2a_started_total", A2A_AGENT, "Calls to an agent that have started.", ("a2a_started",)),
    plain(
        "agent_a2a_abandoned_total",
        A2A_AGENT,
        "Calls to an agent given up: their session ended, or no end could name their start.",
        ("a2a_abandoned",),
    ),
    plain(
        "agent_a2a_unmatched_total",
        A2A_AGENT,
        "Calls to an agent that ended without a start that was seen; they count among the ended.",
        ("a2a_unmatched",),
    ),
    observed(
        "agent_a2a_response_size_bytes",
        A2A_AGENT,
        "How large the answers of an agent to others were.",
        "a2a_response",
        seeds=("a2a_response_size_bytes",),
    ),
    by(
        "agent_cache_operations_total",
        CACHE,
        "Times that a cache was asked.",
        "result",
        {result: f"cache_{result}" for result in CACHE_RESULTS},
        seeds=("cache_operations_total", "crew_cache_hits_total", "crew_cache_misses_total"),
    ),
    durations(
        "agent_cache_latency_seconds",
        CACHE,
        "How long a cache took to answer.",
        "cache_duration",
        seeds=("cache_latency_seconds",),
    ),
    by(
        "agent_rate_limit_hits_total",
        RATE_LIMIT,
        "Decisions of rate limiters.",
        "result",
        {result: f"rate_limit_{result}" for result in RATE_RESULTS},
        seeds=("rate_limit_hits_total", "agent_rate_limit_hits"),
    ),
    durations(
        "agent_rate_limit_retry_after_seconds",
        RATE_LIMIT,
        "How long rate limiters asked to wait.",
        "retry_after",
    ),
    by(
        "agent_ccr_requests_total",
        CCR,
        "Completions that were routed to a provider.",
        "status",
        {status: f"ccr_{status}" for status in CALL_STATUSES},
        seeds=("ccr_requests_total",),
    ),
    durations(
        "agent_ccr_latency_seconds",
        CCR_PROVIDER,
        "How long routed completions took.",
        "ccr_duration",
        seeds=("ccr_latency_seconds",),
    ),
    by(
        "agent_ccr_tokens_total",
        CCR_PROVIDER,
        "Tokens of routed completions, as the router counted them.",
        "direction",
        {"input": "ccr_input_tokens", "output": "ccr_output_tokens"},
        unit="tokens",
        seeds=("ccr_tokens_total",),
    ),
)
