"""Accounts: periods are the calendar's, amounts go where they were spent, and what nobody asks about goes."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.spending import DAY_MS, PERIODS, Account, Per, Span, charge, length_ms, opened, span_at
from streams.fold.streamtime import HOUR_MS, LATE_PANE, PANE_MS, late_pane, moment_of

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TIMES: Final = st.integers(0, 7_258_118_400_000)  # to the year 2200
LEAP_DAY: Final = 1_709_208_000_000  # 2024-02-29T12:00Z


def ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def account(per: Per) -> Account:
    return Account(per, "tokens", ("input_tokens", "output_tokens"), 100)


@given(TIMES, st.sampled_from(PERIODS))
def test_a_moment_lies_in_its_period_and_the_next_one_begins_where_it_ends(now_ms: int, per: Per) -> None:
    span = span_at(per, now_ms)
    following = span_at(per, span.end_ms)

    assert span.start_ms <= now_ms < span.end_ms
    assert span == span_at(per, span.end_ms - 1)
    assert following.start_ms == (span.start_ms + HOUR_MS if per == "rolling_day" else span.end_ms)
    assert length_ms(per, span) == span.end_ms - span.start_ms


@given(TIMES)
def test_months_are_those_of_the_standard_library(now_ms: int) -> None:
    first = (EPOCH + timedelta(milliseconds=now_ms)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(first.year * 12 + first.month, 12)

    assert Span(ms(first), ms(first.replace(year=year, month=month + 1))) == span_at("month", now_ms)


def test_february_of_a_leap_year_has_29_days() -> None:
    span = span_at("month", LEAP_DAY)

    assert 29 * DAY_MS == length_ms("month", span)


@given(st.integers(0, 10**13))
def test_a_late_moment_is_known_to_the_hour_and_has_no_pane(event_ms: int) -> None:
    assert late_pane(event_ms) < 0
    assert event_ms - event_ms % HOUR_MS == moment_of(late_pane(event_ms))
    assert 0 == moment_of(LATE_PANE)


@pytest.mark.parametrize("per", PERIODS)
def test_this_period_and_the_last_are_kept_and_older_ones_go(per: Per) -> None:
    mine, span = account(per), span_at(per, LEAP_DAY)
    length = HOUR_MS if per == "rolling_day" else span.end_ms - span.start_ms
    for back in range(30):
        charge(mine, {"input_tokens": 1}, late_pane(max(LEAP_DAY - back * length, 0)), LEAP_DAY)
    kept = len(mine.spent)
    charge(mine, {"output_tokens": 5}, span.end_ms + 60 * DAY_MS, span.end_ms + 60 * DAY_MS)

    assert kept == (25 if per == "rolling_day" else 2)
    assert [5] == list(mine.spent.values())
    assert 5 == mine.spent_in(span_at(per, span.end_ms + 60 * DAY_MS))
    assert 0 == mine.spent_in(span)


def test_only_the_account_s_own_fields_are_charged() -> None:
    mine = account("day")
    charge(mine, {"input_tokens": 3, "output_tokens": 4, "events": 1}, LEAP_DAY, LEAP_DAY)
    charge(mine, {"events": 1}, LEAP_DAY, LEAP_DAY)

    assert {span_at("day", LEAP_DAY).start_ms: 7} == mine.spent


def test_an_account_of_an_old_key_begins_with_what_panes_know() -> None:
    panes = [(LEAP_DAY - 30 * HOUR_MS, {"input_tokens": 1}), (LEAP_DAY - 20 * HOUR_MS, {"input_tokens": 2}),
             (LEAP_DAY - PANE_MS, {"input_tokens": 4})]  # fmt: skip
    old = opened("month", "tokens", ("input_tokens",), panes, LEAP_DAY - 40 * DAY_MS, LEAP_DAY)
    young = opened("month", "tokens", ("input_tokens",), panes[2:], LEAP_DAY - HOUR_MS, LEAP_DAY)
    day = opened("day", "tokens", ("input_tokens",), panes, LEAP_DAY - 40 * DAY_MS, LEAP_DAY)

    assert (6, LEAP_DAY - 23 * HOUR_MS) == (old.spent_in(span_at("month", LEAP_DAY)), old.since_ms)
    assert (4, 0) == (young.spent_in(span_at("month", LEAP_DAY)), young.since_ms)
    assert 4 == day.spent_in(span_at("day", LEAP_DAY))
    assert day.since_ms <= span_at("day", LEAP_DAY).start_ms


def test_what_was_spent_lately_counts_until_its_window_has_passed() -> None:
    mine = account("day")
    mine.at_ms, mine.recent = LEAP_DAY, {HOUR_MS: 7}

    assert 7 == mine.spent_within(HOUR_MS, LEAP_DAY + HOUR_MS - 1)
    assert 0 == mine.spent_within(HOUR_MS, LEAP_DAY + HOUR_MS)
    assert 0 == mine.spent_within(2 * HOUR_MS, LEAP_DAY)
