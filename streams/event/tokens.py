"""How many tokens did a model call take?  Every provider's and framework's own words for it, in one meaning.  Pure.

The meaning is OpenTelemetry's: `input_tokens` includes what a cache served or took in, `output_tokens` includes
reasoning.  Never guesses a count that was not reported, and never lets a part be larger than its whole.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from streams.event.model import TOKENS_MAX

_DIGITS_MAX: Final = len(str(TOKENS_MAX))


class Usage(NamedTuple):
    """The tokens of one model call; the names are those of the event."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Counted(NamedTuple):
    """Tokens in our meaning, and what had to be put right: `cache` and `reasoning` were larger than their whole."""

    usage: Usage
    mended: tuple[str, ...] = ()


class Dialect(NamedTuple):
    """Where a source keeps its counts.

    A place is a key, `outer/inner` for one inside another, with a * for any beginning or end of a key (these are added
    up); of places separated by | the first that counts something is taken.  Input and output are sums of places,
    because some sources leave parts out of them.  With a `total`, cached tokens are missing from the input when the
    total is only reached with them.
    """

    input: tuple[str, ...]
    output: tuple[str, ...]
    cache_read: str = ""
    cache_write: str = ""
    reasoning: str = ""
    total: str = ""


# Anthropic's Messages API: `input_tokens` are those after the last cache breakpoint; cached ones are beside them.
_ANTHROPIC: Final = Dialect(
    input=("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    output=("output_tokens",),
    cache_read="cache_read_input_tokens",
    cache_write="cache_creation_input_tokens",
    reasoning="output_tokens_details/thinking_tokens",
)
# OpenAI's Chat Completions: cached and reasoning tokens are subsets.  DeepSeek's older name for cached ones is beside.
_OPENAI_CHAT: Final = Dialect(
    input=("prompt_tokens",),
    output=("completion_tokens",),
    cache_read="prompt_tokens_details/cached_tokens|prompt_cache_hit_tokens|cached_tokens",
    cache_write="prompt_tokens_details/cache_write_tokens",
    reasoning="completion_tokens_details/reasoning_tokens",
)
# OpenAI's Responses API, and the Usage of the OpenAI Agents SDK: subsets too.
_OPENAI_RESPONSES: Final = Dialect(
    input=("input_tokens",),
    output=("output_tokens",),
    cache_read="input_tokens_details/cached_tokens",
    cache_write="input_tokens_details/cache_write_tokens",
    reasoning="output_tokens_details/reasoning_tokens",
)
# Gemini's UsageMetadata: the prompt includes cached content; tool-use prompts and thoughts are beside.
_GEMINI: Final = Dialect(
    input=("promptTokenCount|prompt_token_count", "toolUsePromptTokenCount|tool_use_prompt_token_count"),
    output=(
        "candidatesTokenCount|candidates_token_count|responseTokenCount|response_token_count",
        "thoughtsTokenCount|thoughts_token_count",
    ),
    cache_read="cachedContentTokenCount|cached_content_token_count",
    reasoning="thoughtsTokenCount|thoughts_token_count",
)
# Amazon Bedrock's Converse: cached tokens are beside the input, as Anthropic's are.
_BEDROCK: Final = Dialect(
    input=("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    output=("outputTokens",),
    cache_read="cacheReadInputTokens",
    cache_write="cacheWriteInputTokens",
)
# OpenTelemetry.  G1 (to v1.36): prompt_tokens, completion_tokens.  G2 (v1.37 to v1.41): input_tokens, output_tokens,
# cache_read., cache_creation., reasoning.  G3: cache_write.  In all of them cached and reasoning tokens are subsets.
# OpenLLMetry writes its cache_…_input_tokens beside the same names, and adds Anthropic's cached tokens to its input.
_OTEL: Final = Dialect(
    input=("gen_ai.usage.input_tokens|gen_ai.usage.prompt_tokens|llm.usage.prompt_tokens",),
    output=("gen_ai.usage.output_tokens|gen_ai.usage.completion_tokens|llm.usage.completion_tokens",),
    cache_read="gen_ai.usage.cache_read.input_tokens|gen_ai.usage.cache_read_input_tokens",
    cache_write="gen_ai.usage.cache_write.input_tokens|gen_ai.usage.cache_creation.input_tokens"
    "|gen_ai.usage.cache_write_input_tokens|gen_ai.usage.cache_creation_input_tokens",
    reasoning="gen_ai.usage.reasoning.output_tokens|gen_ai.usage.reasoning_tokens|llm.usage.reasoning_tokens"
    "|gen_ai.usage.details.reasoning_tokens",
)

DIALECTS: Final[Mapping[str, Dialect]] = {
    "anthropic": _ANTHROPIC,
    "openai_chat": _OPENAI_CHAT,
    "openai_responses": _OPENAI_RESPONSES,
    "openai_agents": _OPENAI_RESPONSES,
    "gemini": _GEMINI,
    "bedrock": _BEDROCK,
    # xAI's chat completions: reasoning is beside the completion.
    "xai_chat": _OPENAI_CHAT._replace(output=("completion_tokens", "completion_tokens_details/reasoning_tokens")),
    # Cohere's v2 chat: what is billed may be less, what the model read is under `tokens`.
    "cohere": Dialect(input=("tokens/input_tokens",), output=("tokens/output_tokens",), cache_read="cached_tokens"),
    # LiteLLM makes every provider's usage OpenAI's, cached tokens included, and keeps Anthropic's names at the top.
    "litellm": _OPENAI_CHAT._replace(
        cache_read="cache_read_input_tokens|prompt_tokens_details/cached_tokens",
        cache_write="cache_creation_input_tokens|prompt_tokens_details/cache_creation_tokens",
    ),
    # LangChain's UsageMetadata: input is the sum of all types.  Some tiers put the same counts under a name of their
    # own (`priority_cache_read`); with times to live the general count is 0 or their sum, depending on the version.
    "langchain": Dialect(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read="input_token_details/*cache_read",
        cache_write="input_token_details/cache_creation|input_token_details/ephemeral_*",
        reasoning="output_token_details/*reasoning",
    ),
    # Strands hands on what the provider's adapter made of it: only the total tells whether cached tokens are included.
    "strands": _BEDROCK._replace(input=("inputTokens",), total="totalTokens"),
    # CrewAI's events: names of the provider with CrewAI's own beside them; cached and reasoning tokens are subsets.
    "crewai": Dialect(
        input=("prompt_tokens|input_tokens|prompt_token_count|inputTokens",),
        output=("completion_tokens|output_tokens|candidates_token_count|outputTokens",),
        cache_read="cached_prompt_tokens|prompt_tokens_details/cached_tokens|cacheReadInputTokens",
        cache_write="cache_creation_tokens|cacheWriteInputTokens",
        reasoning="reasoning_tokens|completion_tokens_details/reasoning_tokens",
        total="totalTokens",
    ),
    # PydanticAI's RequestUsage: whatever the provider, cached tokens are part of the input.
    "pydantic_ai": Dialect(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read="cache_read_tokens",
        cache_write="cache_write_tokens",
        reasoning="details/reasoning_tokens|details/thoughts_tokens",
    ),
    # Microsoft Agent Framework's UsageDetails: parts are subsets, but for Anthropic's cached tokens, which are beside.
    "agent_framework": Dialect(
        input=("input_token_count", "anthropic.cache_read_input_tokens", "anthropic.cache_creation_input_tokens"),
        output=("output_token_count",),
        cache_read="cache_read_input_token_count|anthropic.cache_read_input_tokens",
        cache_write="cache_creation_input_token_count|anthropic.cache_creation_input_tokens",
        reasoning="reasoning_output_token_count",
    ),
    "otel": _OTEL,
    "openllmetry": _OTEL,
    # PydanticAI's spans of whole runs: the sum of what their calls of models report as above.
    "otel_aggregated": Dialect(
        input=("gen_ai.aggregated_usage.input_tokens",),
        output=("gen_ai.aggregated_usage.output_tokens",),
        cache_read="gen_ai.aggregated_usage.cache_read.input_tokens",
        cache_write="gen_ai.aggregated_usage.cache_write.input_tokens"
        "|gen_ai.aggregated_usage.cache_creation.input_tokens",
        reasoning="gen_ai.aggregated_usage.details.reasoning_tokens",
    ),
    "openinference": Dialect(
        input=("llm.token_count.prompt",),
        output=("llm.token_count.completion",),
        cache_read="llm.token_count.prompt_details.cache_read",
        cache_write="llm.token_count.prompt_details.cache_write",
        reasoning="llm.token_count.completion_details.reasoning",
    ),
    # Claude Code's api_request events say what Anthropic says, under shorter names.
    "claude_code": Dialect(
        input=("input_tokens", "cache_read_tokens", "cache_creation_tokens"),
        output=("output_tokens",),
        cache_read="cache_read_tokens",
        cache_write="cache_creation_tokens",
    ),
    # The types of its counter claude_code.token.usage.
    "claude_code_metric": Dialect(
        input=("input", "cacheRead", "cacheCreation"),
        output=("output",),
        cache_read="cacheRead",
        cache_write="cacheCreation",
    ),
}

# Whoever has one of these keys speaks that dialect; the first one counts.  Dialects that share all their names with
# another (xai_chat, strands, claude_code, …) cannot be told by them: who reads those has to say so.
_MARKS: Final = (
    ("langchain", ("input_token_details", "output_token_details")),
    ("openinference", ("llm.token_count.prompt", "llm.token_count.completion")),
    ("otel", ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.prompt_tokens",
              "gen_ai.usage.completion_tokens", "llm.usage.prompt_tokens")),
    ("gemini", ("promptTokenCount", "prompt_token_count", "candidatesTokenCount", "candidates_token_count")),
    ("bedrock", ("inputTokens", "outputTokens")),
    ("openai_chat", ("prompt_tokens", "completion_tokens")),
    ("anthropic", ("cache_read_input_tokens", "cache_creation_input_tokens")),
    ("openai_responses", ("input_tokens", "output_tokens")),
)  # fmt: skip
_ANTHROPIC_MARKS: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


def dialect_of(reported: Mapping[str, Any]) -> str | None:
    """Name the dialect by its keys; None when they are of none."""
    for name, keys in _MARKS:
        if any(key in reported for key in keys):
            both = name == "openai_chat" and any(key in reported for key in _ANTHROPIC_MARKS)
            return "litellm" if both else name
    return None


def canonical(dialect: str, reported: Mapping[str, Any]) -> Counted | None:
    """Read counts in our meaning; None when there is nothing to read. KeyError for a dialect that does not exist."""
    places = DIALECTS[dialect]
    given = sum(_first(reported, place) for place in places.input)
    made = sum(_first(reported, place) for place in places.output)
    read, write = _first(reported, places.cache_read), _first(reported, places.cache_write)
    reasoning = _first(reported, places.reasoning)
    if places.total and _first(reported, places.total) == given + made + read + write:
        given += read + write
    return _whole(given, made, read, write, reasoning)


def _whole(given: int, made: int, read: int, write: int, reasoning: int) -> Counted | None:
    """Put right what cannot be: a part that is larger than its whole was not counted in, whatever its source says."""
    if not (given or made or read or write or reasoning):
        return None
    mended: list[str] = []
    if read + write > given:
        given += read + write
        mended.append("cache")
    if reasoning > made:
        made += reasoning
        mended.append("reasoning")
    if max(given, made) > TOKENS_MAX:
        return None
    return Counted(Usage(given, made, read, write, reasoning), tuple(mended))


def _first(reported: Mapping[str, Any], places: str) -> int:
    """Return the first count of some places that is more than nothing."""
    return next((count for place in places.split("|") if (count := _count(reported, place))), 0)


def _count(reported: Mapping[str, Any], place: str) -> int:
    outer, _, key = place.rpartition("/")
    if outer:
        inner = reported.get(outer)
        if not isinstance(inner, Mapping):
            return 0
        reported = inner
    return sum(_number(value) for value in _values(reported, key))


def _values(reported: Mapping[str, Any], key: str) -> Iterator[Any]:
    if key.startswith("*"):
        yield from (value for name, value in reported.items() if str(name).endswith(key[1:]))
    elif key.endswith("*"):
        yield from (value for name, value in reported.items() if str(name).startswith(key[:-1]))
    else:
        yield reported.get(key)


def _number(value: object) -> int:
    """Read one count; what cannot be a number of tokens counts as not reported."""
    if isinstance(value, str):  # OTLP's JSON writes 64-bit integers as text
        value = int(value) if value.isascii() and value.isdecimal() and len(value) <= _DIGITS_MAX else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TOKENS_MAX:
        return 0
    return int(value)
