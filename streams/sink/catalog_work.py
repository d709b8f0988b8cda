"""Which metrics tell how agents work and what goes wrong: cycles, conversations, models, errors.  Data only."""

from typing import Final

from streams.event.model import CALL_STATUSES, ERROR_TYPES
from streams.fold.families import DENIERS, DIRECTIONS, ROLES, TASKS
from streams.fold.measure import (
    AGENT,
    AGENT_TOOL,
    COMPONENT,
    CONVERSATION,
    CYCLE,
    DEGRADED,
    ENDPOINT,
    FEEDBACK,
    GUARD,
    MODEL,
    MODEL_ERROR,
    MODEL_FINISH,
    MODEL_SWITCH,
    PARAMETER,
    PAYLOAD,
    RESOURCE,
    SESSION_END,
    TOOL,
    Dimension,
)
from streams.sink.metric import Metric, Part, by, durations, observed, plain


def _modes(name: str, dimension: Dimension, help_text: str, noun: str, *, seeds: tuple[str, ...] = ()) -> Metric:
    """Return a counter of what was streamed and of the rest of what has ended."""
    streamed = f"{noun}_streaming"
    ended = tuple(f"{noun}_{status}" for status in CALL_STATUSES)
    parts = (Part("streaming", (streamed,)), Part("batch", ended, (streamed,)))
    columns = (*dimension.columns, "mode")
    return Metric(name, "counter", "", help_text, dimension, columns, parts, own_label="mode", seed_names=seeds)


OF_WORK: Final = (
    _modes(
        "agent_request_modes_total",
        AGENT,
        "Requests that have ended, by how they were answered.",
        "requests",
        seeds=("agent_streaming_vs_batch",),
    ),
    observed(
        "agent_request_tokens",
        AGENT,
        "Tokens that a session spent, input and output, between the start and the end of a request.",
        "request_tokens",
        seeds=("agent_tokens_per_request",),
    ),
    observed(
        "agent_request_cost_usd",
        AGENT,
        "What a session cost between the start and the end of a request; what was not priced adds nothing.",
        "request_cost",
        seeds=("agent_cost_per_request",),
    ),
    observed(
        "agent_request_cycles",
        AGENT,
        "Cycles of the agent's loop between the start and the end of a request.",
        "request_cycles",
        seeds=("agent_reasoning_cycles_per_request",),
    ),
    observed("agent_response_size_bytes", AGENT, "How large the answers to requests were.", "response_bytes"),
    by(
        "agent_endpoint_requests_total",
        ENDPOINT,
        "Requests that have ended, by the endpoint that took them.",
        "status",
        {status: f"requests_{status}" for status in CALL_STATUSES},
    ),
    durations(
        "agent_endpoint_request_duration_seconds",
        ENDPOINT,
        "How long requests took, by the endpoint that took them.",
        "request_duration",
    ),
    plain(
        "agent_tool_parallel_calls_total",
        TOOL,
        "Tool calls that ran beside others, as their publisher grouped them.",
        ("tool_calls_parallel",),
    ),
    plain(
        "agent_tool_parallel_uses_total",
        AGENT_TOOL,
        "Tool calls of an agent that ran beside others.",
        ("tool_calls_parallel",),
    ),
    plain(
        "agent_cycles_total",
        CYCLE,
        "Turns of the agent's own loop: reasoning, planning and reflection.",
        ("cycles",),
        seeds=("agent_cycles_total", "agent_reflection_cycles"),
    ),
    durations(
        "agent_cycle_duration_seconds",
        CYCLE,
        "How long turns of the agent's own loop took.",
        "cycle_duration",
        seeds=("agent_planning_duration",),
    ),
    by(
        "agent_messages_total",
        CONVERSATION,
        "Messages of conversations.",
        "role",
        {role: f"messages_{role}" for role in ROLES},
    ),
    plain(
        "agent_conversation_turns_total",
        CONVERSATION,
        "Turns of conversations: messages of users.",
        ("messages_user",),
        seeds=("agent_conversation_turns",),
    ),
    plain("agent_message_characters_total", CONVERSATION, "Characters of all messages.", ("message_characters",)),
    plain(
        "agent_message_tokens_total",
        CONVERSATION,
        "Size of messages whose publisher counted it; no usage, which models report.",
        ("message_tokens",),
        unit="tokens",
    ),
    observed(
        "agent_context_length_tokens",
        CONVERSATION,
        "How long the context was when a message was added.",
        "context_tokens",
        seeds=("agent_context_length",),
    ),
    observed(
        "agent_context_used_ratio",
        CONVERSATION,
        "Which share of the context's limit was in use when a message was added.",
        "context_used",
    ),
    plain("agent_feedback_total", FEEDBACK, "Opinions that somebody gave.", ("feedback",)),
    observed(
        "agent_response_quality_score",
        FEEDBACK,
        "How good answers were, from 0 to 1.",
        "quality",
        seeds=("agent_response_quality_score",),
    ),
    observed(
        "agent_response_relevance_score",
        FEEDBACK,
        "How relevant answers were, from 0 to 1.",
        "relevance",
        seeds=("agent_response_relevance",),
    ),
    observed("agent_user_satisfaction_score", FEEDBACK, "How satisfied users were, from 0 to 1.", "satisfaction"),
    by(
        "agent_tasks_total",
        FEEDBACK,
        "Tasks of which it was said whether they were completed: by the end of a request or by feedback.",
        "outcome",
        {task.removeprefix("tasks_"): task for task in TASKS},
    ),
    by(
        "agent_payloads_total",
        PAYLOAD,
        "Bodies of requests and responses that were published.",
        "direction",
        {direction: f"payloads_{direction}" for direction in DIRECTIONS},
    ),
    by(
        "agent_payload_size_bytes_total",
        PAYLOAD,
        "Size of published bodies, redacted and cut as they are.",
        "direction",
        {direction: f"payload_bytes_{direction}" for direction in DIRECTIONS},
        unit="bytes",
    ),
    by(
        "agent_payload_cut_bytes_total",
        PAYLOAD,
        "What publishers cut off from bodies.",
        "direction",
        {direction: f"payload_cut_bytes_{direction}" for direction in DIRECTIONS},
        unit="bytes",
    ),
    plain("agent_resource_reports_total", RESOURCE, "Reports of what processes use.", ("resource_reports",)),
    plain(
        "agent_session_end_events_total",
        SESSION_END,
        "Ends of sessions that were published, by their reason.",
        ("session_ends",),
    ),
)

