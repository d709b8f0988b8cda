"""What do our own processes say of themselves, each on a page of its own?  Rows of the catalogue.

Never a number of the product: these end with the process.
"""

from typing import Final

from streams.sink.metric import own

_BUILD_INFO: Final = own(
    "agent_streams_build_info",
    "info",
    "What is running; the value is always 1.",
    "exporter",
    ("version", "python"),
    seeds=("agentos_info",),
)

OF_EXPORTER: Final = (
    own(
        "agent_state_age_seconds",
        "gauge",
        "How long ago everything shown here was known to be what the workers had last committed.",
        "exporter",
        unit="seconds",
    ),
    own("agent_exporter_rows", "gauge", "Rows of the tables this exporter holds.", "exporter"),
    own("agent_exporter_records_total", "counter", "Records read from the topics since the start.", "exporter"),
    own(
        "agent_exporter_unreadable_records_total",
        "counter",
        "Alert and breaker records that could not be read and were left out.",
        "exporter",
    ),
    own("agent_exporter_scrapes_total", "counter", "Pages served since the start.", "exporter"),
    own(
        "agent_exporter_refused_scrapes_total",
        "counter",
        "Pages refused because too many were being made.",
        "exporter",
    ),
    own(
        "agent_exporter_scrape_duration_seconds",
        "gauge",
        "How long the page before this one took to make.",
        "exporter",
        unit="seconds",
    ),
    own(
        "agent_exporter_otlp_points_total",
        "counter",
        "Points pushed by OTLP: taken, refused by the receiver, or given up because nobody took them in time.",
        "exporter",
        ("outcome",),
    ),
    own("agent_exporter_otlp_failures_total", "counter", "Attempts to push by OTLP that failed.", "exporter"),
    own(
        "agent_exporter_otlp_push_timestamp_seconds",
        "gauge",
        "When metrics were last pushed whole by OTLP.",
        "exporter",
        unit="seconds",
    ),
    _BUILD_INFO,
)

OF_WORKER: Final = (
    own("agent_worker_ready", "gauge", "1 while every partition this worker owns is being read, else 0.", "worker"),
    own(
        "agent_worker_lag_offsets",
        "gauge",
        "Offsets between what is folded and the end of a partition this worker owns, transaction marks included.",
        "worker",
        ("stage", "partition"),
    ),
    own("agent_worker_records_total", "counter", "Records folded.", "worker"),
    own("agent_worker_chunks_total", "counter", "Fetch results folded.", "worker"),
    own(
        "agent_worker_stale_chunks_total",
        "counter",
        "Fetch results dropped because they were read before the last seek; they are read again.",
        "worker",
    ),
    own("agent_worker_ticks_total", "counter", "Times that partitions were told what time it is.", "worker"),
    own(
        "agent_worker_flush_duration_seconds",
        "summary",
        "How long committed transactions took; the quantiles are those of the newest.",
        "worker",
        ("quantile",),
        unit="seconds",
    ),
    own("agent_worker_rows_written_total", "counter", "Rows written to changelogs.", "worker"),
    own("agent_worker_records_sent_total", "counter", "Records written to topics other than changelogs.", "worker"),
    own(
        "agent_worker_fold_seconds_total",
        "counter",
        "Time of the event loop spent on folding.",
        "worker",
        unit="seconds",
    ),
    own(
        "agent_worker_encode_seconds_total",
        "counter",
        "Time of the event loop spent on encoding what is written.",
        "worker",
        unit="seconds",
    ),
    own(
        "agent_worker_unknown_outcomes_total",
        "counter",
        "Transactions of which nobody knew whether they were committed; their partitions were loaded anew.",
        "worker",
    ),
    own("agent_worker_retries_total", "counter", "Attempts to connect or to load that failed.", "worker"),
    own("agent_worker_rebalances_total", "counter", "Times that partitions were assigned anew.", "worker"),
    own("agent_worker_partition_loads_total", "counter", "Partitions loaded from their changelogs.", "worker"),
    own("agent_worker_rows_loaded_total", "counter", "Rows read while loading.", "worker"),
    own("agent_worker_load_seconds_total", "counter", "Time spent on loading.", "worker", unit="seconds"),
    own(
        "agent_worker_price_list_info",
        "info",
        "A list of model prices and its version, and in which order this worker asks it; the value is always 1.",
        "worker",
        ("list", "order"),
    ),
    own(
        "agent_worker_rules_version",
        "gauge",
        "Version of the rules that this worker judges by; 0 until some are loaded by command.",
        "worker",
    ),
    own(
        "agent_worker_rules_info",
        "info",
        "Where the rules that this worker judges by come from, and the digest of their text; the value is always 1.",
        "worker",
        ("origin", "digest"),
    ),
    _BUILD_INFO,
)

