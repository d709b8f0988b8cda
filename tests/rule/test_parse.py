"""Rule texts: what is read, and that every fault is named at once with its place and the next step."""

from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rule.rows import rule_of

from streams.errors import ConfigError
from streams.rule.defaults import defaults_text
from streams.rule.model import BreakerPolicy, Gauge, Pace, Quantile, Ratio, RuleSet, Silence, Sum, Total
from streams.rule.parse import RULE_KEYS, parse_rules
from streams.rule.policy import BREAKER_KEYS
from streams.rule.reading import SUBJECTS
from streams.rule.usual import Usual

GOOD = """
groups:
  - name: tools
    labels: {team: agents, tier: one}
    rules:
      - alert: ToolFailing
        over: agent_tool
        value: {sum: [tool_calls_error, tool_calls_timeout]}
        window: 1m
        above: 10
        for: 30s
        keep_firing_for: 1m30s
        severity: critical
        labels: {tier: two}
        summary: "{tool} of {agent} fails for {team}"
        description: "{value} > {limit} in {window}"
breakers:
  - over: model
    failure_rate: 25%
    open_for: 10s
"""


def faults_of(text: str) -> list[str]:
    """Return the faults of a text, one line each."""
    with pytest.raises(ConfigError) as caught:
        parse_rules(text)
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("the rules cannot be used: ")
    return lines


def test_a_rule_is_read_whole() -> None:
    rule = parse_rules(GOOD).rules[0]

    assert rule.name == "ToolFailing"
    assert rule.group == "tools"
    assert rule.value == Sum(("tool_calls_error", "tool_calls_timeout"))
    assert (rule.window_ms, rule.for_ms, rule.keep_firing_for_ms) == (60_000, 30_000, 90_000)
    assert (rule.above, rule.limit, rule.unit, rule.min_count) == (True, 10, "count", 0)
    assert rule.severity == "critical"
    assert rule.subject.columns == ("agent", "tool")


def test_rule_labels_win_over_group_labels() -> None:
    assert parse_rules(GOOD).rules[0].labels == {"team": "agents", "tier": "two"}


def test_a_breaker_has_the_documented_defaults() -> None:
    expected = BreakerPolicy(
        over="tool",
        failure_rate=0.5,
        window_ms=60_000,
        min_calls=20,
        open_for_ms=30_000,
        half_open_calls=10,
        failures=("tool_calls_error", "tool_calls_timeout"),
        calls=("tool_calls_success", "tool_calls_error", "tool_calls_timeout", "tool_calls_validation_error"),
    )

    assert parse_rules("breakers: [{over: tool}]").breaker("tool") == expected
    assert parse_rules(GOOD).breaker("tool") is None


def test_no_rules_at_all_must_be_said() -> None:
    assert parse_rules("groups: []") == RuleSet()
    assert "write groups: []" in faults_of("")[0]


@pytest.mark.parametrize(
    ("text", "value", "unit", "pace"),
    [
        ("over: all; value: {sum: events}; window: 5m; above: 1", Sum(("events",)), "count", Pace.TOUCH),
        ("over: all; value: {sum: events}; window: 5m; below: 1; min_count: 1", Sum(("events",)), "count", Pace.EDGE),
        (
            "over: tool; value: {ratio: {of: tool_retries, to: events}}; window: 1h; above: 1; min_count: 5",
            Ratio(("tool_retries",), ("events",)),
            "ratio",
            Pace.EDGE,
        ),
        (
            "over: model; value: {ratio: {of: cost_nano_usd, to: events}}; window: 5m; above: 1 USD; min_count: 5",
            Ratio(("cost_nano_usd",), ("events",)),
            "nano_usd",
            Pace.EDGE,
        ),
        (
            "over: model; value: {quantile: {of: first_token, q: 0.95}}; window: 5m; above: 2s",
            Quantile("first_token", 0.95),
            "us",
            Pace.EDGE,
        ),
        ("over: session; value: {total: tokens}; above: 1_000", Total(("tokens",)), "tokens", Pace.TOUCH),
        ("over: session; value: {gauge: in_flight}; above: 20", Gauge("in_flight"), "count", Pace.TOUCH),
        (
            "over: session; value: {gauge: oldest_in_flight_ms}; above: 10m",
            Gauge("oldest_in_flight_ms"),
            "ms",
            Pace.AGE,
        ),
        ("over: partition; value: {sum: skewed}; window: 10s; above: 0", Sum(("skewed",)), "count", Pace.TOUCH),
    ],
)
def test_every_kind_of_value_is_read(text: str, value: Any, unit: str, pace: Pace) -> None:
    rule = rule_of(text)

    assert (rule.value, rule.unit, rule.pace) == (value, unit, pace)


