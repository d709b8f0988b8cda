"""What do the rows of each dimension hold?  The dimensions of rare kinds hold what is listed here, and nothing else.

Never a number.  Whoever wants to read a measure (a rule, a metric) is held against this.
`events` counts, in the dimensions of rare kinds, the events that added something to the row.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from streams.event.model import CALL_STATUSES, ERROR_TYPES
from streams.fold import measure


class Family(NamedTuple):
    """The measures and histograms of a dimension's rows."""

    measures: tuple[str, ...]
    histograms: tuple[str, ...] = ()


def _each(noun: str, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{noun}_{value}" for value in values)


CACHE_RESULTS: Final = ("hit", "miss", "error")
RATE_RESULTS: Final = ("allowed", "denied")
DENIERS: Final = ("breaker", "budget", "loop", "rule", "unknown")
ROLES: Final = ("user", "assistant", "system", "tool")
DIRECTIONS: Final = ("request", "response")
SECURITY_ACTIONS: Final = ("pii_detected", "tokenized", "detokenized", "audit")
TASKS: Final = ("tasks_completed", "tasks_failed")

_RARE: Final[Mapping[measure.Dimension, Family]] = {
    measure.ENDPOINT: Family((*_each("requests", CALL_STATUSES), *measure.CIRCUIT_MEASURES), ("request_duration",)),
    measure.COMPONENT: Family(("errors", *_each("errors", ERROR_TYPES))),
    measure.DEGRADED: Family(("degraded",)),
    measure.MODEL_ERROR: Family(("model_errors",)),
    measure.MODEL_FINISH: Family(("model_finishes",)),
    measure.MODEL_SWITCH: Family(("model_switches",)),
    measure.PARAMETER: Family(("parameter_changes",)),
    measure.CYCLE: Family(("cycles",), ("cycle_duration",)),
    measure.CONVERSATION: Family(
        (*_each("messages", ROLES), "message_characters", "message_tokens"), ("context_tokens", "context_used")
    ),
    measure.FEEDBACK: Family(("feedback", *TASKS), ("quality", "relevance", "satisfaction")),
    measure.RATE_LIMIT: Family(_each("rate_limit", RATE_RESULTS), ("retry_after",)),
    measure.GUARD: Family(_each("denied_by", DENIERS)),
    measure.CACHE: Family(_each("cache", CACHE_RESULTS), ("cache_duration",)),
    measure.RESOURCE: Family(("resource_reports",)),
    measure.DISCOVERY: Family(
        ("discovery_found", "discovery_empty", "discovery_results", "discovery_cache_hits", "discovery_continued"),
        ("discovery_duration",),
    ),
    measure.EXECUTION: Family(
        (*_each("executions", CALL_STATUSES), "execution_failed_exits"),
        ("execution_duration", "execution_memory", "execution_result"),
    ),
    measure.SDK: Family(("sdk_generations", "sdk_tools"), ("sdk_duration",)),
    measure.FILTERING: Family(
        ("filterings", "filtering_input_bytes", "filtering_output_bytes", "tokens_saved"), ("filtering_duration",)
    ),
    measure.SKILL: Family(("skills_saved", *_each("skills", CALL_STATUSES)), ("skill_duration",)),
    measure.SECURITY: Family(SECURITY_ACTIONS),
    measure.A2A: Family(("a2a_requests",), ("a2a_duration",)),
    measure.A2A_AGENT: Family(("a2a_started", "a2a_ended", "a2a_abandoned", "a2a_unmatched"), ("a2a_response",)),
    measure.CCR: Family(_each("ccr", CALL_STATUSES)),
    measure.CCR_PROVIDER: Family(("ccr_input_tokens", "ccr_output_tokens"), ("ccr_duration",)),
    measure.PAYLOAD: Family(
        (*_each("payloads", DIRECTIONS), *_each("payload_bytes", DIRECTIONS), *_each("payload_cut_bytes", DIRECTIONS))
    ),
    measure.SESSION_END: Family(("session_ends",)),
    measure.CUSTOM: Family(()),  # named by whoever declares them
}
_EVERYDAY: Final = Family(measure.MEASURES, measure.HISTOGRAMS)
_GUARDED: Final = Family((*measure.MEASURES, *measure.CIRCUIT_MEASURES), measure.HISTOGRAMS)

FAMILIES: Final[Mapping[str, Family]] = {
    name: Family(measure.PARTITION_MEASURES)
    if dimension is measure.PARTITION
    else Family(measure.USER_MEASURES)
    if dimension is measure.USER
    else Family(("events", *_RARE[dimension].measures), _RARE[dimension].histograms)
    if dimension in _RARE
    else _GUARDED
    if dimension in {measure.TOOL, measure.MODEL, measure.PROVIDER, measure.AGENT, measure.AGENT_TOOL}
    else _EVERYDAY
    for name, dimension in measure.DIMENSIONS.items()
}
