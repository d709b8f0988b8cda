"""Which alerts watch the pipeline itself?  Conservation, age, lag, workers and exporters; and circuits that are open.

Never about agents: what is wrong with those is said by rules.
"""

from typing import Final, NamedTuple

from streams.rule.amount import SECOND_MS
from streams.rule.circuit import State
from streams.rule.model import RuleSet
from streams.sink import promql
from streams.sink.rulefiles.model import Alert, Group

MINUTE_MS: Final = 60 * SECOND_MS
LAG_OFFSETS: Final = (
    10_000  # a second or less of work for one worker: more of it for ten minutes means it cannot follow
)
AGE_S: Final = 30  # a healthy exporter's numbers are less than a second old
UNRECONCILED_S: Final = 10  # of traffic may be on their way between the stages; a flush waits for one second at most
FLUSH_S: Final = 1  # no change is meant to wait longer


FORCED_MS: Final = 60 * MINUTE_MS  # whoever has forced a circuit may have forgotten it


class Watch(NamedTuple):
    """What is expected of an installation."""

    workers: int = 1  # ready at any time


def health(watch: Watch) -> Group:
    """Return the alerts on the pipeline."""
    return Group(
        "agent-streams-pipeline-health", (), (*_conservation(), *_exporter(), *_workers(watch), *_notify(), *_limits())
    )


def circuits(rules: RuleSet) -> Group:
    """Return the alert on circuits, if any rule opens one."""
    over = "|".join(policy.over for policy in rules.breakers)
    if not over:
        return Group("agent-streams-circuits", (), ())
    state = promql.once("agent_circuit_breaker_state", promql.select("agent_circuit_breaker_state", {"over": over}))
    alert = Alert(
        "CircuitOpen",
        f"({state} > 0) < {int(State.DISABLED)}",
        "warning",
        "The circuit of {{ $labels.name }} is open",
        "Too many calls of {{ $labels.over }} {{ $labels.name }} failed: guarded callers get an error at once. The "
        "circuit tries a few calls (half-open) and closes by itself when they succeed.",
        keep_firing_for_ms=2 * MINUTE_MS,
    )
    forced = Alert(
        "CircuitForced",
        f"({state} >= {int(State.DISABLED)}) < {int(State.METRICS_ONLY)}",
        "info",
        "Somebody holds the circuit of {{ $labels.name }}",
        "The circuit of {{ $labels.over }} {{ $labels.name }} has been disabled (3) or forced open (4) by hand for an "
        "hour: value {{ $value }}. Nothing but a command ends that.",
        for_ms=FORCED_MS,
    )
    return Group("agent-streams-circuits", (), (alert, forced))


def _grown(name: str, window: str) -> str:
    return promql.grown("increase", name, window, {})


def _level(name: str) -> str:
    return promql.once(name, promql.select(name, {}))


def _conservation() -> tuple[Alert, ...]:
    waiting = promql.select("agent_stream_events_unreconciled", {})
    received = promql.grown("rate", "agent_stream_events_received_total", "15m", {})
    return (
        Alert(
            "EventsUnaccounted",
            f"{_level('agent_stream_events_unaccounted')} != 0",
            "critical",
            "{{ $value }} events of partition {{ $labels.partition }} are unaccounted for",
            "Received is not applied + late + duplicate + rejected. This cannot happen unless there is a bug.",
            for_ms=MINUTE_MS,
        ),
        Alert(
            "EventsUnreconciled",
            # An exporter that has just started has seen less: the smallest of what all of them miss is missing.
            f"min without ({', '.join(promql.REPLICAS)}) (min_over_time({waiting}[15m])) "
            f"> {UNRECONCILED_S} * sum without (partition) ({received})",
            "critical",
            "{{ $value }} events were folded by the first stage and have not reached the tables",
            "For 15m, more events than those of 10 seconds were never in the tables. They wait in the rollups topic, "
            "or they are lost.",
        ),
    )


def _exporter() -> tuple[Alert, ...]:
    refused = _grown("agent_exporter_refused_scrapes_total", "5m")
    unreadable = _grown("agent_exporter_unreadable_records_total", "15m")
    return (
        Alert(
            "ExporterMissing",
            f"absent({promql.select('agent_state_age_seconds', {})})",
            "critical",
            "No exporter shows any numbers",
            "No target of Prometheus shows the tables: no exporter runs, none is scraped, or none is ready.",
            for_ms=2 * MINUTE_MS,
        ),
        Alert(
            "NumbersStale",
            f"{_level('agent_state_age_seconds')} > {AGE_S}",
            "critical",
            "The exporter {{ $labels.instance }} shows numbers that are {{ $value | humanizeDuration }} old",
            "It cannot read what the workers commit. What it shows is exact, but of that time.",
            for_ms=2 * MINUTE_MS,
        ),
        Alert(
            "ScrapesRefused",
            f"{refused} > 0",
            "warning",
            "The exporter {{ $labels.instance }} refuses scrapes",
            "Too many pages are asked for at once, so some scrapes fail.",
            keep_firing_for_ms=5 * MINUTE_MS,
        ),
        Alert(
            "VerdictRecordsUnreadable",
            f"{unreadable} > 0",
            "warning",
            "Records of the alert or breaker topic cannot be read",
            "{{ $labels.instance }} left out records that are no alerts and no circuits: somebody else writes to the "
            "topic, or a newer worker does.",
        ),
    )


