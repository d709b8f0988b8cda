"""Is a budget's share spent, or is it being spent too fast?  A policy, the value its rules look at, and their verdict.

Never holds what was spent: the accounts of rows do (`streams.fold.spending`), and a session's own totals.
Burn as in Google's SRE workbook, chapter 5: what was spent in a window / (limit × window / period).  It is 1 when just
the limit would be spent by the end of the period, and alerts while a long and a short window are both above a factor.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

from streams.fold.spending import Account, BudgetUnit, Per, length_ms, span_at
from streams.fold.streamtime import HOUR_MS
from streams.rule.amount import amount_text
from streams.rule.linear import Linear

Key: TypeAlias = tuple[str, ...]
BudgetPer: TypeAlias = Literal["session"] | Per

PPM: Final = 1_000_000
RECENT_MS: Final = HOUR_MS  # what was spent lately is asked of this window, unless a burn asks of another


class BudgetPolicy(Struct, frozen=True):
    """One budget; `limits` are those of single keys, and `match` says which keys have one at all."""

    name: str
    over: str
    per: BudgetPer
    unit: BudgetUnit
    fields: tuple[str, ...]
    limit: int
    limits: dict[Key, int]
    match: tuple[Linear | None, ...]  # by column
    windows_ms: tuple[int, ...]  # that what was spent lately is kept of

    def limit_of(self, key: Key) -> int | None:
        """Return a key's limit, or None when the budget says nothing about it."""
        own = self.limits.get(key)
        if own is not None:
            return own
        if any(each is not None and not each.matches(label) for each, label in zip(self.match, key, strict=False)):
            return None
        return self.limit


class Budget(Struct, frozen=True, tag="budget"):
    """What has been spent of a budget, as a share of its limit; with windows: how fast, as a multiple of the pace."""

    budget: str
    per: BudgetPer
    unit: BudgetUnit
    fields: tuple[str, ...]
    limit: int  # of a session's; other keys have theirs in their account
    level_ppm: int  # the share or the factor that is alerted at
    long_ms: int = 0
    short_ms: int = 0


class Spender(Protocol):
    """What is asked of a row; part of `streams.rule.reading.Reading`."""

    @property
    def now_ms(self) -> int:
        """The moment of the reading."""

    def total(self, field: str) -> int:
        """Return what a measure has added up to since the row began."""

    def window(self, field: str, window_ms: int) -> int:
        """Sum a measure over the trailing panes, the open one included."""

    def account(self, budget: str) -> Account | None:
        """Return the row's account of a budget."""


class Spent(NamedTuple):
    """What a budget's rule has found: is its level reached, at which value, and everything about the account."""

    reached: bool
    value: float
    facts: dict[str, int]


def spent(value: Budget, reading: Spender) -> Spent | None:
    """Look at a row's account, or at a session's totals; None when the row has no such budget.

    How fast and how long is asked of the panes only when there is something to tell: most looks find nothing.
    """
    if value.per == "session":
        total = sum(reading.total(field) for field in value.fields)
        return Spent(_reached(total, value.limit, value), total / value.limit, _facts(total, value.limit))
    account = reading.account(value.budget)
    if account is None:
        return None
    span = span_at(value.per, reading.now_ms)
    amount, limit = account.spent_in(span), account.limit
    facts = _facts(amount, limit) | {"period_start_ms": span.start_ms, "period_end_ms": span.end_ms}
    if value.long_ms:
        return _burn(value, reading, limit, length_ms(value.per, span), facts)
    reached = _reached(amount, limit, value)
    if reached:
        _pace(facts, _within(value, reading, RECENT_MS), RECENT_MS, reading.now_ms, length_ms(value.per, span))
    return Spent(reached, amount / limit, facts)


def burn_ppm(amount: int, window_ms: int, limit: int, period_ms: int) -> int:
    """Return how fast an amount was spent, in millionths of the pace that spends the limit in just a period."""
    return amount * period_ms * PPM // (limit * window_ms)


def runs_out_ms(remaining: int, recent: int, recent_ms: int, now_ms: int) -> int | None:
    """Return when nothing will be left at the recent rate; None when nothing is being spent."""
    if remaining <= 0:
        return now_ms
    return None if recent <= 0 else now_ms + -(-remaining * recent_ms // recent)


def _facts(amount: int, limit: int) -> dict[str, int]:
    return {"spent": amount, "limit": limit, "remaining": max(limit - amount, 0)}


def _reached(amount: int, limit: int, value: Budget) -> bool:
    return amount * PPM >= limit * value.level_ppm


def _within(value: Budget, reading: Spender, window_ms: int) -> int:
    return sum(reading.window(field, window_ms) for field in value.fields)


def _pace(facts: dict[str, int], recent: int, recent_ms: int, now_ms: int, period_ms: int) -> None:
    """Add how fast it goes, and until when."""
    facts["burn_ppm"] = burn_ppm(recent, recent_ms, facts["limit"], period_ms)
    out_ms = runs_out_ms(facts["remaining"], recent, recent_ms, now_ms)
    if out_ms is not None:
        facts["runs_out_ms"] = out_ms


def _burn(value: Budget, reading: Spender, limit: int, period_ms: int, facts: dict[str, int]) -> Spent:
    long_ms, short_ms, level = value.long_ms, value.short_ms, value.level_ppm
    recent = _within(value, reading, long_ms)
    burn = burn_ppm(recent, long_ms, limit, period_ms) / PPM
    if not _above(recent, long_ms, limit, period_ms, level):
        return Spent(False, burn, facts)
    reached = _above(_within(value, reading, short_ms), short_ms, limit, period_ms, level)
    _pace(facts, recent, long_ms, reading.now_ms, period_ms)
    return Spent(reached, burn, facts)


def _above(amount: int, window_ms: int, limit: int, period_ms: int, level_ppm: int) -> bool:
    return amount * period_ms * PPM > level_ppm * limit * window_ms


WORDS: Final = ("spent", "remaining", "allowed", "period", "runs_out_at", "burn")
_PERIODS: Final[dict[str, str]] = {
    "session": "by this session",
    "hour": "this hour",
    "day": "today (UTC)",
    "rolling_day": "within 24 hours",
    "month": "this month (UTC)",
}


def words(value: Budget, facts: Mapping[str, int], when: Callable[[int], str]) -> dict[str, str]:
    """Return what templates of budgets may name; `when` writes a moment."""
    out_ms, end_ms = facts.get("runs_out_ms"), facts.get("period_end_ms")
    lasts = out_ms is None or (value.per != "rolling_day" and end_ms is not None and out_ms >= end_ms)
    return {
        "spent": amount_text(facts.get("spent"), value.unit),
        "remaining": amount_text(facts.get("remaining"), value.unit),
        "allowed": amount_text(facts.get("limit"), value.unit),
        "period": _PERIODS[value.per],
        "runs_out_at": "not in this period" if lasts or out_ms is None else when(out_ms),
        "burn": amount_text(facts.get("burn_ppm", 0) / PPM, "count"),
    }


def period_ended(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> bool:
    """Say whether two looks at a budget are of different periods."""
    if before is None or after is None:
        return False
    return before.get("period_start_ms") != after.get("period_start_ms")
