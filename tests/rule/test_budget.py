"""Budgets as rules: what a text comes to, every fault by name, and verdicts that are exact at the limit."""

import re
from typing import Any, Final

import pytest
from rule.rows import Row

from streams.errors import ConfigError
from streams.fold.spending import Account, span_at
from streams.fold.streamtime import HOUR_MS, MINUTE_MS
from streams.rule.alert import PERIOD_ENDED, RECOVERED, Phase, reason_of
from streams.rule.budget import burn_ppm, period_ended, runs_out_ms, words
from streams.rule.model import Pace, Rule
from streams.rule.parse import parse_rules
from streams.rule.threshold import Outcome, judge, recheck_ms

NOON: Final = 1_763_726_400_000  # 2025-11-21T12:00Z
WHOLE: Final = """
budgets:
  - budget: tenant-day
    over: tenant
    of: cost
    limit: 200 USD
    per: day
    warn_at: [80%, 50%]
    burn: [{long: 1h, short: 5m, factor: 14.4}, {long: 6h, short: 30m, factor: 6}]
    stop: true
    severity: warning
    keys: {acme: 500 USD}
    match: {tenant: "acme|b.*"}
    labels: {team: agents}
"""


def rule(name: str, text: str = WHOLE) -> Rule:
    return next(each for each in parse_rules(text).rules if each.name.startswith(name))


def row(spent: int, limit: int = 100, budget: str = "tenant-day") -> Row:
    made = Row()
    made.accounts[budget] = Account(
        "day", "nano_usd", ("cost_nano_usd",), limit, 0, {span_at("day", NOON).start_ms: spent}
    )
    return made


def test_a_budget_comes_to_warnings_the_end_and_burns() -> None:
    rules = parse_rules(WHOLE).rules

    assert [
        "BudgetWarning:tenant-day:50", "BudgetWarning:tenant-day:80", "BudgetSpent:tenant-day",
        "BudgetBurning:tenant-day:1h", "BudgetBurning:tenant-day:6h",
    ] == [each.name for each in rules]  # fmt: skip
    assert [False, False, True, False, False] == [each.stop for each in rules]
    assert "warning" == rules[2].severity
    assert {"budget": "tenant-day", "team": "agents"} == rules[0].labels
    assert [0.5, 0.8, 1, 14.4, 6] == [each.limit for each in rules]
    assert {Pace.TOUCH} == {each.pace for each in rules}


def test_limits_are_those_of_the_key() -> None:
    (policy,) = parse_rules(WHOLE).budgets

    assert 500 * 10**9 == policy.limit_of(("acme",))
    assert 200 * 10**9 == policy.limit_of(("bob",))
    assert policy.limit_of(("carl",)) is None
    assert (300_000, 1_800_000, 3_600_000, 21_600_000) == policy.windows_ms


def test_parts_of_a_key_stand_beside_each_other() -> None:
    (policy,) = parse_rules(
        'budgets: [{budget: b, over: agent_tool, of: calls, limit: 9, per: hour, keys: {"a|t": 3}}]'
    ).budgets

    assert 3 == policy.limit_of(("a", "t"))
    assert 9 == policy.limit_of(("t", "a"))


@pytest.mark.parametrize(
    ("over", "of", "unit"),
    [
        ("all", "tokens", "tokens"), ("tenant", "cost", "nano_usd"), ("user", "calls", "count"),
        ("tool", "calls", "count"), ("session", "tokens", "tokens"), ("cache", "[cache_miss]", "count"),
        ("agent", "[reasoning_tokens]", "tokens"),
    ],
)  # fmt: skip
def test_what_can_be_budgeted(over: str, of: str, unit: str) -> None:
    limit, per = ("5 USD" if unit == "nano_usd" else "5"), ("session" if over == "session" else "day")
    (policy,) = parse_rules(f"budgets: [{{budget: b, over: {over}, of: {of}, limit: {limit}, per: {per}}}]").budgets

    assert unit == policy.unit
    assert policy.fields


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("budget: 1x", "letters, digits and _ . - after a letter"),
        ("per: week", "one of hour, day, rolling_day, month"),
        ("of: money", "a field that these rows have"),
        ("of: [input_tokens, cost_nano_usd]", "fields of one unit"),
        ("over: tool", "what such rows have: calls"),
        ("limit: 5", "more than nothing: an amount of money"),
        ("limit: 0 USD", "more than nothing"),
        ("warn_at: [0]", "shares between 0 and 1"),
        ("warn_at: 120%", "shares between 0 and 1"),
        ("burn: {long: 1h}", "a list of 1 to 4 burns"),
        ("burn: [{long: 7s, short: 5m, factor: 2}]", "whole 10 s up to 5m"),
        ("burn: [{long: 90m, short: 5m, factor: 2}]", "hours up to 24h"),
        ("burn: [{long: 5m, short: 1h, factor: 2}]", "a window shorter than the long one"),
        ("burn: [{long: 1h, short: 5m, factor: -1}]", "a number above 0"),
        ("keys: {acme: 5}", "keys, acme"),
        ("keys: [acme]", "limits of up to"),
        ("match: {tenant: '('}", "an expression that a whole label matches"),
        ("match: {tool: x}", "no such key (known: tenant)"),
        ("stop: maybe", "true or false"),
        ("labels: {tenant: x}", "a name that the alert does not set itself"),
        ("limits: 5", "no such key"),
    ],
)
def test_every_fault_is_named(wrong: str, said: str) -> None:
    good = {"budget": "b", "over": "tenant", "of": "cost", "limit": "5 USD", "per": "day"}
    key, _, text = wrong.partition(": ")
    entry = "\n    ".join(f"{name}: {each}" for name, each in {**good, key: text}.items())

    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_rules(f"budgets:\n  - {entry}")


