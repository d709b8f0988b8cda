"""What docs/alerts.md says can be written can be written, and it leaves no key, function or limit out."""

import re
from pathlib import Path
from typing import Final

import pytest

from streams.rule import grammar, learn
from streams.rule.book import LIVE_PER_RULE_MAX
from streams.rule.formula import AGE, FUNCTIONS
from streams.rule.parse import RULE_KEYS, RULES_MAX, parse_rules
from streams.rule.usual import MAD_SIGMA, SAMPLES_MAX, looks_usual, parse_usual
from streams.rule.wording import PLACEHOLDERS

TEXT: Final = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")
CODE: Final = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
def test_every_example_is_a_rule_file(text: str) -> None:
    assert parse_rules(text).rules


def test_every_limit_by_comparison_is_one() -> None:
    found = [code for code in CODE if looks_usual(code) and " " in code]

    assert len(found) > 4
    assert all(parse_usual(code) for code in found), found


def test_every_key_of_a_rule_and_every_function_is_named() -> None:
    words = set(re.findall(r"\w+", TEXT))

    assert set(RULE_KEYS) | set(FUNCTIONS) | set(PLACEHOLDERS) | {AGE} <= words


@pytest.mark.parametrize(
    "figure",
    [
        f"{grammar.EXPRESSION_CHARS_MAX:,} characters", f"{grammar.TERMS_MAX} terms", f"{grammar.DEPTH_MAX} deep",
        f"{learn.KEYS_MAX:,} keys per rule and partition", f"({LIVE_PER_RULE_MAX:,} without one)",
        f"at most {SAMPLES_MAX}", f"{MAD_SIGMA} ×", f"At most {RULES_MAX} rules",
    ],
)  # fmt: skip
def test_every_limit_is_the_one_that_holds(figure: str) -> None:
    assert figure in TEXT
