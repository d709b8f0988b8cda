"""Which series hold a field of a rule, in PromQL: its growth within a window, its total, or its present value.

Never compares anything.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.fold.session import OVERFLOW
from streams.rule.amount import duration_text
from streams.rule.model import Rule
from streams.sink import promql
from streams.sink.catalog import OF_DIMENSION
from streams.sink.metric import Metric
from streams.sink.promql import Suffix
from streams.sink.rulefiles.model import Record

_ALL: Final = "all"
_AGENT: Final = "agent"  # every event has one, so their rows add up to everything


class Untranslatable(ValueError):
    """No expression over exported numbers says what the rule says; the message says why."""


class Source(NamedTuple):
    """The series that hold a field: those of a metric, and the values of its own label (empty: all of them)."""

    metric: Metric
    values: tuple[str, ...]


def summed(
    rule: Rule,
    fields: Iterable[str],
    records: dict[str, Record] | None,
    window_ms: int | None = None,
    offset_ms: int = 0,
) -> str:
    """Add fields up by the rule's key: their growth within a window, or without recordings since the rows began."""
    found: dict[str, Source] = {}
    for field in fields:
        source = source_of(rule, field)
        before = found.get(source.metric.name)
        found[source.metric.name] = source if before is None else Source(source.metric, before.values + source.values)
    return " + ".join(added(rule, source, "", records, window_ms, offset_ms) for source in found.values())


def source_of(rule: Rule, field: str) -> Source:
    """Find the counter that holds a field; a field that others break down (`errors`) is all of those."""
    over = _AGENT if rule.over == _ALL else rule.over
    metrics = [metric for metric in OF_DIMENSION[over] if metric.kind == "counter"]
    for metric in metrics:
        for part in metric.parts:
            if part.plus == (field,):
                return Source(metric, () if part.value is None else (part.value,))
    for metric in metrics:
        if metric.parts and all(part.plus == (f"{field}_{part.value}",) for part in metric.parts):
            return Source(metric, ())
    raise Untranslatable(f"{field} is not exported by {over}")


def observed(rule: Rule, name: str) -> Metric:
    """Find the histogram of an observation."""
    over = _AGENT if rule.over == _ALL else rule.over
    for metric in OF_DIMENSION[over]:
        if metric.histogram == name:
            return metric
    raise Untranslatable(f"{name} is not exported by {over}")


def added(
    rule: Rule,
    source: Source,
    suffix: Suffix,
    records: dict[str, Record] | None,
    window_ms: int | None = None,
    offset_ms: int = 0,
) -> str:
    """Add up the series of a source by key; labels of the target stay, so that sites stay apart."""
    metric, where = source.metric, _where(rule, source)
    if records is None:
        series = promql.once(metric.name, f"{metric.name}{where}")
    else:
        record = _record(metric, suffix, rule.window_ms if window_ms is None else window_ms)
        records[record.name] = record
        series = record.name + where + (f" offset {duration_text(offset_ms)}" if offset_ms else "")
    own = [column for column in metric.columns if column not in rule.subject.columns]
    return f"sum without ({', '.join(own)}) ({series})" if own else series


def present(rule: Rule, field: str) -> str:
    """Return the series of a gauge."""
    metric = measured(rule, field)
    return promql.once(metric.name, f"{metric.name}{_where(rule, Source(metric, ()))}")


def measured(rule: Rule, field: str) -> Metric:
    """Find the gauge that shows what a row's sources say."""
    for metric in OF_DIMENSION.get(rule.over, ()):
        if metric.gauge == field:
            return metric
    raise Untranslatable(f"{field} is not exported by {rule.over}")


def _record(metric: Metric, suffix: Suffix, window_ms: int) -> Record:
    """Record how much every series of a metric grew, taking each number once when several exporters show it."""
    window = duration_text(window_ms)
    columns = (*metric.columns, *(("le",) if suffix == "_bucket" else ()))
    name = f"{'_'.join(columns) or 'all'}:{metric.family}{suffix}:increase{window}"
    return Record(name, promql.grown("increase", metric.name, window, {}, suffix))


def _where(rule: Rule, source: Source) -> str:
    """Keep the values that are asked for, and leave out the series that stands for many keys: it is nobody's."""
    metric, values = source
    matchers = [f'{column}!="{OVERFLOW}"' for column in metric.columns if column in rule.subject.columns]
    if values and len(values) < len(metric.parts):
        how = "=" if len(values) == 1 else "=~"
        matchers.append(f'{metric.own_label}{how}"{"|".join(values)}"')
    return f"{{{','.join(matchers)}}}" if matchers else ""
