"""What is a rule?  Frozen structs: alert rules, breaker policies, and all that one rule text says.

Never reads text (`streams.rule.parse` does) and never judges (`streams.rule.threshold` and `streams.rule.breaker` do).
"""

from enum import IntEnum
from typing import Literal, TypeAlias

from msgspec import Struct

from streams.rule.budget import Budget, BudgetPolicy
from streams.rule.reading import SUBJECTS, Subject, Unit

Severity: TypeAlias = Literal["critical", "warning", "info"]


class Sum(Struct, frozen=True, tag="sum"):
    """How much measures grew within the window."""

    fields: tuple[str, ...]


class Ratio(Struct, frozen=True, tag="ratio"):
    """One sum divided by another, over closed panes."""

    of: tuple[str, ...]
    to: tuple[str, ...]


class Quantile(Struct, frozen=True, tag="quantile"):
    """A quantile of a histogram, over closed panes."""

    of: str
    q: float


class Total(Struct, frozen=True, tag="total"):
    """What measures have added up to since the row began."""

    fields: tuple[str, ...]


class Gauge(Struct, frozen=True, tag="gauge"):
    """A present value."""

    field: str


Value: TypeAlias = Sum | Ratio | Quantile | Total | Gauge | Budget


class Pace(IntEnum):
    """When does a rule's value change?"""

    TOUCH = 0  # only when its row is touched
    EDGE = 1  # only when a pane closes
    AGE = 2  # when touched, and by itself


class Rule(Struct, frozen=True):
    """One alert rule; `limit` is in `unit`, as stored."""

    name: str
    group: str
    over: str
    value: Value
    window_ms: int
    above: bool
    limit: int | float
    unit: Unit
    min_count: int
    for_ms: int
    keep_firing_for_ms: int
    severity: str
    labels: dict[str, str]
    summary: str
    description: str
    pace: Pace
    stop: bool = False  # while it fires, guards deny calls for its key

    @property
    def subject(self) -> Subject:
        """The kind of row it judges."""
        return SUBJECTS[self.over]


class BreakerPolicy(Struct, frozen=True):
    """When the circuit of a tool or a model opens, and how it closes again."""

    over: str
    failure_rate: float
    window_ms: int
    min_calls: int
    open_for_ms: int
    half_open_calls: int
    failures: tuple[str, ...]
    calls: tuple[str, ...]


class RuleSet(Struct, frozen=True):
    """Everything one rule text says."""

    rules: tuple[Rule, ...] = ()
    breakers: tuple[BreakerPolicy, ...] = ()
    budgets: tuple[BudgetPolicy, ...] = ()  # their alerts are among the rules

    def over(self, subject: str) -> tuple[Rule, ...]:
        """Return the rules over one kind of row, in order."""
        return tuple(rule for rule in self.rules if rule.over == subject)

    def breaker(self, subject: str) -> BreakerPolicy | None:
        """Return the breaker policy over one kind of row."""
        return next((policy for policy in self.breakers if policy.over == subject), None)
