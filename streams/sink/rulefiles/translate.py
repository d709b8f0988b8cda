"""What is one of our rules in PromQL?  A rule over exported rows becomes an expression of the same meaning.

Never as quick and never as exact as the rule itself: Prometheus sees samples of the counters and estimates the rest.
What no expression can say, because its numbers are not exported (those of single sessions) or its window is shorter
than Prometheus can see, becomes an alert on the number of keys that the rule itself fires for.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from streams.fold.session import OVERFLOW
from streams.rule.amount import amount_text, duration_text
from streams.rule.budget import Budget
from streams.rule.model import Gauge, Quantile, Ratio, Rule, Sum, Total
from streams.rule.reading import SESSION
from streams.rule.wording import render
from streams.sink import promql
from streams.sink.catalog import OF_DIMENSION
from streams.sink.metric import Metric
from streams.sink.promql import Suffix
from streams.sink.rulefiles.model import Alert, Record

WINDOW_MS_LEAST: Final = 60_000  # four scrapes at 15 s: with fewer, one that fails leaves nothing to count
_VALUES: Final[Mapping[str, str]] = {
    "ratio": "{{ $value | humanizePercentage }}",
    "us": "{{ $value | humanizeDuration }}",
    "nano_usd": '{{ printf "%.2f" $value }} USD',
    "count": '{{ printf "%.0f" $value }}',
    "tokens": '{{ printf "%.0f" $value }}',
}
_ALL: Final = "all"
_AGENT: Final = "agent"  # every event has one, so their rows add up to everything


class Untranslatable(ValueError):
    """No expression over exported numbers says what the rule says; the message says why."""


class Translation(NamedTuple):
    """An alert, the recordings it reads, and why it only counts what the rule itself fires for, if it does."""

    alert: Alert
    records: tuple[Record, ...]
    only_counts: str | None = None


class _Source(NamedTuple):
    """The series that hold a field: those of a metric, and the values of its own label (empty: all of them)."""

    metric: Metric
    values: tuple[str, ...]


def translate(rule: Rule) -> Translation:
    """Return the alert of a rule, and what it reads."""
    records: dict[str, Record] = {}
    try:
        expr = _condition(rule, records)
    except Untranslatable as reason:
        return Translation(_counted(rule, str(reason)), (), str(reason))
    words = _words(rule)
    alert = Alert(
        name=rule.name,
        expr=expr,
        severity=rule.severity,
        summary=render(rule.summary, words),
        description=render(rule.description, words),
        for_ms=rule.for_ms,
        keep_firing_for_ms=rule.keep_firing_for_ms,
        labels=rule.labels,
    )
    return Translation(alert, tuple(records.values()))


# ---- expressions -----------------------------------------------------------------------------------------------


def _condition(rule: Rule, records: dict[str, Record]) -> str:
    """Write what the rule compares, and the count below which it says nothing."""
    if isinstance(rule.value, Budget):
        raise Untranslatable("what was spent within a period of the calendar is no growth of a counter")
    if rule.over not in OF_DIMENSION:
        raise Untranslatable(f"the numbers of a single {rule.over} are not exported")
    if rule.window_ms and rule.window_ms < WINDOW_MS_LEAST:
        raise Untranslatable(
            f"its window is {duration_text(rule.window_ms)}, and Prometheus needs {duration_text(WINDOW_MS_LEAST)}"
        )
    count = ""
    match rule.value:
        case Sum():
            value = _sum(rule, rule.value.fields, records)
        case Total():
            value = _sum(rule, rule.value.fields, None)
        case Ratio():
            count = _sum(rule, rule.value.to, records)
            value = f"{_term(_sum(rule, rule.value.of, records))} / {_term(count)}"
        case Quantile():
            observed = _Source(_observed(rule, rule.value.of), ())
            count = _added(rule, observed, "_count", records)
            value = f"histogram_quantile({rule.value.q:g}, {_added(rule, observed, '_bucket', records)})"
        case Gauge():
            raise Untranslatable(f"{rule.value.field} is not exported")
    if not count and rule.min_count:
        count = _sum(rule, (rule.subject.activity,), None)
    compared = f"{value} {'>' if rule.above else '<'} {_limit(rule)}"
    return f"{compared} and {_term(count)} >= {rule.min_count}" if count and rule.min_count else compared


def _term(expr: str) -> str:
    return f"({expr})" if " + " in expr else expr


def _limit(rule: Rule) -> str:
    """Write the limit in what the value is exported in."""
    match rule.value:
        case Ratio():
            scale = _source(rule, rule.value.of[0]).metric.scale / _source(rule, rule.value.to[0]).metric.scale
        case Quantile():
            scale = _observed(rule, rule.value.of).scale
        case Sum() | Total():
            scale = _source(rule, rule.value.fields[0]).metric.scale
        case Gauge() | Budget():
            scale = 1
    return f"{rule.limit / scale:.15g}"


def _sum(rule: Rule, fields: Iterable[str], records: dict[str, Record] | None) -> str:
    """Add fields up by the rule's key: their growth within its window, or without recordings since the rows began."""
    found: dict[str, _Source] = {}
    for field in fields:
        source = _source(rule, field)
        before = found.get(source.metric.name)
        found[source.metric.name] = source if before is None else _Source(source.metric, before.values + source.values)
    return " + ".join(_added(rule, source, "", records) for source in found.values())