def _workers(watch: Watch) -> tuple[Alert, ...]:
    ready = promql.select("agent_worker_ready", {})
    lag = promql.by("max", ("job", "stage", "partition"), promql.select("agent_worker_lag_offsets", {}))
    slow = promql.select("agent_worker_flush_duration_seconds", {"quantile": "0.95"})
    return (
        Alert(
            "WorkersMissing",
            f"(count({ready} == 1) or vector(0)) < {watch.workers}",
            "critical",
            "{{ $value }} workers are ready, expected " + str(watch.workers),
            "Partitions without a worker are not read: nothing is lost, but numbers and alerts stand still.",
            for_ms=2 * MINUTE_MS,
        ),
        Alert(
            "WorkerNotReady",
            f"{ready} == 0",
            "warning",
            "The worker {{ $labels.instance }} is not ready",
            "For 5m, not every partition that it owns was being read.",
            for_ms=5 * MINUTE_MS,
        ),
        Alert(
            "WorkerLagging",
            f"{lag} > {LAG_OFFSETS}",
            "warning",
            "Partition {{ $labels.partition }} of {{ $labels.stage }} is {{ $value }} offsets behind",
            "For 10m, the worker has not caught up: numbers and alerts are late by what it has not read.",
            for_ms=10 * MINUTE_MS,
            keep_firing_for_ms=5 * MINUTE_MS,
        ),
        Alert(
            "TransactionsSlow",
            f"{slow} > {FLUSH_S}",
            "warning",
            "Transactions of {{ $labels.instance }} take {{ $value | humanizeDuration }}",
            "One committed transaction in twenty takes longer than any change is meant to wait.",
            for_ms=10 * MINUTE_MS,
        ),
        Alert(
            "TransactionOutcomesUnknown",
            f"{_grown('agent_worker_unknown_outcomes_total', '15m')} > 3",
            "warning",
            "The worker {{ $labels.instance }} does not learn whether its transactions are committed",
            "More than three times in 15m. Nothing is lost or double: the partitions are loaded anew each time.",
        ),
        Alert(
            "WorkersRestless",
            f"{_grown('agent_worker_rebalances_total', '15m')} > 10",
            "warning",
            "Partitions keep moving: {{ $labels.instance }} saw {{ $value }} rebalances in 15m",
            "Workers come and go, or do not answer in time. Each time, partitions stand still for seconds.",
        ),
    )


def _notify() -> tuple[Alert, ...]:
    """Where notify is not run there is no series, and neither of them fires."""
    leading = promql.select("agent_notify_leading", {})
    waiting = promql.by("max", ("job", "receiver"), promql.select("agent_notify_pending", {}))
    return (
        Alert(
            "NobodyNotifies",
            f"sum by (job) ({leading}) == 0",
            "critical",
            "Replicas of notify run, and none of them sends",
            "For 2m, all of them have stood by or been taking over: people are told of no alert.",
            for_ms=2 * MINUTE_MS,
        ),
        Alert(
            "NoticesWaiting",
            f"{waiting} > 0",
            "warning",
            "{{ $value }} alerts wait for the receiver {{ $labels.receiver }}",
            "For 10m, there was always an alert that it had to be told of and was not: it is away, or refuses us.",
            for_ms=10 * MINUTE_MS,
        ),
    )


def _limits() -> tuple[Alert, ...]:
    return (
        Alert(
            "SeriesOverflow",
            f"{_level('agent_series_overflow_keys')} > 0",
            "info",
            "{{ $value }} keys of {{ $labels.dimension }} have no series of their own",
            "They share one series, and the totals stay exact. Names of agents, tools, models or tenants that hold ids "
            "are the usual reason.",
            for_ms=15 * MINUTE_MS,
        ),
        Alert(
            "SessionsEvicted",
            f"{_grown('agent_stream_sessions_evicted_total', '15m')} > 0",
            "warning",
            "Partition {{ $labels.partition }} holds too many sessions",
            "{{ $value }} sessions were ended before their time within 15m.",
        ),
        Alert(
            "SessionsMisrouted",
            f"{_grown('agent_stream_sessions_misrouted_total', '15m')} > 0",
            "info",
            "A client partitions differently: partition {{ $labels.partition }} gets sessions that belong elsewhere",
            "Nothing is lost. A session whose events lie in several partitions has a row in each of them.",
        ),
    )
