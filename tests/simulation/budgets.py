"""Are accounts of budgets exact?  Recounts what was published, by calendar, late events included; repeats never count.

Shares no code with the accounts: periods are cut with the calendar of the standard library.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from ledger import Counted, Event, Place, Totals, added, grow, places, user_part

from streams.fold.rollup import LifetimeRow
from streams.rule.model import RuleSet

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def start_of(per: str, ms: int) -> int:
    """Cut a moment down to the start of its period; rolling days are kept by the hour."""
    moment = EPOCH + timedelta(milliseconds=ms)
    start = moment.replace(minute=0, second=0, microsecond=0)
    if per in {"day", "month"}:
        start = start.replace(hour=0)
    if per == "month":
        start = start.replace(day=1)
    return (start - EPOCH) // timedelta(milliseconds=1)


def before(per: str, start_ms: int) -> int:
    """Return the start of the period before one."""
    return start_of(per, start_ms - 1)


def amounts_of(event: Event) -> dict[Place, Totals]:
    """Say what an event adds to which keys."""
    found = {place: added(event) for place in places(event)}
    part = user_part(event)
    return found if part is None else {**found, (part.dimension, part.labels): part.sums}


def recount(counted: Iterable[Counted], rules: RuleSet) -> dict[tuple[str, Place], dict[int, int]]:
    """Add up by budget, key and start of period what was spent."""
    spent: dict[tuple[str, Place], dict[int, int]] = {}
    for event, _, event_ms in counted:
        amounts = amounts_of(event)
        for policy in rules.budgets:
            for place, sums in amounts.items():
                amount = sum(sums.get(field, 0) for field in policy.fields) if place[0] == policy.over else 0
                if amount:
                    by_start = spent.setdefault((policy.name, place), {})
                    start_ms = start_of(policy.per, event_ms)
                    by_start[start_ms] = by_start.get(start_ms, 0) + amount
    return spent


def wrong_accounts(
    rows: dict[Place, list[LifetimeRow]], clock_ms: int, spent: dict[tuple[str, Place], dict[int, int]], rules: RuleSet
) -> list[str]:
    """Name every account that differs from the recount in the running period or the one before it."""
    wrong: list[str] = []
    for policy in rules.budgets:
        oldest_ms = before(policy.per, start_of(policy.per, clock_ms))
        if policy.per == "rolling_day":
            oldest_ms = start_of("hour", clock_ms) - 23 * 3_600_000
        for place, some in rows.items():
            if place[0] != policy.over or some[0].ordinal < 0:
                continue
            found: Totals = {}
            for row in some:
                for start_ms, amount in row.accounts[policy.name].spent.items():
                    if start_ms >= oldest_ms:
                        grow(found, str(start_ms), amount)
            expected = {str(at): n for at, n in spent.get((policy.name, place), {}).items() if at >= oldest_ms}
            if found != expected:
                wrong.append(f"{policy.name} of {place}: {found}, expected {expected}")
    return wrong
