"""The same call, told in every dialect, takes the same tokens; and what cannot be is put right and marked."""

from typing import Any, Final

import pytest
from genai_prices import extract_usage
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event.model import TOKENS_MAX, TokenUsage
from streams.event.tokens import DIALECTS, Counted, Usage, canonical, dialect_of

# One call: 1,000 tokens went in, of them 600 from a cache and 100 into it; 250 came out, 90 of them reasoning.
CALL: Final = Usage(1000, 250, 600, 100, 90)
TOLD: Final[dict[str, dict[str, Any]]] = {
    "anthropic": {
        "input_tokens": 300, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0}, "output_tokens": 250,
        "output_tokens_details": {"thinking_tokens": 90},
    },
    "openai_chat": {
        "prompt_tokens": 1000, "completion_tokens": 250, "total_tokens": 1250,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 90},
    },
    "openai_responses": {
        "input_tokens": 1000, "output_tokens": 250, "total_tokens": 1250,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "output_tokens_details": {"reasoning_tokens": 90},
    },
    "openai_agents": {
        "requests": 1, "input_tokens": 1000, "output_tokens": 250, "total_tokens": 1250,
        "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "output_tokens_details": {"reasoning_tokens": 90},
    },
    "gemini": {  # caches are written elsewhere
        "promptTokenCount": 900, "toolUsePromptTokenCount": 100, "cachedContentTokenCount": 600,
        "candidatesTokenCount": 160, "thoughtsTokenCount": 90, "totalTokenCount": 1250,
    },
    "bedrock": {
        "inputTokens": 300, "cacheReadInputTokens": 600, "cacheWriteInputTokens": 100, "outputTokens": 250,
        "totalTokens": 1250,
    },
    "xai_chat": {
        "prompt_tokens": 1000, "completion_tokens": 160, "total_tokens": 1250,
        "prompt_tokens_details": {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 90},
    },
    "cohere": {"billed_units": {"input_tokens": 5}, "tokens": {"input_tokens": 1000, "output_tokens": 250},
               "cached_tokens": 600},
    "litellm": {
        "prompt_tokens": 1000, "completion_tokens": 250, "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600},
        "completion_tokens_details": {"reasoning_tokens": 90},
    },
    "langchain": {
        "input_tokens": 1000, "output_tokens": 250, "total_tokens": 1250,
        "input_token_details": {"cache_read": 600, "cache_creation": 100, "audio": 0},
        "output_token_details": {"reasoning": 90},
    },
    "strands": {
        "inputTokens": 1000, "outputTokens": 250, "totalTokens": 1250, "cacheReadInputTokens": 600,
        "cacheWriteInputTokens": 100,
    },
    "crewai": {
        "prompt_tokens": 1000, "completion_tokens": 250, "total_tokens": 1250, "cached_prompt_tokens": 600,
        "cache_creation_tokens": 100, "reasoning_tokens": 90,
    },
    "pydantic_ai": {
        "input_tokens": 1000, "output_tokens": 250, "cache_read_tokens": 600, "cache_write_tokens": 100,
        "details": {"reasoning_tokens": 90},
    },
    "agent_framework": {
        "input_token_count": 300, "output_token_count": 250, "anthropic.cache_read_input_tokens": 600,
        "cache_creation_input_token_count": 100, "anthropic.cache_creation_input_tokens": 100,
        "reasoning_output_token_count": 90,
    },
    "otel": {
        "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 250,
        "gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.cache_write.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 90,
    },
    "openllmetry": {
        "gen_ai.usage.prompt_tokens": 1000, "gen_ai.usage.completion_tokens": 250, "llm.usage.total_tokens": 1250,
        "gen_ai.usage.cache_read_input_tokens": 600, "gen_ai.usage.cache_creation_input_tokens": 100,
        "llm.usage.reasoning_tokens": 90,
    },
    "otel_aggregated": {
        "gen_ai.aggregated_usage.input_tokens": 1000, "gen_ai.aggregated_usage.output_tokens": 250,
        "gen_ai.aggregated_usage.cache_read.input_tokens": 600,
        "gen_ai.aggregated_usage.cache_creation.input_tokens": 100,
        "gen_ai.aggregated_usage.details.reasoning_tokens": 90,
    },
    "openinference": {
        "llm.token_count.prompt": 1000, "llm.token_count.completion": 250, "llm.token_count.total": 1250,
        "llm.token_count.prompt_details.cache_read": 600, "llm.token_count.prompt_details.cache_write": 100,
        "llm.token_count.completion_details.reasoning": 90,
    },
    "claude_code": {"input_tokens": "300", "output_tokens": "250", "cache_read_tokens": "600",
                    "cache_creation_tokens": "100"},
    "claude_code_metric": {"input": 300, "output": 250, "cacheRead": 600, "cacheCreation": 100},
}  # fmt: skip
# What a dialect has no word for.
SILENT: Final = {
    "gemini": {"cache_write_tokens": 0},
    "bedrock": {"reasoning_tokens": 0},
    "xai_chat": {"cache_write_tokens": 0},
    "cohere": {"cache_write_tokens": 0, "reasoning_tokens": 0},
    "strands": {"reasoning_tokens": 0},
    "claude_code": {"reasoning_tokens": 0},
    "claude_code_metric": {"reasoning_tokens": 0},
}
NOT_TOLD_APART: Final = {"openai_agents", "xai_chat", "cohere", "strands", "pydantic_ai", "openllmetry",
                         "claude_code", "claude_code_metric", "otel_aggregated", "crewai",
                         "agent_framework"}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_call_has_one_meaning_in_every_dialect(dialect: str) -> None:
    assert Counted(CALL._replace(**SILENT.get(dialect, {}))) == canonical(dialect, TOLD[dialect])