SUM: Final = {"alert": "R", "over": "all", "value": {"sum": "events"}, "window": "5m", "above": 1}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("over: tol", ["over = 'tol'", "one of all, agent", "write over: tool"]),
        ("value: {sum: evnts}", ["value, sum = 'evnts'", "write one of events"]),
        ("value: {sum: [events, events]}", ["each field once"]),
        ("value: {sum: []}", ["value, sum = []", "up to 32 fields"]),
        ("value: {sum: [errors, cost_nano_usd]}", ["fields of one unit"]),
        ("value: {mean: events}", ["value, mean = 'events'", "no such key"]),
        ("value: {sum: events, total: events}", ["exactly one of sum, ratio"]),
        ("value: [events]", ["value = ['events']", "write value: {sum: field}"]),
        ("value: evnts", ["value = 'evnts'", "write one of events"]),
        ("value: {quantile: {of: model_duration, q: 95}}\nabove: 1s", ["q = 95", "write q: 0.95"]),
        ("value: {quantile: {of: events, q: 0.5}}\nabove: 1s", ["of = 'events'", "a field that these rows have"]),
        ("value: {quantile: model_duration}", ["a mapping with of and q"]),
        ("over: session\nvalue: {quantile: {of: model_duration, q: 0.5}}", ["use another kind of value"]),
        ("value: {gauge: in_flight}\nwindow: ~", ["use another kind of value"]),
        ("value: {ratio: {of: errors, to: input_tokens}}\nmin_count: 1", ["divide by a count"]),
        ("window: 5", ["window = 5", "write a unit: window: 5s"]),
        ("window: 15s", ["window = '15s'", "a multiple of 10s up to 1h"]),
        ("window: 2h", ["a multiple of 10s up to 1h"]),
        ("over: session\nwindow: 90s", ["a multiple of 1m up to 1h"]),
        ("window: ~", ["window = nothing", "write window: 5m"]),
        ("value: {total: events}", ["no window", "remove it"]),
        ("above: ~", ["above = nothing", "exactly one of above and below"]),
        ("below: 9\nmin_count: 1", ["exactly one of above and below"]),
        ("above: ten", ["above = 'ten'", "a number such as 10"]),
        ("above: .inf", ["above = inf", "a number such as 10"]),
        ("above: -1", ["no value is ever negative"]),
        ("above: ~\nbelow: 0\nmin_count: 1", ["no value is ever negative"]),
        ("value: {quantile: {of: model_duration, q: 0.5}}\nabove: 5", ["above = 5", "write above: 30s"]),
        ("value: {total: cost_nano_usd}\nwindow: ~\nabove: 5", ["above = 5", "write above: 5 USD"]),
        ("above: ~\nbelow: 5", ["min_count = nothing", "write min_count: 20"]),
        ("value: {ratio: {of: errors, to: events}}", ["min_count = nothing"]),
        ("value: {ratio: {of: errors, to: events}}\nmin_count: 0", ["min_count = 0", "from 1"]),
        ("min_count: yes", ["min_count = True"]),
        ("for: 60", ["for = 60", "write a unit: for: 60s"]),
        ("for: 31d", ["from 0 to 30d"]),
        ("keep_firing: 1m", ["keep_firing = '1m'", "write keep_firing_for"]),
        ("severity: warn", ["severity = 'warn'", "write severity: warning"]),
        ("labels: [a]", ["labels = ['a']", "a mapping"]),
        ("labels: {team: 5}", ["team = 5", "put it in quotes"]),
        ("labels: {no-dash: x}", ["'no-dash'", "rename it"]),
        ("over: tool\nlabels: {tool: x}", ["does not set itself"]),
        ("labels: {severity: x}", ["does not set itself"]),
        ("summary: '{tool}'", ["summary = '{tool}'", "there is no {tool}"]),
        ("description: '50}'", ["has no partner", "for braces"]),
        ("value: ~\nwindow: ~\nabove: ~\nexpr: up == 0", ["expr = 'up'", "a field that these rows have"]),
        ("value: ~\nwindow: ~\nabove: ~\nexpr: events[5m] >", ["it ends too soon", "a field"]),
        ("expr: events[5m] > 5\nwindow: ~\nabove: ~", ["value = {'sum': 'events'}", "remove one of the two"]),
        ("annotations: {}", ["write summary and description"]),
    ],
)
def test_a_fault_is_named_with_place_value_expectation_and_next_step(changes: str, says: list[str]) -> None:
    faults = faults_of(yaml.safe_dump({"groups": [{"name": "g", "rules": [{**SUM, **yaml.safe_load(changes)}]}]}))

    assert len(faults) == 1, faults
    assert "group 'g', rule 'R'" in faults[0]
    assert "Next: " in faults[0]
    for part in says:
        assert part in faults[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("breakers: [{over: session}]", ["breaker 'session', over = 'session'", "one of tool, model"]),
        ("breakers: [{over: tool, failure_rate: 0}]", ["breaker 'tool', failure_rate = 0"]),
        ("breakers: [{over: tool, failure_rate: 150%}]", ["failure_rate = '150%'"]),
        ("breakers: [{over: tool, window: 45s}]", ["a multiple of 10s"]),
        ("breakers: [{over: tool, open_for: 0}]", ["open_for = 0", "from 1s"]),
        ("breakers: [{over: tool, min_calls: 0}]", ["min_calls = 0"]),
        ("breakers: [{over: tool, half_open: 5}]", ["write half_open_calls"]),
        ("breakers: [{over: tool, failures: tool_calls_abandoned}]", ["among the calls", "add the others to calls"]),
        ("breakers: [{over: tool}, {over: tool}]", ["breaker over = 'tool'", "each name once"]),
        ("breakers: {over: tool}", ["rules, breakers", "start each entry of breakers with a dash"]),
        ("groups: [5]", ["group 1 = 5", "a mapping"]),
        ("groups: [{name: g}]", ["group 'g', rules = nothing"]),
        ("groups: [{name: g, rules: [x]}]", ["group 'g', rule 1 = 'x'"]),
        ("groups: [{rules: []}]", ["group 1, name = nothing"]),
        ("rules: []", ["rules, rules", "known: groups, breakers"]),
        ("- a", ["a mapping with groups or breakers"]),
        ("groups: []\ngroups: []", ["line 2, groups", "each key once"]),
        ("groups: [", ["rules, line 1", "expected YAML"]),
        ("a: b: c", ["rules, line 1, column 5"]),
        ("groups: []\n---\ngroups: []", ["expected a single document"]),
        ("!!python/object/apply:os.getcwd []", ["could not determine a constructor"]),
        ("at: 2024-99-99", ["expected YAML"]),
        ("[" * 5_000, ["expected YAML"]),
        ("? [1]\n: 2", ["expected YAML"]),
        ("\x00", ["expected YAML"]),
        ("# " + "x" * (1 << 20), ["split the file"]),
    ],
)
def test_a_fault_outside_of_rules_is_named_too(text: str, says: list[str]) -> None:
    faults = faults_of(text)

    for part in says:
        assert part in faults[0]


