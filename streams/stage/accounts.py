"""Which rows have accounts of which budgets, and when are they charged?  Every delta of a row with a name of its own.

Never compares with a limit: rules do.  The row that many keys share has no account, because nobody could act on it.
"""

from collections.abc import Mapping, Sequence

from streams.fold.panes import Panes
from streams.fold.rollup import Delta, LifetimeRow
from streams.fold.spending import Account, charge, opened
from streams.rule.budget import BudgetPolicy


class Accounts:
    """The budgets of a rule set, by the kind of row they are over."""

    def __init__(self, budgets: Sequence[BudgetPolicy]) -> None:
        self._over: dict[str, list[BudgetPolicy]] = {}
        self._opened: set[tuple[str, tuple[str, ...]]] = set()  # rows looked at since: at most as many as there are
        self.use(budgets)

    def use(self, budgets: Sequence[BudgetPolicy]) -> None:
        """Go by these budgets from now on; a row follows when it is touched."""
        self._over = {}
        for policy in budgets:
            self._over.setdefault(policy.over, []).append(policy)
        self._opened.clear()

    def open(self, row: LifetimeRow, panes: Panes, now_ms: int) -> bool:
        """Have a row keep the accounts that its budgets ask for, and no others; returns whether that changed it.

        Before a delta is added, and before a live alert is judged: nobody may spend any more, so nothing touches it.
        """
        policies = self._over.get(row.dimension, ())
        if (not policies and not row.accounts) or (row.dimension, row.labels) in self._opened:
            return False
        self._opened.add((row.dimension, row.labels))
        before = {name: (id(account), account.limit) for name, account in row.accounts.items()}
        limits = {} if row.ordinal < 0 else {policy.name: policy.limit_of(row.labels) for policy in policies}
        for name in [name for name in row.accounts if limits.get(name) is None]:
            del row.accounts[name]
        for policy in policies:
            limit = limits.get(policy.name)
            if limit is not None:
                _account(row, policy, panes, now_ms).limit = limit
        return before != {name: (id(account), account.limit) for name, account in row.accounts.items()}

    def forget(self, row: LifetimeRow) -> None:
        """Know a row no more: one of its name that comes later is another one."""
        self._opened.discard((row.dimension, row.labels))

    def charge(self, row: LifetimeRow, delta: Delta, now_ms: int) -> None:
        """Charge a delta that is added to a row."""
        for account in row.accounts.values():
            charge(account, delta.sums, delta.pane_ms, now_ms)

    def note(self, row: LifetimeRow, panes: Panes, now_ms: int) -> None:
        """Note what was spent lately, for readers who have no panes; when the row is written."""
        for policy in self._over.get(row.dimension, ()):
            account = row.accounts.get(policy.name)
            if account is not None:
                account.at_ms = now_ms
                account.recent = {
                    window_ms: sum(panes.window(field, window_ms, now_ms) for field in policy.fields)
                    for window_ms in policy.windows_ms
                }


def _account(row: LifetimeRow, policy: BudgetPolicy, panes: Panes, now_ms: int) -> Account:
    """Return a row's account of a budget, a new one when the budget is new or counts something else by now."""
    known = row.accounts.get(policy.name)
    if known is not None and (known.per, known.unit, known.fields) == (policy.per, policy.unit, policy.fields):
        return known
    spent: list[tuple[int, Mapping[str, int]]] = [(pane.start_ms, pane.sums) for pane in panes.rows.values()]
    assert policy.per != "session"  # sessions are rows of the first stage
    account = opened(policy.per, policy.unit, policy.fields, spent, row.created_ms, now_ms)
    row.accounts[policy.name] = account
    return account
