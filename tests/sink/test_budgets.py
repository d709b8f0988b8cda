"""Budgets as readers see them: standings at a moment, metrics of those with a series, and never who a person is."""

from typing import Any, Final

import pytest
from pages import own_samples, render, series, settle, value
from through_stages import Stages

from streams.errors import ConfigError
from streams.fold.streamtime import HOUR_MS
from streams.rule.parse import parse_rules
from streams.sink.budgets import STANDINGS_MAX, Standing, standings
from streams.sink.csv import as_csv
from streams.sink.document import as_json
from streams.sink.influx import as_influx
from streams.sink.metric import KEYS_MAX
from streams.sink.view import View
from streams.topology import ROLLUPS_CHANGELOG
from streams.worker.cli.budgets import as_dict, of_tables, period, runs_out, table_of
from streams.worker.connection import KafkaConnection
from streams.worker.exporter import ExporterConfig
from streams.worker.tables import Tables

NOON: Final = 1_763_726_400_000  # 2025-11-21T12:00Z
DAY_MS: Final = 24 * HOUR_MS
USD: Final = 10**9
PERSON: Final = "pseudonym-4711"
RULES: Final = parse_rules("""
budgets:
  - {budget: tenant-day, over: tenant, of: cost, limit: 12 USD, per: day, burn: [{long: 30m, short: 5m, factor: 2}]}
  - {budget: user-month, over: user, of: tokens, limit: 1000, per: month}
  - {budget: all-hour, over: all, of: calls, limit: 10, per: hour}
""")


def usage(number: int, time_ms: int, usd: int = 1, tenant: str = "acme", **more: Any) -> dict[str, Any]:
    return {"kind": "token_usage", "id": f"u{number}", "time": time_ms, "agent": "a", "session_id": "s", "model": "m",
            "tenant": tenant, "user_id": PERSON, "input_tokens": 10, "cost_nano_usd": usd * USD, **more}  # fmt: skip


def spenders(count: int = 1) -> Stages:
    """Let tenants spend 6 USD each within ten seconds."""
    stages = Stages(RULES, events=1)
    stages.publish([usage(n, NOON + n * 10, usd=6, tenant="acme" if not n else f"t{n}") for n in range(count)])
    return stages


def seen(stages: Stages) -> View:
    view = View(len(stages.rollups))
    for number, rows in stages.changelog():
        view.feed(number, rows)
    settle(view)
    return view


def tables(stages: Stages) -> Tables:
    found = Tables()
    for number, rows in stages.changelog():
        for key, stored in rows:
            found.take(ROLLUPS_CHANGELOG.suffix, number, key, stored)
    return found


def standing(stages: Stages, now_ms: int, budget: str = "tenant-day") -> Standing:
    (found,) = of_tables(tables(stages), now_ms, budget)
    return found


def test_a_standing_says_what_is_spent_left_and_how_fast_it_goes() -> None:
    now = standing(spenders(), NOON)

    assert (6 * USD, 6 * USD, 12 * USD, 0.5) == (now.spent, now.remaining, now.limit, now.share)
    assert (NOON - 12 * HOUR_MS, NOON + 12 * HOUR_MS) == (now.start_ms, now.end_ms)
    # 6 USD in an hour are 12 times half a dollar, the pace of 12 USD a day; within 5 minutes 144 times
    assert {300_000: 144_000_000, 1_800_000: 24_000_000, 3_600_000: 12_000_000} == dict(now.burns)
    assert NOON + HOUR_MS == now.out_ms
    assert not now.lasts


def test_what_was_spent_lately_fades_and_the_period_ends_though_nobody_writes() -> None:
    stages = spenders()
    later, tomorrow = standing(stages, NOON + 2 * HOUR_MS), standing(stages, NOON + 12 * HOUR_MS)

    assert {0} == set(dict(later.burns).values())
    assert later.out_ms is None
    assert later.lasts
    assert 6 * USD == later.spent
    assert (0, 12 * USD) == (tomorrow.spent, tomorrow.remaining)


