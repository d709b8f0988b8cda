"""What is a part of an expression: its unit, how it is computed, and what may be done with it?

Never reads texts and knows no fields.  A term that has no value at a moment leaves what is made of it without one.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from streams.rule.amount import LIMIT_MAX
from streams.rule.reading import Reading, Unit

Number: TypeAlias = int | float
Look: TypeAlias = Callable[[Reading], Number | None]
Kind: TypeAlias = Unit | Literal["number", "truth"]  # a bare number goes with counts, tokens and shares

_MILLION: Final = 1_000_000


class Term(NamedTuple):
    """A checked part of an expression: what it is, how it is computed, and what time does to it.

    `rising`: the open pane can only let it grow, or make it true; so it may be looked at before the pane closes.
    `restless`: it changes although nothing touches the row and no pane closes.
    """

    kind: Kind
    make: Callable[[bool], Look]
    rising: bool = True
    window_ms: int = 0  # the longest trailing time it looks at; 0: none
    restless: bool = False
    constant: Number | None = None


def constant(value: Number, kind: Kind) -> Term:
    """Return the term of a number that never changes."""
    return Term(kind, lambda _closed: lambda _reading: value, constant=value)


def taken(one: Term, kind: Kind) -> Term | None:
    """Return a bare number or a share in the unit of what it meets; None when it has another meaning there."""
    if one.constant == 0 and one.kind == "number" and kind != "truth":
        return one._replace(kind=kind)
    if one.kind == "number" and kind in {"count", "tokens", "ratio"}:
        return one._replace(kind=kind)
    if one.kind in {"number", "ratio"} and kind == "millionths" and one.constant is not None:
        return constant(one.constant * _MILLION, "millionths")
    return None


def apply(act: Callable[[Number], Number], of: Term) -> Term:
    """Return the term of something done to one term."""

    def make(closed: bool) -> Look:
        look = of.make(closed)
        return lambda reading: None if (value := look(reading)) is None else act(value)

    return of._replace(make=make, constant=None)


def combine(kind: Kind, act: Callable[[Number, Number], Number | None], left: Term, right: Term) -> Term:
    """Return the term of something done to two terms; what is known now is done now."""
    constants = left.constant, right.constant
    if constants[0] is not None and constants[1] is not None and kind != "truth":
        value = act(constants[0], constants[1])
        if value is not None and abs(value) <= LIMIT_MAX:
            return constant(value, kind)

    def make(closed: bool) -> Look:
        first, second = left.make(closed), right.make(closed)
        known = right.constant
        if known is not None:
            return lambda reading: None if (value := first(reading)) is None else act(value, known)

        def look(reading: Reading) -> Number | None:
            one = first(reading)
            if one is None:
                return None
            two = second(reading)
            return None if two is None else act(one, two)

        return look

    return Term(
        kind,
        make,
        left.rising and right.rising,
        max(left.window_ms, right.window_ms),
        left.restless or right.restless,
    )


def multiply(left: Number, right: Number) -> Number:
    """Multiply, as floats: no row of factors then grows beyond what a machine word holds."""
    return float(left) * right


def divide(left: Number, right: Number) -> Number | None:
    """Divide; nothing when there is nothing to divide by."""
    return left / right if right else None


COMPARE: Final[Mapping[str, Callable[[Number, Number], Number]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
