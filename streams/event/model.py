"""Which events exist and what each one may carry: frozen structs in one union, tagged by `kind`.

Never reads a clock and never makes an id: whoever publishes decides both.
Every number, string, map and nesting has a bound here, so that nothing behind the decoder has to fear its input.
Token counts follow OpenTelemetry: `input_tokens` includes cached tokens, reasoning is part of `output_tokens`.
"""

from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

ID_CHARS_MAX: Final = 256
NAME_CHARS_MAX: Final = 128  # a name may become a label value
TEXT_CHARS_MAX: Final = 4096  # messages of errors; longer text is cut by the emitter, refused here
ATTRIBUTES_MAX: Final = 32
COUNT_MAX: Final = 2**53 - 1  # what every JSON implementation still reads exactly
AMOUNT_MAX: Final = 2**40  # of what is summed, such as bytes: one event more than 1 TiB is a broken client
TOKENS_MAX: Final = 10**9  # a thousand times the largest context known
COST_NANO_USD_MAX: Final = 10**12  # a thousand dollars for one call
DURATION_MS_MAX: Final = 30 * 24 * 60 * 60 * 1000
SCORE_MAX: Final = 1.0
SCHEMA_VERSION: Final = 1

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]
Level: TypeAlias = Annotated[int, Meta(ge=0, le=COUNT_MAX)]  # as it stands now, never summed
Tokens: TypeAlias = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
CostNanoUsd: TypeAlias = Annotated[int, Meta(ge=0, le=COST_NANO_USD_MAX)]
Ms: TypeAlias = (
    Annotated[int, Meta(ge=0, le=DURATION_MS_MAX)] | Annotated[float, Meta(ge=0.0, le=float(DURATION_MS_MAX))]
)
Score: TypeAlias = Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0.0, le=SCORE_MAX)]
Temperature: TypeAlias = Annotated[int, Meta(ge=0, le=10)] | Annotated[float, Meta(ge=0.0, le=10.0)]
Number: TypeAlias = (
    Annotated[int, Meta(ge=-COUNT_MAX, le=COUNT_MAX)]
    | Annotated[float, Meta(ge=-float(COUNT_MAX), le=float(COUNT_MAX))]
)
Time: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)] | Annotated[str, Meta(min_length=1, max_length=40)]
Attributes: TypeAlias = Annotated[
    dict[Name, Annotated[str, Meta(max_length=512)] | Number | bool | None], Meta(max_length=ATTRIBUTES_MAX)
]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=COUNT_MAX)]

CallStatus: TypeAlias = Literal["success", "error", "timeout", "cancelled"]
ToolStatus: TypeAlias = Literal["success", "error", "timeout", "validation_error", "cancelled"]
ErrorType: TypeAlias = Literal["rate_limit", "timeout", "auth_failure", "network", "validation", "tool_error", "other"]
CALL_STATUSES: Final = get_args(CallStatus)
TOOL_STATUSES: Final = get_args(ToolStatus)
ERROR_TYPES: Final = get_args(ErrorType)


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="kind"):
    """What every event carries, whatever its kind.

    `time` is epoch milliseconds, epoch nanoseconds, or RFC 3339 text with an offset.
    `call_id` is the same on start, heartbeat, usage and end of one request, model call or tool call.
    `source` and `seq` make duplicates detectable for ever; without them `id` is remembered for a bounded time.
    A source sends a session's events in order: a `seq` more than 63 below the session's highest counts as a duplicate.
    """

    id: Id
    time: Time
    agent: Name
    session_id: Id | None = None
    call_id: Id | None = None
    parent_id: Id | None = None
    source: Name | None = None
    seq: Seq | None = None
    user_id: Id | None = None
    tenant: Name | None = None
    trace_id: Id | None = None
    attributes: Attributes | None = None
    schema: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION


# ---- sessions and requests -------------------------------------------------------------------------------------


class SessionStart(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="session_start"):
    """A session begins; optional, the first event of a session begins it too."""


class SessionEnd(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="session_end"):
    """A session ends now and not by an idle gap."""

    reason: Name | None = None


class AgentStart(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="agent_start"):
    """A request to an agent begins."""

    streaming: bool = False
    endpoint: Name | None = None


