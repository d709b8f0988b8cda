"""Which attribute says what, in each dialect?  Tables only; where several name the same thing, the first one counts.

Never a rule: what is made of them is decided in `roles`, `spans`, `logs` and `points`.
Dialects: OpenTelemetry GenAI G1 (to v1.36), G2 (v1.37 to v1.41), G3 (the conventions' own repository), its conventions
for MCP, OpenInference, OpenLLMetry (Traceloop), Claude Code, and what PydanticAI, Strands and Logfire add.
"""

from collections.abc import Mapping
from typing import Any, Final

from streams.event.tokens import DIALECTS

# ---- who ---------------------------------------------------------------------------------------------------------

SESSION: Final = (
    "gen_ai.conversation.id",
    "session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.thread_id",
    "traceloop.association.properties.chat_id",
    "langfuse.session.id",
)
AGENT: Final = ("gen_ai.agent.name", "agent.name", "agent_name")
USER: Final = ("user.id", "enduser.id", "traceloop.association.properties.user_id", "langfuse.user.id")
TENANT: Final = ("tenant.id", "tenant", "organization.id", "traceloop.association.properties.tenant")
SERVICE: Final = "service.name"
NO_SERVICE: Final = "unknown_service"  # what SDKs write when nobody named one, with the program's name behind it

# ---- what --------------------------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
TRACELOOP_KIND: Final = "traceloop.span.kind"
REQUEST_TYPE: Final = "llm.request.type"
MCP_METHOD: Final = "mcp.method.name"
MCP_TOOL_CALL: Final = "tools/call"

MODEL: Final = (
    "gen_ai.request.model",
    "gen_ai.response.model",
    "llm.model_name",
    "embedding.model_name",
    "llm.request.model",
    "model_name",
)
PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor")
TEMPERATURE: Final = ("gen_ai.request.temperature", "llm.request.temperature", "llm.temperature")
PARAMETERS: Final = "llm.invocation_parameters"  # JSON
STREAMING: Final = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
FINISH: Final = (
    "gen_ai.response.finish_reasons",
    "llm.finish_reason",
    "gen_ai.completion.0.finish_reason",
    "llm.response.finish_reason",
)
FIRST_TOKEN_S: Final = ("gen_ai.response.time_to_first_chunk",)
FIRST_TOKEN_MS: Final = ("gen_ai.server.time_to_first_token",)  # Strands, in whole milliseconds
FIRST_TOKEN_EVENTS: Final = frozenset(
    {"First Token Stream Event", "llm.content.completion.chunk", "gen_ai.content.completion.chunk"}
)
COST_USD: Final = ("llm.cost.total", "operation.cost", "gen_ai.usage.cost")
COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
COST_CURRENCY: Final = "gen_ai.usage.cost.currency"

TOOL: Final = ("gen_ai.tool.name", "tool.name", "traceloop.entity.name")
ARGUMENTS: Final = ("gen_ai.tool.call.arguments", "tool_arguments", "input.value", "traceloop.entity.input")
RESULT: Final = ("gen_ai.tool.call.result", "tool_response", "output.value", "traceloop.entity.output")
TOOL_STATUS: Final = ("gen_ai.tool.status",)

# ---- how it ended ------------------------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"  # a span event
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
STATUS_CODE: Final = ("http.response.status_code", "http.status_code")
RPC_STATUS: Final = "rpc.response.status_code"

# ---- Logfire tells of a span that has begun by another one inside it ---------------------------------------------

LOGFIRE_KIND: Final = "logfire.span_type"
LOGFIRE_PENDING: Final = "pending_span"
LOGFIRE_PARENT: Final = "logfire.pending_parent_id"

# ---- whose names we should know ----------------------------------------------------------------------------------

# An attribute that begins so is about agents: if no table knows it, it is reported.
OURS: Final = ("gen_ai.", "llm.", "mcp.", "openinference.", "traceloop.")
# Known and of no use here: contents, whose place is a trace viewer, and what repeats something else.
PASSED_OVER: Final = (
    "gen_ai.agent.", "gen_ai.choice", "gen_ai.completion", "gen_ai.data_source.", "gen_ai.embeddings.",
    "gen_ai.evaluation.", "gen_ai.event.", "gen_ai.input.", "gen_ai.openai.", "gen_ai.output.", "gen_ai.prompt",
    "gen_ai.request.", "gen_ai.response.", "gen_ai.retrieval.", "gen_ai.system_instructions", "gen_ai.token.",
    "gen_ai.tool.", "gen_ai.usage.details.", "gen_ai.aggregated_usage.", "gen_ai.workflow.", "gen_ai.tool_definitions",
    "llm.chat.", "llm.completions.", "llm.cost.", "llm.frequency_penalty", "llm.function_call", "llm.headers",
    "llm.input_messages.", "llm.output_messages.", "llm.presence_penalty", "llm.prompt", "llm.prompts", "llm.request.",
    "llm.response.", "llm.tools", "llm.top_k", "llm.user", "llm.choices.",
    "llm.content.", "llm.watsonx.", "mcp.protocol.", "mcp.resource.", "mcp.session.", "mcp.request.", "mcp.response.",
    "openinference.", "traceloop.association.", "traceloop.entity.", "traceloop.prompt.", "traceloop.workflow.",
)  # fmt: skip
# Of counts of tokens every name must be known: one that is not is usage nobody counts.
_COUNTED: Final = frozenset(
    name
    for dialect in ("otel", "otel_aggregated", "openinference")
    for places in (*DIALECTS[dialect].input, *DIALECTS[dialect].output, *DIALECTS[dialect][2:5])
    for name in places.split("|")
)
_SUMS: Final = frozenset({
    "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total",
    # Parts of the prompt and the completion by what they were, which are counted with them.
    "llm.token_count.prompt_details.audio", "llm.token_count.completion_details.audio",
    "llm.token_count.prompt_details.cache_input",
})  # fmt: skip
_READ: Final = _COUNTED | _SUMS | frozenset({
    OPERATION, OPENINFERENCE_KIND, TRACELOOP_KIND, REQUEST_TYPE, MCP_METHOD, PARAMETERS, COST_AMOUNT, COST_CURRENCY,
    *SESSION, *AGENT, *USER, *TENANT, *MODEL, *PROVIDER, *TEMPERATURE, *STREAMING, *FINISH, *FIRST_TOKEN_S,
    *FIRST_TOKEN_MS, *COST_USD, *TOOL, *ARGUMENTS, *RESULT, *TOOL_STATUS,
})  # fmt: skip

# Frameworks and instrumentations call providers by names of their own; what is not here stays as it is.
PROVIDERS: Final[Mapping[str, str | None]] = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "gemini": "gcp.gemini",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
    # These are frameworks, which say nothing about whose model it was.
    "langchain": None,
    "strands-agents": None,
    "_other": None,
}


def first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first of these that says something; None when none does."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value not in ("", []):
            return value
    return None


def is_strange(name: str) -> bool:
    """Is this an attribute about agents that no table knows?"""
    return name.startswith(OURS) and name not in _READ and not name.startswith(PASSED_OVER)