def test_all_faults_come_at_once() -> None:
    text = GOOD.replace("above: 10", "abve: 10").replace("1m30s", "90").replace("critical", "high").replace("25%", "0")
    faults = faults_of(text)

    assert [f.split(" = ")[0].split(", ")[-1] for f in faults] == [
        "abve",
        "above",
        "keep_firing_for",
        "severity",
        "failure_rate",
    ]
    assert [f.split(".")[0].strip() for f in faults] == ["1", "2", "3", "4", "5"]


def test_two_rules_of_one_name_are_refused_because_the_name_is_their_identity() -> None:
    again = GOOD.replace("breakers:", "  - name: other\n    rules: []\nbreakers:")
    doubled = yaml.safe_load(again)
    doubled["groups"][1] = {**doubled["groups"][0], "name": "other"}

    assert "alert = 'ToolFailing'" in faults_of(yaml.safe_dump(doubled))[0]


def test_too_many_rules_are_refused() -> None:
    data = yaml.safe_load(GOOD)
    rule = data["groups"][0]["rules"][0]
    data["groups"][0]["rules"] = [{**rule, "alert": f"R{n}"} for n in range(501)]

    assert "at most 500 rules" in faults_of(yaml.safe_dump(data))[0]


def test_a_text_that_swells_through_aliases_is_refused_in_no_time() -> None:
    layers = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]" for n in range(12)]
    layers.append("groups: [{name: *m, rules: [{alert: *m, over: *m, value: {sum: *m}, labels: {a: *m}}]}]")

    assert any("over = [[" in fault for fault in faults_of("\n".join(layers)))


