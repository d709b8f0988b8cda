"""The shipped rules: they load, every one of them can fire, and what they say reads well."""

import pytest
from rule.rows import NOW_MS, Row

from streams.rule.book import AlertBook
from streams.rule.defaults import default_rules, defaults_text
from streams.rule.model import Gauge, Quantile, Ratio, Rule, Sum, Total
from streams.rule.parse import parse_rules
from streams.rule.reading import SUBJECTS, unit_of
from streams.rule.records import alert_record

RULES = {rule.name: rule for rule in default_rules().rules}
SAID = {"ToolRetriesHigh": {"tool_calls_started": 40, "tool_retries": 30}}  # what breaks the limit of an expression


def worst(rule: Rule) -> Row:
    """Make a row that breaks a rule's limit."""
    row, value = Row(pane_ms=rule.subject.step_ms), rule.value
    at_ms, many = NOW_MS - rule.subject.step_ms, max(rule.min_count, 1)
    match value:
        case Ratio():
            worse = int(rule.limit * many) + many  # not a share when numerator and denominator are different things
            amounts = dict.fromkeys(value.to, 0) | {value.of[0]: worse}
            row.add(at_ms, **amounts | {value.to[0]: many if value.to[0] != value.of[0] else worse})
        case Quantile():
            row.observe(at_ms, value.of, *[int(rule.limit) + 1] * many)
        case Sum():
            row.add(at_ms, **{value.fields[0]: int(rule.limit) + 1})
        case Gauge():
            row.started_ms[value.field] = NOW_MS - int(rule.limit) - 1
        case Total():
            row.add(at_ms, **{value.fields[0]: int(rule.limit) + 1})
        case _:
            row.add(at_ms, **SAID[rule.name])
    return row


@pytest.mark.parametrize("name", RULES)
def test_every_shipped_rule_fires_and_says_so_in_words(name: str) -> None:
    rule = RULES[name]
    book, row = AlertBook(default_rules()), worst(rule)
    key = tuple(f"some-{column}" for column in rule.subject.columns)
    minute_ms = 60_000
    now_ms = NOW_MS + minute_ms - NOW_MS % minute_ms
    rows = Row(pane_ms=row.pane_ms, entries=[(now_ms - 1, n, a) for _, n, a in row.entries],
               seen=[(now_ms - 1, n, v) for _, n, v in row.seen], started_ms=row.started_ms)  # fmt: skip
    first = book.recheck(rule, key, rows.at(now_ms), now_ms)
    moved = first if not rule.for_ms else book.recheck(rule, key, rows.at(now_ms + rule.for_ms), now_ms + rule.for_ms)
    assert moved
    record = alert_record(moved)
    assert record

    assert record.state == "firing"
    assert all(value in record.summary for value in key)
    assert "error" not in record.summary.split("{")[0][:10]
    assert "{" not in record.summary + record.description
    assert record.limit_text
    assert rule.description.count("{limit}") == 0 or record.limit_text in record.description


def test_both_breakers_are_shipped_with_documented_defaults() -> None:
    bare = parse_rules("breakers: [{over: tool}, {over: model}]")

    assert default_rules().breakers == bare.breakers


def test_every_area_is_covered() -> None:
    assert {rule.over for rule in RULES.values()} >= {"all", "agent", "tool", "model", "session", "partition"}
    areas = {"requests", "models", "tools", "tokens", "sessions", "loops", "pipeline"}
    assert areas == {rule.group for rule in RULES.values()}


def test_the_text_can_be_copied_and_read_again() -> None:
    assert parse_rules(defaults_text()) == default_rules()


def test_units_of_fields_are_what_their_names_say() -> None:
    assert unit_of("cost_nano_usd") == "nano_usd"
    assert unit_of("tool_duration") == "us"
    assert unit_of("oldest_in_flight_ms") == "ms"
    assert unit_of("tokens") == unit_of("input_tokens") == "tokens"
    assert unit_of("tool_calls_error") == "count"


def test_every_subject_has_an_activity_to_count() -> None:
    for subject in SUBJECTS.values():
        assert subject.activity in subject.windowed & subject.totals
