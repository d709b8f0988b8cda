"""What is on the board of the pipeline's health: is every event accounted for, do the numbers follow?  Data only."""

from typing import Final

from streams.sink.dashboards.panel import (
    ANY_IS_BAD,
    YELLOW,
    Ask,
    Board,
    Section,
    Target,
    bars,
    lines,
    named,
    ratio,
    stat,
)

_ASK: Final = Ask(())
_AGE_STEPS: Final = ((5.0, YELLOW), (30.0, "red"))


def _behind() -> Target:
    """How old is the newest event time of a partition?"""
    newest = _ASK.level("agent_stream_watermark_timestamp_seconds", "partition", how="max")
    return Target(f"time() - {newest.expr}", newest.legend)


_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Unaccounted", "Events received that are neither applied nor late, duplicate or rejected: 0, or a bug.",
             "short", _ASK.level("agent_stream_events_unaccounted"), steps=ANY_IS_BAD),
        stat("On their way", "Events the first stage counted that the tables do not hold yet; lost if it stays.",
             "short", _ASK.level("agent_stream_events_unreconciled", how="max")),
        stat("Age of the numbers", "How long ago all that is shown was known to be what the workers had committed.",
             "s", _ASK.level("agent_state_age_seconds", how="min"), steps=_AGE_STEPS),
        stat("Ready workers", "Workers of which every partition is being read.", "short",
             _ASK.level("agent_worker_ready")),
        stat("Lag", "Offsets between what is folded and the ends of all partitions.", "short",
             _ASK.level("agent_worker_lag_offsets")),
        stat("Received", "Events read from the events topic, per second.", "cps",
             _ASK.rate("agent_stream_events_received_total")),
    ),
)  # fmt: skip
_CONSERVATION: Final = Section(
    "Every event is accounted for",
    (
        lines("Outcomes", "What became of the events, per second; together they are what was received.", "cps",
              named(_ASK.rate("agent_stream_events_applied_total"), "applied"),
              named(_ASK.rate("agent_stream_events_late_total"), "late"),
              named(_ASK.rate("agent_stream_events_duplicate_total"), "duplicate"),
              named(_ASK.rate("agent_stream_events_rejected_total"), "rejected"), stacked=True),
        lines("Received by partition", "Events per second.", "cps",
              _ASK.rate("agent_stream_events_received_total", "partition"), stacked=True),
        lines("Refused by reason", "Refused events per second; the dead-letter topic says where each one stood.", "cps",
              _ASK.rate("agent_stream_events_rejected_total", "reason"), stacked=True),
        lines("Share of late and repeated events", "Of all events received.", "percentunit",
              named(ratio(_ASK.rate("agent_stream_events_late_total"),
                          _ASK.rate("agent_stream_events_received_total")), "late"),
              named(ratio(_ASK.rate("agent_stream_events_duplicate_total"),
                          _ASK.rate("agent_stream_events_received_total")), "duplicate"),
              named(ratio(_ASK.rate("agent_stream_events_skewed_total"),
                          _ASK.rate("agent_stream_events_received_total")), "too far ahead")),
    ),
)  # fmt: skip
_TIME: Final = Section(
    "The numbers follow",
    (
        lines("Behind the clock by partition", "Age of the newest event time; it grows where no event arrives.", "s",
              _behind()),
        lines("Lag by partition", "Offsets between what is folded and the end, transaction marks included.", "short",
              _ASK.level("agent_worker_lag_offsets", "stage", "partition", how="max")),
        lines("Age of the numbers", "By exporter.", "s", _ASK.level("agent_state_age_seconds", "instance", how="max"),
              steps=_AGE_STEPS),
        lines("On their way", "Events the first stage counted that the tables do not hold yet.", "short",
              named(_ASK.level("agent_stream_events_unreconciled", how="max"), "events")),
    ),
)  # fmt: skip
_WORKERS: Final = Section(
    "Workers",
    (
        lines("Records by worker", "Records folded per second.", "cps",
              _ASK.rate("agent_worker_records_total", "instance"), stacked=True),
        lines("Transactions", "How long a committed transaction took, by quantile; the worst of all workers.", "s",
              _ASK.level("agent_worker_flush_duration_seconds", "quantile", how="max")),
        lines("Transactions by worker", "How long a committed transaction took on average.", "s",
              _ASK.mean("agent_worker_flush_duration_seconds", "instance")),
        lines("Where the time goes", "Seconds of the event loop per second: folding, and encoding what is written.",
              "percentunit",
              named(_ASK.rate("agent_worker_fold_seconds_total", "instance"), "fold {{instance}}"),
              named(_ASK.rate("agent_worker_encode_seconds_total", "instance"), "encode {{instance}}")),
        lines("Processor", "Seconds of processor time per second.", "percentunit",
              _ASK.rate("process_cpu_seconds_total", "instance")),
        lines("Memory", "Resident memory.", "bytes", _ASK.level("process_resident_memory_bytes", "instance")),
        lines("Unrest", "Rebalances, partitions loaded, unknown outcomes and failed attempts, per second.", "cps",
              named(_ASK.rate("agent_worker_rebalances_total"), "rebalances"),
              named(_ASK.rate("agent_worker_partition_loads_total"), "partitions loaded"),
              named(_ASK.rate("agent_worker_unknown_outcomes_total"), "unknown outcomes"),
              named(_ASK.rate("agent_worker_retries_total"), "failed attempts")),
        lines("Written", "Rows written to changelogs and records sent to other topics, per second.", "cps",
              named(_ASK.rate("agent_worker_rows_written_total"), "rows"),
              named(_ASK.rate("agent_worker_records_sent_total"), "records")),
    ),
)  # fmt: skip
_EXPORTER: Final = Section(
    "Exporter",
    (
        lines("Rows", "Rows of the tables each exporter holds.", "short",
              _ASK.level("agent_exporter_rows", "instance", how="max")),
        lines("Making a page", "How long the page before this one took.", "s",
              _ASK.level("agent_exporter_scrape_duration_seconds", "instance", how="max")),
        lines("Pages", "Pages served and refused, per second.", "cps",
              named(_ASK.rate("agent_exporter_scrapes_total"), "served"),
              named(_ASK.rate("agent_exporter_refused_scrapes_total"), "refused"),
              named(_ASK.rate("agent_exporter_unreadable_records_total"), "unreadable records")),
        bars("Keys without a series of their own", "Keys that share the overflow series of their dimension.", "short",
             _ASK.level("agent_series_overflow_keys", "dimension", how="max")),
    ),
)  # fmt: skip

PIPELINE: Final = Board(
    "agent-streams-pipeline",
    "AgentStreams / Pipeline health",
    "Is every event accounted for, do the numbers follow, and are the workers well?",
    (),
    (_OVERVIEW, _CONSERVATION, _TIME, _WORKERS, _EXPORTER),
)
