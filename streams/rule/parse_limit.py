"""What is a rule's limit?  A number with its unit, or what is usual; and how far back a value must come to resolve.

Never judges: `streams.rule.threshold` compares, `streams.rule.learn` knows what is usual.
"""

from typing import Final, NamedTuple, Protocol

import msgspec

from streams.rule.amount import SHAPES, amount, amount_text
from streams.rule.faults import Form
from streams.rule.formula import WINDOW_MS_MAX, Formula
from streams.rule.model import Gauge, Ratio, Silence, Sum, Total, Value
from streams.rule.reading import Unit
from streams.rule.usual import COLD_START, SAMPLES, SAMPLES_MAX, SHAPE, Usual, looks_usual, parse_usual

COMPARISONS: Final = ("above", "below")
OF_USUAL: Final = ("samples", "cold_start", "at_least", "at_most")
LEARNED_STEP_MS: Final = 60_000  # so that panes which have grown a minute wide still hold whole windows


class Limit(NamedTuple):
    """What a value is compared with."""

    above: bool
    limit: int | float
    usual: Usual | None = None
    clear: int | float | None = None


class Said(Protocol):
    """What the rule says in words, as far as it bears on its limit."""

    @property
    def decides(self) -> bool:
        """Is the limit within an expression."""

    @property
    def absent_ms(self) -> int:
        """How long silence may last; 0: the rule is not about silence."""

    @property
    def faulty(self) -> bool:
        """Was something wrong with it."""

    @property
    def above(self) -> bool:
        """Does the expression's first comparison ask for more."""

    @property
    def constant(self) -> int | float:
        """What it compares with, when that is a number; else 0."""


def read_limit(form: Form, value: Value, unit: Unit | None, window_ms: int, said: Said) -> Limit:
    """Read the limit of a rule."""
    if said.absent_ms:
        return Limit(above=True, limit=said.absent_ms)
    if said.decides:
        return _cleared(form, Limit(above=said.above, limit=said.constant), unit)
    given = [key for key in COMPARISONS if form.has(key)]
    if len(given) != 1:
        if not said.faulty or given:
            form.faults.note(
                f"{form.place}, above", given or None, "exactly one of above and below", "write above: limit"
            )
        return Limit(above=True, limit=0)
    key = given[0]
    above = key == "above"
    if unit is None:
        return Limit(above, 0)
    raw = form.raw(key)
    if looks_usual(raw):
        return _cleared(form, Limit(above, 0, _usual(form, key, raw, value, unit, window_ms)), unit)
    for extra in OF_USUAL:
        if form.has(extra):
            form.fault(extra, "nothing, because the limit is a number", "remove it, or write above: mean + 3 sigma")
    limit = amount(raw, unit)
    if limit is None:
        expected = f"{SHAPES[unit]}, {SHAPE.removeprefix('a limit, ')}" if isinstance(raw, str) else SHAPES[unit]
        form.fault(key, expected, f"write {key}: {_example(unit)}")
        return Limit(above, 0)
    if not isinstance(value, Formula) and (limit < 0 or (limit == 0 and not above)):
        form.fault(
            key, "a limit that can be crossed both ways: no value is ever negative", f"write {key}: {_example(unit)}"
        )
    return _cleared(form, Limit(above, limit), unit, known=True)


def _example(unit: Unit) -> str:
    return {"us": "30s", "ms": "10m", "nano_usd": "5 USD", "ratio": "0.05"}.get(unit, "10")


def _cleared(form: Form, limit: Limit, unit: Unit | None, *, known: bool = False) -> Limit:
    """Read how far a value must come back before a firing alert resolves."""
    key, other = ("clear_below", "clear_above") if limit.above else ("clear_above", "clear_below")
    if form.has(other):
        form.fault(other, f"{key}: it is the way back", f"write {key}")
    if not form.has(key) or unit is None:
        return limit
    clear = amount(form.raw(key), unit)
    if clear is None:
        form.fault(key, SHAPES[unit], f"write {key}: {_example(unit)}")
    elif known and (clear > limit.limit if limit.above else clear < limit.limit):
        shown = amount_text(limit.limit, unit)
        form.fault(key, f"a limit no {'higher' if limit.above else 'lower'} than {shown}", f"write {key}: {shown}")
    else:
        return limit._replace(clear=clear)
    return limit


def _usual(form: Form, key: str, raw: str, value: Value, unit: Unit, window_ms: int) -> Usual | None:
    usual = parse_usual(raw)
    if usual is None:
        form.fault(key, SHAPE, f"write {key}: mean {'+' if key == 'above' else '-'} 3 sigma")
        return None
    if isinstance(value, Total | Gauge | Silence) or not window_ms:
        form.fault(key, "a number: only what has a window has something usual", f"write {key}: {_example(unit)}")
        return None
    if usual.learned:
        if window_ms % LEARNED_STEP_MS:
            form.fault("window", "whole minutes, because windows are learned from", "write window: 5m")
    elif not isinstance(value, Sum | Ratio):
        form.fault(key, "another comparison: a baseline is of sums and ratios", f"write {key}: median + 5 mad")
    elif not window_ms < usual.baseline_ms <= WINDOW_MS_MAX or usual.baseline_ms % LEARNED_STEP_MS:
        form.fault(
            key, "a baseline of whole minutes, longer than the window and at most 1h", f"write {key}: 2x baseline 1h"
        )
    floor_key, other = ("at_least", "at_most") if key == "above" else ("at_most", "at_least")
    if form.has(other):
        form.fault(other, f"{floor_key}: {key} a limit that is never stricter than it", f"write {floor_key}")
    floor = amount(form.raw(floor_key), unit) if form.has(floor_key) else None
    if form.has(floor_key) and floor is None:
        form.fault(floor_key, SHAPES[unit], f"write {floor_key}: {_example(unit)}")
    if not usual.learned:
        for extra in ("samples", "cold_start"):
            if form.has(extra):
                form.fault(extra, "nothing, because a baseline has no samples", "remove it")
        return msgspec.structs.replace(usual, floor=floor)
    samples = form.whole("samples", SAMPLES, least=3, most=SAMPLES_MAX)
    cold_start = form.whole("cold_start", min(COLD_START, samples), least=2, most=samples)
    return msgspec.structs.replace(usual, floor=floor, samples=samples, cold_start=cold_start)