class AgentEnd(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="agent_end"):
    """A request to an agent is over."""

    status: CallStatus = "success"
    duration_ms: Ms = 0
    streaming: bool = False
    response_bytes: Count = 0
    completed: bool | None = None
    endpoint: Name | None = None


class Heartbeat(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="heartbeat"):
    """A running request or tool is still alive."""

    partial_tokens: Tokens = 0


# ---- models ----------------------------------------------------------------------------------------------------


class ModelStart(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="model_start"):
    """A call to a model begins."""

    model: Name
    provider: Name | None = None
    streaming: bool = False
    temperature: Temperature | None = None


class ModelEnd(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="model_end"):
    """A call to a model is over."""

    model: Name
    provider: Name | None = None
    status: CallStatus = "success"
    error_code: Name | None = None
    duration_ms: Ms = 0
    first_token_ms: Ms | None = None
    finish_reason: Name | None = None
    streaming: bool = False
    temperature: Temperature | None = None


class TokenUsage(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="token_usage"):
    """Tokens of one model call; `scope` aggregate repeats what leaves already reported and is never added up."""

    model: Name
    provider: Name | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    cost_nano_usd: CostNanoUsd | None = None
    scope: Literal["leaf", "aggregate"] = "leaf"


class ModelSwitch(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="model_switch"):
    """An agent went from one model to another."""

    from_model: Name
    to_model: Name


class ParameterChange(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="parameter_change"):
    """A parameter of the model calls was changed."""

    parameter: Name = "temperature"
    before: Number | None = None
    after: Number | None = None


# ---- tools -----------------------------------------------------------------------------------------------------


class ToolStart(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="tool_start"):
    """A tool call begins."""

    tool: Name
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1
    arguments_hash: Name | None = None
    parallel_group: Name | None = None
    queue_depth: Count | None = None


class ToolEnd(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="tool_end"):
    """A tool call is over."""

    tool: Name
    status: ToolStatus = "success"
    duration_ms: Ms = 0
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1
    input_bytes: Count = 0
    output_bytes: Count = 0
    arguments_hash: Name | None = None
    parallel_group: Name | None = None
    queue_depth: Count | None = None
    error_message: Text | None = None
    result_hash: Name | None = None  # equal results have equal ones; hexadecimal, as that of the arguments


# ---- reasoning and conversation --------------------------------------------------------------------------------


