"""What is a span: a request to an agent, a call of a model, a call of a tool, something around these, or none of ours?

Never looks at names of spans, which anybody may choose, where an attribute tells.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from streams.event.otel import words
from streams.event.otel.wire import SERVER, Span


class Role(StrEnum):
    """What a span becomes."""

    AGENT = "agent"
    MODEL = "model"
    TOOL = "tool"
    AROUND = "around"  # known; it only encloses others, or somebody else tells of the same
    STRANGE = "strange"  # it speaks of agents, in words nobody has told us
    FOREIGN = "foreign"  # of databases, requests over HTTP and the like


# gen_ai.operation.name, of all three generations and Strands.  An operation nobody knows is STRANGE.
OPERATIONS: Final[Mapping[str, Role]] = {
    "chat": Role.MODEL,
    "generate_content": Role.MODEL,
    "text_completion": Role.MODEL,
    "completion": Role.MODEL,
    "embeddings": Role.MODEL,
    "responses": Role.MODEL,
    "invoke_agent": Role.AGENT,
    "invoke_workflow": Role.AGENT,
    "execute_tool": Role.TOOL,
    "retrieval": Role.TOOL,
    "search_memory": Role.TOOL,
    "create_memory": Role.TOOL,
    "update_memory": Role.TOOL,
    "upsert_memory": Role.TOOL,
    "delete_memory": Role.TOOL,
    "create_agent": Role.AROUND,
    "plan": Role.AROUND,
    "create_memory_store": Role.AROUND,
    "delete_memory_store": Role.AROUND,
    "fetch_response": Role.AROUND,
    "execute_event_loop_cycle": Role.AROUND,
    "invoke_swarm": Role.AROUND,
    "invoke_graph": Role.AROUND,
}
OPENINFERENCE: Final[Mapping[str, Role]] = {
    "LLM": Role.MODEL,
    "EMBEDDING": Role.MODEL,
    "AGENT": Role.AGENT,
    "TOOL": Role.TOOL,
    "RETRIEVER": Role.TOOL,
    "RERANKER": Role.TOOL,
    "CHAIN": Role.AROUND,
    "GUARDRAIL": Role.AROUND,
    "EVALUATOR": Role.AROUND,
    "PROMPT": Role.AROUND,
    "UNKNOWN": Role.AROUND,
}
TRACELOOP: Final[Mapping[str, Role]] = {
    "workflow": Role.AGENT,
    "agent": Role.AGENT,
    "session": Role.AROUND,
    "task": Role.AROUND,
    "tool": Role.TOOL,
    "unknown": Role.AROUND,
}
REQUEST_TYPES: Final[Mapping[str, Role]] = {
    "chat": Role.MODEL,
    "completion": Role.MODEL,
    "embedding": Role.MODEL,
    "rerank": Role.TOOL,
    "unknown": Role.AROUND,
}
# Claude Code tells of calls of models and tools by its log events; its spans only say what a request to it took.
CLAUDE_CODE: Final = "claude_code."
CLAUDE_CODE_REQUEST: Final = "claude_code.interaction"


def role_of(span: Span) -> Role:
    """Tell what a span is by itself."""
    about = span.attributes
    method = about.get(words.MCP_METHOD)
    if method is not None:
        return _of_mcp(span) if method == words.MCP_TOOL_CALL else Role.AROUND
    if span.name.startswith(CLAUDE_CODE):
        return Role.AGENT if span.name == CLAUDE_CODE_REQUEST else Role.AROUND
    operation = about.get(words.OPERATION)
    if isinstance(operation, str) and operation in OPERATIONS:
        return OPERATIONS[operation]
    kind = about.get(words.OPENINFERENCE_KIND)
    if isinstance(kind, str):
        role = OPENINFERENCE.get(kind.upper(), Role.STRANGE)
        return Role.AGENT if role is Role.AROUND and _begins(span, kind) else role
    kind = about.get(words.TRACELOOP_KIND)
    if isinstance(kind, str):
        return TRACELOOP.get(kind, Role.STRANGE)
    request_type = about.get(words.REQUEST_TYPE)
    if isinstance(request_type, str) and request_type in REQUEST_TYPES:
        return REQUEST_TYPES[request_type]
    if operation is None and "gen_ai.request.model" in about and words.first(about, words.PROVIDER):
        return Role.MODEL  # before there were operations
    return Role.STRANGE if any(name.startswith(words.OURS) for name in about) else Role.FOREIGN


def _of_mcp(span: Span) -> Role:
    """A client that does not name the tool only carries the call: who asked for it, or who serves it, tells of it."""
    return Role.TOOL if is_served(span) or words.first(span.attributes, words.TOOL) else Role.AROUND


def is_served(span: Span) -> bool:
    """Is this a call of a tool as its MCP server saw it?  Whoever called may tell of it too."""
    return span.kind == SERVER and span.attributes.get(words.MCP_METHOD) == words.MCP_TOOL_CALL


def _begins(span: Span, kind: str) -> bool:
    """OpenInference has no kind for a request: the chain that nothing encloses is one."""
    return kind.upper() == "CHAIN" and not span.parent_id
