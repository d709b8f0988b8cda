"""Which metrics tell how the stream itself goes: what was read, what counted, alerts, circuits.  Data only."""

from typing import Final

from streams.event.codec import Reason
from streams.fold.measure import OUTCOMES, PARTITION
from streams.fold.session import OVERFLOW
from streams.sink.metric import by, own, plain

_BY_PARTITION: Final = (
    plain(
        "agent_stream_events_received_total",
        PARTITION,
        "Events read from a partition of the events topic; an undecodable record counts as one.",
        ("received",),
    ),
    plain(
        "agent_stream_events_applied_total",
        PARTITION,
        "Events that count in lifetime numbers and in windows.",
        ("applied",),
    ),
    plain(
        "agent_stream_events_late_total",
        PARTITION,
        "Events behind the watermark by more than the grace: they count in lifetime numbers and in no window.",
        ("late",),
    ),
    plain(
        "agent_stream_events_duplicate_total",
        PARTITION,
        "Events seen before, which count nowhere else.",
        ("duplicate",),
    ),
    by(
        "agent_stream_events_rejected_total",
        PARTITION,
        "Events refused; the dead-letter topic says where each one stood.",
        "reason",
        {reason.value: f"rejected_{reason.value}" for reason in Reason},
    ),
    plain(
        "agent_stream_events_skewed_total",
        PARTITION,
        "Events whose time was too far ahead of their record's and was replaced by it.",
        ("skewed",),
    ),
    plain(
        "agent_stream_sessions_misrouted_total",
        PARTITION,
        "Sessions begun in a partition that their key does not belong to: a client partitions differently.",
        ("misrouted",),
    ),
    plain(
        "agent_stream_sessions_reopened_total",
        PARTITION,
        "Sessions that had ended and went on.",
        ("reopened",),
    ),
    plain(
        "agent_stream_sessions_evicted_total",
        PARTITION,
        "Sessions ended before their time because a partition held too many.",
        ("evicted",),
    ),
    plain(
        "agent_stream_marks_forgotten_total",
        PARTITION,
        "Sources whose duplicate marks a session gave up because it had too many sources.",
        ("forgotten_marks",),
    ),
    by(
        "agent_stream_payloads_total",
        PARTITION,
        "Bodies of requests and responses: written to their topic, or dropped because payload logging is off.",
        "outcome",
        {"logged": "payloads_logged", "dropped": "payloads_dropped"},
    ),
    plain(
        "agent_stream_payload_cut_bytes_total",
        PARTITION,
        "Bytes cut off the bodies that were logged, by their publishers or by us.",
        ("payload_cut_bytes",),
        unit="bytes",
    ),
    plain(
        "agent_stream_payload_redactions_total",
        PARTITION,
        "Personal and secret parts replaced in the bodies that were logged.",
        ("payload_redactions",),
    ),
    plain(
        "agent_stream_events_unaccounted",
        PARTITION,
        "Events received that are neither applied nor late, duplicate or rejected: 0, or a bug.",
        ("received",),
        OUTCOMES,
    ),
)


_OF_VIEW: Final = (
    own(
        "agent_stream_events_unreconciled",
        "gauge",
        "Events the first stage counted as folded that the tables do not hold: on their way, or lost if it stays.",
        "view",
    ),
    own(
        "agent_stream_watermark_timestamp_seconds",
        "gauge",
        "The newest event time of a partition of the events topic, as far as the tables have seen.",
        "view",
        ("partition",),
        unit="seconds",
    ),
    own(
        "agent_alerts",
        "gauge",
        "Alerts by what they are doing; a resolved one is remembered for a while.",
        "alerts",
        ("alert", "severity", "state"),
    ),
    own(
        "agent_alerts_acknowledged",
        "gauge",
        "Alerts that fire and that somebody has taken on.",
        "alerts",
        ("alert", "severity"),
    ),
    own(
        "agent_alert_transitions_total",
        "counter",
        "Transitions of alerts into a state since this exporter started.",
        "alerts",
        ("alert", "severity", "state"),
    ),
    own(
        "agent_circuit_breaker_state",
        "gauge",
        "State of a circuit that has moved: 0 closed, 1 open, 2 half-open, 3 disabled, 4 forced open, 5 metrics only.",
        "breakers",
        ("over", "name"),
        seeds=("agent_circuit_breaker_state",),
    ),
    own(
        "agent_circuit_breaker_transitions_total",
        "counter",
        "Transitions of a circuit since it moved for the first time, commands included.",
        "breakers",
        ("over", "name"),
    ),
    own(
        "agent_circuit_breakers",
        "gauge",
        "Circuits that have moved at least once, by state; also those without a series of their own.",
        "breakers",
        ("over", "state"),
    ),
    own(
        "agent_circuit_breaker_failure_ratio",
        "gauge",
        "Share of failed calls in the window of a circuit; -1 while there are fewer than the minimum.",
        "breakers",
        ("over", "name"),
    ),
    own(
        "agent_circuit_breaker_slow_call_ratio",
        "gauge",
        "Share of slow calls in the window of a circuit; -1 while there are fewer than the minimum.",
        "breakers",
        ("over", "name"),
    ),
    own(
        "agent_circuit_breaker_buffered_calls",
        "gauge",
        "Calls in the window of a circuit; a window of time as of the last 10 s with a call.",
        "breakers",
        ("over", "name", "kind"),
    ),
    own(
        "agent_circuit_breaker_slow_calls",
        "gauge",
        "Slow calls in the window of a circuit, failed or not.",
        "breakers",
        ("over", "name"),
    ),
    own(
        "agent_circuit_breaker_not_permitted_calls_total",
        "counter",
        "Calls that guards denied because of a circuit.",
        "breakers",
        ("over", "name"),
    ),
    own(
        "agent_series_overflow_keys",
        "gauge",
        f"Rows that share the series labelled {OVERFLOW} because their dimension has too many keys.",
        "view",
        ("dimension",),
    ),
)

OF_STREAM: Final = (*_BY_PARTITION, *_OF_VIEW)