def test_an_endless_text_is_refused() -> None:
    assert faults_of("groups: &a [*a]")
    assert faults_of("groups: &a [{name: g, rules: *a}]")
    assert faults_of("&a {groups: [*a], breakers: [*a]}")


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.sampled_from(
        ["5m", "30s", "tool", "all", "session", "events", "5%", "5 USD", "critical", "{tool}", "", "x" * 2000]
    ),
)
KEYS = st.sampled_from(
    (*RULE_KEYS, *BREAKER_KEYS, "sum", "ratio", "quantile", "total", "gauge", "of", "to", "q", "other")
)
TREES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5))
)


@settings(deadline=None)  # the machine may be busy
@given(TREES)
def test_whatever_stands_in_the_wrong_place_the_answer_is_one_error(tree: object) -> None:
    rules = [tree, {"alert": "A", "value": tree}, {**SUM, "labels": tree, "for": tree}]
    text = yaml.safe_dump({"groups": [{"name": "g", "rules": rules}], "breakers": [tree]})

    with pytest.raises(ConfigError):
        parse_rules(text)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_rule_text_with_a_wrong_key_anywhere_never_passes(data: st.DataObject) -> None:
    """Every mapping of the shipped rules is closed: a key nobody knows is a fault wherever it stands."""
    tree = yaml.safe_load(defaults_text())
    places: list[dict[Any, Any]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            places.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(tree)
    data.draw(st.sampled_from(places))["nobody_knows"] = 1

    assert any("nobody_knows" in fault or "exactly one of" in fault for fault in faults_of(yaml.safe_dump(tree)))


@pytest.mark.parametrize("over", sorted(SUBJECTS))
def test_every_field_of_every_subject_can_be_asked_for(over: str) -> None:
    subject = SUBJECTS[over]
    for kind, fields in (("total", subject.totals), ("sum", subject.windowed), ("gauge", subject.gauges)):
        for field in sorted(fields):
            limit = "5 USD" if field.endswith("usd") else "5m" if field.endswith(("_ms", "_us")) else "5"
            window = "window: 5m" if kind == "sum" else ""
            assert rule_of(f"over: {over}; value: {{{kind}: {field}}}; above: {limit}; {window}").name == "R"


def test_a_rule_may_stop_the_calls_of_its_key_and_says_so_with_true_or_false() -> None:
    rule = "groups: [{name: g, rules: [{alert: A, over: session, value: {total: events}, above: 1, stop: %s}]}]"

    assert parse_rules(rule % "true").rules[0].stop
    assert not parse_rules(rule % "false").rules[0].stop
    with pytest.raises(ConfigError, match="stop"):
        parse_rules(rule % "now")


# ---- rules in words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "found"),
    [
        ("agent×tool", "agent_tool"), ("tool * agent", "agent_tool"), ("agent, tool", "agent_tool"),
        ("[tool, agent]", "agent_tool"), ("agent_tool", "agent_tool"), ("[tool]", ""), ("agent×model", ""),
        ("[agent, agent]", ""), ("[model, code]", ""),
    ],
)  # fmt: skip
def test_pairs_of_columns_name_the_rows_that_are_kept_for_them(over: str, found: str) -> None:
    quoted = over if over.startswith("[") else f'"{over}"'
    text = f"over: {quoted}; value: {{sum: errors}}; window: 1m; above: 2"

    if found:
        assert rule_of(text).over == found
    else:
        with pytest.raises(ConfigError, match="over"):
            rule_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("above: 2x baseline 1h", Usual("baseline", 2.0, 0.0, 3_600_000)),
        ("above: mean + 3 sigma; samples: 20; cold_start: 5; at_least: 4",
         Usual("mean", 1.0, 3.0, samples=20, cold_start=5, floor=4)),
        ("below: 0.5x ewma by hour of day; min_count: 1; at_most: 9",
         Usual("ewma", 0.5, 0.0, hourly=True, floor=9)),
        ("above: median + 4 mad; samples: 5", Usual("median", 1.0, 4.0, samples=5, cold_start=5)),
    ],
)  # fmt: skip
def test_a_limit_may_be_what_is_usual(text: str, expected: Usual) -> None:
    rule = rule_of(f"over: tool; value: errors; window: 5m; {text}")

    assert (rule.usual, rule.pace, rule.limit) == (expected, Pace.EDGE, 0)


