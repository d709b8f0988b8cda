"""Which numbers rollup rows hold, and along which dimensions events are added up.  Data only.

Every number is an integer: calls, bytes, tokens, µs, nano-USD, millionths of a score.  A measure is a sum; what a
histogram observes and in which buckets is in `shapes`.  Dimensions of the rare kinds of events hold what `families`
lists; the others hold everything that `MEANINGS` names.
"""

from typing import Final, NamedTuple

from streams.event.codec import Reason
from streams.event.model import CALL_STATUSES, ERROR_TYPES, TOOL_STATUSES


class Dimension(NamedTuple):
    """Named label columns; beyond `rows_max` keys (over all partitions) the rest folds into one overflow row each."""

    name: str
    columns: tuple[str, ...]
    rows_max: int


ALL: Final = Dimension("all", (), 1)
AGENT: Final = Dimension("agent", ("agent",), 1_000)
TOOL: Final = Dimension("tool", ("tool",), 1_000)
MODEL: Final = Dimension("model", ("model",), 500)
PROVIDER: Final = Dimension("provider", ("provider",), 100)
TENANT: Final = Dimension("tenant", ("tenant",), 1_000)
# Whoever a user is, their id is a pseudonym: it is in tables and alerts, and never a label of a metric.
USER: Final = Dimension("user", ("user_id",), 10_000)
AGENT_TOOL: Final = Dimension("agent_tool", ("agent", "tool"), 4_000)
PARTITION: Final = Dimension("partition", ("partition",), 10_000)

# Of the rare kinds: a label that an event leaves out is UNKNOWN.
UNKNOWN: Final = "unknown"
ENDPOINT: Final = Dimension("endpoint", ("endpoint",), 1_000)
COMPONENT: Final = Dimension("component", ("component",), 1_000)
DEGRADED: Final = Dimension("degraded", ("component", "reason"), 1_000)
MODEL_ERROR: Final = Dimension("model_error", ("model", "code"), 1_000)
MODEL_FINISH: Final = Dimension("model_finish", ("model", "reason"), 1_000)
MODEL_SWITCH: Final = Dimension("model_switch", ("from_model", "to_model"), 1_000)
PARAMETER: Final = Dimension("parameter", ("agent", "parameter"), 1_000)
CYCLE: Final = Dimension("cycle", ("agent", "phase"), 3_000)  # three phases
CONVERSATION: Final = Dimension("conversation", ("agent",), 1_000)
FEEDBACK: Final = Dimension("feedback", ("agent",), 1_000)
RATE_LIMIT: Final = Dimension("rate_limit", ("endpoint", "workspace_id"), 2_000)
GUARD: Final = Dimension("guard", ("target",), 1_000)
CACHE: Final = Dimension("cache", ("cache", "operation"), 1_000)
RESOURCE: Final = Dimension("resource", ("agent",), 1_000)
DISCOVERY: Final = Dimension("discovery", ("detail_level",), 100)
EXECUTION: Final = Dimension("execution", ("language",), 200)
SDK: Final = Dimension("sdk", ("agent",), 1_000)
FILTERING: Final = Dimension("filtering", ("operation",), 200)
SKILL: Final = Dimension("skill", ("skill", "language"), 2_000)
SECURITY: Final = Dimension("security", ("pattern", "severity"), 500)
A2A: Final = Dimension("a2a", ("agent", "operation", "status"), 4_000)
A2A_AGENT: Final = Dimension("a2a_agent", ("agent",), 1_000)
CCR: Final = Dimension("ccr", ("provider", "task_type"), 1_000)
CCR_PROVIDER: Final = Dimension("ccr_provider", ("provider",), 200)
PAYLOAD: Final = Dimension("payload", ("agent",), 1_000)
SESSION_END: Final = Dimension("session_end", ("reason",), 200)
CUSTOM: Final = Dimension("custom", ("metric", "values"), 4_000)  # values: a JSON array, in the declared order
RARE: Final = (
    ENDPOINT, COMPONENT, DEGRADED, MODEL_ERROR, MODEL_FINISH, MODEL_SWITCH, PARAMETER, CYCLE, CONVERSATION, FEEDBACK,
    RATE_LIMIT, GUARD, CACHE, RESOURCE, DISCOVERY, EXECUTION, SDK, FILTERING, SKILL, SECURITY, A2A, A2A_AGENT, CCR,
    CCR_PROVIDER, PAYLOAD, SESSION_END, CUSTOM,
)  # fmt: skip
DIMENSIONS: Final = {d.name: d for d in (ALL, AGENT, TOOL, MODEL, PROVIDER, TENANT, USER, AGENT_TOOL, *RARE, PARTITION)}


class Meaning(NamedTuple):
    """What one entry of a cell adds: measures that grow by one, and the histogram its value goes to."""

    family: str  # which dimensions: request, model, tool or other
    ones: tuple[str, ...]
    histogram: str | None = None
    amounts: tuple[str, ...] = ()


MEANINGS: Final[list[Meaning]] = []


def _code(family: str, *ones: str, histogram: str | None = None, amounts: tuple[str, ...] = ()) -> int:
    MEANINGS.append(Meaning(family, ones, histogram, amounts))
    return len(MEANINGS) - 1


