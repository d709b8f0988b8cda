"""What is one of our rules in PromQL?  A rule over exported rows becomes an expression of the same meaning.

Never as quick and never as exact as the rule itself: Prometheus sees samples of the counters and estimates the rest.
What no expression can say, because its numbers are not exported (those of single sessions) or its window is shorter
than Prometheus can see, becomes an alert on the number of keys that the rule itself fires for.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from streams.rule.amount import amount_text, duration_text
from streams.rule.budget import Budget
from streams.rule.formula import Formula
from streams.rule.model import Gauge, Quantile, Ratio, Rule, Silence, Sum, Total
from streams.rule.reading import SESSION
from streams.rule.wording import render
from streams.sink import promql
from streams.sink.catalog import OF_DIMENSION
from streams.sink.rulefiles.expression import SCALES, WINDOW_MS_LEAST, bare, write
from streams.sink.rulefiles.model import Alert, Record
from streams.sink.rulefiles.series import Source, Untranslatable, added, measured, observed, present, source_of, summed

_VALUES: Final[Mapping[str, str]] = {
    "ratio": "{{ $value | humanizePercentage }}",
    "us": "{{ $value | humanizeDuration }}",
    "nano_usd": '{{ printf "%.2f" $value }} USD',
    "count": '{{ printf "%.0f" $value }}',
    "tokens": '{{ printf "%.0f" $value }}',
}


class Translation(NamedTuple):
    """An alert, the recordings it reads, and why it only counts what the rule itself fires for, if it does."""

    alert: Alert
    records: tuple[Record, ...]
    only_counts: str | None = None


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
    for wrong, reason in _BEYOND:
        if wrong(rule):
            raise Untranslatable(reason)
    if rule.condition is not None:
        return _counting(rule, bare(write(rule, rule.condition.node, records)))
    count = ""
    match rule.value:
        case Sum():
            value = summed(rule, rule.value.fields, records)
        case Total():
            value = summed(rule, rule.value.fields, None)
        case Ratio():
            count = summed(rule, rule.value.to, records)
            value = f"{_term(summed(rule, rule.value.of, records))} / {_term(count)}"
        case Quantile():
            source = Source(observed(rule, rule.value.of), ())
            count = added(rule, source, "_count", records)
            value = f"histogram_quantile({rule.value.q:g}, {added(rule, source, '_bucket', records)})"
        case Gauge():
            value = present(rule, rule.value.field)
        case Formula():
            value = write(rule, rule.value.node, records)
        case Silence():
            raise Untranslatable("how long a key has been silent is not exported")
    if not count and rule.min_count:
        count = summed(rule, (rule.subject.activity,), None)
    compared = f"{value} {'>' if rule.above else '<'} {_limit(rule)}"
    if rule.when is not None:
        compared += f" and {write(rule, rule.when.node, records)}"
    return f"{compared} and {_term(count)} >= {rule.min_count}" if count and rule.min_count else compared


# What a rule may ask and no expression over exported series can say, and why.
_BEYOND: Final[tuple[tuple[Callable[[Rule], bool], str], ...]] = (
    (lambda rule: rule.usual is not None and rule.usual.learned, "what it has learned of each key is not exported"),
    (lambda rule: rule.usual is not None, "its limit is another for each key"),
    (lambda rule: rule.clear is not None, "an expression does not know whether its alert fires already"),
    (lambda rule: rule.complete_ppm > 0, "how whole the numbers were at that moment is not exported by key"),
)


def _counting(rule: Rule, condition: str) -> str:
    """Ask besides for as many events as the rule does."""
    if not rule.min_count:
        return condition
    count = summed(rule, (rule.subject.activity,), None)
    return f"({condition}) and {_term(count)} >= {rule.min_count}"


def _term(expr: str) -> str:
    return f"({expr})" if " + " in expr else expr


def _limit(rule: Rule) -> str:
    """Write the limit in what the value is exported in."""
    match rule.value:
        case Ratio():
            scale = source_of(rule, rule.value.of[0]).metric.scale / source_of(rule, rule.value.to[0]).metric.scale
        case Quantile():
            scale = observed(rule, rule.value.of).scale
        case Sum() | Total():
            scale = source_of(rule, rule.value.fields[0]).metric.scale
        case Gauge():
            scale = measured(rule, rule.value.field).scale
        case Formula() | Silence() | Budget():
            scale = SCALES.get(rule.unit, 1)
    return f"{rule.limit / scale:.15g}"


# ---- words -----------------------------------------------------------------------------------------------------


def _words(rule: Rule) -> dict[str, str]:
    """Say what the placeholders of a rule's sentences are in a template of Prometheus."""
    return {
        "alert": rule.name,
        "severity": rule.severity,
        "value": _VALUES.get(rule.unit, '{{ printf "%.4g" $value }}'),
        "limit": amount_text(rule.limit, rule.unit) if rule.right is None else "what it is compared with",
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
