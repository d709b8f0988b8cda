"""Templates: placeholders, braces, and what happens to faulty ones."""

from hypothesis import given
from hypothesis import strategies as st

from streams.rule.wording import render, template_fault


def test_placeholders_are_filled_in_and_doubled_braces_become_single() -> None:
    assert render("{tool} fails {{at {value}}}", {"tool": "search", "value": "5%"}) == "search fails {at 5%}"


def test_a_value_with_braces_is_not_read_again() -> None:
    assert render("{tool}", {"tool": "{value}", "value": "5"}) == "{value}"


def test_an_unknown_placeholder_gives_an_error_text() -> None:
    assert render("{tolo} fails", {"tool": "search"}) == "<template error: there is no {tolo}> {tolo} fails"


def test_a_lonely_brace_gives_an_error_text() -> None:
    assert render("50} of", {}).startswith("<template error: the brace at character 3 has no partner>")


def test_nothing_of_python_can_be_reached_from_a_template() -> None:
    for template in ("{value.__class__}", "{0}", "{value!r}", "{value:>99999999}", "{}"):
        assert template_fault(template, ["value"]) is not None


@given(st.text(alphabet="{}ab ", max_size=30))
def test_a_template_without_fault_renders_and_any_other_gives_a_text(template: str) -> None:
    names = {"a": "1", "b": "2"}
    text = render(template, names)

    assert text.startswith("<template error") == (template_fault(template, names) is not None)