def test_the_page_shows_budgets_of_keys_with_a_series() -> None:
    found = series(render(seen(spenders())))
    usd = {"budget": "tenant-day", "key": "acme", "unit": "usd"}

    assert 12 == value(found, "agent_budget_limit", **usd)
    assert 6 == value(found, "agent_budget_spent", **usd)
    assert 6 == value(found, "agent_budget_remaining", **usd)
    assert 144 == value(found, "agent_budget_burn", budget="tenant-day", key="acme", window="5m")
    assert 3600 == value(found, "agent_budget_run_out_seconds", budget="tenant-day", key="acme")
    assert 0 == value(found, "agent_budget_spent", budget="all-hour", key="", unit="calls")


def test_there_are_only_so_many_series_and_later_accounts_have_none() -> None:
    stages = Stages(parse_rules("budgets: [{budget: b, over: tool, of: calls, limit: 9, per: day}]"), events=1)
    ends = [{"kind": "tool_end", "id": f"e{n}", "time": NOON, "agent": "a", "session_id": "s", "tool": f"t{n}"}
            for n in range(STANDINGS_MAX + 60)]  # fmt: skip
    stages.publish(ends)
    found = series(render(seen(stages)))
    spent = [name for name, _ in found if name == "agent_budget_spent"]

    assert 0 < len(spent) <= STANDINGS_MAX
    assert STANDINGS_MAX + 60 == len(of_tables(tables(stages), NOON))


def test_no_format_ever_names_a_person() -> None:
    """Users have budgets, alerts and rows of their own in Kafka; exporters fold them all into nothing."""
    stages = spenders(3)
    view = seen(stages)
    samples = {**view.samples(NOON), **own_samples()}
    pages = [render(view), render(view, openmetrics=True)]
    pages += [b"".join(write(view, samples, now_ms=NOON)).decode() for write in (as_json, as_csv, as_influx)]

    assert {PERSON} == {row.labels[0] for part in stages.rollups for row in _rows(part) if row.dimension == "user"}
    assert all(PERSON not in page and "user-month" not in page for page in pages)
    assert 0 == KEYS_MAX["user"]
    with pytest.raises(ConfigError, match="keys of 'user'"):
        ExporterConfig(KafkaConnection(bootstrap="x:1"), keys_max={"user": 5})


def _rows(part: Any) -> list[Any]:
    return [keyed.row for keyed in part.keyed()]


def test_a_row_that_loses_its_budget_loses_its_series() -> None:
    stages = spenders()
    view = seen(stages)
    before = [each.budget for each in standings(view._budgeted(), NOON)]
    for part in stages.rollups:
        part._accounts.use(())
    stages.publish([usage(9, NOON + 1000)])
    after = seen(stages)

    assert {"tenant-day", "all-hour"} == set(before)
    assert [] == list(standings(after._budgeted(), NOON))


def test_people_read_a_table_the_most_spent_first() -> None:
    shown = of_tables(tables(spenders()), NOON)
    table = table_of(shown, NOON)

    assert ["tenant-day", "user-month", "all-hour"] == [each.budget for each in shown]
    assert len(shown) == table.row_count
    assert "in 1h" == runs_out(shown[0], NOON)
    assert "day from 2025-11-21T00:00Z" == period(shown[0])
    assert "lasts" == runs_out(shown[2], NOON)
    assert {"1h": 12.0, "30m": 24.0, "5m": 144.0} == as_dict(shown[0])["burn"]
    assert {"user_id": PERSON} == as_dict(shown[1])["labels"]


def test_a_budget_that_is_newer_than_its_period_says_since_when_it_counts() -> None:
    stages = Stages(events=1)
    stages.publish([usage(1, NOON - 3 * DAY_MS)])
    stages.tick(NOON)
    for part in stages.rollups:
        part._accounts.use(RULES.budgets)
    stages.publish([usage(2, NOON + 1)])
    now = standing(stages, NOON, "user-month")

    assert 10 == now.spent  # of the 20 tokens of this month
    assert "counted since 2025-11-20T13:00" in period(now)