@pytest.mark.parametrize("dialect", sorted(DIALECTS.keys() - NOT_TOLD_APART))
def test_a_dialect_is_known_by_its_keys(dialect: str) -> None:
    assert dialect == dialect_of(TOLD[dialect])


@pytest.mark.parametrize(
    ("provider", "flavor", "dialect", "root"),
    [
        ("anthropic", "default", "anthropic", "usage"),
        ("openai", "chat", "openai_chat", "usage"),
        ("openai", "responses", "openai_responses", "usage"),
        ("google", "default", "gemini", "usageMetadata"),
        ("aws", "default", "bedrock", "usage"),
        ("x-ai", "chat", "xai_chat", "usage"),
    ],
)
def test_the_readers_of_the_price_list_read_the_same(provider: str, flavor: str, dialect: str, root: str) -> None:
    extracted = extract_usage({root: TOLD[dialect]}, provider_id=provider, api_flavor=flavor).usage
    ours = canonical(dialect, TOLD[dialect])
    assert ours is not None

    assert ours.usage.input_tokens == extracted.input_tokens
    assert ours.usage.output_tokens == extracted.output_tokens
    assert ours.usage.cache_read_tokens == extracted.reported_value("cache_read_tokens")
    assert ours.usage.reasoning_tokens == extracted.reported_value("output_reasoning_tokens")
    assert ours.usage.cache_write_tokens == extracted.reported_value("cache_write_tokens")


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        # G1 and its forerunner
        ({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3}, (7, 3, 0, 0, 0)),
        ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}, (7, 3, 0, 0, 0)),
        # G2
        ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3,
          "gen_ai.usage.cache_creation.input_tokens": 2}, (7, 3, 0, 2, 0)),
        # both names for one thing, as a migration writes them
        ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.prompt_tokens": 7,
          "gen_ai.usage.cache_creation.input_tokens": 2, "gen_ai.usage.cache_write.input_tokens": 2},
         (7, 0, 0, 2, 0)),
    ],
)  # fmt: skip
def test_every_generation_of_opentelemetry_is_read(reported: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert dialect_of(reported) == "otel"
    assert Counted(Usage(*expected)) == canonical("otel", reported)


def test_the_total_tells_whether_strands_counts_cached_tokens_as_input() -> None:
    beside = {"inputTokens": 300, "cacheReadInputTokens": 700, "outputTokens": 250, "totalTokens": 1250}
    within = {"inputTokens": 1000, "cacheReadInputTokens": 700, "outputTokens": 250, "totalTokens": 1250}

    assert canonical("strands", beside) == canonical("strands", within) == Counted(Usage(1000, 250, 700))


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        # 7 were reported where 10,007 went in: the cached ones were left out
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 10_000}},
         Counted(Usage(10_007, 0, 10_000), ("cache",))),
        ({"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 5}},
         Counted(Usage(0, 7, 0, 0, 5), ("reasoning",))),
        ({"prompt_tokens": -5, "completion_tokens": 3}, Counted(Usage(0, 3))),
        ({"prompt_tokens": True, "completion_tokens": 3}, Counted(Usage(0, 3))),
        ({"prompt_tokens": float("nan"), "completion_tokens": 3.0}, Counted(Usage(0, 3))),
        ({"prompt_tokens": 10**30, "completion_tokens": "٣"}, None),
        ({"prompt_tokens": "9" * 5000, "prompt_tokens_details": 4}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_is_put_right_and_marked(reported: dict[str, Any], expected: Counted | None) -> None:
    assert expected == canonical("openai_chat", reported)


def test_a_sum_beyond_what_an_event_may_hold_counts_as_not_reported() -> None:
    assert canonical("anthropic", {"input_tokens": TOKENS_MAX, "cache_read_input_tokens": TOKENS_MAX}) is None


JUNK: Final = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=5), st.none(), st.booleans(),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(sorted(DIALECTS)), st.data())
def test_whatever_is_reported_counts_are_never_negative_and_parts_never_larger_than_wholes(
    dialect: str, data: st.DataObject
) -> None:
    def spoilt(told: dict[str, Any]) -> dict[str, Any]:
        return {
            key: data.draw(JUNK) if data.draw(st.booleans()) else spoilt(value) if isinstance(value, dict) else value
            for key, value in told.items()
        }

    counted = canonical(dialect, spoilt(TOLD[dialect]))
    usage = Usage() if counted is None else counted.usage

    assert min(usage) >= 0
    assert usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens <= TOKENS_MAX
    assert usage.reasoning_tokens <= usage.output_tokens <= TOKENS_MAX


def test_counts_are_named_as_the_event_names_them() -> None:
    assert set(Usage._fields) <= set(TokenUsage.__struct_fields__)


@pytest.mark.parametrize("reported", [{}, {"total": 3}, {"tokens": 12}])
def test_what_is_no_usage_is_no_dialect(reported: dict[str, Any]) -> None:
    assert dialect_of(reported) is None
