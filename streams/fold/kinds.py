"""What does an event of a rare kind add, and to which keys?  One small function per kind, and a table of them.

Never touches a row, a clock or a setting: an event comes in, contributions come out.
An event adds at most once to each key, so `events` counts events; what a publisher left out is labelled UNKNOWN.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streams.event import model
from streams.event.custom import Observation
from streams.fold import measure
from streams.fold.circuits import denied_circuit
from streams.fold.measure import UNKNOWN, Dimension
from streams.fold.shapes import CUSTOM_PREFIX, MILLION, custom_histogram

NOTHING: Final[Mapping[str, int]] = {}


class Contribution(NamedTuple):
    """What one event adds to one key: sums by measure, one observation by histogram, present values by gauge."""

    dimension: str
    labels: tuple[str, ...]
    sums: Mapping[str, int]
    samples: Mapping[str, int] = NOTHING
    gauges: Mapping[str, int] = NOTHING


Contributions = Sequence[Contribution]


def microseconds(ms: float) -> int:
    """Return milliseconds in µs, half up."""
    return int(ms * 1000 + 0.5)


def millionths(number: float) -> int:
    """Return a number in millionths, the nearest one; halves away from zero."""
    return int(number * MILLION + (0.5 if number >= 0 else -0.5))


def one(
    dimension: Dimension, labels: tuple[str | None, ...], sums: Mapping[str, int], samples: Mapping[str, int] = NOTHING
) -> Contribution:
    """Return what an event adds to one key of a dimension, itself included; sums of zero are left out."""
    named = tuple(label or UNKNOWN for label in labels)
    added = {"events": 1, **{name: value for name, value in sums.items() if value}}
    return Contribution(dimension.name, named, added, samples)


# ---- the agent's own loop and its conversation ------------------------------------------------------------------


def _cycle(event: model.Cycle) -> Contributions:
    spent = {"cycle_duration": microseconds(event.duration_ms)}
    return (one(measure.CYCLE, (event.agent, event.phase), {"cycles": 1}, spent),)


def _message(event: model.Message) -> Contributions:
    sums = {
        f"messages_{event.role}": 1,
        "message_characters": event.characters,
        "message_tokens": event.tokens or 0,
    }
    samples: dict[str, int] = {}
    if event.context_tokens is not None:
        samples["context_tokens"] = event.context_tokens
        if event.context_limit:
            samples["context_used"] = event.context_tokens * MILLION // event.context_limit
    return (one(measure.CONVERSATION, (event.agent,), sums, samples),)


def _model_switch(event: model.ModelSwitch) -> Contributions:
    return (one(measure.MODEL_SWITCH, (event.from_model, event.to_model), {"model_switches": 1}),)


def _parameter_change(event: model.ParameterChange) -> Contributions:
    return (one(measure.PARAMETER, (event.agent, event.parameter), {"parameter_changes": 1}),)


def _feedback(event: model.Feedback) -> Contributions:
    sums = {"feedback": 1, **task(event.task_completed)}
    given = {name: getattr(event, name) for name in ("quality", "relevance", "satisfaction")}
    samples = {name: millionths(score) for name, score in given.items() if score is not None}
    return (one(measure.FEEDBACK, (event.agent,), sums, samples),)


def task(completed: bool | None) -> Mapping[str, int]:
    """Return the count of a task that was or was not completed; None says nothing."""
    return NOTHING if completed is None else {"tasks_completed" if completed else "tasks_failed": 1}


def _payload(event: model.Payload) -> Contributions:
    direction, body_bytes = event.direction, len(event.body.encode())
    sums = {f"payloads_{direction}": 1, f"payload_bytes_{direction}": body_bytes}
    return (one(measure.PAYLOAD, (event.agent,), {**sums, f"payload_cut_bytes_{direction}": event.cut_bytes}),)


def _session_end(event: model.SessionEnd) -> Contributions:
    return (one(measure.SESSION_END, (event.reason,), {"session_ends": 1}),)


# ---- trouble ----------------------------------------------------------------------------------------------------


def _error(event: model.Error) -> Contributions:
    return (one(measure.COMPONENT, (event.component,), {"errors": 1, f"errors_{event.error_type}": 1}),)


def _rate_limit(event: model.RateLimit) -> Contributions:
    samples = {} if event.retry_after_ms is None else {"retry_after": microseconds(event.retry_after_ms)}
    labels = event.endpoint, event.workspace or event.tenant
    return (one(measure.RATE_LIMIT, labels, {f"rate_limit_{event.result}": 1}, samples),)


def _degraded(event: model.Degraded) -> Contributions:
    return (one(measure.DEGRADED, (event.component, event.reason), {"degraded": 1}),)


def _guard(event: model.Guard) -> Contributions:
    """A target that names a circuit, `tool|search`, is told of it as well: somebody asked to be let through."""
    denied = one(measure.GUARD, (event.target,), {f"denied_by_{event.denied_by}": event.count})
    circuit = denied_circuit(event.target) if event.denied_by == "breaker" else None
    return (denied,) if circuit is None else (denied, Contribution(*circuit, {measure.CIRCUIT_DENIED: event.count}))


# ---- the process ------------------------------------------------------------------------------------------------


def _cache(event: model.Cache) -> Contributions:
    spent = {"cache_duration": microseconds(event.duration_ms)}
    return (one(measure.CACHE, (event.cache, event.operation), {f"cache_{event.result}": 1}, spent),)


def _resource(event: model.Resource) -> Contributions:
    return (one(measure.RESOURCE, (event.agent,), {"resource_reports": 1}),)


# ---- code execution ---------------------------------------------------------------------------------------------


def _discovery(event: model.Discovery) -> Contributions:
    sums = {
        "discovery_found" if event.results else "discovery_empty": 1,
        "discovery_results": event.results,
        "discovery_cache_hits": int(event.cache_hit),
        "discovery_continued": int(event.continued),
    }
    spent = {"discovery_duration": microseconds(event.duration_ms)}
    return (one(measure.DISCOVERY, (event.detail_level,), sums, spent),)


def _execution(event: model.Execution) -> Contributions:
    sums = {f"executions_{event.status}": 1, "execution_failed_exits": int(bool(event.exit_code))}
    samples = {"execution_duration": microseconds(event.duration_ms), "execution_result": event.result_bytes}
    if event.peak_memory_bytes is not None:
        samples["execution_memory"] = event.peak_memory_bytes
    return (one(measure.EXECUTION, (event.language,), sums, samples),)


def _sdk_generation(event: model.SdkGeneration) -> Contributions:
    sums = {"sdk_generations": 1, "sdk_tools": event.tools}
    return (one(measure.SDK, (event.agent,), sums, {"sdk_duration": microseconds(event.duration_ms)}),)


def _filtering(event: model.Filtering) -> Contributions:
    sums = {
        "filterings": 1,
        "filtering_input_bytes": event.input_bytes,
        "filtering_output_bytes": event.output_bytes,
        "tokens_saved": event.tokens_saved,
    }
    spent = {"filtering_duration": microseconds(event.duration_ms)}
    return (one(measure.FILTERING, (event.operation,), sums, spent),)


def _skill(event: model.Skill) -> Contributions:
    labels = event.skill, event.language
    if event.action == "saved":
        return (one(measure.SKILL, labels, {"skills_saved": 1}),)
    spent = {"skill_duration": microseconds(event.duration_ms)}
    return (one(measure.SKILL, labels, {f"skills_{event.status}": 1}, spent),)


def _security(event: model.Security) -> Contributions:
    return (one(measure.SECURITY, (event.pattern, event.severity), {event.action: event.count}),)


# ---- between agents ---------------------------------------------------------------------------------------------


def a2a_call(agent: str, what: str) -> Contribution:
    """Return what starts, ends (`a2a_ended`: its start was seen) and abandonments add to the agent that was asked."""
    return Contribution(measure.A2A_AGENT.name, (agent,), {what: 1})


def _a2a_start(event: model.A2AStart) -> Contributions:
    return (one(measure.A2A_AGENT, (event.target,), {"a2a_started": 1}),)


def _a2a_end(event: model.A2AEnd) -> Contributions:
    spent = {"a2a_duration": microseconds(event.duration_ms)}
    return (
        one(measure.A2A, (event.target, event.operation, event.status), {"a2a_requests": 1}, spent),
        one(measure.A2A_AGENT, (event.target,), NOTHING, {"a2a_response": event.response_bytes}),
    )


def _ccr(event: model.Ccr) -> Contributions:
    tokens = {"ccr_input_tokens": event.input_tokens, "ccr_output_tokens": event.output_tokens}
    spent = {"ccr_duration": microseconds(event.duration_ms)}
    return (
        one(measure.CCR, (event.provider, event.task_type), {f"ccr_{event.status}": 1}),
        one(measure.CCR_PROVIDER, (event.provider,), tokens, spent),
    )


# ---- whatever else ----------------------------------------------------------------------------------------------


def _custom(event: Observation) -> Contributions:
    """A custom metric's measure is named after it, so the overflow row keeps metrics apart."""
    name, value = CUSTOM_PREFIX + event.metric, millionths(event.value)
    labels = event.metric, event.values_json
    if event.metric_kind == "counter":
        return (one(measure.CUSTOM, labels, {name: value}),)
    if event.metric_kind == "histogram":
        return (one(measure.CUSTOM, labels, NOTHING, {custom_histogram(event.metric, event.bounds): value}),)
    return (one(measure.CUSTOM, labels, NOTHING)._replace(gauges={name: value}),)


CONTRIBUTE: Final[Mapping[type, Callable[[Any], Contributions]]] = {
    model.SessionEnd: _session_end,
    model.Cycle: _cycle,
    model.Message: _message,
    model.ModelSwitch: _model_switch,
    model.ParameterChange: _parameter_change,
    model.Feedback: _feedback,
    model.Payload: _payload,
    model.Error: _error,
    model.RateLimit: _rate_limit,
    model.Degraded: _degraded,
    model.Guard: _guard,
    model.Cache: _cache,
    model.Resource: _resource,
    model.Discovery: _discovery,
    model.Execution: _execution,
    model.SdkGeneration: _sdk_generation,
    model.Filtering: _filtering,
    model.Skill: _skill,
    model.Security: _security,
    model.A2AStart: _a2a_start,
    model.A2AEnd: _a2a_end,
    model.Ccr: _ccr,
    Observation: _custom,
}
