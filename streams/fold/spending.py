"""What has a key spent of a budget, hour by hour, day by day or month by month?  Accounts, charged by event time.

Never judges: `streams.rule.budget` compares with limits.  Windows are made of panes, which a late event has none of and
which are kept for a day; an account is charged with everything that counts, however late, and so agrees with a recount.
Periods are those of the UTC calendar, half-open.  `rolling_day` is the running hour and the 23 before it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from streams.fold.streamtime import HOUR_MS, moment_of

DAY_MS: Final = 24 * HOUR_MS
ROLLING_HOURS: Final = 24
SLACK_MS: Final = HOUR_MS  # of a new row: its first events may be older than it is, by the grace and no more

Per: TypeAlias = Literal["hour", "day", "rolling_day", "month"]
BudgetUnit: TypeAlias = Literal["nano_usd", "tokens", "count"]
PERIODS: Final[tuple[Per, ...]] = ("hour", "day", "rolling_day", "month")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """A period: [start_ms, end_ms)."""

    start_ms: int
    end_ms: int


class Account(Struct, array_like=True, gc=False):
    """What one key has spent of one budget; `limit` and `unit` are the budget's, as they were last applied.

    `spent` is by the start of the period (of the hour, for `rolling_day`), the last period's included.  Before
    `since_ms` nothing was counted.  `recent` is what was spent within trailing windows, by their length, at `at_ms`.
    """

    per: Per
    unit: BudgetUnit
    fields: tuple[str, ...]
    limit: int
    since_ms: int = 0
    spent: dict[int, int] = {}
    at_ms: int = -1
    recent: dict[int, int] = {}

    def spent_in(self, span: Span) -> int:
        """Return what was spent within a period."""
        if self.per != "rolling_day":
            return self.spent.get(span.start_ms, 0)
        return sum(amount for start_ms, amount in self.spent.items() if span.start_ms <= start_ms < span.end_ms)

    def spent_within(self, window_ms: int, now_ms: int) -> int:
        """Return what was spent within a trailing window as of the last time; 0 once it has passed since."""
        return 0 if now_ms - self.at_ms >= window_ms else self.recent.get(window_ms, 0)


def span_at(per: Per, now_ms: int) -> Span:
    """Return the period that holds a moment."""
    if per == "month":
        return _month(now_ms // DAY_MS)
    if per == "day":
        start_ms = now_ms - now_ms % DAY_MS
        return Span(start_ms, start_ms + DAY_MS)
    end_ms = now_ms - now_ms % HOUR_MS + HOUR_MS
    return Span(end_ms - (HOUR_MS if per == "hour" else ROLLING_HOURS * HOUR_MS), end_ms)


def length_ms(per: Per, span: Span) -> int:
    """Return how long a period is."""
    return DAY_MS if per == "rolling_day" else span.end_ms - span.start_ms


@lru_cache(64)  # consecutive look-ups are of the same few days
def _month(day: int) -> Span:
    at = _EPOCH + timedelta(days=day)
    first = at.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Span((first - _EPOCH).days * DAY_MS, (following - _EPOCH).days * DAY_MS)


def _step(per: Per, event_ms: int) -> int:
    """Return the start of what an amount is kept by."""
    return event_ms - event_ms % HOUR_MS if per == "rolling_day" else span_at(per, event_ms).start_ms


def _oldest(per: Per, now_ms: int) -> int:
    """Return the first start that is still kept: of the last period, because what is not late may belong to it."""
    start_ms = span_at(per, now_ms).start_ms
    return start_ms - HOUR_MS if per == "rolling_day" else span_at(per, max(start_ms - 1, 0)).start_ms


def charge(account: Account, sums: Mapping[str, int], pane_ms: int, now_ms: int) -> None:
    """Add what a delta adds to the account's fields to the period that its pane, or its late hour, lies in."""
    amount = 0
    for field in account.fields:
        amount += sums.get(field, 0)
    if not amount:
        return
    start_ms = _step(account.per, moment_of(pane_ms))
    oldest_ms = _oldest(account.per, now_ms)
    if start_ms < oldest_ms:
        return  # of a period that nobody asks about any more
    spent = account.spent
    spent[start_ms] = spent.get(start_ms, 0) + amount
    if min(spent) < oldest_ms:
        account.spent = {start: each for start, each in spent.items() if start >= oldest_ms}


def opened(
    per: Per,
    unit: BudgetUnit,
    fields: tuple[str, ...],
    panes: Iterable[tuple[int, Mapping[str, int]]],
    created_ms: int,
    now_ms: int,
) -> Account:
    """Open an account of a key that may have spent before: what its panes (start, sums) know is charged.

    Panes are kept for a day in hours, so an hour and a day begin complete but for what came late; a month may not.
    """
    covered_ms = now_ms - now_ms % HOUR_MS - (ROLLING_HOURS - 1) * HOUR_MS
    account = Account(per, unit, fields, 0, 0 if created_ms >= covered_ms + SLACK_MS else max(covered_ms, 0))
    for start_ms, sums in panes:
        if start_ms >= covered_ms:
            charge(account, sums, start_ms, now_ms)
    return account
