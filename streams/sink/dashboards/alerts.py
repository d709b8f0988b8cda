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
    named,
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
        stat("Taken on", "Alerts that fire and that somebody has acknowledged.", "short",
             or_zero(_ASK.level("agent_alerts_acknowledged"))),
        stat("Open circuits", "Circuits that let no call through.", "short",
             or_zero(_ASK.level("agent_circuit_breakers", state="open")), steps=ANY_IS_BAD),
        stat("Half-open circuits", "Circuits that let a few calls through to try.", "short",
             or_zero(_ASK.level("agent_circuit_breakers", state="half_open")), steps=((1, YELLOW),)),
        stat("Circuits held by hand", "Circuits that somebody forced open, disabled or set to metrics only.", "short",
             or_zero(_ASK.level("agent_circuit_breakers", state="forced_open|disabled|metrics_only")),
             steps=((1, BLUE),)),
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
_NOTIFY: Final = Section(
    "Who is told",
    (
        stat("Replicas that send", "Of notify: exactly one, or nobody is told.", "short",
             _ASK.level("agent_notify_leading")),
        stat("Silences", "Silences that hold now.", "short", _ASK.level("agent_notify_silences", how="max")),
        lines("Waiting", "Alerts of which a receiver was not told the newest; it is away if that stays.", "short",
              _ASK.level("agent_notify_pending", "receiver", how="max"), steps=ANY_IS_BAD),
        lines("Held back", "Alerts that fire and are silenced or inhibited, by receiver.", "short",
              _ASK.level("agent_notify_muted", "receiver", how="max")),
        lines("Sent", "States of alerts that receivers took, per second.", "cps",
              _ASK.rate("agent_notify_sent_total", "receiver")),
        lines("Trouble", "Attempts repeated and notices given up, per second.", "cps",
              named(_ASK.rate("agent_notify_retries_total"), "repeated"),
              named(_ASK.rate("agent_notify_failed_total"), "given up")),
    ),
)  # fmt: skip
_CIRCUITS: Final = Section(
    "Circuits",
    (
        states("Circuits", "What each circuit said when. A circuit that never moved is not shown.",
               _ASK.level("agent_circuit_breaker_state", "over", "name", how="max"), CIRCUIT_WORDS),
        lines("Circuits by state", "Circuits that have moved at least once; also those without a series of their own.",
              "short", _ASK.level("agent_circuit_breakers", "over", "state"), stacked=True),
        lines("Transitions", "Transitions of circuits, per second; many of one circuit mean that it flaps.", "cps",
              _ASK.rate("agent_circuit_breaker_transitions_total", "over", "name")),
        lines("Failed calls in the window", "What each circuit is judged by; -1 while there are too few calls.",
              "percentunit", _ASK.level("agent_circuit_breaker_failure_ratio", "over", "name", how="max")),
        lines("Slow calls in the window", "The same for calls that took too long.", "percentunit",
              _ASK.level("agent_circuit_breaker_slow_call_ratio", "over", "name", how="max")),
        lines("Calls not permitted", "Calls that guards denied because of a circuit, per second.", "cps",
              _ASK.rate("agent_circuit_breaker_not_permitted_calls_total", "over", "name"), stacked=True),
    ),
)  # fmt: skip

ALERTS: Final = Board(
    "agent-streams-alerts",
    "AgentStreams / Alerts and breakers",
    "Alerts by state and severity, their transitions, who is told, and the circuits of tools and models.",
    (),
    (_OVERVIEW, _ALERTS, _NOTIFY, _CIRCUITS),
)
