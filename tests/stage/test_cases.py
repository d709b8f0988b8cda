"""Tests of rules: how values are written, what is compared, what a failure says; and the cases of the shipped rules."""

from pathlib import Path
from typing import Any, Final

import pytest

from streams.errors import ConfigError
from streams.rule.defaults import default_rules
from streams.rule.parse import parse_rules
from streams.stage.casefile import parse_cases
from streams.stage.caserun import run_cases

ROOT: Final = Path(__file__).parents[2]
SHIPPED: Final = ROOT / "tests" / "rule" / "defaults.test.yaml"
EXAMPLE: Final = ROOT / "docs" / "examples" / "rules.test.yaml"
RULES: Final = parse_rules("""
groups:
  - name: g
    labels: {team: agents}
    rules:
      - {alert: Failing, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 3, for: 20s,
         severity: critical, summary: "{tool}: {value}"}
      - {alert: Dear, over: session, value: {total: cost_nano_usd}, above: 5 USD}
      - {alert: Slow, over: model, value: {quantile: {of: model_duration, q: 0.5}}, window: 1m, above: 10s}
      - {alert: Waits, over: session, value: {gauge: oldest_in_flight_ms}, above: 1m}
breakers: [{over: tool, min_calls: 4, open_for: 30s}]
""")


def run(series: str, expect: str, events: str = "[]") -> list[str]:
    """Run one case; returns the lines of its failures."""
    text = f"tests: [{{name: t, series: {series}, events: {events}, expect: {expect}}}]"
    return [line for failure in run_cases(parse_cases(text).cases, RULES) for line in failure.lines]


def errors(values: str) -> str:
    return f"[{{over: tool, key: {{tool: search}}, values: {{tool_calls_error: {values}}}}}]"


def one(alert: str, at: str, more: str) -> str:
    return f"[{{at: {at}, alert: {alert}, alerts: [{more}]}}]"


def faults(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_cases(text)
    return str(caught.value)


# ---- shipped ---------------------------------------------------------------------------------------------------


def test_the_cases_of_the_shipped_rules_hold() -> None:
    held = parse_cases(SHIPPED.read_text("utf-8"))

    assert held.rules is None
    assert not run_cases(held.cases, default_rules())


def test_the_example_of_the_documentation_holds() -> None:
    held = parse_cases(EXAMPLE.read_text("utf-8"))

    assert held.rules is not None
    assert not run_cases(held.cases, parse_rules((EXAMPLE.parent / held.rules).read_text("utf-8")))


# ---- values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("0+2x3", [0, 2, 4, 6]), ("5x2", [5, 5, 5]), ("1 2 3", [1, 2, 3]), ("_ 4", [None, 4]),
        ("_x2 1", [None, None, 1]), ("0+1x2 2x1 9", [0, 1, 2, 2, 2, 9]), ("7", [7]), ("0x0", [0]),
    ],
)  # fmt: skip
def test_values_are_written_as_promtool_has_them(values: str, expected: list[Any]) -> None:
    (case,) = parse_cases(f"tests: [{{series: {errors(repr(values))}, expect: [{{at: 1m, alerts: []}}]}}]").cases

    assert expected == case.series[0].values["tool_calls_error"]


@pytest.mark.parametrize(
    "values", ["", "x", "1+2", "1+x3", "-1", "1x", "0+1x99999", "_+1x2", "1.5", "3 2", "10-1x3", "a"]
)
def test_what_is_no_series_of_counts_is_refused(values: str) -> None:
    assert "tool_calls_error" in faults(
        f"tests: [{{series: {errors(repr(values))}, expect: [{{at: 1m, alerts: []}}]}}]"
    )


def test_values_have_the_units_of_their_fields() -> None:
    session = "[{over: session, key: {session_id: s}, values: {cost_nano_usd: 0USD+2.5USDx3}}]"
    model = "[{over: model, key: {model: m}, values: {model_duration: 20sx6}}]"
    age = "[{over: session, key: {session_id: s}, values: {oldest_in_flight_ms: 0s+10sx9}}]"

    assert not run(session, one("Dear", "30s", "{key: {session_id: s}, value: 7.5 USD}"))
    assert not run(model, one("Slow", "30s", "{key: {model: m}, value: 20s}"))
    assert not run(age, one("Waits", "1m10s", "{key: {session_id: s}, value: 1m10s}"))


