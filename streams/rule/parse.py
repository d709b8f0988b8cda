"""Which rules does a text hold?  YAML into frozen rules, strictly, with every fault at once.

Never reads a file and never judges.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, get_args

from streams.rule.amount import amount, amount_text
from streams.rule.book import LIVE_PER_RULE_MAX
from streams.rule.budget import BudgetPolicy
from streams.rule.budgetfile import BUDGETS_MAX, read_budget
from streams.rule.faults import Faults, Form
from streams.rule.formula import WINDOW_MS_MAX, Formula
from streams.rule.model import (
    BreakerPolicy,
    Gauge,
    Quantile,
    Ratio,
    Rule,
    RuleSet,
    Severity,
    Silence,
    Sum,
    Total,
    Value,
    explained,
)
from streams.rule.parse_condition import Conditions, is_plain, read_conditions
from streams.rule.parse_limit import Limit, read_limit
from streams.rule.policy import read_breaker
from streams.rule.reading import SUBJECTS, Subject, Unit, unit_of
from streams.rule.wording import EXPLAINING, PLACEHOLDERS, template_fault
from streams.rule.yamltext import load_yaml

TEXTS_KEPT: Final = 64  # every partition of a worker reads the same text, when it loads and when it hears of new rules
RULES_MAX: Final = 500  # each costs about a microsecond per touched key
LABELS_MAX: Final = 16
NAME_CHARS_MAX: Final = 128
LABEL_CHARS_MAX: Final = 256
TEMPLATE_CHARS_MAX: Final = 1024
COUNT_MAX: Final = 2**53 - 1

SEVERITIES: Final = get_args(Severity)
RESERVED_LABELS: Final = frozenset({"alertname", "severity", *PLACEHOLDERS, *EXPLAINING})

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:.-]*")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HINTS: Final = {
    "annotations": "write summary and description at the rule itself",
    "interval": "remove it: rules run as soon as a row changes",
    "record": "only alerts are read here: write alert",
}


@lru_cache(TEXTS_KEPT)
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
    form.only(("name", "labels", "limit", "rules"), _HINTS)
    name = form.text("name", None, chars_max=NAME_CHARS_MAX)
    labels = _labels(form, ())
    most = form.whole("limit", 0, least=0, most=LIVE_PER_RULE_MAX)
    if not form.has("rules") and form.raw("rules") != []:
        form.fault("rules", "a list of rules", "write rules: and each rule below it with a dash")
    return [_rule(Form(form.faults, place, rule), name, labels, most) for place, rule in _mappings(form, "rules")]


RULE_KEYS: Final = (
    "alert",
    "over",
    "expr",
    "absent",
    "value",
    "when",
    "window",
    "above",
    "below",
    "clear_below",
    "clear_above",
    "at_least",
    "at_most",
    "samples",
    "cold_start",
    "min_count",
    "complete",
    "for",
    "keep_firing_for",
    "stop",
    "severity",
    "labels",
    "summary",
    "description",
)


_HARMLESS: Final = Sum(())  # stands in for a value that was at fault


def _rule(form: Form, group: str, group_labels: Mapping[str, str], alerts_max: int) -> Rule:
    form.only(RULE_KEYS, _HINTS)
    name = form.text("alert", None, chars_max=NAME_CHARS_MAX)
    if name and not _NAME.fullmatch(name):
        form.fault("alert", "letters, digits and _ : . - after a letter", "write a name such as ToolFailing")
    over = _over(form)
    # an unknown subject is one fault, not one more for every field: look the fields up where most of them are
    subject = SUBJECTS[over or "all"]
    said = read_conditions(form, over or "all", subject)
    value: Value = said.value or (_HARMLESS if form.has("expr") or form.has("absent") else _value(form, subject))
    unit = said.unit or (None if said.faulty else _unit(form, value))
    window_ms = _window(form, subject, value, said)
    limit = read_limit(form, value, unit, window_ms, said)
    pace = said.pace(value, limit)
    value, when, condition, right = said.formulas(value, pace)
    labels = {**group_labels, **_labels(form, subject.columns)}
    return Rule(
        name=name,
        group=group,
        over=over,
        value=value,
        window_ms=window_ms,
        above=limit.above,
        limit=limit.limit,
        unit=unit or "count",  # after a fault
        min_count=_min_count(form, value, limit, said),
        for_ms=form.duration("for", 0),
        keep_firing_for_ms=form.duration("keep_firing_for", 0),
        severity=form.choice("severity", SEVERITIES, "warning"),
        labels=labels,
        summary=_template(form, "summary", subject, labels, value),
        description=_template(form, "description", subject, labels, value),
        pace=pace,
        stop=form.flag("stop", default=False),
        when=when,
        condition=condition,
        right=right,
        usual=limit.usual,
        clear=limit.clear,
        complete_ppm=_complete(form),
        alerts_max=alerts_max,
        restless=said.restless(value),
    )


def _over(form: Form) -> str:
    """Read which rows are judged: a name, or several columns in any order (agent×tool, [agent, tool])."""
    raw = form.raw("over")
    parts = raw if isinstance(raw, list) else re.split(r"\s*[×*,]\s*", raw) if isinstance(raw, str) else []
    if len(parts) > 1 and all(isinstance(part, str) for part in parts):
        for name, subject in SUBJECTS.items():
            if set(subject.columns) == set(parts) and len(subject.columns) == len(parts) and name in _pairs(parts):
                return name
        pairs = [
            " × ".join(each.columns)
            for name, each in SUBJECTS.items()
            if name == "_".join(each.columns) and "_" in name
        ]
        form.fault("over", f"columns that rows are kept for together ({', '.join(pairs)})", "write one of them")
        return ""
    return form.choice("over", tuple(SUBJECTS), None)


def _pairs(parts: list[str]) -> set[str]:
    return {"_".join(parts), "_".join(reversed(parts))}


def _complete(form: Form) -> int:
    """Read which share of the events must have been in time, in millionths."""
    if not form.has("complete"):
        return 0
    share = amount(form.raw("complete"), "ratio")
    if share is None or not 0 < share <= 1:
        form.fault("complete", "a share above 0 and up to 1, such as 95%", "write complete: 95%")
        return 0
    return round(share * 1_000_000)


def _value(form: Form, subject: Subject) -> Value:
    """Read what is measured; after a fault, a value that nothing else has to find fault with."""
    raw = form.raw("value")
    kinds = ("sum", "ratio", "quantile", "total", "gauge")
    if is_plain(form):  # one field with a window
        return Sum(form.fields("value", subject.windowed))
    if not isinstance(raw, dict) or len(raw) != 1:
        if not isinstance(raw, str):  # a text was read as an expression
            form.fault("value", f"an expression, or exactly one of {', '.join(kinds)}", "write value: {sum: field}")
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
        case Silence():
            return "ms"
        case Formula():
            return value.unit
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


def _window(form: Form, subject: Subject, value: Value, said: Conditions) -> int:
    if said.window_ms is not None or isinstance(value, Total | Gauge | Silence):
        if form.has("window"):
            form.fault("window", "no window: this value says itself what time it is of", "remove it")
        return said.window_ms or 0
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


def _min_count(form: Form, value: Value, limit: Limit, said: Conditions) -> int:
    needed = (isinstance(value, Ratio) or not limit.above) and not said.decides
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
