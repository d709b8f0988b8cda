"""What does a rule look at that is written as an expression (`expr`, `value`, `when`), or as `absent`?

Never judges: it checks texts, and decides whether they may be looked at before a pane closes.
"""

from typing import Final, NamedTuple

from streams.rule.faults import Form
from streams.rule.formula import Checked, Formula, check_condition, check_value
from streams.rule.model import Gauge, Pace, Silence, Sum, Total, Value
from streams.rule.parse_limit import Limit
from streams.rule.reading import AGES, Subject, Unit
from streams.rule.term import Term

SAID_BY_EXPR: Final = ("value", "window", "above", "below", "at_least", "at_most", "samples", "cold_start")
SAID_BY_ABSENT: Final = (*SAID_BY_EXPR, "expr", "clear_above", "clear_below")


class Conditions(NamedTuple):
    """What a rule says in words; `expr` and `absent` leave nothing for `value`, `window` and the limits."""

    over: str
    text: str = ""  # of expr or value
    checked: Checked | None = None
    guard_text: str = ""
    guard: Checked | None = None
    decides: bool = False  # the whole condition is in `text`
    absent_ms: int = 0
    faulty: bool = False

    @property
    def value(self) -> Value | None:
        """The value, where it is an expression or silence."""
        if self.absent_ms:
            return Silence()
        return None if self.checked is None else self._formula(self._shown(self.checked), closed=True)

    @property
    def unit(self) -> Unit | None:
        """The unit of that value."""
        if self.absent_ms:
            return "ms"
        return None if self.checked is None else self._formula(self._shown(self.checked), closed=True).unit

    @property
    def window_ms(self) -> int | None:
        """The longest time the expression looks at; None when `window` is to say it."""
        if self.absent_ms or self.faulty:
            return 0
        return None if self.checked is None else self.checked.term.window_ms

    @property
    def above(self) -> bool:
        """Does the first comparison of `expr` ask for more than its right side."""
        return self.checked is None or self.checked.above

    @property
    def constant(self) -> int | float:
        """What the first comparison compares with, when that is a number; else 0."""
        right = None if self.checked is None else self.checked.right
        return 0 if right is None or right.constant is None else right.constant

    def _shown(self, checked: Checked) -> Term:
        return checked.left if self.decides and checked.left is not None else checked.term

    def _formula(self, term: Term, *, closed: bool) -> Formula:
        assert self.checked is not None, self.text
        return Formula(self.text, self.over, term, closed=closed, node=self.checked.node)

    def _terms(self) -> list[Term]:
        return [each.term for each in (self.checked, self.guard) if each is not None]

    def pace(self, value: Value, limit: Limit) -> Pace:
        """Say when the value changes, or may be looked at."""
        if limit.usual is not None or self.restless(value):
            return Pace.EDGE
        if self.decides:
            return Pace.TOUCH if all(term.rising for term in self._terms()) else Pace.EDGE
        if self.guard is not None and not self.guard.term.rising:
            return Pace.EDGE
        match value:
            case Silence():
                return Pace.AGE
            case Gauge():
                return Pace.AGE if value.field in AGES and limit.above else Pace.TOUCH
            case Total():
                return Pace.TOUCH
            case Sum():
                return Pace.TOUCH if limit.above else Pace.EDGE
            case Formula():
                term = self._terms()[0]
                return Pace.TOUCH if not term.window_ms or (term.rising and limit.above) else Pace.EDGE
            case _:
                return Pace.EDGE

    def restless(self, value: Value) -> bool:
        """Does it change by itself in a manner that has to be looked for."""
        if any(term.restless for term in self._terms()):
            return True
        aging = isinstance(value, Silence) or (isinstance(value, Gauge) and value.field in AGES)
        if self.guard is None:
            return False
        return aging or (isinstance(value, Gauge | Total) and not self.guard.term.rising)

    def formulas(self, value: Value, pace: Pace) -> tuple[Value, Formula | None, Formula | None, Formula | None]:
        """Return the value, the guard, the condition that decides alone, and the right side it compares with."""
        closed = pace is Pace.EDGE
        guard = self.guard
        when = (
            None if guard is None else Formula(self.guard_text, self.over, guard.term, closed=closed, node=guard.node)
        )
        checked = self.checked
        if checked is None:
            return value, when, None, None
        found = self._formula(self._shown(checked), closed=closed)
        if not self.decides:
            return found, when, None, None
        assert checked.right is not None, self.text
        right = None if checked.right.constant is not None else self._formula(checked.right, closed=closed)
        return found, when, self._formula(checked.term, closed=closed), right


def is_plain(form: Form) -> bool:
    """Is the value a single field, whose window stands beside it."""
    raw = form.raw("value")
    return isinstance(raw, str) and raw.isidentifier() and form.has("window")


def read_conditions(form: Form, over: str, subject: Subject) -> Conditions:
    """Read what a rule says in words; other keys that say the same are faults."""
    if form.has("absent"):
        _only(form, "absent", SAID_BY_ABSENT)
        absent_ms = form.duration("absent", 0, least_ms=1_000)
        return _guarded(form, subject, Conditions(over, absent_ms=absent_ms, faulty=not absent_ms))
    decides = form.has("expr")
    key = "expr" if decides else "value"
    raw = form.raw(key)
    if not decides and (not isinstance(raw, str) or is_plain(form)):
        return _guarded(form, subject, Conditions(over))
    if decides:
        _only(form, "expr", (*SAID_BY_EXPR, "when"))
    place = f"{form.place}, {key}"
    if not isinstance(raw, str):
        form.fault(key, "an expression", 'write expr: "errors[5m] / calls[5m] > 30%"')
        return Conditions(over, faulty=True)
    check = check_condition if decides else check_value
    checked = check(form.faults, place, raw, subject)
    found = Conditions(over, raw, checked, decides=decides, faulty=checked is None)
    return found if decides else _guarded(form, subject, found)


def _guarded(form: Form, subject: Subject, found: Conditions) -> Conditions:
    """Add what must be true besides."""
    raw = form.raw("when")
    if raw is None:
        return found
    if not isinstance(raw, str):
        form.fault("when", "a condition", 'write when: "calls[5m] >= 20"')
        return found
    guard = check_condition(form.faults, f"{form.place}, when", raw, subject)
    return found._replace(guard_text=raw, guard=guard)


def _only(form: Form, said: str, others: tuple[str, ...]) -> None:
    for key in others:
        if form.has(key):
            form.fault(key, f"nothing: {said} says it already", "remove one of the two")