def _source(rule: Rule, field: str) -> _Source:
    """Find the counter that holds a field; a field that others break down (`errors`) is all of those."""
    over = _AGENT if rule.over == _ALL else rule.over
    metrics = [metric for metric in OF_DIMENSION[over] if metric.kind == "counter"]
    for metric in metrics:
        for part in metric.parts:
            if part.plus == (field,):
                return _Source(metric, () if part.value is None else (part.value,))
    for metric in metrics:
        if metric.parts and all(part.plus == (f"{field}_{part.value}",) for part in metric.parts):
            return _Source(metric, ())
    raise Untranslatable(f"{field} is not exported by {over}")


def _observed(rule: Rule, name: str) -> Metric:
    """Find the histogram of an observation."""
    over = _AGENT if rule.over == _ALL else rule.over
    for metric in OF_DIMENSION[over]:
        if metric.histogram == name:
            return metric
    raise Untranslatable(f"{name} is not exported by {over}")


def _added(rule: Rule, source: _Source, suffix: Suffix, records: dict[str, Record] | None) -> str:
    """Add up the series of a source by key; labels of the target stay, so that sites stay apart."""
    metric, where = source.metric, _where(rule, source)
    if records is None:
        series = promql.once(metric.name, f"{metric.name}{where}")
    else:
        record = _record(metric, suffix, rule.window_ms)
        records[record.name] = record
        series = record.name + where
    own = [column for column in metric.columns if column not in rule.subject.columns]
    return f"sum without ({', '.join(own)}) ({series})" if own else series


def _record(metric: Metric, suffix: Suffix, window_ms: int) -> Record:
    """Record how much every series of a metric grew, taking each number once when several exporters show it."""
    window = duration_text(window_ms)
    columns = (*metric.columns, *(("le",) if suffix == "_bucket" else ()))
    name = f"{'_'.join(columns) or 'all'}:{metric.family}{suffix}:increase{window}"
    return Record(name, promql.grown("increase", metric.name, window, {}, suffix))


def _where(rule: Rule, source: _Source) -> str:
    """Keep the values that are asked for, and leave out the series that stands for many keys: it is nobody's."""
    metric, values = source
    matchers = [f'{column}!="{OVERFLOW}"' for column in metric.columns if column in rule.subject.columns]
    if values and len(values) < len(metric.parts):
        how = "=" if len(values) == 1 else "=~"
        matchers.append(f'{metric.own_label}{how}"{"|".join(values)}"')
    return f"{{{','.join(matchers)}}}" if matchers else ""


# ---- words -----------------------------------------------------------------------------------------------------


def _words(rule: Rule) -> dict[str, str]:
    """Say what the placeholders of a rule's sentences are in a template of Prometheus."""
    return {
        "alert": rule.name,
        "severity": rule.severity,
        "value": _VALUES.get(rule.unit, '{{ printf "%.4g" $value }}'),
        "limit": amount_text(rule.limit, rule.unit),
        "count": f"at least {rule.min_count:,}" if rule.min_count else "the",
        "window": duration_text(rule.window_ms),
        "for": duration_text(rule.for_ms),
        **rule.labels,
        **{column: f"{{{{ $labels.{column} }}}}" for column in rule.subject.columns},
    }


def _counted(rule: Rule, reason: str) -> Alert:
    """Return the alert on how many keys the rule itself fires for; it has waited already when it fires."""
    firing = promql.once("agent_alerts", promql.select("agent_alerts", {"alert": rule.name, "state": "firing"}))
    labels = ", ".join(promql.metric_of("agent_alerts").columns)
    return Alert(
        name=rule.name,
        expr=f"sum without ({labels}) ({firing}) > 0",
        severity=rule.severity,
        summary=f"{rule.name} fires for {{{{ $value }}}} {'sessions' if rule.over == SESSION else 'keys'}",
        description=f"Counted by the rule itself, because {reason}. The alert topic names each {rule.over} and its "
        "value: agent-streams alerts.",
        labels=rule.labels,
    )
