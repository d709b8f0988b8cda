"""What is on the board of sessions: how many live, what they hold, and what is odd about them.  Data only."""

from typing import Final

from streams.sink.dashboards.panel import ANY_IS_BAD, Ask, Board, Section, Variable, lines, or_zero, ratio, stat, table

_VARIABLES: Final = (Variable("agent", "Agent", "agent_events_total", "agent"),)
_ASK: Final = Ask(_VARIABLES)

_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Active", "Sessions that have begun and not ended.", "short", _ASK.level("agent_sessions_active")),
        stat("Begun", "Sessions that began within the range shown.", "short",
             _ASK.increase("agent_sessions_started_total")),
        stat("Ended", "Sessions that ended within the range shown, by an event or by silence.", "short",
             _ASK.increase("agent_sessions_ended_total")),
        stat("Events per session", "Events within the range shown, per session that began in it.", "short",
             ratio(_ASK.increase("agent_events_total"), _ASK.increase("agent_sessions_started_total"))),
        stat("Cost per session", "Cost within the range shown, per session that began in it.", "currencyUSD",
             ratio(_ASK.increase("agent_cost_usd_total"), _ASK.increase("agent_sessions_started_total"))),
        stat("Sessions with an alert", "Alerts over single sessions that fire now; the alert topic names the sessions.",
             "short", or_zero(_ASK.level("agent_alerts", alert="Session.*", state="firing")), steps=ANY_IS_BAD),
    ),
)  # fmt: skip
_LIVES: Final = Section(
    "Lives",
    (
        lines("Active by agent", "Sessions that have begun and not ended.", "short",
              _ASK.level("agent_sessions_active", "agent"), stacked=True),
        lines("Begun and ended", "Sessions per second.", "cps",
              _ASK.rate("agent_sessions_started_total")._replace(legend="begun"),
              _ASK.rate("agent_sessions_ended_total")._replace(legend="ended")),
        lines("Requests per session", "Requests that ended, per session that began, by agent.", "short",
              ratio(_ASK.rate("agent_requests_total", "agent"), _ASK.rate("agent_sessions_started_total", "agent"))),
        lines("Tokens per session", "Tokens per session that began, by agent.", "short",
              ratio(_ASK.rate("agent_tokens_total", "agent"), _ASK.rate("agent_sessions_started_total", "agent"))),
    ),
)  # fmt: skip
_ALERTS: Final = Section(
    "Alerts over single sessions",
    (
        lines("Firing", "How many sessions each alert fires for; the alert topic names them.", "short",
              _ASK.level("agent_alerts", "alert", alert="Session.*", state="firing"), stacked=True),
        table("By state", "Alerts over single sessions by what they are doing.", "short",
              _ASK.level("agent_alerts", "alert", "severity", "state", alert="Session.*")),
    ),
)  # fmt: skip
_ODD: Final = Section(
    "What is odd",
    (
        lines("Went on after their end", "Sessions that had ended and went on, per second, by partition.", "cps",
              _ASK.rate("agent_stream_sessions_reopened_total", "partition")),
        lines("Ended before their time", "Sessions ended because a partition held too many, per second.", "cps",
              _ASK.rate("agent_stream_sessions_evicted_total", "partition")),
        lines("In the wrong partition", "Sessions that a client put elsewhere than we do, per second; see `doctor`.",
              "cps", _ASK.rate("agent_stream_sessions_misrouted_total", "partition")),
        lines("Too many sources", "Sources whose duplicate marks a session gave up, per second.", "cps",
              _ASK.rate("agent_stream_marks_forgotten_total", "partition")),
    ),
)  # fmt: skip

SESSIONS: Final = Board(
    "agent-streams-sessions",
    "AgentStreams / Sessions",
    "Sessions: how many live, what one costs, and what is odd. A session is never a label; the tables name them.",
    _VARIABLES,
    (_OVERVIEW, _LIVES, _ALERTS, _ODD),
)
