"""What is an expression of a rule in PromQL?  The same terms over exported series, in exported units.

Never guesses: what PromQL has no word for is `Untranslatable`, and so is what is not exported.
"""

from collections.abc import Mapping
from typing import Final

from streams.rule import grammar
from streams.rule.amount import amount, duration_ms
from streams.rule.formula import AGE, QUANTILES
from streams.rule.grammar import Binary, Call, Compare, Logic, Node, Not, Present, Signed, Window
from streams.rule.model import Rule
from streams.rule.reading import Unit
from streams.sink.rulefiles.model import Record
from streams.sink.rulefiles.series import Source, Untranslatable, added, observed, present, source_of, summed

SCALES: Final[Mapping[Unit, int]] = {"us": 1_000_000, "nano_usd": 1_000_000_000, "millionths": 1_000_000}
WINDOW_MS_LEAST: Final = 60_000  # four scrapes at 15 s: with fewer, one that fails leaves nothing to count
_UNITS: Final[Mapping[str, Unit]] = {"PERCENT": "ratio", "DURATION": "us", "MONEY": "nano_usd"}


def write(rule: Rule, node: Node, records: dict[str, Record]) -> str:
    """Return a node and all below it, adding the recordings that it reads."""
    match node:
        case grammar.Literal():
            return _literal(node)
        case Present():
            return _present(rule, node.name)
        case Window():
            window_ms, offset_ms = _span(node)
            source_of(rule, node.name)
            return _held(summed(rule, (node.name,), records, window_ms, offset_ms))
        case Call():
            return _call(rule, node, records)
        case Signed():
            return f"{node.sign}{write(rule, node.of, records)}"
        case Binary() | Compare():
            return f"({write(rule, node.left, records)} {node.sign} {write(rule, node.right, records)})"
        case Logic():
            return f"({write(rule, node.left, records)} {node.word} {write(rule, node.right, records)})"
        case Not():
            raise Untranslatable("PromQL has no word for not")


def bare(expr: str) -> str:
    """Take off the parentheses that hold all of an expression."""
    if not expr.startswith("("):
        return expr
    depth = 0
    for at, char in enumerate(expr):
        depth += (char == "(") - (char == ")")
        if not depth:
            return expr[1:-1] if at == len(expr) - 1 else expr
    return expr


def _literal(node: grammar.Literal) -> str:
    unit = _UNITS.get(node.kind)
    if unit is None:
        return node.text.replace("_", "")
    value = amount(node.text, unit)
    assert value is not None, node  # it was read before
    return f"{value / SCALES.get(unit, 1):.15g}"


def _held(expr: str) -> str:
    return f"({expr})" if " + " in expr else expr


def _span(node: Window) -> tuple[int, int]:
    window_ms, offset_ms = duration_ms(node.window), duration_ms(node.offset or "0")
    assert window_ms is not None  # it was read before
    assert offset_ms is not None
    if window_ms < WINDOW_MS_LEAST:
        raise Untranslatable(f"one of its windows is {node.window}, and Prometheus needs 1m")
    return window_ms, offset_ms


def _present(rule: Rule, name: str) -> str:
    if name == AGE:
        raise Untranslatable("how old a key is is not exported")
    if name in rule.subject.gauges:
        return present(rule, name)
    return _held(summed(rule, (name,), None))


def _call(rule: Rule, node: Call, records: dict[str, Record]) -> str:
    if node.name == "abs":
        return f"abs({write(rule, node.arguments[0], records)})"
    if node.name in {"min", "max"}:
        raise Untranslatable(f"PromQL has no {node.name} of two numbers")
    q, histogram = QUANTILES.get(node.name), node.arguments[-1]
    if node.name == "quantile":
        first = node.arguments[0]
        assert isinstance(first, grammar.Literal), node
        q = float(first.text)
    assert isinstance(histogram, Window), node
    window_ms, _ = _span(histogram)
    source = Source(observed(rule, histogram.name), ())
    if q is None:
        return added(rule, source, "_count", records, window_ms)
    return f"histogram_quantile({q:g}, {added(rule, source, '_bucket', records, window_ms)})"
