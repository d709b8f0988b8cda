"""Which rules does a text hold?  YAML into frozen rules, strictly, with every fault at once.

Never reads a file and never judges.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from streams.rule.amount import SHAPES, amount, amount_text
from streams.rule.budget import BudgetPolicy
from streams.rule.budgetfile import BUDGETS_MAX, read_budget
from streams.rule.faults import Faults, Form
from streams.rule.model import (
    BreakerPolicy,
    Gauge,
    Pace,
    Quantile,
    Ratio,
    Rule,
    RuleSet,
    Severity,
    Sum,
    Total,
    Value,
    explained,
)
from streams.rule.policy import read_breaker
from streams.rule.reading import AGES, SUBJECTS, Subject, Unit, unit_of
from streams.rule.wording import EXPLAINING, PLACEHOLDERS, template_fault
from streams.rule.yamltext import load_yaml

RULES_MAX: Final = 500  # each costs about a microsecond per touched key
LABELS_MAX: Final = 16
NAME_CHARS_MAX: Final = 128
LABEL_CHARS_MAX: Final = 256
TEMPLATE_CHARS_MAX: Final = 1024
COUNT_MAX: Final = 2**53 - 1
WINDOW_MS_MAX: Final = 60 * 60_000  # finer panes than an hour's are not kept for longer

SEVERITIES: Final = get_args(Severity)
COMPARISONS: Final = ("above", "below")
RESERVED_LABELS: Final = frozenset({"alertname", "severity", *PLACEHOLDERS, *EXPLAINING})

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:.-]*")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HINTS: Final = {
    "expr": "rules here read tables, not PromQL: write value, window, and above or below",
    "annotations": "write summary and description at the rule itself",
    "interval": "remove it: rules run as soon as a row changes",
    "record": "only alerts are read here: write alert",
}


def parse_rules(text: str) -> RuleSet:
    """Read a rule text; raises ConfigError with all its faults."""
    faults = Faults()
    data = load_yaml(text, faults)
    rules: list[Rule] = []
    breakers: list[BreakerPolicy] = []
    budgets: list[BudgetPolicy] = []
    if isinstance(data, dict):
        form = Form(faults, "rules", data)
        form.only(("groups", "breakers", "budgets"))
        for place, group in _mappings(form, "groups"):
            rules.extend(_group(Form(faults, place, group)))
        for place, breaker in _mappings(form, "breakers"):
            breakers.append(read_breaker(Form(faults, place, breaker)))
        for place, budget in _mappings(form, "budgets"):
            policy, alerts = read_budget(Form(faults, place, budget), _labels)
            budgets.append(policy)
            rules.extend(alerts)
    elif not faults:
        faults.note("rules", data, "a mapping with groups or breakers", "write groups: [] for no rules at all")
    _unique(faults, "alert", [rule.name for rule in rules if rule.name])
    _unique(faults, "breaker over", [policy.over for policy in breakers if policy.over])
    _unique(faults, "budget", [policy.name for policy in budgets if policy.name])
    if len(budgets) > BUDGETS_MAX:
        faults.note("budgets", len(budgets), f"at most {BUDGETS_MAX} budgets", "give several keys limits in one budget")
    if len(rules) > RULES_MAX:
        faults.note("rules", len(rules), f"at most {RULES_MAX} rules", "give several rules one wider `over`")
    faults.settle("the rules cannot be used")
    return RuleSet(tuple(rules), tuple(breakers), tuple(budgets))


def _mappings(form: Form, key: str) -> list[tuple[str, Mapping[Any, Any]]]:
    """Read a list of mappings, each with its place in words; nothing reads as an empty list."""
    value = form.raw(key)
    if value is None:
        return []
    if not isinstance(value, list):
        form.fault(key, "a list", f"start each entry of {key} with a dash")
        return []
    found: list[tuple[str, Mapping[Any, Any]]] = []
    for number, entry in enumerate(value, 1):
        names = ("alert", "budget", "name", "over") if isinstance(entry, dict) else ()
        name = next((entry[each] for each in names if each in entry), None)
        word = {"groups": "group", "rules": "rule", "breakers": "breaker", "budgets": "budget"}[key]
        place = f"{word} {name[:NAME_CHARS_MAX]!r}" if isinstance(name, str) else f"{word} {number}"
        if key == "rules":
            place = f"{form.place}, {place}"
        if isinstance(entry, dict):
            found.append((place, entry))
        else:
            form.faults.note(place, entry, "a mapping", "write key: value lines")
    return found


def _unique(faults: Faults, key: str, names: list[str]) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.note(key, name, "each name once: it identifies the state that is kept", "rename all but one")


def _group(form: Form) -> list[Rule]:
    form.only(("name", "labels", "rules"), _HINTS)
    name = form.text("name", None, chars_max=NAME_CHARS_MAX)
    labels = _labels(form, ())
    if not form.has("rules") and form.raw("rules") != []:
        form.fault("rules", "a list of rules", "write rules: and each rule below it with a dash")
    return [_rule(Form(form.faults, place, rule), name, labels) for place, rule in _mappings(form, "rules")]


RULE_KEYS: Final = (
    "alert",
    "over",
    "value",
    "window",
    "above",
    "below",
    "min_count",
    "for",
    "keep_firing_for",
    "stop",
    "severity",
    "labels",
    "summary",
    "description",
)


_HARMLESS: Final = Sum(())  # stands in for a value that was at fault


def _rule(form: Form, group: str, group_labels: Mapping[str, str]) -> Rule:
    form.only(RULE_KEYS, _HINTS)
    name = form.text("alert", None, chars_max=NAME_CHARS_MAX)
    if name and not _NAME.fullmatch(name):
        form.fault("alert", "letters, digits and _ : . - after a letter", "write a name such as ToolFailing")
    over = form.choice("over", tuple(SUBJECTS), None)
    # an unknown subject is one fault, not one more for every field: look the fields up where most of them are
    subject = SUBJECTS[over or "all"]
    value = _value(form, subject)
    unit = _unit(form, value)
    above, limit = _limit(form, unit)
    labels = {**group_labels, **_labels(form, subject.columns)}
    return Rule(
        name=name,
        group=group,
        over=over,
        value=value,
        window_ms=_window(form, subject, value),
        above=above,
        limit=limit,
        unit=unit or "count",  # after a fault
        min_count=_min_count(form, value, above=above),
        for_ms=form.duration("for", 0),
        keep_firing_for_ms=form.duration("keep_firing_for", 0),
        severity=form.choice("severity", SEVERITIES, "warning"),
        labels=labels,
        summary=_template(form, "summary", subject, labels, value),
        description=_template(form, "description", subject, labels, value),
        pace=_pace(value, above=above),
        stop=form.flag("stop", default=False),
    )


def _value(form: Form, subject: Subject) -> Value:
    """Read what is measured; after a fault, a value that nothing else has to find fault with."""
    raw = form.raw("value")
    kinds = ("sum", "ratio", "quantile", "total", "gauge")
    if not isinstance(raw, dict) or len(raw) != 1:
        form.fault("value", f"exactly one of {', '.join(kinds)}", "write value: {sum: field}")
        return _HARMLESS
    inner = Form(form.faults, f"{form.place}, value", raw)
    inner.only(kinds)
    match next(iter(raw)):
        case "sum":
            return Sum(inner.fields("sum", subject.windowed))
        case "total":
            return Total(inner.fields("total", subject.totals))
        case "gauge":
            fields = inner.fields("gauge", subject.gauges)
            if len(fields) > 1:
                inner.fault("gauge", "one gauge", "write a rule for each")
            return Gauge(fields[0]) if fields else _HARMLESS
        case "ratio":
            parts = _inner(inner, "ratio", ("of", "to"))
            return (
                Ratio(parts.fields("of", subject.windowed), parts.fields("to", subject.windowed))
                if parts
                else _HARMLESS
            )
        case "quantile":
            return _quantile(inner, subject) or _HARMLESS
        case _:
            return _HARMLESS


def _inner(form: Form, key: str, keys: tuple[str, ...]) -> Form | None:
    raw = form.raw(key)
    if not isinstance(raw, dict):
        form.fault(key, f"a mapping with {' and '.join(keys)}", f"write {key}: {{{': …, '.join(keys)}: …}}")
        return None
    inner = Form(form.faults, f"{form.place}, {key}", raw)
    inner.only(keys)
    return inner


def _quantile(form: Form, subject: Subject) -> Quantile | None:
    parts = _inner(form, "quantile", ("of", "q"))
    if parts is None:
        return None
    q = parts.raw("q")
    if isinstance(q, bool) or not isinstance(q, int | float) or not 0 < q < 1:
        parts.fault("q", "a number between 0 and 1", "write q: 0.95")
        q = 0.5
    histogram = parts.fields("of", subject.histograms)
    if len(histogram) > 1:
        parts.fault("of", "one histogram", "write a rule for each")
    return Quantile(histogram[0], float(q)) if histogram else None


def _unit(form: Form, value: Value) -> Unit | None:
    """Name the unit of a value; None when fields of different units are mixed, or a field was at fault."""
    match value:
        case Gauge():
            return unit_of(value.field)
        case Quantile():
            return unit_of(value.of)
        case Ratio():
            of, to = _common(form, value.of), _common(form, value.to)
            if of is None or to is None or of == to:
                return "ratio" if of else None
            if to == "count":
                return of  # an average: tokens per call, money per request
            form.fault("value", "a ratio of one unit, or something per count", "divide by a count")
            return None
        case _:
            return _common(form, value.fields)


def _common(form: Form, fields: tuple[str, ...]) -> Unit | None:
    units = {unit_of(field) for field in fields}
    if len(units) > 1:
        form.fault("value", "fields of one unit", "write a rule for each unit")
    return units.pop() if len(units) == 1 else None


def _limit(form: Form, unit: Unit | None) -> tuple[bool, int | float]:
    given = [key for key in COMPARISONS if form.has(key)]
    if len(given) != 1:
        form.faults.note(f"{form.place}, above", given or None, "exactly one of above and below", "write above: limit")
        return True, 0
    key = given[0]
    above = key == "above"
    if unit is None:
        return above, 0
    limit = amount(form.raw(key), unit)
    if limit is None:
        form.fault(key, SHAPES[unit], f"write {key}: {_example(unit)}")
        return above, 0
    if limit < 0 or (limit == 0 and not above):
        form.fault(
            key, "a limit that can be crossed both ways: no value is ever negative", f"write {key}: {_example(unit)}"
        )
    return above, limit


def _example(unit: Unit) -> str:
    return {"us": "30s", "ms": "10m", "nano_usd": "5 USD", "ratio": "0.05"}.get(unit, "10")


def _window(form: Form, subject: Subject, value: Value) -> int:
    if isinstance(value, Total | Gauge):
        if form.has("window"):
            form.fault("window", "no window: this value is no sum over time", "remove it")
        return 0
    if not form.has("window") and value == _HARMLESS:
        return 0
    if not form.has("window"):
        form.fault("window", "a duration such as 1m, 5m, 15m or 1h", "write window: 5m")
        return 0
    window_ms = form.duration("window", 0, least_ms=subject.step_ms)
    if window_ms % subject.step_ms or window_ms > WINDOW_MS_MAX:
        step = amount_text(subject.step_ms, "ms")
        form.fault("window", f"a multiple of {step} up to 1h", "write window: 5m")
    return window_ms


def _min_count(form: Form, value: Value, *, above: bool) -> int:
    needed = isinstance(value, Ratio) or not above
    if needed and not form.has("min_count"):
        form.fault(
            "min_count",
            "a minimum count: a ratio of two calls, or silence at the start, says nothing",
            "write min_count: 20",
        )
        return 1
    return form.whole("min_count", 1 if isinstance(value, Quantile) else 0, least=1 if needed else 0, most=COUNT_MAX)


def _labels(form: Form, columns: tuple[str, ...]) -> dict[str, str]:
    raw = form.raw("labels")
    if raw is None:
        return {}
    if not isinstance(raw, dict) or len(raw) > LABELS_MAX:
        form.fault("labels", f"a mapping of at most {LABELS_MAX} labels", "write labels: {team: agents}")
        return {}
    inner = Form(form.faults, f"{form.place}, labels", raw)
    labels: dict[str, str] = {}
    for name in raw:
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or len(name) > NAME_CHARS_MAX:
            inner.faults.note(inner.place, name, "a name of letters, digits and _", "rename it")
        elif name in RESERVED_LABELS or name in columns:
            inner.faults.note(inner.place, name, "a name that the alert does not set itself", "rename it")
        else:
            labels[name] = inner.text(name, None, chars_max=LABEL_CHARS_MAX)
    return labels


def _template(form: Form, key: str, subject: Subject, labels: Mapping[str, str], value: Value) -> str:
    template = form.text(
        key, "{alert}" if key == "summary" else "{alert}: {value}, limit {limit}", chars_max=TEMPLATE_CHARS_MAX
    )
    names = (*subject.columns, *PLACEHOLDERS, *(EXPLAINING if explained(value) else ()), *labels)
    fault = template_fault(template, names)
    if fault is not None:
        form.fault(
            key, f"a template of {', '.join(f'{{{name}}}' for name in names)}; {fault}", "write {{ and }} for braces"
        )
    return template


def _pace(value: Value, *, above: bool) -> Pace:
    match value:
        case Gauge():
            return Pace.AGE if value.field in AGES and above else Pace.TOUCH
        case Total():
            return Pace.TOUCH
        case Sum():
            return Pace.TOUCH if above else Pace.EDGE
        case _:
            return Pace.EDGE
