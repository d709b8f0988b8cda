"""A rule becomes an expression of the same meaning, or an alert that counts what the rule itself fires for."""

import pytest
from promql_reading import selectors

from streams.rule.defaults import default_rules
from streams.rule.model import Rule
from streams.rule.parse import parse_rules
from streams.sink.promql import CATALOGUE
from streams.sink.rulefiles.translate import Translation, translate

HISTOGRAM = ("_bucket", "_count", "_sum")


def rule(text: str, name: str = "X") -> Rule:
    (found,) = parse_rules(f"groups: [{{name: g, rules: [{{alert: {name}, {text}}}]}}]").rules
    return found


def translated(text: str) -> Translation:
    return translate(rule(text))


def base(name: str) -> str:
    for suffix in HISTOGRAM:
        if name.removesuffix(suffix) in CATALOGUE:
            return name.removesuffix(suffix)
    return name


def test_a_sum_is_the_growth_within_its_window() -> None:
    done = translated("over: tool, value: {sum: tool_calls_error}, window: 5m, above: 3")

    assert done.alert.expr == (
        'sum without (status) (tool_status:agent_tool_calls:increase5m{tool!="__other__",status="error"}) > 3'
    )
    assert [("tool_status:agent_tool_calls:increase5m",
             "max without (instance, pod) (increase(agent_tool_calls_total[5m]))")] == [*done.records]  # fmt: skip
    assert done.only_counts is None


def test_fields_of_one_metric_are_one_pattern_and_of_two_are_added() -> None:
    done = translated(
        "over: tool, value: {sum: [tool_calls_error, tool_retries, tool_calls_timeout]}, window: 1m, above: 3"
    )

    assert done.alert.expr == (
        'sum without (status) (tool_status:agent_tool_calls:increase1m{tool!="__other__",status=~"error|timeout"})'
        ' + tool:agent_tool_retries:increase1m{tool!="__other__"} > 3'
    )


def test_over_all_adds_the_agents_up_and_leaves_nobody_out() -> None:
    """Every event has an agent; the series that stands for many of them counts too."""
    done = translated("over: all, value: {sum: errors}, window: 1m, above: 3")

    assert "sum without (agent, type) (agent_type:agent_errors:increase1m) > 3" == done.alert.expr


def test_below_is_below_and_keeps_quiet_about_rows_that_have_hardly_begun() -> None:
    done = translated("over: agent, value: {sum: requests_success}, window: 10m, below: 1, min_count: 50")

    assert done.alert.expr.endswith(
        '< 1 and max without (instance, pod) (agent_events_total{agent!="__other__"}) >= 50'
    )


def test_sums_of_a_ratio_are_bracketed() -> None:
    done = translated(
        "over: tool, value: {ratio: {of: [tool_calls_error, tool_retries], to: tool_calls_started}}, window: 5m, "
        "above: 50%, min_count: 7"
    )

    assert done.alert.expr.startswith("(sum without (status) ")
    assert ") / tool:agent_tool_calls_started:increase5m" in done.alert.expr
    assert done.alert.expr.endswith('> 0.5 and tool:agent_tool_calls_started:increase5m{tool!="__other__"} >= 7')


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("over: tenant, value: {sum: cost_nano_usd}, window: 1h, above: 5 USD", "> 5"),
        ("over: model, value: {quantile: {of: first_token, q: 0.9}}, window: 5m, above: 1500ms", "> 1.5 and"),
        ("over: all, value: {sum: input_tokens}, window: 5m, above: 50_000_000", "> 50000000"),
    ],
)
def test_limits_are_in_the_unit_that_is_exported(text: str, limit: str) -> None:
    assert limit in translated(text).alert.expr


def test_a_total_reads_the_counter_itself() -> None:
    done = translated("over: tenant, value: {total: cost_nano_usd}, above: 100 USD")

    assert 'max without (instance, pod) (agent_tenant_cost_usd_total{tenant!="__other__"}) > 100' == done.alert.expr
    assert () == done.records


def test_what_others_break_down_is_all_of_them() -> None:
    done = translated(
        "over: partition, value: {ratio: {of: rejected, to: received}}, window: 5m, above: 1%, min_count: 9"
    )

    assert "sum without (reason) (partition_reason:agent_stream_events_rejected:increase5m" in done.alert.expr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("over: session, value: {total: tokens}, above: 9", "the numbers of a single session are not exported"),
        (
            "over: tool, value: {sum: tool_calls_error}, window: 30s, above: 3",
            "its window is 30s, and Prometheus needs 1m",
        ),
        ("over: tool, value: {sum: requests_error}, window: 5m, above: 3", "requests_error is not exported by tool"),
        (
            "over: agent, value: {quantile: {of: first_token, q: 0.9}}, window: 5m, above: 1s",
            "first_token is not exported by agent",
        ),
    ],
)
def test_what_no_expression_can_say_counts_what_the_rule_fires_for(text: str, reason: str) -> None:
    done = translated(text)

    assert reason == done.only_counts
    assert done.alert.expr == (
        "sum without (alert, severity, state) "
        '(max without (instance, pod) (agent_alerts{alert="X",state="firing"})) > 0'
    )
    assert reason in done.alert.description