class Cycle(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cycle"):
    """One turn of the agent's own loop."""

    phase: Literal["reasoning", "planning", "reflection"]
    number: Count = 0
    duration_ms: Ms = 0


class Message(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="message"):
    """A message of the conversation: its sizes, never its text."""

    role: Literal["user", "assistant", "system", "tool"]
    characters: Count = 0
    tokens: Tokens | None = None
    context_tokens: Tokens | None = None
    context_limit: Tokens | None = None
    turn: Count | None = None


class Feedback(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="feedback"):
    """What somebody thought of an answer; scores from 0 to 1."""

    quality: Score | None = None
    relevance: Score | None = None
    satisfaction: Score | None = None
    task_completed: bool | None = None


# ---- trouble ---------------------------------------------------------------------------------------------------


class Error(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="error"):
    """Something failed outside a call that reports its own status."""

    error_type: ErrorType = "other"
    component: Name | None = None
    code: Name | None = None
    message: Text | None = None


class RateLimit(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="rate_limit"):
    """A rate limiter decided."""

    endpoint: Name
    result: Literal["allowed", "denied"]
    workspace: Name | None = None
    retry_after_ms: Ms | None = None


class Degraded(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="degraded"):
    """A component works worse than it should."""

    reason: Name
    component: Name | None = None


class Guard(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="guard"):
    """Calls were denied before they were made: `count` of them, for the same reason.

    `reason` is the circuit's state or the name of the alert; `verdict_id` the id of the record that stopped the call.
    """

    target: Name
    denied_by: Literal["breaker", "budget", "loop", "rule", "unknown"]
    reason: Name | None = None
    verdict_id: Id | None = None
    count: Annotated[int, Meta(ge=1, le=AMOUNT_MAX)] = 1


# ---- the process -----------------------------------------------------------------------------------------------


class Cache(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cache"):
    """A cache was asked."""

    cache: Name
    operation: Name
    result: Literal["hit", "miss", "error"]
    duration_ms: Ms = 0


class Resource(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="resource"):
    """What a process uses at this moment."""

    memory_bytes: Level | None = None
    pool_active: Count | None = None
    pool_idle: Count | None = None
    threads_busy: Count | None = None
    threads_total: Count | None = None
    async_tasks: Count | None = None
    queue_depth: Count | None = None
    batch_efficiency: Score | None = None
    uptime_ms: Level | None = None
    cpu: Annotated[int, Meta(ge=0, le=4096)] | Annotated[float, Meta(ge=0.0, le=4096.0)] | None = None


# ---- code execution --------------------------------------------------------------------------------------------


class Discovery(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="discovery"):
    """A search for tools."""

    keyword_hash: Name
    detail_level: Name | None = None
    results: Count = 0
    duration_ms: Ms = 0
    cache_hit: bool = False
    continued: bool = False


class Execution(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="execution"):
    """A piece of code was run."""

    language: Name
    status: CallStatus = "success"
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    duration_ms: Ms = 0
    peak_memory_bytes: Level | None = None
    result_bytes: Count = 0


class SdkGeneration(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="sdk_generation"):
    """An SDK was generated for a set of tools."""

    duration_ms: Ms = 0
    tools: Count = 0


class Filtering(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="filtering"):
    """Data was reduced before it reached a model."""

    operation: Name
    input_bytes: Count = 0
    output_bytes: Count = 0
    tokens_saved: Tokens = 0
    duration_ms: Ms = 0


class Skill(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="skill"):
    """A skill was saved or executed."""

    skill: Name
    action: Literal["saved", "executed"]
    language: Name | None = None
    status: CallStatus = "success"
    duration_ms: Ms = 0


class Security(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="security"):
    """Personal data was found, tokenised, restored, or an audit line was written."""

    action: Literal["pii_detected", "tokenized", "detokenized", "audit"]
    pattern: Name | None = None
    severity: Literal["info", "low", "medium", "high", "critical"] | None = None
    count: Count = 1


# ---- between agents --------------------------------------------------------------------------------------------


class A2AStart(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="a2a_start"):
    """A call from one agent to another begins."""

    target: Name
    operation: Name


class A2AEnd(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="a2a_end"):
    """A call from one agent to another is over."""

    target: Name
    operation: Name
    status: CallStatus = "success"
    duration_ms: Ms = 0
    response_bytes: Count = 0


class Ccr(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="ccr"):
    """A completion was routed to a provider."""

    provider: Name
    task_type: Name
    status: CallStatus = "success"
    duration_ms: Ms = 0
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0


# ---- whatever else ---------------------------------------------------------------------------------------------


class Payload(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="payload"):
    """The body of a request or a response, redacted and cut by the publisher."""

    direction: Literal["request", "response"]
    body: Annotated[str, Meta(max_length=65_536)]
    cut_bytes: Count = 0


class Custom(Envelope, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="custom"):
    """A metric of the publisher's own."""

    metric: Name
    metric_kind: Literal["counter", "gauge", "histogram"]
    value: Number
    labels: Annotated[dict[Name, Name], Meta(max_length=8)] | None = None


# A custom event stands apart: it counts only when its metric is declared.
Plain: TypeAlias = (
    SessionStart | SessionEnd | AgentStart | AgentEnd | Heartbeat
    | ModelStart | ModelEnd | TokenUsage | ModelSwitch | ParameterChange
    | ToolStart | ToolEnd | Cycle | Message | Feedback
    | Error | RateLimit | Degraded | Guard | Cache | Resource
    | Discovery | Execution | SdkGeneration | Filtering | Skill | Security
    | A2AStart | A2AEnd | Ccr | Payload
)  # fmt: skip
Event: TypeAlias = Plain | Custom
KINDS: Final[dict[str, type[Envelope]]] = {str(cls.__struct_config__.tag): cls for cls in get_args(Event)}


def partition_key(event: Envelope) -> str:
    """What a record of this event is keyed by: session, else source, else agent."""
    return event.session_id or event.source or event.agent
