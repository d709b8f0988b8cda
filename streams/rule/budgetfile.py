"""Which budgets does a rule text hold?  One entry of `budgets:` into a policy and the alert rules that it comes to.

Never reads a file and never judges.  Every budget has a rule for each share it warns at, one for being spent, and one
for each pair of windows it may burn too fast in.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from streams.event.model import CALL_STATUSES, TOOL_STATUSES
from streams.fold.measure import AGENT, AGENT_TOOL, ALL, MODEL, PROVIDER, TENANT, TOOL, USER
from streams.fold.spending import DAY_MS, PERIODS, BudgetUnit
from streams.rule.amount import SHAPES, amount, amount_text
from streams.rule.budget import PPM, RECENT_MS, Budget, BudgetPer, BudgetPolicy
from streams.rule.faults import Form
from streams.rule.linear import Linear
from streams.rule.model import Pace, Rule, Severity
from streams.rule.reading import SESSION, SUBJECTS, Key, Subject, unit_of

BUDGETS_MAX: Final = 50  # each is three rules or more, and an account in every row of its kind
SHARES_MAX: Final = 8
BURNS_MAX: Final = 4
KEYS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 64
FACTOR_MAX: Final = 1_000
LIMIT_MAX: Final = 2**53 - 1

PARTS: Final = "|"  # between the labels of a key
GROUP: Final = "budgets"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "info")

_CALLS: Final = (
    *(f"model_calls_{status}" for status in CALL_STATUSES),
    *(f"tool_calls_{status}" for status in TOOL_STATUSES),
)
_TOKENS: Final = ("input_tokens", "output_tokens")
_COST: Final = ("cost_nano_usd",)
_ENDED: Final = ("model_calls", "tool_calls")
_USED: Final = {"tokens": _TOKENS, "cost": _COST, "calls": _CALLS}
# What the three words mean in each kind of row; tools use no tokens, and nothing else is said of rarer kinds.
_MEANT: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    **{each.name: _USED for each in (ALL, AGENT, MODEL, PROVIDER, TENANT)},
    **{each.name: {"calls": _CALLS} for each in (TOOL, AGENT_TOOL)},
    USER.name: {"tokens": _TOKENS, "cost": _COST, "calls": _ENDED},
    SESSION: {"tokens": ("tokens",), "cost": _COST, "calls": _ENDED},
}
_UNITS: Final[tuple[BudgetUnit, ...]] = ("nano_usd", "tokens", "count")
_EXAMPLES: Final = {"nano_usd": "200 USD", "tokens": "5000000", "count": "1000"}

_BURN_EXAMPLE: Final = "write {long: 1h, short: 5m, factor: 6}"

BUDGET_KEYS: Final = (
    "budget", "over", "of", "limit", "per", "warn_at", "burn", "stop", "keys", "match", "severity", "labels",
)  # fmt: skip
Labels = Callable[[Form, tuple[str, ...]], dict[str, str]]


class Burn(NamedTuple):
    """A pair of windows, and the multiple of the pace that both must be above."""

    long_ms: int
    short_ms: int
    factor_ppm: int


def read_budget(form: Form, labels_of: Labels) -> tuple[BudgetPolicy, list[Rule]]:
    """Read one budget; what is wrong is noted. `labels_of` reads the labels of an entry, given those it may not use."""
    form.only(BUDGET_KEYS)
    name = form.text("budget", None, chars_max=NAME_CHARS_MAX)
    if name and not _NAME.fullmatch(name):
        form.fault("budget", "letters, digits and _ . - after a letter", "write a name such as tenant-day")
    over = form.choice("over", tuple(SUBJECTS), None) or ALL.name
    subject = SUBJECTS[over]
    per = _per(form, over)
    fields, unit = _of(form, over, subject)
    limit = _limit(form, "limit", unit)
    burns = _burns(form, per)
    policy = BudgetPolicy(
        name=name, over=over, per=per, unit=unit, fields=fields, limit=limit,
        limits=_limits(form, subject, unit, per), match=_match(form, subject, per),
        windows_ms=tuple(sorted({RECENT_MS, *(window for burn in burns for window in burn[:2])})),
    )  # fmt: skip
    labels = {"budget": name, **labels_of(form, (*subject.columns, "budget"))}
    return policy, _rules(form, policy, burns, labels)


def _per(form: Form, over: str) -> BudgetPer:
    options: tuple[BudgetPer, ...] = ("session",) if over == SESSION else PERIODS
    found = form.choice("per", options, "session" if over == SESSION else None)
    return next((each for each in options if each == found), options[0])


def _of(form: Form, over: str, subject: Subject) -> tuple[tuple[str, ...], BudgetUnit]:
    meant = _MEANT.get(over, {})
    raw = form.raw("of")
    if isinstance(raw, str) and raw in _USED:
        fields = meant.get(raw, ())
        if not fields:
            form.fault("of", f"what such rows have: {', '.join(meant) or 'a list of fields'}", "budget something else")
    else:
        fields = form.fields("of", subject.totals if over == SESSION else subject.windowed)
    units = {unit_of(field) for field in fields}
    unit = next((each for each in _UNITS if units == {each}), None)
    if fields and unit is None:
        form.fault("of", "fields of one unit: money, tokens or a count", "write a budget for each unit")
    return fields, unit or "count"


def _limit(form: Form, key: str, unit: BudgetUnit) -> int:
    found = amount(form.raw(key), unit)
    if isinstance(found, int) and 0 < found <= LIMIT_MAX:
        return found
    form.fault(key, f"more than nothing: {SHAPES[unit]}", f"write {key}: {_EXAMPLES[unit]}")
    return 1


def _burns(form: Form, per: BudgetPer) -> list[Burn]:
    raw = form.raw("burn")
    if raw is None:
        return []
    if per == "session" or not isinstance(raw, list) or not 0 < len(raw) <= BURNS_MAX:
        expected = "nothing: a session has no period" if per == "session" else f"a list of 1 to {BURNS_MAX} burns"
        form.fault("burn", expected, f"{_BURN_EXAMPLE} in a list, or remove it")
        return []
    found: list[Burn] = []
    for number, entry in enumerate(raw, 1):
        if not isinstance(entry, dict):
            form.faults.note(f"{form.place}, burn {number}", entry, "a mapping", _BURN_EXAMPLE)
            continue
        found.append(_burn(Form(form.faults, f"{form.place}, burn {number}", entry)))
    return found


def _burn(form: Form) -> Burn:
    form.only(("long", "short", "factor"))
    long_ms, short_ms = _window(form, "long", "1h"), _window(form, "short", "5m")
    if long_ms and short_ms and short_ms >= long_ms:
        form.fault("short", "a window shorter than the long one", "write short: 5m")
    factor = form.raw("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= FACTOR_MAX:
        form.fault("factor", f"a number above 0 and up to {FACTOR_MAX}", "write factor: 6")
        factor = 1
    return Burn(long_ms, short_ms, round(factor * PPM))


def _window(form: Form, key: str, example: str) -> int:
    """Read a window that panes can be added up to: fine ones are kept for an hour, those of an hour for a day."""
    window_ms = form.duration(key, 0, least_ms=10_000)
    step_ms = 10_000 if window_ms <= 300_000 else 60_000 if window_ms <= RECENT_MS else RECENT_MS
    if not window_ms or window_ms % step_ms or window_ms > DAY_MS:
        form.fault(key, "whole 10 s up to 5m, minutes up to 1h, hours up to 24h", f"write {key}: {example}")
        return 0
    return window_ms


def _limits(form: Form, subject: Subject, unit: BudgetUnit, per: BudgetPer) -> dict[Key, int]:
    raw = form.raw("keys")
    if raw is None:
        return {}
    if per == "session" or not subject.columns or not isinstance(raw, dict) or len(raw) > KEYS_MAX:
        form.fault("keys", f"limits of up to {KEYS_MAX} keys of a kind that has names", "write keys: {name: limit}")
        return {}
    inner = Form(form.faults, f"{form.place}, keys", raw)
    found: dict[Key, int] = {}
    for name in raw:
        key = tuple(str(name).split(PARTS)) if len(subject.columns) > 1 else (str(name),)
        if len(key) != len(subject.columns):
            inner.fault(name, f"{len(subject.columns)} labels with {PARTS} between them", "name the whole key")
        else:
            found[key] = _limit(inner, name, unit)
    return found


def _match(form: Form, subject: Subject, per: BudgetPer) -> tuple[Linear | None, ...]:
    raw = form.raw("match")
    if raw is None:
        return ()
    if per == "session" or not isinstance(raw, dict):
        form.fault("match", "a mapping of columns to expressions", "write match: {tenant: acme-.*}")
        return ()
    inner = Form(form.faults, f"{form.place}, match", raw)
    inner.only(subject.columns)
    return tuple(_expression(inner, column) for column in subject.columns)


def _expression(form: Form, column: str) -> Linear | None:
    text = form.raw(column)
    if text is None:
        return None
    try:
        return Linear(text if isinstance(text, str) else "(")
    except ValueError as error:
        form.fault(column, f"an expression that a whole label matches ({error})", f"write {column}: acme-.*")
        return None


# ---- the rules that a budget comes to --------------------------------------------------------------------------


def _rules(form: Form, policy: BudgetPolicy, burns: list[Burn], labels: dict[str, str]) -> list[Rule]:
    severity = form.choice("severity", _SEVERITIES, "critical")
    stop = form.flag("stop", default=False)
    who = " ".join(f"{column} {{{column}}}" for column in SUBJECTS[policy.over].columns) or "all together"
    so_far = "{spent} of {allowed} spent {period}, {remaining} left"
    tail = "." if policy.per == "session" else "; at the rate of the last hour it runs out: {runs_out_at}."
    rules: list[Rule] = []
    for share_ppm in _shares(form):
        percent = amount_text(share_ppm / PPM, "ratio").removesuffix("%")
        value = _value(policy, share_ppm)
        summary = f"{who} has spent {{value}} of budget {policy.name}"
        rules.append(
            _rule(policy, f"BudgetWarning:{policy.name}:{percent}", value, "warning", labels, summary, so_far + tail)
        )
    summary = f"{who} has spent budget {policy.name}"
    spent_name = f"BudgetSpent:{policy.name}"
    said = so_far + (". Guards deny further calls." if stop else ".")
    rules.append(_rule(policy, spent_name, _value(policy, PPM), severity, labels, summary, said, stop=stop))
    for burn in burns:
        value = _value(policy, burn.factor_ppm, burn)
        name = f"BudgetBurning:{policy.name}:{amount_text(burn.long_ms, 'ms')}"
        summary = f"{who} spends budget {policy.name} {{value}} times as fast as it lasts"
        text = f"{so_far}; at the rate of the last {{window}} it runs out: {{runs_out_at}}."
        rules.append(_rule(policy, name, value, "warning", labels, summary, text))
    return rules


def _shares(form: Form) -> list[int]:
    raw = form.raw("warn_at")
    if raw is None:
        return []
    entries = raw if isinstance(raw, list) else [raw]
    found = [amount(each, "ratio") for each in entries]
    if len(entries) > SHARES_MAX or any(each is None or not 0 < each < 1 for each in found):
        form.fault("warn_at", f"up to {SHARES_MAX} shares between 0 and 1", "write warn_at: [50%, 80%]")
        return []
    return sorted({round(each * PPM) for each in found if each is not None})


def _value(policy: BudgetPolicy, level_ppm: int, burn: Burn | None = None) -> Budget:
    long_ms, short_ms = (0, 0) if burn is None else burn[:2]
    return Budget(policy.name, policy.per, policy.unit, policy.fields, policy.limit, level_ppm, long_ms, short_ms)


def _rule(
    policy: BudgetPolicy, name: str, value: Budget, severity: str, labels: dict[str, str], summary: str,
    description: str, *, stop: bool = False,
) -> Rule:  # fmt: skip
    return Rule(
        name=name,
        group=GROUP,
        over=policy.over,
        value=value,
        window_ms=value.long_ms,
        above=True,
        limit=value.level_ppm / PPM,
        unit="count" if value.long_ms else "ratio",
        min_count=0,
        for_ms=0,
        keep_firing_for_ms=0,
        severity=severity,
        labels=labels,
        summary=summary,
        description=description,
        pace=Pace.TOUCH,  # what was spent grows only when the row is touched; a live alert is watched all the same
        stop=stop,
    )
