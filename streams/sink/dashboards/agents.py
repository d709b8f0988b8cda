"""What is on the board of agents: requests, what goes wrong with them, and the models they call.  Data only."""

from typing import Final

from streams.sink.dashboards.panel import (
    SHARE_OF_FAILURES,
    Ask,
    Board,
    Section,
    Variable,
    heat,
    lines,
    ratio,
    stat,
)

_VARIABLES: Final = (
    Variable("agent", "Agent", "agent_events_total", "agent"),
    Variable("model", "Model", "agent_model_calls_started_total", "model"),
)
_ASK: Final = Ask(_VARIABLES)
_FAILED: Final = "error|timeout"
_JUDGED: Final = "success|error|timeout"

_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Requests", "Requests that ended, per second.", "reqps", _ASK.rate("agent_requests_total")),
        stat(
            "Failing requests",
            "Share of the requests within the range shown that ended in an error or a timeout, cancelled ones aside.",
            "percentunit",
            ratio(
                _ASK.increase("agent_requests_total", status=_FAILED),
                _ASK.increase("agent_requests_total", status=_JUDGED),
            ),
            steps=SHARE_OF_FAILURES,
        ),
        stat(
            "Slow requests",
            "One request in twenty takes longer than this.",
            "s",
            _ASK.quantile(0.95, "agent_request_duration_seconds"),
            steps=((60, "red"),),
        ),
        stat("In flight", "Requests under way at this moment.", "short", _ASK.level("agent_requests_in_flight")),
        stat("Sessions", "Sessions that have begun and not ended.", "short", _ASK.level("agent_sessions_active")),
        stat("Events", "Events folded into the tables, per second.", "cps", _ASK.rate("agent_events_total")),
    ),
)
_REQUESTS: Final = Section(
    "Requests",
    (
        lines("Requests by agent", "Requests that ended, per second.", "reqps",
              _ASK.rate("agent_requests_total", "agent"), stacked=True),
        lines(
            "Share of failures by agent",
            "Requests that ended in an error or a timeout, of those that succeeded or failed.",
            "percentunit",
            ratio(
                _ASK.rate("agent_requests_total", "agent", status=_FAILED),
                _ASK.rate("agent_requests_total", "agent", status=_JUDGED),
            ),
            steps=SHARE_OF_FAILURES,
        ),
        lines("How requests ended", "Requests by status, per second.", "reqps",
              _ASK.rate("agent_requests_total", "status"), stacked=True),
        lines("Duration", "The median, one in twenty and one in a hundred of all requests.", "s",
              *_ASK.quantiles("agent_request_duration_seconds")),
        lines("Slow requests by agent", "One request of the agent in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_request_duration_seconds", "agent")),
        heat("Durations", "How many requests took how long.", _ASK.spread("agent_request_duration_seconds")),
        lines("In flight by agent", "Requests that have started and neither ended nor been given up.", "short",
              _ASK.level("agent_requests_in_flight", "agent"), stacked=True),
        lines("Started and given up", "Requests that started, were given up, or ended without a start, per second.",
              "reqps",
              _ASK.rate("agent_requests_started_total")._replace(legend="started"),
              _ASK.rate("agent_requests_abandoned_total")._replace(legend="given up"),
              _ASK.rate("agent_requests_unmatched_total")._replace(legend="without a start")),
    ),
)  # fmt: skip
_TROUBLE: Final = Section(
    "Errors",
    (
        lines("Errors by type", "Errors that agents report outside a call of their own, per second.", "cps",
              _ASK.rate("agent_errors_total", "type"), stacked=True),
        lines("Errors by agent", "Errors that agents report outside a call of their own, per second.", "cps",
              _ASK.rate("agent_errors_total", "agent"), stacked=True),
    ),
)  # fmt: skip
_MODELS: Final = Section(
    "Models",
    (
        lines("Calls by model", "Model calls that ended, per second.", "reqps",
              _ASK.rate("agent_model_calls_total", "model"), stacked=True),
        lines(
            "Share of failures by model",
            "Calls that ended in an error or a timeout, of those that succeeded or failed.",
            "percentunit",
            ratio(
                _ASK.rate("agent_model_calls_total", "model", status=_FAILED),
                _ASK.rate("agent_model_calls_total", "model", status=_JUDGED),
            ),
            steps=((0.02, "yellow"), (0.1, "red")),
        ),
        lines("Slow calls by model", "One call of the model in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_model_call_duration_seconds", "model"), steps=((30, "red"),)),
        lines("First token by model", "One call of the model in twenty waits longer for its first token.", "s",
              _ASK.quantile(0.95, "agent_model_time_to_first_token_seconds", "model")),
        lines("Calls in flight by model", "Model calls that have started and neither ended nor been given up.",
              "short", _ASK.level("agent_model_calls_in_flight", "model"), stacked=True),
        lines("Calls by provider", "Model calls that ended, per second.", "reqps",
              _ASK.rate("agent_provider_calls_total", "provider", "status"), stacked=True),
    ),
)  # fmt: skip

AGENTS: Final = Board(
    "agent-streams-agents",
    "AgentStreams / Agents",
    "Requests to agents: how many, how they end, how long they take; and the models behind them.",
    _VARIABLES,
    (_OVERVIEW, _REQUESTS, _TROUBLE, _MODELS),
)
