"""Does a row break a rule's limit?  Pure: rule and reading in, verdict out.

Never remembers anything: `for`, firing and resolving are the alert's life (`streams.rule.alert`).
Sums above a limit take the open pane in, so that they alert at once.  Ratios, quantiles and everything below a limit
wait for panes to close: half a pane would make a good tool look bad, and a busy one look idle.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct

from streams.fold.session import Finding
from streams.rule.budget import Budget, spent
from streams.rule.model import Gauge, Pace, Quantile, Ratio, Rule, Sum, Total
from streams.rule.reading import EXPLAINED, Reading


class Outcome(IntEnum):
    """What a rule says of one row at one moment."""

    CLEAR = 0
    BREACHED = 1
    TOO_FEW = 2  # fewer than min_count, or nothing observed


CLEAR: Final = Outcome.CLEAR
BREACHED: Final = Outcome.BREACHED
TOO_FEW: Final = Outcome.TOO_FEW


class Verdict(Struct, frozen=True, gc=False):
    """An outcome, the value in the rule's unit, and the count that `min_count` was compared with (0: not asked)."""

    outcome: Outcome
    value: int | float | None
    count: int = 0
    facts: dict[str, int] | None = None  # of a budget: what was spent, what is left, when it runs out
    why: Finding | None = None  # what a detector found, where one has been asked


def judge(rule: Rule, reading: Reading) -> Verdict:
    """Compare a row with a rule's limit, strictly; too few is neither breached nor a value to trust."""
    if isinstance(rule.value, Budget):
        return _budget(rule.value, reading)
    value, count = _LOOK[rule.value.__class__](rule.value, rule, reading)
    if value is None or count < rule.min_count:
        return Verdict(TOO_FEW, value, count)
    if not (value > rule.limit if rule.above else value < rule.limit):
        return Verdict(CLEAR, value, count)
    asked = rule.value
    why = reading.explain(asked.field) if isinstance(asked, Gauge) and asked.field in EXPLAINED else None
    return Verdict(BREACHED, value, count, why=why)


def _budget(value: Budget, reading: Reading) -> Verdict:
    found = spent(value, reading)
    if found is None:
        return Verdict(TOO_FEW, None)
    return Verdict(BREACHED if found.reached else CLEAR, found.value, 0, found.facts)


def recheck_ms(rule: Rule, reading: Reading, verdict: Verdict, now_ms: int) -> int | None:
    """When may a clear row break the limit although nothing touches it?  None: never."""
    if rule.pace is Pace.TOUCH:
        return None
    if rule.pace is Pace.AGE:
        began_ms = reading.began_ms(rule.value.field) if isinstance(rule.value, Gauge) else None
        # the limit must be passed: equal is not above
        return None if began_ms is None else max(began_ms + int(rule.limit), now_ms) + 1
    # Silence in every pane stays silence, except for a rule that waits for silence.
    active = verdict.count or not rule.above or reading.window(rule.subject.activity, rule.window_ms)
    return edge_after(rule, now_ms) if active else None


def edge_after(rule: Rule, now_ms: int) -> int:
    """Return the next moment at which a pane of the rule's rows closes."""
    step_ms = rule.subject.step_ms
    return now_ms - now_ms % step_ms + step_ms


# ---- looking: value and count by kind of value ------------------------------------------------------------------


def _lifetime_count(rule: Rule, reading: Reading) -> int:
    return reading.total(rule.subject.activity) if rule.min_count else 0


def _sum(value: Sum, rule: Rule, reading: Reading) -> tuple[int, int]:
    window = reading.window if rule.above else reading.window_closed
    total = 0
    for field in value.fields:
        total += window(field, rule.window_ms)
    return total, _lifetime_count(rule, reading)


def _ratio(value: Ratio, rule: Rule, reading: Reading) -> tuple[float | None, int]:
    to = sum(reading.window_closed(field, rule.window_ms) for field in value.to)
    if not to:
        return None, 0
    of = sum(reading.window_closed(field, rule.window_ms) for field in value.of)
    return of / to, to


def _quantile(value: Quantile, rule: Rule, reading: Reading) -> tuple[float | None, int]:
    count = reading.observations(value.of, rule.window_ms)
    return (reading.quantile(value.of, value.q, rule.window_ms) if count >= rule.min_count else None), count


def _total(value: Total, rule: Rule, reading: Reading) -> tuple[int, int]:
    return sum(reading.total(field) for field in value.fields), _lifetime_count(rule, reading)


def _gauge(value: Gauge, rule: Rule, reading: Reading) -> tuple[int | None, int]:
    return reading.gauge(value.field), _lifetime_count(rule, reading)


_LOOK: Final[dict[type, Callable[[Any, Rule, Reading], tuple[int | float | None, int]]]] = {
    Sum: _sum,
    Ratio: _ratio,
    Quantile: _quantile,
    Total: _total,
    Gauge: _gauge,
}
