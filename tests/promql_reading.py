"""What does an expression ask for?  Read by a parser that is not ours."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import promql_parser

# What Grafana puts in before it asks: by name, and something that parses in its place.
MACROS: Final = {"$__rate_interval": "7m", "$__range": "3h"}


class Selector(NamedTuple):
    """One selector of series: name, matchers by label, its range as text, and the function around it."""

    name: str
    matchers: dict[str, str]
    window: str | None
    function: str | None


def filled(expr: str, **values: str) -> str:
    """Put values for Grafana's macros and variables."""
    for name, value in {**MACROS, **{f"${name}": value for name, value in values.items()}}.items():
        expr = expr.replace(name, value)
    return expr


def selectors(expr: str) -> list[Selector]:
    """Return every selector of an expression; ValueError when it does not parse."""
    windows = {marker: name for name, marker in MACROS.items()}
    return [
        each._replace(window=windows.get(each.window or "", each.window))
        for each in _selectors(promql_parser.parse(filled(expr)), None)
    ]


def _selectors(node: Any, function: str | None) -> Iterator[Selector]:
    match node:
        case promql_parser.VectorSelector():
            yield _selector(node, None, function)
        case promql_parser.MatrixSelector():
            window = promql_parser.display_duration(node.range)
            yield _selector(node.vector_selector, window, function)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument, node.func.name)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs, function)
            yield from _selectors(node.rhs, function)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            yield from _selectors(node.expr, function)


def _selector(node: Any, window: str | None, function: str | None) -> Selector:
    assert node.name, "a selector without a name asks for everything"
    return Selector(node.name, {each.name: each.value for each in node.matchers.matchers}, window, function)
