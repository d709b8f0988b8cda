"""What is on the board of alerts and breakers: what fires, what changed, and which circuits are open.  Data only."""

from typing import Final

from streams.sink.dashboards.panel import (
    ANY_IS_BAD,
    BLUE,
    YELLOW,
    Ask,
    Board,
    Section,
    lines,
    or_zero,
    stat,
    states,
    table,
)
from streams.sink.dashboards.tools import CIRCUIT_WORDS

_ASK: Final = Ask(())

_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Critical", "Critical alerts that fire now.", "short",
             or_zero(_ASK.level("agent_alerts", state="firing", severity="critical")), steps=ANY_IS_BAD),
        stat("Warnings", "Warnings that fire now.", "short",
             or_zero(_ASK.level("agent_alerts", state="firing", severity="warning")), steps=((1, YELLOW),)),
        stat("Infos", "Alerts for information that fire now.", "short",
             or_zero(_ASK.level("agent_alerts", state="firing", severity="info")), steps=((1, BLUE),)),
        stat("Pending", "Alerts whose condition holds, but not for long enough yet.", "short",
             or_zero(_ASK.level("agent_alerts", state="pending")), steps=((1, YELLOW),)),
        stat("Open circuits", "Circuits that let no call through.", "short",
             or_zero(_ASK.level("agent_circuit_breakers", state="open")), steps=ANY_IS_BAD),
        stat("Half-open circuits", "Circuits that let a few calls through to try.", "short",
             or_zero(_ASK.level("agent_circuit_breakers", state="half_open")), steps=((1, YELLOW),)),
    ),
)  # fmt: skip
_ALERTS: Final = Section(
    "Alerts",
    (
        table("Alerts", "How many keys each alert is in each state for; the alert topic names the keys.", "short",
              _ASK.level("agent_alerts", "alert", "severity", "state")),
        lines("Firing by alert", "How many keys each alert fires for.", "short",
              _ASK.level("agent_alerts", "alert", state="firing"), stacked=True),
        lines("Began to fire", "Transitions into firing, per second.", "cps",
              _ASK.rate("agent_alert_transitions_total", "alert", state="firing"), stacked=True),
        lines("Transitions", "Transitions of alerts by the state they led to, per second.", "cps",
              _ASK.rate("agent_alert_transitions_total", "state"), stacked=True),
    ),
)  # fmt: skip
_CIRCUITS: Final = Section(
    "Circuits",
    (
        states("Circuits", "What each circuit said when. A circuit that never opened is not shown.",
               _ASK.level("agent_circuit_breaker_state", "over", "name", how="max"), CIRCUIT_WORDS),
        lines("Circuits by state", "Circuits that have opened at least once; also those without a series of their own.",
              "short", _ASK.level("agent_circuit_breakers", "over", "state"), stacked=True),
        lines("Transitions", "Transitions of circuits, per second; many of one circuit mean that it flaps.", "cps",
              _ASK.rate("agent_circuit_breaker_transitions_total", "over", "name")),
    ),
)  # fmt: skip

ALERTS: Final = Board(
    "agent-streams-alerts",
    "AgentStreams / Alerts and breakers",
    "Alerts by state and severity, their transitions, and the circuits of tools and models.",
    (),
    (_OVERVIEW, _ALERTS, _CIRCUITS),
)
