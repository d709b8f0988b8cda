"""Which cases does a test of rules hold?  YAML into frozen cases, strictly, with every fault at once.

Never reads a file, and never runs a case: `streams.stage.caserun` does.

    rules: rules.yaml                 beside this file; without it the rules that are shipped
    tests:
      - name: a tool that fails
        interval: 10s                 between two values of a series
        series:                       what fields have added up to, as in Prometheus; gauges as they are
          - {over: tool, key: {tool: search}, values: {tool_calls_error: 0+2x6}}
        events:                       or events as agents publish them; `every` and `times` repeat one
          - {at: 0s, every: 1s, times: 20, event: {kind: tool_end, tool: search, status: error, …}}
        expect:                       all alerts that are pending or firing then, of one rule or of all
          - {at: 1m, alert: ToolFailing, alerts: [{key: {tool: search}, value: 12}]}
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from streams.rule.amount import SHAPES, amount
from streams.rule.faults import Faults, Form
from streams.rule.reading import SUBJECTS, Subject, unit_of
from streams.rule.yamltext import load_yaml

TESTS_MAX: Final = 1_000
SERIES_MAX: Final = 1_000  # of one test
VALUES_MAX: Final = 20_000  # of one series: more than two days of 10 s
EVENTS_MAX: Final = 100_000  # of one test, repeated ones counted
CHECKS_MAX: Final = 1_000
CASE_MS_MAX: Final = 48 * 60 * 60_000  # it is walked through second by second
TICK_MS: Final = 1_000
TEXT_CHARS_MAX: Final = 4_096

_PART: Final = re.compile(r"(?P<from>_|[^_+x-][^+x-]*?)(?:(?P<sign>[+-])(?P<by>[^+x-]+))?(?:x(?P<times>[0-9]{1,5}))?")
_SERIES_SHAPE: Final = "values such as 0+2x6 (0, then six times 2 more), 5x3 (four times 5), 1 2 _ 4 (_: nothing)"

State = Literal["pending", "firing", "resolved"]


class Series(NamedTuple):
    """Values of one row's fields, one per interval from the start on; None: nothing happens."""

    over: str
    key: tuple[str, ...]
    interval_ms: int
    values: dict[str, list[int | float | None]]


class Happening(NamedTuple):
    """One event, how long after the start."""

    at_ms: int
    event: dict[str, Any]


class Expected(NamedTuple):
    """One alert that must be there; what is None may be anything."""

    alert: str
    labels: dict[str, str]
    state: State
    severity: str | None
    value: object
    summary: str | None
    description: str | None


class Circuit(NamedTuple):
    """A circuit breaker that must be in a state."""

    over: str
    key: tuple[str, ...]
    state: str


class Check(NamedTuple):
    """What must be true at one moment; `alert` None: every rule is meant, `alerts` None: no alert is looked at."""

    at_ms: int
    alert: str | None
    alerts: list[Expected] | None
    breakers: list[Circuit]


class Case(NamedTuple):
    """One test."""

    name: str
    series: list[Series]
    events: list[Happening]
    checks: list[Check]


class CaseFile(NamedTuple):
    """All tests of one file, and the file of their rules, as it is written there."""

    rules: str | None
    cases: list[Case]


def parse_cases(text: str) -> CaseFile:
    """Read a file of tests; raises ConfigError with all its faults."""
    faults = Faults()
    data = load_yaml(text, faults, "tests")
    cases: list[Case] = []
    rules: str | None = None
    if isinstance(data, dict):
        form = Form(faults, "tests", data)
        form.only(("rules", "tests"))
        rules = form.text("rules", "", chars_max=TEXT_CHARS_MAX) or None
        cases = [_case(each, number) for number, each in _forms(form, "tests", TESTS_MAX, "test")]
        if not cases and not faults:
            form.fault("tests", "at least one test", "write tests: and each test below it with a dash")
    elif not faults:
        faults.note("tests", data, "a mapping with tests", "write tests: and each test below it with a dash")
    faults.settle("the tests cannot be run")
    return CaseFile(rules, cases)


