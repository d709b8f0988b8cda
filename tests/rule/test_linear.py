"""Expressions that cannot take long: they say what Python's say, and what could backtrack is held to its states."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rule.linear import STATES_MAX, Linear

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "[a-c]", r"\.", "(a|b)", "(ab|c)", "()"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "*?"])


@st.composite
def expressions(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.tuples(ATOMS, REPEATS), min_size=1, max_size=5))
    text = "".join(atom + repeat for atom, repeat in parts)
    return f"({text}){draw(REPEATS)}|{draw(ATOMS)}" if draw(st.booleans()) else text


@given(expressions(), st.text("abc.1\n", max_size=8))
def test_it_matches_what_python_matches(expression: str, text: str) -> None:
    assert bool(re.fullmatch(expression, text)) == Linear(expression).matches(text)


def test_what_makes_python_hang_takes_no_time() -> None:
    """30 characters of this keep Python's own engine for minutes."""
    began = time.thread_time()

    assert not Linear("(a+)+(a*)*b").matches("a" * 5_000)
    assert time.thread_time() - began < 10


@pytest.mark.parametrize(
    "expression",
    [
        r"(a)\1",
        "(?=a)b",
        "^a",
        "a$",
        "(?i)a",
        "(?i:a)",
        "[",
        "a{9999}",
        "(((){500}){500}){500}",
        "(.{500}){500}",
        "a" * 999,
    ],
)
def test_what_cannot_be_held_to_linear_time_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Linear(expression)


def test_an_expression_is_as_large_as_its_states() -> None:
    assert Linear(f"a{{{STATES_MAX - 1}}}").matches("a" * (STATES_MAX - 1))