# How an end found its start, so that for every key: in flight = started − ended − abandoned.
UNMATCHED: Final = 0  # not at all
MATCHED: Final = 1
RELABELLED: Final = 2  # it had other labels (an agent, a model …): `ended` is counted with those


def _ends(family: str, noun: str, statuses: tuple[str, ...], histogram: str) -> dict[tuple[str, int], int]:
    """Codes by status and how the end found its start."""
    found = {UNMATCHED: (f"{noun}_unmatched",), MATCHED: (f"{noun}_ended",), RELABELLED: ()}
    return {
        (status, match): _code(family, "events", f"{noun}_{status}", *ones, histogram=histogram)
        for status in statuses
        for match, ones in found.items()
    }


OTHER_EVENT: Final = _code("other", "events")
HEARTBEAT: Final = _code("other", "events", "heartbeats")
SESSION_STARTED: Final = _code("other", "sessions_started")
SESSION_ENDED: Final = _code("other", "sessions_ended")

REQUEST_STARTED: Final = _code("request", "events", "requests_started")
REQUEST_ENDED: Final = _ends("request", "requests", CALL_STATUSES, "request_duration")
REQUEST_CLOSED: Final = _code("request", "requests_ended")
REQUEST_ABANDONED: Final = _code("request", "requests_abandoned")
REQUEST_STREAMING: Final = _code("request", "requests_streaming")
REQUEST_TOKENS: Final = _code("request", histogram="request_tokens")
REQUEST_COST: Final = _code("request", histogram="request_cost")
REQUEST_CYCLES: Final = _code("request", histogram="request_cycles")
RESPONSE_BYTES: Final = _code("request", histogram="response_bytes")

MODEL_STARTED: Final = _code("model", "events", "model_calls_started")
MODEL_ENDED: Final = _ends("model", "model_calls", CALL_STATUSES, "model_duration")
MODEL_CLOSED: Final = _code("model", "model_calls_ended")
MODEL_ABANDONED: Final = _code("model", "model_calls_abandoned")
FIRST_TOKEN: Final = _code("model", histogram="first_token")
MODEL_STREAMING: Final = _code("model", "model_calls_streaming")
MODEL_MAX_TOKENS: Final = _code("model", "model_calls_max_tokens")
MODEL_TEMPERATURE: Final = _code("model", histogram="temperature")
USAGE_AMOUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced",
    "computed_cost_nano_usd",  # of the cost, what was computed from a price list
    "usage_inconsistent",  # reports in which a part is larger than its whole
)
USAGE: Final = _code("model", "events", "usage_reports", amounts=USAGE_AMOUNTS)
USAGE_AGGREGATE: Final = _code("model", "events", "usage_aggregates")
LEDGER_AMOUNTS: Final = (
    "aggregates_settled",
    "aggregates_leafless",
    "aggregate_over_tokens",  # by how much aggregates name more than their leaves
    "aggregate_under_tokens",  # by how much they name less
    "ledger_forgotten",
)
LEDGER: Final = _code("other", amounts=LEDGER_AMOUNTS)

TOOL_STARTED: Final = _code("tool", "events", "tool_calls_started")
TOOL_ENDED: Final = _ends("tool", "tool_calls", TOOL_STATUSES, "tool_duration")
TOOL_CLOSED: Final = _code("tool", "tool_calls_ended")
TOOL_ABANDONED: Final = _code("tool", "tool_calls_abandoned")
TOOL_EXTRA_AMOUNTS: Final = ("tool_retries", "tool_input_bytes", "tool_output_bytes")
TOOL_EXTRAS: Final = _code("tool", amounts=TOOL_EXTRA_AMOUNTS)
TOOL_PARALLEL: Final = _code("tool", "tool_calls_parallel")

ERROR: Final = {kind: _code("other", "events", "errors", f"errors_{kind}") for kind in ERROR_TYPES}

USER_MEASURES: Final = (
    "events",
    "requests",
    "model_calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_nano_usd",
    "unpriced",
)

# What a partition says of its own input; the first four add up to `received`.
OUTCOMES: Final = ("applied", "late", "duplicate", "rejected")
PAYLOAD_MEASURES: Final = ("payloads_logged", "payloads_dropped", "payload_cut_bytes", "payload_redactions")
PARTITION_COUNTS: Final = (
    "received",
    *OUTCOMES,
    "skewed",
    "misrouted",
    "reopened",
    "evicted",
    "forgotten_marks",
    *PAYLOAD_MEASURES,
)
PARTITION_MEASURES: Final = (*PARTITION_COUNTS, *(f"rejected_{reason.value}" for reason in Reason))

MEASURES: Final = tuple(dict.fromkeys(name for meaning in MEANINGS for name in (*meaning.ones, *meaning.amounts)))
# Of keys that a circuit may guard; the first three are counted where a policy cannot do with the measures above.
CIRCUIT_CALLS: Final = "circuit_calls"
CIRCUIT_FAILURES: Final = "circuit_failures"
CIRCUIT_SLOW: Final = "circuit_slow_calls"
CIRCUIT_DENIED: Final = "circuit_not_permitted"
CIRCUIT_MEASURES: Final = (CIRCUIT_CALLS, CIRCUIT_FAILURES, CIRCUIT_SLOW, CIRCUIT_DENIED)
HISTOGRAMS: Final = tuple(dict.fromkeys(m.histogram for m in MEANINGS if m.histogram is not None))
