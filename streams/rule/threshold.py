"""Does a row break a rule's limit?  Pure: rule and reading in, verdict out.

Never remembers anything: `for`, firing and resolving are the alert's life (`streams.rule.alert`).
Sums above a limit take the open pane in, so that they alert at once.  Ratios, quantiles and everything below a limit
wait for panes to close: half a pane would make a good tool look bad, and a busy one look idle.  So does everything
whose limit is what is usual, because closed windows are what that was learned from.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct

from streams.fold.session import Finding
from streams.rule.budget import Budget, spent
from streams.rule.formula import Formula
from streams.rule.model import Gauge, Pace, Quantile, Ratio, Rule, Silence, Sum, Total
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
    """An outcome, the value in the rule's unit, and the count that `min_count` was compared with (0: not asked).

    `limit` is what the value was compared with, where the rule itself names no number.
    """

    outcome: Outcome
    value: int | float | None
    count: int = 0
    facts: dict[str, int] | None = None  # of a budget: what was spent, what is left, when it runs out
    why: Finding | None = None  # what a detector found, where one has been asked
    limit: int | float | None = None


def judge(rule: Rule, reading: Reading) -> Verdict:
    """Compare a row with a rule's limit, strictly; too few is neither breached nor a value to trust."""
    if isinstance(rule.value, Budget):
        return _budget(rule.value, reading)
    value, count = _LOOK[rule.value.__class__](rule.value, rule, reading)
    if rule.condition is not None or rule.when is not None:
        return _conditional(rule, reading, value, count, None)
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


def judge_against(rule: Rule, reading: Reading, limit: float | None, samples: int) -> Verdict:
    """Compare a row with a limit that is usual for it; None: too few samples to say what that is."""
    value, count = _LOOK[rule.value.__class__](rule.value, rule, reading)
    if limit is None:
        return Verdict(TOO_FEW, value, samples)
    return _conditional(rule, reading, value, count, limit)


def value_of(rule: Rule, reading: Reading) -> int | float | None:
    """Return a rule's value, or None where too little was counted to trust it."""
    value, count = _LOOK[rule.value.__class__](rule.value, rule, reading)
    return None if count < rule.min_count else value


def _conditional(rule: Rule, reading: Reading, value: float | None, count: int, limit: float | None) -> Verdict:
    """Judge by a condition: one that decides alone, or one that must be true besides."""
    if rule.condition is not None:
        holds = rule.condition.look(reading)
        if rule.right is not None:
            limit = rule.right.look(reading)
        if holds is None or count < rule.min_count:
            return Verdict(TOO_FEW, value, count, limit=limit)
        return Verdict(BREACHED if holds else CLEAR, value, count, limit=limit)
    holds = True if rule.when is None else rule.when.look(reading)
    if value is None or holds is None or count < rule.min_count:
        return Verdict(TOO_FEW, value, count, limit=limit)
    against = rule.limit if limit is None else limit
    breached = holds and (value > against if rule.above else value < against)
    return Verdict(BREACHED if breached else CLEAR, value, count, limit=limit)


def held_back(rule: Rule, verdict: Verdict) -> bool:
    """Has a value come back within the limit, but not yet as far as `clear` asks of an alert that fires?"""
    value, clear = verdict.value, rule.clear
    if clear is None or value is None or verdict.outcome is not CLEAR:
        return False
    return value >= clear if rule.above else value <= clear


def recheck_ms(rule: Rule, reading: Reading, verdict: Verdict, now_ms: int) -> int | None:
    """When may a clear row break the limit although nothing touches it?  None: never."""
    if rule.pace is Pace.TOUCH:
        return None
    if rule.pace is Pace.AGE:
        began_ms = now_ms - int(verdict.value) if verdict.value is not None else None
        if isinstance(rule.value, Gauge):  # an age may begin ahead
            began_ms = reading.began_ms(rule.value.field)
        # the limit must be passed: equal is not above
        return None if began_ms is None else max(began_ms + int(rule.limit), now_ms) + 1
    # Silence in every pane stays silence, except for a rule that waits for silence.
    active = verdict.count or not rule.above or rule.restless or reading.window(rule.subject.activity, rule.window_ms)
    return edge_after(rule, now_ms) if active else None


def edge_after(rule: Rule, now_ms: int) -> int:
    """Return the next moment at which a pane of the rule's rows closes."""
    step_ms = rule.subject.step_ms
    return now_ms - now_ms % step_ms + step_ms


# ---- looking: value and count by kind of value ------------------------------------------------------------------


def _lifetime_count(rule: Rule, reading: Reading) -> int:
    return reading.total(rule.subject.activity) if rule.min_count else 0


def _sum(value: Sum, rule: Rule, reading: Reading) -> tuple[int, int]:
    window = reading.window if rule.pace is Pace.TOUCH else reading.window_closed
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


def _silence(_value: Silence, rule: Rule, reading: Reading) -> tuple[int, int]:
    return reading.quiet_ms(), _lifetime_count(rule, reading)


def _formula(value: Formula, rule: Rule, reading: Reading) -> tuple[int | float | None, int]:
    return value.look(reading), _lifetime_count(rule, reading)


_LOOK: Final[dict[type, Callable[[Any, Rule, Reading], tuple[int | float | None, int]]]] = {
    Sum: _sum,
    Ratio: _ratio,
    Quantile: _quantile,
    Total: _total,
    Gauge: _gauge,
    Silence: _silence,
    Formula: _formula,
}