def _forms(form: Form, key: str, most: int, word: str) -> list[tuple[int, Form]]:
    value = form.raw(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        form.fault(key, f"a list of at most {most}", f"start each entry of {key} with a dash")
        return []
    found: list[tuple[int, Form]] = []
    for number, entry in enumerate(value, 1):
        place = f"{word} {number}" if word == "test" else f"{form.place}, {word} {number}"
        if isinstance(entry, dict):
            found.append((number, Form(form.faults, place, entry)))
        else:
            form.faults.note(place, entry, "a mapping", "write key: value lines")
    return found


def _case(form: Form, number: int) -> Case:
    form.only(("name", "interval", "series", "events", "expect"))
    name = form.text("name", f"test {number}", chars_max=TEXT_CHARS_MAX)
    form.place = f"test {name!r}"
    interval_ms = form.duration("interval", 10_000, least_ms=TICK_MS)
    series = [_series(each, interval_ms) for _, each in _forms(form, "series", SERIES_MAX, "series")]
    events = [one for _, each in _forms(form, "events", EVENTS_MAX, "event") for one in _events(each)]
    if len(events) > EVENTS_MAX:
        form.fault("events", f"at most {EVENTS_MAX} events, repeated ones counted", "split the test")
    checks = [_check(each) for _, each in _forms(form, "expect", CHECKS_MAX, "check")]
    if not checks:
        form.fault("expect", "at least one moment to look at", "write expect: [{at: 1m, alerts: []}]")
    kept = [each for each in series if each is not None]
    return Case(name, kept, events[:EVENTS_MAX], sorted(checks, key=lambda check: check.at_ms))


# ---- input -----------------------------------------------------------------------------------------------------


def _series(form: Form, interval_ms: int) -> Series | None:
    form.only(("over", "key", "interval", "values"))
    over = form.choice("over", tuple(SUBJECTS), None)
    if not over:
        return None
    subject = SUBJECTS[over]
    interval_ms = form.duration("interval", interval_ms, least_ms=TICK_MS)
    if interval_ms % TICK_MS:
        form.fault("interval", "whole seconds", "write interval: 10s")
    raw = form.raw("values")
    if not isinstance(raw, dict) or not raw:
        form.fault("values", "a mapping of fields to values", "write values: {events: 0+1x10}")
        return None
    inner = Form(form.faults, f"{form.place}, values", raw)
    known = subject.totals | subject.gauges | subject.histograms
    inner.only(sorted(known))
    values = {name: found for name in raw if name in known and (found := _values(inner, name, subject)) is not None}
    return Series(over, _key(form, subject), interval_ms, values)


def _key(form: Form, subject: Subject) -> tuple[str, ...]:
    """Read the labels of a row; () after a fault."""
    raw = form.raw("key")
    labels = {} if raw is None else raw
    if not isinstance(labels, dict) or set(labels) != set(subject.columns):
        shape = f"the labels {', '.join(subject.columns)}" if subject.columns else "no labels: there is one row"
        example = ", ".join(f"{column}: …" for column in subject.columns)
        form.fault("key", shape, f"write key: {{{example}}}")
        return ()
    inner = Form(form.faults, f"{form.place}, key", labels)
    return tuple(inner.text(column, None, chars_max=TEXT_CHARS_MAX) for column in subject.columns)


def _values(form: Form, field: str, subject: Subject) -> list[int | float | None] | None:
    raw = form.raw(field)
    values = _expanded(str(raw), field) if isinstance(raw, str | int) and not isinstance(raw, bool) else None
    if values is None:
        form.fault(field, f"{_SERIES_SHAPE}, each {SHAPES[unit_of(field)]}", f"write {field}: 0+1x10")
        return None
    if field in subject.totals and field not in subject.gauges:
        told = [value for value in values if value is not None]
        if any(low > high for low, high in pairwise(told)):
            form.fault(field, "values that never go down: they are what has added up", "write 0+1x10, for example")
            return None
    return values


def _expanded(text: str, field: str) -> list[int | float | None] | None:
    """Write every value of a series out; None when it is not written that way."""
    values: list[int | float | None] = []
    for part in text.split():
        match = _PART.fullmatch(part)
        if match is None or (match["by"] and not match["times"]):
            return None
        times = int(match["times"] or 0)
        if match["from"] == "_":
            more: list[int | float | None] | None = None if match["by"] else [None] * max(times, 1)
        else:
            more = _run(match["from"], match["sign"], match["by"], times, field)
        if more is None or len(values) + len(more) > VALUES_MAX:
            return None
        values.extend(more)
    return values or None


def _run(first: str, sign: str | None, by: str | None, times: int, field: str) -> list[int | float | None] | None:
    begin, step = _number(first, field), 0 if by is None else _number(by, field)
    if begin is None or step is None:
        return None
    if sign == "-":
        step = -step
    return [begin + step * number for number in range(times + 1)]


def _number(text: str, field: str) -> int | float | None:
    """Read one value in the unit of its field, as a limit would be written."""
    unit = unit_of(field)
    if unit in {"us", "ms", "nano_usd"}:
        return 0 if text == "0" else amount(text, unit)
    try:
        return int(text) if unit != "millionths" else amount(float(text), unit)
    except ValueError:
        return None


def _events(form: Form) -> list[Happening]:
    form.only(("at", "every", "times", "event"))
    at_ms = _moment(form, "at")
    every_ms = form.duration("every", TICK_MS, least_ms=1)
    times = form.whole("times", 1, least=1, most=EVENTS_MAX)
    event = form.raw("event")
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        form.fault("event", "an event with its kind", "write event: {kind: tool_end, agent: a, tool: search}")
        return []
    if at_ms + every_ms * (times - 1) > CASE_MS_MAX:
        form.fault("times", "an end within 48h", "write fewer, or more often")
        return []
    return [Happening(at_ms + every_ms * number, event) for number in range(times)]


def _moment(form: Form, key: str) -> int:
    if form.raw(key) in {0, "0s"}:
        return 0
    at_ms = form.duration(key, 0)
    if not form.has(key) or at_ms > CASE_MS_MAX:
        form.fault(key, "a time after the start, up to 48h, such as 0s or 1m30s", f"write {key}: 1m")
        return 0
    return at_ms


# ---- what is expected ------------------------------------------------------------------------------------------


def _check(form: Form) -> Check:
    form.only(("at", "alert", "alerts", "breakers"))
    at_ms = _moment(form, "at")
    if at_ms % TICK_MS:
        form.fault("at", "whole seconds", "write at: 1m30s")
    alert = form.text("alert", "", chars_max=TEXT_CHARS_MAX) or None
    if form.raw("alerts") is None and form.raw("breakers") is None:
        form.fault("alerts", "a list, or [] for none", "write alerts: []")
    alerts = [_expected(each, alert) for _, each in _forms(form, "alerts", CHECKS_MAX, "alert")]
    breakers = [_circuit(each) for _, each in _forms(form, "breakers", CHECKS_MAX, "breaker")]
    looks = form.raw("alerts") is not None
    return Check(at_ms, alert, alerts if looks else None, [each for each in breakers if each is not None])


def _expected(form: Form, alert: str | None) -> Expected:
    form.only(("alert", "key", "labels", "state", "severity", "value", "summary", "description"))
    name = form.text("alert", alert, chars_max=TEXT_CHARS_MAX)
    if alert is not None and name != alert:
        form.fault("alert", f"{alert}, which this check is about", "remove it")
    labels: dict[str, str] = {}
    for key in ("key", "labels"):
        raw = form.raw(key)
        if raw is None:
            continue
        if not isinstance(raw, dict):
            form.fault(key, "a mapping of labels", f"write {key}: {{tool: search}}")
            continue
        inner = Form(form.faults, f"{form.place}, {key}", raw)
        labels.update({str(label): inner.text(str(label), None, chars_max=TEXT_CHARS_MAX) for label in raw})
    state = form.choice("state", ("pending", "firing", "resolved"), "firing")
    said: dict[str, str | None] = {
        key: form.text(key, "", chars_max=TEXT_CHARS_MAX) or None for key in ("severity", "summary", "description")
    }
    return Expected(
        name, labels, state, said["severity"], form.raw("value"), said["summary"], said["description"]  # type: ignore[arg-type]  # one of State
    )  # fmt: skip


def _circuit(form: Form) -> Circuit | None:
    form.only(("over", "key", "state"))
    over = form.choice("over", ("tool", "model"), None)
    state = form.choice("state", ("open", "half_open", "closed"), None)
    return Circuit(over, _key(form, SUBJECTS[over]), state) if over else None


def names_in(cases: Iterable[Case]) -> set[str]:
    """Return the rules that are named anywhere."""
    found: set[str] = set()
    for case in cases:
        for check in case.checks:
            found |= {each.alert for each in check.alerts or ()} | ({check.alert} if check.alert else set())
    return found
