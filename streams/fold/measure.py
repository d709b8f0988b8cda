"""Which numbers rollup rows hold, and along which dimensions events are added up.  Data only.

Every number is an integer: calls, bytes, tokens, µs, nano-USD.  A measure is a sum; a histogram holds durations in µs.
"""

from typing import Final, NamedTuple

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
AGENT_TOOL: Final = Dimension("agent_tool", ("agent", "tool"), 4_000)
PARTITION: Final = Dimension("partition", ("partition",), 10_000)
DIMENSIONS: Final = {d.name: d for d in (ALL, AGENT, TOOL, MODEL, PROVIDER, TENANT, AGENT_TOOL, PARTITION)}


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

MODEL_STARTED: Final = _code("model", "events", "model_calls_started")
MODEL_ENDED: Final = _ends("model", "model_calls", CALL_STATUSES, "model_duration")
MODEL_CLOSED: Final = _code("model", "model_calls_ended")
MODEL_ABANDONED: Final = _code("model", "model_calls_abandoned")
FIRST_TOKEN: Final = _code("model", histogram="first_token")
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

ERROR: Final = {kind: _code("other", "events", "errors", f"errors_{kind}") for kind in ERROR_TYPES}

# What a partition says of its own input; the first four add up to `received`.
OUTCOMES: Final = ("applied", "late", "duplicate", "rejected")
PAYLOAD_MEASURES: Final = ("payloads_logged", "payloads_dropped", "payload_cut_bytes", "payload_redactions")
PARTITION_MEASURES: Final = (
    "received",
    *OUTCOMES,
    "skewed",
    "misrouted",
    "reopened",
    "forgotten_marks",
    *PAYLOAD_MEASURES,
)

MEASURES: Final = tuple(dict.fromkeys(name for meaning in MEANINGS for name in (*meaning.ones, *meaning.amounts)))
HISTOGRAMS: Final = tuple(dict.fromkeys(m.histogram for m in MEANINGS if m.histogram is not None))