_RECEIVER: Final = ("receiver",)
OF_NOTIFY: Final = (
    own("agent_notify_sent_total", "counter", "States of alerts that a receiver took.", "notify", _RECEIVER),
    own(
        "agent_notify_resent_total",
        "counter",
        "States of alerts that a receiver took again, because it forgets what it is not told again.",
        "notify",
        _RECEIVER,
    ),
    own(
        "agent_notify_retries_total",
        "counter",
        "Attempts that failed and are repeated: the receiver is away, busy, or refuses our login.",
        "notify",
        _RECEIVER,
    ),
    own(
        "agent_notify_failed_total",
        "counter",
        "States of alerts that a receiver refused for what they say; they are not sent again.",
        "notify",
        _RECEIVER,
    ),
    own("agent_notify_pending", "gauge", "Alerts of which a receiver was not told the newest.", "notify", _RECEIVER),
    own(
        "agent_notify_muted",
        "gauge",
        "Alerts that fire and of which a receiver is not told, because they are silenced or inhibited.",
        "notify",
        _RECEIVER,
    ),
    own(
        "agent_notify_suppressed_total",
        "counter",
        "States of alerts that were held back from a receiver, because they were silenced or inhibited.",
        "notify",
        _RECEIVER,
    ),
    own(
        "agent_notify_leading",
        "gauge",
        "1 while this replica is the one of its group that sends, 0 while it stands by.",
        "notify",
    ),
    own("agent_notify_silences", "gauge", "Silences that hold now.", "notify"),
    own("agent_notify_up", "gauge", "1 while the receiver takes what it is sent, else 0.", "notify", _RECEIVER),
    own("agent_notify_records_total", "counter", "Records read from the alert topic since the start.", "notify"),
    own(
        "agent_notify_unreadable_records_total",
        "counter",
        "Records that could not be read and were left out.",
        "notify",
    ),
    own(
        "agent_notify_unwritten",
        "gauge",
        "Deliveries that Kafka has not been told of: after a crash they would be repeated.",
        "notify",
    ),
    own(
        "agent_notify_state_age_seconds",
        "gauge",
        "How long ago everything in the alert topic was known to be read.",
        "notify",
        unit="seconds",
    ),
)

_SIGNAL: Final = ("signal",)
OF_INGEST: Final = (
    own(
        "agent_ingest_requests_total",
        "counter",
        "Requests or records, by what became of them: taken, refused for what they were, or told to come again.",
        "ingest",
        ("signal", "outcome"),
    ),
    own(
        "agent_ingest_items_total", "counter", "Spans, log records, points and events that came in.", "ingest", _SIGNAL
    ),
    own(
        "agent_ingest_rejected_items_total",
        "counter",
        "Spans, log records, points and events that could not be taken; their senders were told.",
        "ingest",
        _SIGNAL,
    ),
    own("agent_ingest_events_total", "counter", "Events written to Kafka and acknowledged.", "ingest", _SIGNAL),
    own(
        "agent_ingest_refused_events_total",
        "counter",
        "Events made of OTLP that cannot be sent: a number is out of bounds, or they are too large.",
        "ingest",
    ),
    own(
        "agent_ingest_strange_total",
        "counter",
        "What came in that no table knows; the names are at /strange.",
        "ingest",
        ("what",),
    ),
    own("agent_ingest_held_bytes", "gauge", "Bytes of requests that wait for Kafka.", "ingest", unit="bytes"),
    own("agent_ingest_connections", "gauge", "Senders that are connected.", "ingest"),
    own("agent_ingest_failures_total", "counter", "Connections to Kafka that failed and were made anew.", "ingest"),
    own("agent_ingest_up", "gauge", "1 while Kafka takes events, else 0.", "ingest"),
)
