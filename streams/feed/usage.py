"""How many tokens did a model call take?  Every provider's own words for it, in one meaning.  Pure.

`input_tokens` includes cached ones and `output_tokens` includes reasoning, as OpenTelemetry defines them. Never guesses
a count that was not reported.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """The tokens of one model call."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


def usage_of(reported: object) -> Usage | None:
    """Read LangChain's, OpenAI's or Anthropic's usage, as a mapping or their object; None without anything to read."""
    dump = getattr(reported, "model_dump", None)
    if callable(dump):
        reported = dump()
    if not isinstance(reported, Mapping) or not reported:
        return None
    if "input_token_details" in reported or "output_token_details" in reported:
        return _langchain(reported)
    if "prompt_tokens" in reported or "completion_tokens" in reported:
        return _openai(reported, "prompt", "completion")
    if "cache_read_input_tokens" in reported or "cache_creation_input_tokens" in reported:
        return _anthropic(reported)
    if "input_tokens" in reported or "output_tokens" in reported:
        return _openai(reported, "input", "output")
    return None


def _langchain(reported: Mapping[str, Any]) -> Usage | None:
    given, made = _details(reported, "input_token_details"), _details(reported, "output_token_details")
    # Some tiers put the same counts under a name of their own: `priority_cache_read`, `flex_reasoning`.
    read = sum(_count(given, name) for name in given if str(name).endswith("cache_read"))
    # With times to live per entry the general count is 0 or their sum, depending on the version.
    by_ttl = sum(_count(given, name) for name in given if str(name).startswith("ephemeral_"))
    write = _count(given, "cache_creation") or by_ttl
    reasoning = sum(_count(made, name) for name in made if str(name).endswith("reasoning"))
    return _inclusive(_count(reported, "input_tokens"), _count(reported, "output_tokens"), read, write, reasoning)


def _openai(reported: Mapping[str, Any], given: str, made: str) -> Usage | None:
    read = _count(_details(reported, f"{given}_tokens_details"), "cached_tokens")
    reasoning = _count(_details(reported, f"{made}_tokens_details"), "reasoning_tokens")
    return _inclusive(_count(reported, f"{given}_tokens"), _count(reported, f"{made}_tokens"), read, 0, reasoning)


def _anthropic(reported: Mapping[str, Any]) -> Usage | None:
    read, write = _count(reported, "cache_read_input_tokens"), _count(reported, "cache_creation_input_tokens")
    # Anthropic's input leaves the cached tokens out.
    given = _count(reported, "input_tokens") + read + write
    return _inclusive(given, _count(reported, "output_tokens"), read, write, 0)


def _inclusive(given: int, made: int, read: int, write: int, reasoning: int) -> Usage | None:
    """Put right what cannot be: a part that is larger than its whole was not counted in."""
    if not (given or made or read or write or reasoning):
        return None
    if read + write > given:
        given += read + write
    if reasoning > made:
        made += reasoning
    return Usage(given, made, read, write, reasoning)


def _details(reported: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = reported.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(reported: Mapping[str, Any], name: str) -> int:
    found = reported.get(name)
    return int(found) if isinstance(found, (int, float)) and not isinstance(found, bool) and 0 <= found < 2**53 else 0
