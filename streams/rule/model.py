"""What is a rule?  Frozen structs: alert rules, breaker policies, and all that one rule text says.

Never reads text (`streams.rule.parse` does) and never judges (`streams.rule.threshold` and `streams.rule.breaker` do).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from streams.fold.circuits import NEVER_SLOW, Guarded, Outcomes
from streams.rule.budget import Budget, BudgetPolicy
from streams.rule.formula import Formula
from streams.rule.reading import EXPLAINED, SUBJECTS, Subject, Unit
from streams.rule.usual import Usual

ATTEMPTS_MAX: Final = 64  # of which each makes the wait longer; ten to that power is still a number

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


class Silence(Struct, frozen=True, tag="silence"):
    """How long the row has not been touched by any event, in ms."""


Value: TypeAlias = Sum | Ratio | Quantile | Total | Gauge | Silence | Formula | Budget


class Pace(IntEnum):
    """When does a rule's value change?"""

    TOUCH = 0  # only when its row is touched
    EDGE = 1  # only when a pane closes
    AGE = 2  # when touched, and by itself


class Rule(Struct, frozen=True):
    """One alert rule; `limit` is in `unit`, as stored, and 0 where `usual` or `right` says what it is.

    `condition` decides alone; `right` is what it compares the value with first, unless that is `limit`.
    `when` must be true besides.  Once firing, the alert stays until the value has passed `clear` the other way.
    """

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
    when: Formula | None = None
    condition: Formula | None = None
    right: Formula | None = None
    usual: Usual | None = None
    clear: int | float | None = None
    complete_ppm: int = 0  # of the events that came lately, those that must have been applied before it says anything
    alerts_max: int = 0  # alive per partition; 0: as many as any rule may have
    restless: bool = False  # its value changes by itself, though no pane closes on anything

    @property
    def subject(self) -> Subject:
        """The kind of row it judges."""
        return SUBJECTS[self.over]


def explained(value: Value) -> bool:
    """Is there more to say of a value than how large it is?"""
    return isinstance(value, Gauge) and value.field in EXPLAINED


class BreakerPolicy(Struct, frozen=True):
    """When the circuits of one kind of key open, and how they close again.

    The window is the last `window_calls` calls in the order in which they were committed, or, if that is 0, the panes
    of the last `window_ms`.  `calls` are the measures that count and `failures` those of them that are bad.
    `open_for_ms` grows by `open_factor` with every opening in a row, up to `open_most_ms`.
    """

    over: str
    failure_rate: float
    window_ms: int
    min_calls: int
    open_for_ms: int
    half_open_calls: int
    failures: tuple[str, ...]
    calls: tuple[str, ...]
    window_calls: int = 0
    slow_rate: float = 1.0
    slow_us: int = NEVER_SLOW
    failure_codes: tuple[str, ...] = ()
    ignored_codes: tuple[str, ...] = ()
    open_factor: float = 1.0
    open_most_ms: int = 0
    half_open_for_ms: int = 0  # 0: for ever
    after_half_open: Literal["open", "closed"] = "open"
    automatic: bool = True  # else a request after the wait is what makes it half-open
    initial: Literal["closed", "open", "half_open", "disabled", "forced_open", "metrics_only"] = "closed"

    @property
    def by_codes(self) -> bool:
        """Do error codes decide what counts?  Then the measures of the rows do not tell."""
        return bool(self.failure_codes or self.ignored_codes)

    @property
    def least_calls(self) -> int:
        """How many calls say something while the circuit is closed: a window never holds more than its size."""
        return min(self.min_calls, self.window_calls) if self.window_calls else self.min_calls

    @property
    def least_probes(self) -> int:
        """How many calls decide a half-open circuit."""
        return min(self.min_calls, self.half_open_calls)

    def wait_ms(self, attempts: int) -> int:
        """Return how long the circuit stays open the first time (1), the second time in a row (2), and so on."""
        if self.open_factor <= 1.0:
            return self.open_for_ms
        grown = self.open_for_ms * self.open_factor ** min(max(attempts - 1, 0), ATTEMPTS_MAX)
        return int(min(grown, self.open_most_ms))

    def guarded(self) -> Guarded | None:
        """Return what the first stage is to find out of every call; None: the rows tell all."""
        if not (self.window_calls or self.slow_us >= 0 or self.by_codes):
            return None
        failed = {status_of(field) for field in self.failures}
        verdicts = {status_of(field): int(status_of(field) in failed) for field in self.calls}
        codes = self.failure_codes, self.ignored_codes
        return Guarded(self.over, verdicts, self.slow_us, *codes, in_order=self.window_calls > 0)


NOUNS: Final[Mapping[str, str]] = {
    "tool": "tool_calls", "agent_tool": "tool_calls", "model": "model_calls", "provider": "model_calls",
    "agent": "requests", "endpoint": "requests",
}  # fmt: skip


def status_of(field: str) -> str:
    """Return the status that a measure such as `tool_calls_validation_error` counts."""
    noun = next((noun for noun in NOUNS.values() if field.startswith(noun + "_")), "")
    return field[len(noun) + 1 :] if noun else field


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

    def outcomes(self) -> Outcomes | None:
        """Return what notes how guarded calls end; None when the rows tell all that the policies ask."""
        guarded = [each for each in (policy.guarded() for policy in self.breakers) if each is not None]
        return Outcomes(guarded) if guarded else None