def test_sentences_are_templates_and_labels_are_kept() -> None:
    done = translated(
        "over: tool, value: {sum: tool_calls_error}, window: 5m, above: 3, for: 90s, keep_firing_for: 5m, "
        "severity: info, "
        'labels: {team: core}, summary: "{tool} of {team}: {value} in {window}, not {{3}}", '
        'description: "{alert} {limit} {count} {for} {severity}"'
    )

    assert '{{ $labels.tool }} of core: {{ printf "%.0f" $value }} in 5m, not {3}' == done.alert.summary
    assert "X 3 the 1m30s info" == done.alert.description
    assert (90_000, 300_000, "info", {"team": "core"}) == (
        done.alert.for_ms, done.alert.keep_firing_for_ms, done.alert.severity, done.alert.labels,
    )  # fmt: skip


@pytest.mark.parametrize("each", default_rules().rules, ids=lambda each: each.name)
def test_what_a_shipped_rule_reads_is_recorded_and_exported(each: Rule) -> None:
    done = translate(each)
    recorded = {record.name for record in done.records}

    for selector in selectors(done.alert.expr):
        assert selector.name in recorded or base(selector.name) in CATALOGUE, selector
    for record in done.records:
        assert {True} == {base(selector.name) in CATALOGUE for selector in selectors(record.expr)}


def test_of_the_shipped_rules_only_those_over_sessions_cannot_be_said() -> None:
    only_count = {each.over for each in default_rules().rules if translate(each).only_counts is not None}

    assert {"session"} == only_count


# ---- rules in words --------------------------------------------------------------------------------------------


def test_an_expression_is_the_same_expression_over_exported_series() -> None:
    done = translated(
        'over: tool, expr: "tool_calls_error[5m] / tool_calls_started[5m] > 30% and tool_calls_started[5m] >= 20"'
    )

    assert done.only_counts is None
    assert done.alert.expr == (
        '((sum without (status) (tool_status:agent_tool_calls:increase5m{tool!="__other__",status="error"})'
        ' / tool:agent_tool_calls_started:increase5m{tool!="__other__"}) > 0.3)'
        ' and (tool:agent_tool_calls_started:increase5m{tool!="__other__"} >= 20)'
    )
    assert "limit 30%" in done.alert.description


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('expr: "cost_nano_usd[5m] > 5 USD"', "> 5"),
        ('expr: "p95(model_duration[5m]) > 1m30s"', "histogram_quantile(0.95, "),
        ('expr: "p95(model_duration[5m]) > 1m30s"', "> 90"),
        ('expr: "count(model_duration[5m]) > 3"', "_count:increase5m"),
        ('expr: "errors > 1"', "agent_errors_total"),
        ('expr: "events[55m] offset 5m > 1"', 'increase55m{agent!="__other__"} offset 5m'),
        ('expr: "-events[1m] < -3 or abs(events[1m] - 5) > 2"', "abs("),
        ('value: "events[1m] * 2", above: 7, when: "events[5m] > 3", min_count: 4', ">= 4"),
    ],
)
def test_units_are_exported_ones_and_every_term_has_its_word(text: str, part: str) -> None:
    over = "agent" if "errors" in text or "events" in text else "model"
    done = translated(f"over: {over}, {text}")

    assert done.only_counts is None
    assert part in done.alert.expr
    assert selectors(done.alert.expr)


def test_a_gauge_of_a_key_is_its_series() -> None:
    done = translated("over: agent, value: {gauge: uptime_us}, above: 1h")

    assert done.alert.expr.endswith("> 3600")
    assert "agent_uptime_seconds" in done.alert.expr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("over: tool, absent: 10m", "how long a key has been silent is not exported"),
        ("over: tool, value: errors, window: 5m, above: 2x baseline 1h", "its limit is another for each key"),
        ("over: tool, value: errors, window: 5m, above: mean + 3 sigma", "what it has learned of each key"),
        ("over: tool, value: errors, window: 5m, above: 5, clear_below: 2", "whether its alert fires already"),
        ("over: tool, value: errors, window: 5m, above: 5, complete: 95%", "how whole the numbers were"),
        ('over: agent, expr: "not events[5m] > 5"', "no word for not"),
        ('over: agent, expr: "max(events[5m], 5) > 5"', "no max of two numbers"),
        ('over: agent, expr: "age > 5m and events > 3"', "how old a key is"),
        ('over: agent, expr: "events[10s] > 5 or events[5m] > 7"', "one of its windows is 10s"),
        ('over: session, expr: "tokens[1m] > 5"', "single session"),
    ],
)
def test_what_promql_cannot_say_is_counted_and_the_reason_named(text: str, reason: str) -> None:
    done = translated(text)

    assert reason in (done.only_counts or "")
    assert "agent_alerts" in done.alert.expr
