"""The lines: read back by a parser that is not ours, with the numbers of the text page and types that never change."""

from typing import Any, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from line_protocol_parser import parse_line
from pages import Series, full_view, own_samples, render, series
from viewing import NAMES, row, view_of

from streams.sink.catalog import METRICS
from streams.sink.influx import INT64_MAX, as_influx, tag
from streams.sink.metric import Sample
from streams.sink.view import View

NOW_MS: Final = 1_763_724_000_007


def lines(view: View, samples: dict[str, list[Sample]] | None = None) -> list[str]:
    made = {**view.samples(), **own_samples()} if samples is None else samples
    return b"".join(as_influx(view, made, now_ms=NOW_MS)).decode().splitlines()


def flattened(parsed: list[dict[str, Any]]) -> Series:
    """Return the fields as the text page names them."""
    found: Series = {}
    for line in parsed:
        labels = frozenset(line["tags"].items())
        for name, number in line["fields"].items():
            if name == "value":
                key = line["measurement"], labels
            elif name in {"count", "sum"}:
                key = f"{line['measurement']}_{name}", labels
            else:
                key = f"{line['measurement']}_bucket", labels | {("le", name)}
            assert key not in found
            found[key] = float(number)
    return found


def test_the_lines_have_the_numbers_of_the_text() -> None:
    _, view = full_view()
    parsed = [parse_line(line) for line in lines(view)]

    assert series(render(view)) == flattened(parsed)
    assert {NOW_MS * 1_000_000} == {line["time"] for line in parsed}


def test_a_field_has_the_same_type_in_every_line_of_its_metric() -> None:
    """And money has a fraction even where it is a whole number of dollars."""
    _, view = full_view()
    whole = row("agent", ("saver",), 900, cost_nano_usd=2_000_000_000, requests_success=2)
    types: dict[tuple[str, str], set[type]] = {}
    for line in [*lines(view), *lines(view_of(whole), {"agent_state_age_seconds": [Sample((), 3)]})]:
        read = parse_line(line)
        for name, number in read["fields"].items():
            types.setdefault((read["measurement"], name), set()).add(type(number))

    assert {1} == {len(found) for found in types.values()}
    assert {int} == types["agent_requests_total", "value"]
    assert {float} == types["agent_cost_usd_total", "value"] == types["agent_state_age_seconds", "value"]
    assert {metric.name for metric in METRICS} >= {name for name, _ in types}


@given(NAMES, NAMES, st.integers(0, INT64_MAX))
def test_whatever_a_name_holds_it_is_one_line_with_both_tags_and_the_number(agent: str, tool: str, count: int) -> None:
    assume(
        not {"\x85", "\u2028", "\u2029", "\x1c", "\x1d", "\x1e", "\0"} & {*agent, *tool}
    )  # str.splitlines, C strings
    found = [
        parse_line(line)
        for line in lines(view_of(row("agent_tool", (agent, tool), 0, tool_calls_timeout=count)), {})
        if "status=timeout" in line
    ]

    (line,) = [each for each in found if each["measurement"] == "agent_tool_uses_total"]
    assert {"agent", "tool", "status"} == line["tags"].keys()
    assert count == line["fields"]["value"]
    if not {"\\", "\n", "\r", "\t", "\f", "\v"} & {*agent, *tool}:
        assert (agent, tool) == (line["tags"]["agent"], line["tags"]["tool"])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a b", "a\\ b"),
        ("a,b=c", "a\\,b\\=c"),
        ("a\nb", "a\\nb"),
        ("a\\b", "a\\b"),
        ("a\\,b", "a\\\\,b"),
        ("a\\", "a%5C"),
        ("\\\\", "%5C%5C"),
        ('"quoted"', '"quoted"'),
    ],
)
def test_tags_are_escaped_as_the_reference_says(text: str, written: str) -> None:
    assert written == tag(text)


def test_a_number_too_large_for_the_protocol_has_no_line() -> None:
    view = view_of(row("tool", ("t",), 0, tool_calls_success=INT64_MAX + 1, tool_calls_error=INT64_MAX))
    found = [parse_line(line) for line in lines(view, {}) if line.startswith("agent_tool_calls_total")]

    assert "success" not in {line["tags"]["status"] for line in found}
    assert [INT64_MAX] == [line["fields"]["value"] for line in found if line["tags"]["status"] == "error"]
    assert not lines(View(1), {"agent_state_age_seconds": [Sample((), float("nan"))]})
