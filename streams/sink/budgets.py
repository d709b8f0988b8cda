"""How do the budgets of keys stand?  Accounts as they are in rows, at a moment: spent, left, how fast, until when.

Never judges: rules of the second stage do.  An account whose period has ended stands at nothing, whoever wrote it last.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from streams.fold.rollup import LifetimeRow
from streams.fold.spending import Account, BudgetUnit, Per, length_ms, span_at
from streams.rule.amount import duration_text
from streams.rule.budget import PPM, RECENT_MS, burn_ppm, runs_out_ms
from streams.sink.metric import NANO_PER_USD, Sample, own

STANDINGS_MAX: Final = 200  # accounts with series of their own, about six each: some 4 ms of a page

_UNITS: Final = {"nano_usd": ("usd", NANO_PER_USD), "tokens": ("tokens", 1), "count": ("calls", 1)}
_KEYED: Final = ("budget", "key", "unit")

OF_BUDGETS: Final = (
    own("agent_budget_limit", "gauge", "What a key may spend of a budget in a period.", "view", _KEYED),
    own("agent_budget_spent", "gauge", "What a key has spent of a budget in this period.", "view", _KEYED),
    own("agent_budget_remaining", "gauge", "What is left to a key of a budget in this period.", "view", _KEYED),
    own(
        "agent_budget_burn",
        "gauge",
        "How fast a budget was spent within a window: 1 spends the limit in just a period; as of the last spending.",
        "view",
        ("budget", "key", "window"),
    ),
    own(
        "agent_budget_run_out_seconds",
        "gauge",
        "How long a budget lasts at the rate of its last hour; none where nothing was spent.",
        "view",
        ("budget", "key"),
        unit="seconds",
    ),
)


class Standing(NamedTuple):
    """How one key stands with one budget; amounts in the stored unit, burns in millionths by window (ms).

    `since_ms` is later than `start_ms` where the budget is newer than the period and what was spent before is unknown.
    """

    budget: str
    over: str
    labels: tuple[str, ...]
    per: Per
    unit: BudgetUnit
    limit: int
    spent: int
    start_ms: int
    end_ms: int
    since_ms: int
    burns: tuple[tuple[int, int], ...]
    out_ms: int | None

    @property
    def remaining(self) -> int:
        """What is left; 0 when more than all is gone."""
        return max(self.limit - self.spent, 0)

    @property
    def share(self) -> float:
        """How much of the limit is spent."""
        return self.spent / self.limit

    @property
    def lasts(self) -> bool:
        """Will something be left at the end of the period, at this rate?"""
        return self.out_ms is None or (self.per != "rolling_day" and self.out_ms >= self.end_ms)

    @property
    def key(self) -> str:
        """The key in one word."""
        return "|".join(self.labels)


_span: Final = lru_cache(8)(span_at)  # of all rows of a page
_window: Final = lru_cache(64)(duration_text)


def standing(budget: str, account: Account, row: LifetimeRow, now_ms: int) -> Standing:
    """Return how a row stands with one of its budgets at a moment."""
    span = _span(account.per, now_ms)
    spent = account.spent_in(span)
    lately = {window_ms: account.spent_within(window_ms, now_ms) for window_ms in sorted(account.recent)}
    period_ms = length_ms(account.per, span)
    return Standing(
        budget, row.dimension, row.labels, account.per, account.unit, account.limit, spent, *span, account.since_ms,
        tuple((window, burn_ppm(amount, window, account.limit, period_ms)) for window, amount in lately.items()),
        runs_out_ms(account.limit - spent, lately.get(RECENT_MS, 0), RECENT_MS, now_ms),
    )  # fmt: skip


def standings(rows: Iterable[LifetimeRow], now_ms: int) -> Iterator[Standing]:
    """Yield how every row stands with every budget of its own."""
    for row in rows:
        for budget, account in row.accounts.items():
            yield standing(budget, account, row, now_ms)


def budget_samples(rows: Iterable[LifetimeRow], now_ms: int) -> dict[str, list[Sample]]:
    """Return the metrics of budgets; beyond STANDINGS_MAX accounts the rest has none."""
    samples: dict[str, list[Sample]] = {metric.name: [] for metric in OF_BUDGETS}
    for each in islice(standings(rows, now_ms), STANDINGS_MAX):
        unit, scale = _UNITS[each.unit]
        amounts = {"limit": each.limit, "spent": each.spent, "remaining": each.remaining}
        for name, amount in amounts.items():
            value = amount if scale == 1 else amount / scale
            samples[f"agent_budget_{name}"].append(Sample((each.budget, each.key, unit), value))
        for window_ms, burn in each.burns:
            samples["agent_budget_burn"].append(Sample((each.budget, each.key, _window(window_ms)), burn / PPM))
        if each.out_ms is not None:
            left_s = (each.out_ms - now_ms) / 1000
            samples["agent_budget_run_out_seconds"].append(Sample((each.budget, each.key), left_s))
    return samples
