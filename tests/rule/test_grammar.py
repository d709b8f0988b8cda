"""Texts of expressions: what they say, what is refused and where, and that nothing is too deep or too long to read."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rule.grammar import (
    DEPTH_MAX,
    EXPRESSION_CHARS_MAX,
    TERMS_MAX,
    Binary,
    Compare,
    Literal,
    Logic,
    Not,
    Present,
    Signed,
    Window,
    parse_expression,
)


def test_factors_bind_tighter_than_sums_sums_than_comparisons_and_those_than_words() -> None:
    a, b, c = Present("a"), Present("b"), Present("c")

    assert parse_expression("a + b * c") == Binary("+", a, Binary("*", b, c))
    assert parse_expression("(a + b) * c") == Binary("*", Binary("+", a, b), c)
    assert parse_expression("a - b - c") == Binary("-", Binary("-", a, b), c)
    assert parse_expression("a > b + c") == Compare(">", a, Binary("+", b, c))
    assert parse_expression("a > b or a > c and b > c") == Logic(
        "or", Compare(">", a, b), Logic("and", Compare(">", a, c), Compare(">", b, c))
    )
    assert parse_expression("not a > b and a > c") == Logic("and", Not(Compare(">", a, b)), Compare(">", a, c))
    assert parse_expression("-a * b") == Binary("*", Signed("-", a), b)


def test_windows_and_literals_are_what_they_look_like() -> None:
    assert parse_expression("errors[1m30s] offset 5m") == Window("errors", "1m30s", "5m")
    assert [parse_expression(text) for text in ("5m", "5", "50_000", "0.5", "5%", "5 USD", "m")] == [
        Literal("DURATION", "5m"),
        Literal("NUMBER", "5"),
        Literal("NUMBER", "50_000"),
        Literal("NUMBER", "0.5"),
        Literal("PERCENT", "5%"),
        Literal("MONEY", "5 USD"),
        Present("m"),
    ]


def test_words_that_begin_like_others_are_names() -> None:
    assert parse_expression("order > android") == Compare(">", Present("order"), Present("android"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it ends too soon"),
        ("errors[5m] >", "it ends too soon; there could be"),
        ("a > 3 b", "'b' at character 7 is out of place"),
        ("a ; b", "';' at character 3 means nothing"),
        ("__import__('os')", "means nothing"),
        ("a.b > 1", "'.' at character 2 means nothing"),
        ("a > b > c", "'>' at character 7 is out of place"),
        ("errors[5]", "a duration such as 5m"),
        ("errors[5m", "]"),
        ("a = 1", "'=' at character 3 means nothing"),
        ("9" * (EXPRESSION_CHARS_MAX + 1), f"longer than {EXPRESSION_CHARS_MAX} characters"),
        ("-" * (DEPTH_MAX + 1) + "a", f"nested more than {DEPTH_MAX} deep"),
        (f"max({', '.join('a' * TERMS_MAX)})", f"more than {TERMS_MAX} terms"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_expression(text)


def test_parentheses_cost_nothing_however_many() -> None:
    many = 450

    assert parse_expression("(" * many + "a" + ")" * many) == Present("a")


@given(st.text(alphabet="ab[]()<>=!+-*/ 5mUSD%.,_\n" + "andornotffs", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but ValueError ever comes of it, which hypothesis would tell."""
    with suppress(ValueError):
        assert parse_expression(text) == parse_expression(f" {text}\n")
