"""What is on the board of tools: calls, failures, durations, sizes, and the circuits around them.  Data only."""

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
    states,
    table,
)

_VARIABLES: Final = (
    Variable("tool", "Tool", "agent_tool_calls_started_total", "tool"),
    Variable("agent", "Agent", "agent_events_total", "agent"),
)
_ASK: Final = Ask(_VARIABLES)
_FAILED: Final = "error|timeout|validation_error"
_JUDGED: Final = f"success|{_FAILED}"
CIRCUIT_WORDS: Final = {
    0: ("closed", "green"),
    1: ("open", "red"),
    2: ("half-open", "yellow"),
    3: ("disabled", "purple"),
    4: ("forced open", "dark-red"),
    5: ("metrics only", "blue"),
}

_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Calls", "Tool calls that ended, per second.", "ops", _ASK.rate("agent_tool_calls_total")),
        stat(
            "Failing calls",
            "Share of the calls within the range shown that failed, cancelled ones aside.",
            "percentunit",
            ratio(
                _ASK.increase("agent_tool_calls_total", status=_FAILED),
                _ASK.increase("agent_tool_calls_total", status=_JUDGED),
            ),
            steps=SHARE_OF_FAILURES,
        ),
        stat("Slow calls", "One call in twenty takes longer than this.", "s",
             _ASK.quantile(0.95, "agent_tool_call_duration_seconds")),
        stat("In flight", "Tool calls under way at this moment.", "short", _ASK.level("agent_tool_calls_in_flight")),
        stat("Retries", "Calls that were not the first attempt, per second.", "ops",
             _ASK.rate("agent_tool_retries_total")),
        stat("Returned", "Bytes returned by tools, per second.", "Bps", _ASK.rate("agent_tool_output_bytes_total")),
    ),
)  # fmt: skip
_CALLS: Final = Section(
    "Calls",
    (
        lines("Calls by tool", "Tool calls that ended, per second.", "ops",
              _ASK.rate("agent_tool_calls_total", "tool"), stacked=True),
        lines(
            "Share of failures by tool",
            "Calls that ended in an error, a timeout or a validation error, of those that were not cancelled.",
            "percentunit",
            ratio(
                _ASK.rate("agent_tool_calls_total", "tool", status=_FAILED),
                _ASK.rate("agent_tool_calls_total", "tool", status=_JUDGED),
            ),
            steps=((0.1, "yellow"), (0.3, "red")),
        ),
        lines("How calls ended", "Tool calls by status, per second.", "ops",
              _ASK.rate("agent_tool_calls_total", "status"), stacked=True),
        lines("Retries by tool", "Calls that were not the first attempt, per call that started.", "short",
              ratio(_ASK.rate("agent_tool_retries_total", "tool"),
                    _ASK.rate("agent_tool_calls_started_total", "tool"))),
        lines("In flight by tool", "Tool calls that have started and neither ended nor been given up.", "short",
              _ASK.level("agent_tool_calls_in_flight", "tool"), stacked=True),
        table("Failures", "Failed calls by tool and status, within the range shown.", "short",
              _ASK.increase("agent_tool_calls_total", "tool", "status", status=_FAILED)),
    ),
)  # fmt: skip
_DURATIONS: Final = Section(
    "Durations",
    (
        lines("Duration", "The median, one in twenty and one in a hundred of all calls.", "s",
              *_ASK.quantiles("agent_tool_call_duration_seconds")),
        lines("Slow calls by tool", "One call of the tool in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_tool_call_duration_seconds", "tool")),
        lines("Mean by tool", "How long a call takes on average.", "s",
              _ASK.mean("agent_tool_call_duration_seconds", "tool")),
        heat("Durations", "How many calls took how long.", _ASK.spread("agent_tool_call_duration_seconds")),
    ),
)  # fmt: skip
_WHO: Final = Section(
    "Who calls what",
    (
        lines("Calls by agent", "Tool calls that ended, per second, by the agent that made them.", "ops",
              _ASK.rate("agent_tool_uses_total", "agent"), stacked=True),
        lines(
            "Share of failures by agent",
            "One agent alone points at how it calls, all of them at the tool.",
            "percentunit",
            ratio(
                _ASK.rate("agent_tool_uses_total", "agent", status=_FAILED),
                _ASK.rate("agent_tool_uses_total", "agent", status=_JUDGED),
            ),
        ),
        lines("Bytes in and out", "Bytes handed to tools and returned by them, per second.", "Bps",
              _ASK.rate("agent_tool_input_bytes_total")._replace(legend="in"),
              _ASK.rate("agent_tool_output_bytes_total")._replace(legend="out")),
        lines("Slow calls by agent", "One call of the agent in twenty takes longer than this.", "s",
              _ASK.quantile(0.95, "agent_tool_use_duration_seconds", "agent")),
    ),
)  # fmt: skip
_CIRCUITS: Final = Section(
    "Circuits",
    (
        states(
            "Circuits of tools",
            "What each circuit said when. A circuit that never moved is not shown.",
            _ASK.level("agent_circuit_breaker_state", "name", how="max", over="tool"),
            CIRCUIT_WORDS,
        ),
    ),
)

TOOLS: Final = Board(
    "agent-streams-tools",
    "AgentStreams / Tools",
    "Calls of tools: how many, how they end, how long they take, who makes them, and which circuits are open.",
    _VARIABLES,
    (_OVERVIEW, _CALLS, _DURATIONS, _WHO, _CIRCUITS),
)
