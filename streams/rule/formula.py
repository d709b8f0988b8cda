"""What does an expression come to for a row?  Checked once for fields and units, then a function of a reading.

Never reads rule files and never decides what an alert does.  A value that cannot be said (division by zero, a gauge
nobody has reported, a quantile of nothing) makes everything that needs it unsayable; `and` with something false is
false all the same, `or` with something true is true.  Durations are µs in here, whatever they are stored in.
"""

import operator
from collections.abc import Callable
from typing import Final, NamedTuple

from streams.rule import grammar
from streams.rule.amount import LIMIT_MAX, amount, amount_text, duration_ms
from streams.rule.faults import Faults, nearest
from streams.rule.grammar import Binary, Call, Compare, Logic, Node, Not, Present, Signed, Window
from streams.rule.reading import AGES, Reading, Subject, Unit, unit_of
from streams.rule.term import (
    COMPARE,
    Kind,
    Look,
    Number,
    Term,
    apply,
    combine,
    constant,
    divide,
    multiply,
    taken,
)

WINDOW_MS_MAX: Final = 60 * 60_000  # finer panes than an hour's are not kept for longer
QUANTILES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
FUNCTIONS: Final = (*QUANTILES, "quantile", "count", "min", "max", "abs")
AGE: Final = "age"  # of the row; no row has a field of this name

_US_PER_MS: Final = 1_000


class Formula:
    """An expression ready to be looked at; two are the same when they say the same of the same kind of row."""

    __slots__ = ("closed", "look", "node", "over", "text", "unit", "window_ms")

    def __init__(self, text: str, over: str, term: "Term", *, closed: bool, node: Node) -> None:
        self.text = text
        self.over = over
        self.node = node
        self.unit: Unit = "count" if term.kind in {"number", "truth"} else term.kind  # type: ignore[assignment]  # the rest
        self.closed = closed
        self.window_ms = term.window_ms
        look = term.make(closed)
        self.look: Look = look if term.kind == "truth" else _finite(look)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and (self.text, self.over, self.closed) == (
            other.text,
            other.over,
            other.closed,
        )

    def __hash__(self) -> int:
        return hash((self.text, self.over, self.closed))

    def __repr__(self) -> str:
        return f"Formula({self.text!r}, over={self.over!r}, closed={self.closed})"


class Checked(NamedTuple):
    """A whole expression; for a condition also the two sides of its first comparison and whether it asks for more."""

    node: Node
    term: Term
    left: Term | None = None
    right: Term | None = None
    above: bool = True


def check_value(faults: Faults, place: str, text: str, subject: Subject) -> Checked | None:
    """Check an expression that must be a number; None after a fault."""
    node = _read(faults, place, text)
    if node is None:
        return None
    term = _Checker(faults, place, subject).check(node)
    if term is None:
        return None
    if term.kind == "truth":
        faults.note(place, text, "a number to compare, not a comparison", "write expr: with the whole comparison")
        return None
    return Checked(node, term)


def check_condition(faults: Faults, place: str, text: str, subject: Subject) -> Checked | None:
    """Check an expression that must be true or false; None after a fault."""
    node = _read(faults, place, text)
    if node is None:
        return None
    checker = _Checker(faults, place, subject)
    term = checker.check(node)
    if term is None:
        return None
    if term.kind != "truth":
        faults.note(place, text, "a comparison", "write what it must be above or below: … > 10")
        return None
    first = first_comparison(node)
    left, right = checker.sides(first)
    assert left is not None and right is not None, text  # noqa: PT018  they were found without fault before
    return Checked(node, term, left, right, first.sign not in {"<", "<="})


def first_comparison(node: Node) -> Compare:
    """Return the leftmost comparison of a condition: its sides are what an alert shows."""
    while not isinstance(node, Compare):
        node = grammar.children(node)[0]
    return node


def _read(faults: Faults, place: str, text: str) -> Node | None:
    try:
        return grammar.parse_expression(text)
    except ValueError as error:
        faults.note(place, text, f"an expression; {error}", "write it like errors[5m] / calls[5m] > 30%")
        return None