OF_MODELS: Final = (
    _modes(
        "agent_model_call_modes_total",
        MODEL,
        "Model calls that have ended, by how they were answered.",
        "model_calls",
    ),
    plain(
        "agent_model_max_tokens_hits_total",
        MODEL,
        "Model calls that ended because they had reached their limit of tokens.",
        ("model_calls_max_tokens",),
        seeds=("agent_max_tokens_hit",),
    ),
    observed("agent_model_sampling_temperature", MODEL, "Temperatures that models were called with.", "temperature"),
    plain(
        "agent_model_finishes_total",
        MODEL_FINISH,
        "Model calls by the reason that their model gave for ending.",
        ("model_finishes",),
    ),
    plain(
        "agent_model_errors_total",
        MODEL_ERROR,
        "Model calls that failed, by the code of the error; without one, by their status.",
        ("model_errors",),
        seeds=("agent_model_errors",),
    ),
    plain(
        "agent_model_switches_total",
        MODEL_SWITCH,
        "Changes from one model to another.",
        ("model_switches",),
        seeds=("agent_model_switches",),
    ),
    plain(
        "agent_parameter_changes_total",
        PARAMETER,
        "Changes of a parameter of model calls; the temperature is one.",
        ("parameter_changes",),
        seeds=("agent_temperature_adjustments",),
    ),
)

OF_TROUBLE: Final = (
    by(
        "agent_component_errors_total",
        COMPONENT,
        "Errors reported, by the component they came from.",
        "type",
        {kind: f"errors_{kind}" for kind in ERROR_TYPES},
        seeds=("agent_timeout_errors",),
    ),
    plain(
        "agent_degraded_events_total",
        DEGRADED,
        "Reports that a component works worse than it should.",
        ("degraded",),
        seeds=("agent_degraded_performance_events",),
    ),
    by(
        "agent_guard_denials_total",
        GUARD,
        "Calls that were denied before they were made.",
        "denied_by",
        {denier: f"denied_by_{denier}" for denier in DENIERS},
    ),
)
