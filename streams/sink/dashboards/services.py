"""What is on the board of services: calls between agents, routed completions, rate limits and caches.  Data only."""

from typing import Final

from streams.sink.dashboards.panel import (
    SHARE_OF_FAILURES,
    Ask,
    Board,
    Section,
    Variable,
    dial,
    lines,
    named,
    or_zero,
    ratio,
    stat,
)

_VARIABLES: Final = (
    Variable("agent", "Agent", "agent_a2a_started_total", "agent"),
    Variable("provider", "Provider", "agent_ccr_tokens_total", "provider"),
)
_ASK: Final = Ask(_VARIABLES)
_FAILED: Final = "error|timeout"
_JUDGED: Final = "success|error|timeout"

_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("A2A requests (5m)", "Calls from one agent to another that ended within five minutes.", "short",
             _ASK.increase("agent_a2a_requests_total", window="5m")),
        stat("A2A p95 latency", "One call in twenty takes longer than this.", "s",
             _ASK.quantile(0.95, "agent_a2a_request_duration_seconds"), steps=((2.5, "yellow"), (10, "red"))),
        stat("A2A error rate", "Share of the calls within the range shown that failed, cancelled ones aside.",
             "percentunit",
             ratio(or_zero(_ASK.increase("agent_a2a_requests_total", status=_FAILED)),
                   _ASK.increase("agent_a2a_requests_total", status=_JUDGED)), steps=SHARE_OF_FAILURES),
        stat("Active tasks", "Calls to agents that have started and neither ended nor been given up.", "short",
             _ASK.level("agent_a2a_active_tasks")),
        stat("CCR tokens (1h)", "Tokens of routed completions within an hour.", "short",
             _ASK.increase("agent_ccr_tokens_total", window="1h")),
        stat("Rate limit denials", "Calls that rate limiters denied within the range shown.", "short",
             or_zero(_ASK.increase("agent_rate_limit_hits_total", result="denied")), steps=((1, "yellow"),)),
    ),
)  # fmt: skip
_A2A: Final = Section(
    "A2A requests",
    (
        lines("Request rate by agent", "Calls that ended, per second, by the agent that was asked.", "reqps",
              _ASK.rate("agent_a2a_requests_total", "agent"), stacked=True),
        lines("Request duration", "The median, one in twenty and one in a hundred of all calls.", "s",
              *_ASK.quantiles("agent_a2a_request_duration_seconds")),
        lines("Active tasks by agent", "Calls to an agent that have started and neither ended nor been given up.",
              "short", _ASK.level("agent_a2a_active_tasks", "agent"), stacked=True),
        lines("Success and error rate", "Calls by how they ended, per second.", "reqps",
              _ASK.rate("agent_a2a_requests_total", "status"), stacked=True),
    ),
)  # fmt: skip
_CCR: Final = Section(
    "CCR providers",
    (
        lines("Request rate by provider", "Completions that were routed, per second.", "reqps",
              _ASK.rate("agent_ccr_requests_total", "provider"), stacked=True),
        lines("Token usage by provider", "Tokens per second, as the router counted them.", "short",
              _ASK.rate("agent_ccr_tokens_total", "provider", "direction"), stacked=True),
        lines("Latency by provider", "One completion in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_ccr_latency_seconds", "provider")),
        lines("Requests by task type", "Completions that were routed, per second.", "reqps",
              _ASK.rate("agent_ccr_requests_total", "task_type"), stacked=True),
    ),
)  # fmt: skip
_LIMITS: Final = Section(
    "Rate limits and caches",
    (
        lines("Rate limit decisions", "Decisions of rate limiters, per second.", "cps",
              _ASK.rate("agent_rate_limit_hits_total", "endpoint", "result"), stacked=True),
        lines("Cache hits and misses", "Times that caches were asked, per second, by what came back.", "cps",
              _ASK.rate("agent_cache_operations_total", "result"), stacked=True),
        dial("Cache hit ratio", "Share of the answers within the range shown that were hits.",
             named(ratio(_ASK.increase("agent_cache_operations_total", result="hit"),
                         _ASK.increase("agent_cache_operations_total", result="hit|miss")), "hits"), width=12),
        lines("Cache latency by operation", "One answer of a cache in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_cache_latency_seconds", "operation")),
    ),
)  # fmt: skip

SERVICES: Final = Board(
    "agent-streams-services",
    "AgentStreams / A2A, CCR, rate limits and caches",
    "Services around agents: calls between agents, completions routed to providers, rate limiters and caches.",
    _VARIABLES,
    (_OVERVIEW, _A2A, _CCR, _LIMITS),
)