class _Checker:
    """Turns nodes into terms, and notes every fault on its way."""

    def __init__(self, faults: Faults, place: str, subject: Subject) -> None:
        self._faults = faults
        self._place = place
        self._subject = subject

    def _fault(self, value: object, expected: str, next_step: str) -> None:
        self._faults.note(self._place, value, expected, next_step)

    def check(self, node: Node) -> Term | None:
        """Return what a node is, or None after a fault; nodes are nested no deeper than DEPTH_MAX."""
        match node:
            case grammar.Literal():
                return self._literal(node)
            case Present():
                return self._present(node.name)
            case Window():
                return self._window(node)
            case Call():
                return self._call(node)
            case Signed():
                return self._signed(node)
            case Binary():
                return self._binary(node)
            case Compare():
                return self._compare(node)
            case Logic():
                return self._logic(node)
            case Not():
                return self._not(node)

    # ---- leaves -------------------------------------------------------------------------------------------------

    def _literal(self, node: grammar.Literal) -> Term | None:
        unit: Kind = {"PERCENT": "ratio", "DURATION": "us", "MONEY": "nano_usd"}.get(node.kind, "number")  # type: ignore[assignment]  # of these four
        value = (
            amount(node.text, unit) if unit != "number" else _number(node.text)  # type: ignore[arg-type]  # a unit then
        )
        if value is None or value > LIMIT_MAX:
            self._fault(node.text, "a number within bounds, a duration with units from large to small", "correct it")
            return None
        return constant(value, unit)

    def _present(self, name: str) -> Term | None:
        if name == AGE:
            return Term("us", lambda _closed: lambda reading: reading.age_ms() * _US_PER_MS, restless=True)
        subject = self._subject
        if name in subject.gauges:
            scaled = unit_of(name) == "ms"

            def gauge(_closed: bool) -> Look:
                if not scaled:
                    return lambda reading: reading.gauge(name)
                return lambda reading: None if (value := reading.gauge(name)) is None else value * _US_PER_MS

            return Term(_kind(name), gauge, restless=name in AGES)
        if name in subject.totals:
            return Term(_kind(name), lambda _closed: lambda reading: reading.total(name))
        self._unknown(name, {*subject.gauges, *subject.totals, AGE})
        return None

    def _unknown(self, name: str, options: set[str] | frozenset[str]) -> None:
        if name in self._subject.histograms:
            self._fault(name, "a function of this histogram", f"write p95({name}[5m])")
            return
        near = nearest(name, sorted(options), 3) or sorted(options)[:3]
        self._fault(name, "a field that these rows have", f"write one of {', '.join(near)}")

    def _span(self, node: Window) -> tuple[int, int] | None:
        """Read the window and the offset of a node, in ms."""
        step_ms = self._subject.step_ms
        window_ms, offset_ms = duration_ms(node.window), 0 if node.offset is None else duration_ms(node.offset)
        if (
            not window_ms
            or offset_ms is None
            or window_ms % step_ms
            or offset_ms % step_ms
            or window_ms + offset_ms > WINDOW_MS_MAX
        ):
            written = f"[{node.window}]" + (f" offset {node.offset}" if node.offset else "")
            step = amount_text(step_ms, "ms")
            self._fault(f"{node.name}{written}", f"multiples of {step}, together at most 1h", f"write {node.name}[5m]")
            return None
        return window_ms, offset_ms

    def _window(self, node: Window) -> Term | None:
        name, span = node.name, self._span(node)
        if name not in self._subject.windowed:
            self._unknown(name, self._subject.windowed)
            return None
        if span is None:
            return None
        window_ms, offset_ms = span
        whole_ms = window_ms + offset_ms
        scale = _US_PER_MS if unit_of(name) == "ms" else 1

        def make(closed: bool) -> Look:
            if offset_ms:
                return lambda reading: (
                    (reading.window_closed(name, whole_ms) - reading.window_closed(name, offset_ms)) * scale
                )
            if scale != 1:
                return lambda reading: (reading.window_closed if closed else reading.window)(name, window_ms) * scale
            if closed:
                return lambda reading: reading.window_closed(name, window_ms)
            return lambda reading: reading.window(name, window_ms)

        return Term(_kind(name), make, rising=not offset_ms, window_ms=whole_ms)

    # ---- functions ----------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Term | None:
        name, given = node.name, node.arguments
        if name in QUANTILES and len(given) == 1:
            return self._histogram(given[0], QUANTILES[name])
        if name == "quantile" and len(given) == 2 and isinstance(given[0], grammar.Literal):
            q = _number(given[0].text) if given[0].kind == "NUMBER" else None
            if q is not None and 0 < q < 1:
                return self._histogram(given[1], float(q))
        if name == "count" and len(given) == 1:
            return self._histogram(given[0], None)
        if name == "abs" and len(given) == 1:
            of = self._number(given[0])
            return None if of is None else apply(abs, of)._replace(rising=not of.window_ms)
        if name in {"min", "max"} and len(given) > 1:
            found = self._number(given[0])
            for one in given[1:]:
                more = self._number(one)
                found = (
                    None if found is None or more is None else self._both(min if name == "min" else max, found, more)
                )
            return found
        near = nearest(name, FUNCTIONS, 1)
        example = (
            f"write {near[0]}(…)" if near and near[0] != name else "write p95(h[5m]), quantile(0.9, h[5m]), min(a, b)"
        )
        self._fault(f"{name}(…)", f"one of {', '.join(FUNCTIONS)} and what it needs", example)
        return None

    def _histogram(self, node: Node, q: float | None) -> Term | None:
        if not isinstance(node, Window) or node.offset is not None:
            self._fault("the function", "a histogram and its window, without an offset", "write p95(tool_duration[5m])")
            return None
        name, span = node.name, self._span(node)
        if name not in self._subject.histograms:
            near = nearest(name, sorted(self._subject.histograms), 3) or sorted(self._subject.histograms)[:3]
            step = f"write one of {', '.join(near)}" if near else "use another kind of value"
            self._fault(name, "a histogram that these rows have", step)
            return None
        if span is None:
            return None
        window_ms = span[0]
        if q is None:
            return Term(
                "count", lambda _closed: lambda reading: reading.observations(name, window_ms), False, window_ms
            )
        return Term(_kind(name), lambda _closed: lambda reading: reading.quantile(name, q, window_ms), False, window_ms)

    # ---- arithmetic ---------------------------------------------------------------------------------------------

    def _number(self, node: Node) -> Term | None:
        term = self.check(node)
        if term is not None and term.kind == "truth":
            self._fault("a comparison", "a number at this place", "put the comparison in parentheses apart")
            return None
        return term

    def _signed(self, node: Signed) -> Term | None:
        of = self._number(node.of)
        if of is None or node.sign == "+":
            return of
        if of.constant is not None:
            return constant(-of.constant, of.kind)
        return apply(operator.neg, of)._replace(rising=not of.window_ms)

    def _binary(self, node: Binary) -> Term | None:
        left, right = self._number(node.left), self._number(node.right)
        if left is None or right is None:
            return None
        if node.sign == "*":
            return self._product(left, right)
        if node.sign == "/":
            return self._quotient(left, right)
        term = self._both(operator.add if node.sign == "+" else operator.sub, left, right)
        if term is not None and node.sign == "-" and right.window_ms:
            term = term._replace(rising=False)
        return term

    def _both(self, act: Callable[[Number, Number], Number], left: Term, right: Term) -> Term | None:
        """Combine two terms of one unit."""
        same = self._same(left, right)
        return None if same is None else combine(same[0].kind, act, *same)

    def _product(self, left: Term, right: Term) -> Term | None:
        plain: Final = ("number", "ratio")
        kind = right.kind if left.kind in plain and right.kind != "number" else left.kind
        if left.kind not in plain and right.kind not in plain:
            self._fault(f"{left.kind} × {right.kind}", "something times a number or a share", "write 2 * …")
            return None
        term = combine(kind, multiply, left, right)
        factor = left if left.constant is not None else right
        rising = factor.constant is not None and factor.constant >= 0 and left.rising and right.rising
        return term._replace(rising=rising or not term.window_ms)

    def _quotient(self, left: Term, right: Term) -> Term | None:
        if right.constant == 0:
            self._fault("/ 0", "something to divide by", "correct the expression")
            return None
        kind: Kind
        if left.kind == right.kind:
            kind = "number" if left.kind == "number" else "ratio"
        elif right.kind in {"number", "ratio", "count"}:
            kind = left.kind  # an average: tokens per call, money per request
        elif right.kind == "tokens" and left.kind in {"us", "nano_usd"}:
            kind = left.kind
        elif left.kind == "number":
            kind = "number"
        else:
            expected = "a share of one unit, or something per count"
            self._fault(f"{left.kind} / {right.kind}", expected, "divide by a count")
            return None
        term = combine(kind, divide, left, right)
        rising = right.constant is not None and right.constant > 0 and left.rising
        return term._replace(rising=rising or not term.window_ms)

    def _same(self, left: Term, right: Term) -> tuple[Term, Term] | None:
        """Bring two terms to one unit; bare numbers and shares take that of the other side."""
        if left.kind == right.kind:
            return left, right
        for one, other, swapped in ((left, right, False), (right, left, True)):
            same = taken(one, other.kind)
            if same is not None:
                return (other, same) if swapped else (same, other)
        how = {"us": "30s", "nano_usd": "5 USD"}.get(left.kind) or {"us": "30s", "nano_usd": "5 USD"}.get(right.kind)
        step = f"write the other side like {how}" if how else "compare and add what has one unit"
        self._fault(f"{left.kind} and {right.kind}", "one unit on both sides", step)
        return None

    # ---- conditions ---------------------------------------------------------------------------------------------

    def sides(self, node: Compare) -> tuple[Term | None, Term | None]:
        """Return the two sides of a comparison in one unit."""
        left, right = self._number(node.left), self._number(node.right)
        same = None if left is None or right is None else self._same(left, right)
        return (None, None) if same is None else same

    def _compare(self, node: Compare) -> Term | None:
        left, right = self.sides(node)
        if left is None or right is None:
            return None
        holds = COMPARE[node.sign]
        window_ms = max(left.window_ms, right.window_ms)
        if node.sign in {">", ">="}:
            rising = left.rising and not right.window_ms
        elif node.sign in {"<", "<="}:
            rising = right.rising and not left.window_ms
        else:
            rising = not window_ms
        return combine("truth", holds, left, right)._replace(rising=rising, constant=None)

    def _truth(self, node: Node) -> Term | None:
        term = self.check(node)
        if term is not None and term.kind != "truth":
            self._fault("a number", "a comparison on both sides of and, or, not", "write … > 0")
            return None
        return term

    def _logic(self, node: Logic) -> Term | None:
        left, right = self._truth(node.left), self._truth(node.right)
        if left is None or right is None:
            return None
        decisive = node.word == "or"

        def make(closed: bool) -> Look:
            first, second = left.make(closed), right.make(closed)

            def look(reading: Reading) -> Number | None:
                one = first(reading)
                if one is decisive:
                    return one
                two = second(reading)
                return two if two is decisive or one is not None else None

            return look

        return Term(
            "truth",
            make,
            left.rising and right.rising,
            max(left.window_ms, right.window_ms),
            left.restless or right.restless,
        )

    def _not(self, node: Not) -> Term | None:
        of = self._truth(node.of)
        return None if of is None else apply(operator.not_, of)._replace(rising=not of.window_ms)


# ---- names and numbers ----------------------------------------------------------------------------------------


def _kind(field: str) -> Kind:
    unit = unit_of(field)
    return "us" if unit == "ms" else unit


def _number(text: str) -> Number:
    plain = text.replace("_", "")
    return float(plain) if "." in plain else int(plain)


def _finite(look: Look) -> Look:
    """Say nothing instead of infinity, which no reader of JSON knows."""

    def finite(reading: Reading) -> Number | None:
        value = look(reading)
        return value if value is None or value - value == 0 else None

    return finite