# ---- judging ---------------------------------------------------------------------------------------------------


def test_for_and_windows_are_those_of_the_engine() -> None:
    values = errors("0+2x3")
    key = "{tool: search}"

    assert not run(values, "[{at: 10s, alerts: []}]")
    assert not run(values, one("Failing", "20s", f"{{key: {key}, state: pending}}"))
    assert not run(values, one("Failing", "40s", f"{{key: {key}, labels: {{team: agents}}, value: 6}}"))
    assert not run(values, one("Failing", "3m", f"{{key: {key}, state: resolved}}"))


def test_events_go_through_both_stages_and_trip_breakers() -> None:
    events = "[{at: 0s, every: 1s, times: 4, event: {kind: tool_end, session_id: s, tool: t, status: error}}]"
    circuit = "{over: tool, key: {tool: t}, state: %s}"

    assert not run("[]", f"[{{at: 2s, breakers: [{circuit % 'closed'}]}}]", events)
    assert not run("[]", f"[{{at: 4s, breakers: [{circuit % 'open'}]}}]", events)
    assert not run("[]", f"[{{at: 40s, breakers: [{circuit % 'half_open'}]}}]", events)
    assert ["- breaker tool|t closed", "+ breaker tool|t open"] == run(
        "[]", f"[{{at: 4s, breakers: [{circuit % 'closed'}]}}]", events
    )


def test_every_difference_is_a_line() -> None:
    values = errors("0+2x3")
    wrong = "{key: {tool: search}, severity: info, value: 7, summary: other, state: pending}"

    found = "+ firing Failing{team=agents, tool=search} since 20s, value 6"
    differs = "state is firing; severity is 'critical'; summary is 'search: 6'; value is 6"

    assert [
        "- pending Failing{tool=search}, severity 'info', value 7, summary 'other'", f"{found}: {differs}",
    ] == run(values, one("Failing", "40s", wrong))  # fmt: skip
    assert ["+ firing Failing{team=agents, tool=search} since 20s, value 6: not expected"] == run(
        values, "[{at: 40s, alerts: []}]"
    )
    assert ["- firing Failing{tool=other}", "+ nothing of this rule and key"] == run(
        values, one("Failing", "40s", "{key: {tool: other}}, {key: {tool: search}}")
    )
    assert ["- resolved Failing{}", "+ nothing of this rule and key"] == run(
        "[]", "[{at: 1m, alerts: [{alert: Failing, state: resolved}]}]"
    )


# ---- faults ----------------------------------------------------------------------------------------------------


def test_every_fault_is_named_at_once() -> None:
    said = faults("""
tests:
  - name: first
    intervall: 10s
    series: [{over: tol, values: {}}, {over: tool, key: {agent: a}, values: {tool_calls_eror: 1}}, 7]
    events: [{at: 1, event: {}}, {at: 0s, times: 99999999, event: {kind: x}}]
    expect: [{at: soon, alerts: [{state: on, key: 7}]}, {}]
  - {}
""")

    for place in (
        "intervall", "over = 'tol'", "key = {'agent': 'a'}", "tool_calls_eror", "series 3", "event 1, at", "event = {}",
        "event 2, times", "check 1, at", "alert 1, state", "alert 1, key", "check 2, at", "test 2', expect",
    ):  # fmt: skip
        assert place in said, place


@pytest.mark.parametrize("text", ["", "[]", "7", "tests: []", "tests: 7", "rules: 7\ntests: []", "tests: [7]", "]"])
def test_what_holds_no_tests_is_refused(text: str) -> None:
    assert "the tests cannot be run" in faults(text)


def test_a_rule_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="alert = 'Flailing': expected a rule that there is"):
        run("[]", one("Flailing", "1m", ""))