@pytest.mark.parametrize("wrong", ["per: day", "keys: {a: 1}", "match: {session_id: a}", "burn: [{}]"])
def test_a_session_has_one_budget_and_no_period(wrong: str) -> None:
    with pytest.raises(ConfigError):
        parse_rules(f"budgets:\n  - budget: b\n    over: session\n    of: tokens\n    limit: 5\n    {wrong}")


def test_a_name_stands_once() -> None:
    one = "{budget: b, over: all, of: tokens, limit: 5, per: day}"

    with pytest.raises(ConfigError, match="each name once"):
        parse_rules(f"budgets: [{one}, {one}]")


@pytest.mark.parametrize(("spent", "reached"), [(49, False), (50, True), (51, True)])
def test_a_share_is_reached_when_it_is_spent(spent: int, reached: bool) -> None:
    verdict = judge(rule("BudgetWarning:tenant-day:50"), row(spent).at(NOON))

    assert (Outcome.BREACHED if reached else Outcome.CLEAR) is verdict.outcome
    assert spent / 100 == verdict.value


def test_a_key_without_an_account_is_not_judged() -> None:
    verdict = judge(rule("BudgetSpent"), Row().at(NOON))

    assert Outcome.TOO_FEW is verdict.outcome
    assert recheck_ms(rule("BudgetSpent"), Row().at(NOON), verdict, NOON) is None


def test_a_spent_budget_is_whole_again_when_the_next_period_begins() -> None:
    spent = row(100)

    assert Outcome.BREACHED is judge(rule("BudgetSpent"), spent.at(NOON + 12 * HOUR_MS - 1)).outcome
    assert Outcome.CLEAR is judge(rule("BudgetSpent"), spent.at(NOON + 12 * HOUR_MS)).outcome


@pytest.mark.parametrize(
    ("within_hour", "within_5m", "burns"),
    [(1440, 120, False), (1441, 120, False), (1440, 121, False), (1441, 121, True), (0, 1441, True)],
)
def test_a_budget_burns_when_both_windows_are_above_the_factor(within_hour: int, within_5m: int, burns: bool) -> None:
    """Of 2,400 a day an hour's pace is 100: 14.4 times that is 1,440 an hour, and 120 within 5 minutes."""
    made = row(0, limit=2_400)
    made.add(NOON - 30 * MINUTE_MS, cost_nano_usd=max(within_hour - within_5m, 0))
    made.add(NOON, cost_nano_usd=within_5m)
    verdict = judge(rule("BudgetBurning:tenant-day:1h"), made.at(NOON))

    assert burns is (verdict.outcome is Outcome.BREACHED)


def test_facts_tell_the_rest() -> None:
    made = row(60)
    made.add(NOON - MINUTE_MS, cost_nano_usd=20)
    facts: Any = judge(rule("BudgetWarning:tenant-day:50"), made.at(NOON)).facts

    assert {
        "spent": 60, "limit": 100, "remaining": 40, "period_start_ms": NOON - 12 * HOUR_MS,
        "period_end_ms": NOON + 12 * HOUR_MS, "runs_out_ms": NOON + 2 * HOUR_MS, "burn_ppm": 4_800_000,
    } == facts  # fmt: skip


def test_words_say_when_it_runs_out_or_that_it_lasts() -> None:
    value: Any = rule("BudgetSpent").value
    facts = {"spent": 10**9, "limit": 2 * 10**9, "remaining": 10**9, "period_end_ms": NOON, "burn_ppm": 1_500_000}

    assert "not in this period" == words(value, {**facts, "runs_out_ms": NOON}, str)["runs_out_at"]
    assert "not in this period" == words(value, facts, str)["runs_out_at"]
    assert str(NOON - 1) == words(value, {**facts, "runs_out_ms": NOON - 1}, str)["runs_out_at"]
    said = {"spent": "1 USD", "allowed": "2 USD", "remaining": "1 USD", "burn": "1.5", "period": "today (UTC)"}
    assert said.items() <= words(value, facts, str).items()


def test_run_out_is_what_is_left_at_the_recent_rate() -> None:
    assert NOON + 30 * MINUTE_MS == runs_out_ms(50, 100, HOUR_MS, NOON)
    assert NOON == runs_out_ms(0, 100, HOUR_MS, NOON)
    assert runs_out_ms(50, 0, HOUR_MS, NOON) is None
    assert 1_000_000 == burn_ppm(100, HOUR_MS, 2_400, 24 * HOUR_MS)


def test_an_alert_says_that_its_period_has_ended() -> None:
    rules = rule("BudgetSpent")
    before, after = judge(rules, row(100).at(NOON)), judge(rules, row(0).at(NOON + 24 * HOUR_MS))
    raised = judge(rules, row(100, limit=200).at(NOON))

    assert PERIOD_ENDED == reason_of(Phase.FIRING, Phase.RESOLVED, after, before.facts)
    assert RECOVERED == reason_of(Phase.FIRING, Phase.RESOLVED, raised, before.facts)
    assert not period_ended(None, after.facts)