def test_silence_is_a_value_of_its_own() -> None:
    rule = rule_of("over: tool; absent: 10m")

    assert (rule.value, rule.limit, rule.unit, rule.pace, rule.window_ms) == (Silence(), 600_000, "ms", Pace.AGE, 0)


def test_what_must_be_whole_and_how_far_back_is_read_in_the_unit_of_the_value() -> None:
    rule = rule_of(
        "over: model; value: {quantile: {of: model_duration, q: 0.9}}; window: 5m; above: 3s; clear_below: 2s"
    )

    assert rule.clear == 2_000_000
    assert rule_of("over: tool; value: errors; window: 1m; above: 1; complete: 99.5%").complete_ppm == 995_000


def test_a_group_s_limit_is_every_rule_s() -> None:
    groups = [{"name": "g", "limit": 7, "rules": [SUM, {**SUM, "alert": "Other"}]}]

    assert [rule.alerts_max for rule in parse_rules(yaml.safe_dump({"groups": groups})).rules] == [7, 7]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("above: mean + 3 mad", ["above = 'mean + 3 mad'", "2x baseline 1h, mean + 3 sigma"]),
        ("above: 2x baseline 5m", ["longer than the window and at most 1h"]),
        ("above: 2x baseline 2h", ["longer than the window and at most 1h"]),
        ("above: 2x baseline 1h\nsamples: 5", ["samples = 5", "a baseline has no samples"]),
        ("above: mean + 3 sigma\nwindow: 30s", ["window = '30s'", "whole minutes"]),
        ("above: mean + 3 sigma\nsamples: 200", ["samples = 200", "from 3 to 120"]),
        ("above: mean + 3 sigma\nsamples: 5\ncold_start: 6", ["cold_start = 6", "from 2 to 5"]),
        ("above: mean + 3 sigma\nat_most: 5", ["at_most = 5", "write at_least"]),
        ("above: mean + 3 sigma\nat_least: 5s", ["at_least = '5s'", "a number such as 10"]),
        ("at_least: 5", ["at_least = 5", "the limit is a number"]),
        ("value: {total: events}\nwindow: ~\nabove: mean + 3 sigma", ["only what has a window has something usual"]),
        ("value: p95(model_duration[5m])\nwindow: ~\nover: model\nabove: 2x baseline 1h", ["of sums and ratios"]),
        ("clear_above: 5", ["clear_above = 5", "write clear_below"]),
        ("clear_below: 11", ["clear_below = 11", "no higher than 1"]),
        ("clear_below: 5s", ["clear_below = '5s'", "a number such as 10"]),
        ("complete: 95", ["complete = 95", "write complete: 95%"]),
        ("complete: 0", ["complete = 0", "above 0"]),
        ("absent: 10m\nvalue: ~\nwindow: ~", ["above = 1", "absent says it already"]),
        ("absent: 0\nvalue: ~\nwindow: ~\nabove: ~", ["absent = 0", "from 1s"]),
        ("when: 5", ["when = 5", "a condition"]),
        ("when: errors[5m]", ["when = 'errors[5m]'", "a comparison"]),
        ("value: errors[5m] / 2", ["window = '5m'", "says itself"]),
        ("value: errors[5m] > 2\nwindow: ~", ["a number to compare", "write expr"]),
        ("value: ~\nwindow: ~\nabove: ~\nexpr: 5", ["expr = 5", "an expression"]),
    ],
)
def test_a_fault_in_words_is_named_alike(changes: str, says: list[str]) -> None:
    faults = faults_of(yaml.safe_dump({"groups": [{"name": "g", "rules": [{**SUM, **yaml.safe_load(changes)}]}]}))

    assert len(faults) == 1, faults
    assert all(word in faults[0] for word in says), faults


def test_faults_of_all_rules_and_all_expressions_come_together() -> None:
    rules = [
        {"alert": "A", "over": "tool", "expr": "errrors[5m] > 1 and cost_nano_usd[5m] > 3"},
        {"alert": "B", "over": "tool", "value": "errors[3s]", "above": "lots", "when": "events"},
        {"alert": "C", "over": "tool", "absent": "soon", "for": "5"},
    ]
    faults = faults_of(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))

    assert [sum(f"rule '{name}'" in fault for fault in faults) for name in "ABC"] == [2, 2, 2]
