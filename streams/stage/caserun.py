"""Do rules tell what a test expects?  The engine that runs live, over series and events of invented time.

Never approximates: series are judged by the books of rules, events go through both stages.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Final, NamedTuple

import msgspec

from streams.event.custom import NO_CUSTOMS, Customs
from streams.fold.price import Pricer
from streams.fold.sketch import bin_of, quantile
from streams.fold.spending import Account
from streams.rule.amount import amount, amount_text, duration_text
from streams.rule.breaker import breaker_name
from streams.rule.faults import Faults
from streams.rule.model import RuleSet
from streams.rule.reading import SUBJECTS, Key, Reading, Subject
from streams.rule.records import AlertRecord, BreakerRecord, Completeness
from streams.stage.casefile import TICK_MS, Case, Check, Circuit, Expected, Happening, Series, names_in
from streams.stage.judging import Judging
from streams.stage.plan import Send
from streams.stage.replay import Read, Replay
from streams.topology import ALERTS, BREAKERS

START_MS: Final = 1_749_999_600_000  # 2025-06-15T15:00:00Z: the edge of an hour, so that panes begin with the test
QUANTILE_ERROR: Final = 0.01  # of a log bin, rounded up
ALIVE: Final = ("pending", "firing")

_decode_alert: Final = msgspec.json.Decoder(AlertRecord).decode
_decode_breaker: Final = msgspec.json.Decoder(BreakerRecord).decode
_encode: Final = msgspec.json.Encoder().encode


class Failure(NamedTuple):
    """What was otherwise at one moment of a case, as lines that people read: - expected, + found."""

    case: str
    at_ms: int
    lines: list[str]


def run_cases(
    cases: Iterable[Case], rules: RuleSet, pricer: Pricer | None = None, customs: Customs = NO_CUSTOMS
) -> list[Failure]:
    """Run every case; ConfigError names rules that are expected and do not exist."""
    cases = list(cases)
    _check_names(cases, rules)
    return [failure for case in cases for failure in run_case(case, rules, pricer, customs)]


def _check_names(cases: list[Case], rules: RuleSet) -> None:
    faults = Faults()
    known = {rule.name for rule in rules.rules}
    for name in sorted(names_in(cases) - known):
        faults.note("alert", name, "a rule that there is", "correct the name, or name the file of its rules")
    faults.settle("the tests cannot be run")


def run_case(case: Case, rules: RuleSet, pricer: Pricer | None = None, customs: Customs = NO_CUSTOMS) -> list[Failure]:
    """Walk through a case second by second and look where it says."""
    board = Board()
    rows = Rows(case.series, rules, board)
    stages = Replay(rules, pricer=pricer, customs=customs, listener=board.take)
    waiting = sorted(case.events, key=lambda one: one.at_ms)
    failures: list[Failure] = []
    fed, now_ms = 0, 0
    for check in case.checks:
        while now_ms <= check.at_ms:
            rows.step(now_ms)
            fed = _feed(stages, waiting, fed, now_ms)
            now_ms += TICK_MS
        lines = differences(check, board)
        if lines:
            failures.append(Failure(case.name, check.at_ms, lines))
    return failures


def _feed(stages: Replay, events: list[Happening], fed: int, now_ms: int) -> int:
    """Feed the events up to a moment, and let it come; returns how many were fed."""
    records: list[Read] = []
    while fed < len(events) and events[fed].at_ms <= now_ms:
        at_ms = START_MS + events[fed].at_ms
        event = {"id": f"test-{fed}", "agent": "test", "time": at_ms, **events[fed].event}
        records.append(Read(fed, at_ms, None, _encode(event)))
        fed += 1
    if records:
        stages.feed(0, records)
    if fed:
        stages.step(START_MS + now_ms)
    return fed


class Board:
    """The newest record of every alert and every circuit."""

    def __init__(self) -> None:
        self.alerts: dict[bytes, AlertRecord] = {}
        self.circuits: dict[str, str] = {}

    def take(self, send: Send) -> None:
        """Take one record for either topic."""
        key = send.key or b""
        if send.topic == ALERTS.suffix:
            if send.value is None:
                self.alerts.pop(key, None)
            else:
                self.alerts[key] = _decode_alert(send.value)
        elif send.topic == BREAKERS.suffix:
            self.circuits[key.decode()] = "closed" if send.value is None else _decode_breaker(send.value).state


# ---- series ----------------------------------------------------------------------------------------------------


class SeriesRow:
    """One row made of series: panes of what was added, totals, and present values."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.subject: Subject = SUBJECTS[series.over]
        self.now_ms = 0
        self._totals: dict[str, int] = {}
        self._panes: dict[str, dict[int, int]] = {}
        self._gauges: dict[str, int] = {}
        self._bins: dict[str, dict[int, dict[int, int]]] = {}
        self._began_ms: int | None = None
        self._touched_ms = 0

    def take(self, at_ms: int) -> bool:
        """Take the values of a moment; returns whether the row was touched."""
        number, rest = divmod(at_ms, self.series.interval_ms)
        if rest:
            return False
        self.now_ms = START_MS + at_ms
        touched = False
        for name, values in self.series.values.items():
            value = values[number] if number < len(values) else None
            if value is not None:
                touched = self._put(name, int(value)) or touched
        if touched and self.subject.activity not in self.series.values:
            self._add(self.subject.activity, 1)  # what touches a row is an event of it
        if touched:
            self._touched_ms = self.now_ms
            self._began_ms = self.now_ms if self._began_ms is None else self._began_ms
        return touched

    def _put(self, name: str, value: int) -> bool:
        """Note one value; what was added is the difference to the one before."""
        if name in self.subject.histograms:
            bins = self._bins.setdefault(name, {}).setdefault(self._pane(), {})
            bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
            return True
        if name in self.subject.gauges:
            changed = self._gauges.get(name) != value
            self._gauges[name] = value
            return changed
        grown = value - self._totals.get(name, 0)
        self._add(name, grown)
        return grown > 0

    def _add(self, name: str, grown: int) -> None:
        self._totals[name] = self._totals.get(name, 0) + grown
        panes = self._panes.setdefault(name, {})
        panes[self._pane()] = panes.get(self._pane(), 0) + grown

    def _pane(self) -> int:
        return self.now_ms - self.now_ms % self.subject.step_ms

    # ---- as rules read it

    def total(self, field: str) -> int:
        """Return what a field has added up to."""
        return self._totals.get(field, 0)

    def window(self, field: str, window_ms: int) -> int:
        """Sum a field over the trailing panes, the open one included."""
        return self._sum(field, self._pane() + self.subject.step_ms - window_ms, self._pane() + self.subject.step_ms)

    def window_closed(self, field: str, window_ms: int) -> int:
        """Sum a field over the trailing panes that have ended."""
        return self._sum(field, self._pane() - window_ms, self._pane())

    def _sum(self, field: str, since_ms: int, until_ms: int) -> int:
        return sum(grown for at_ms, grown in self._panes.get(field, {}).items() if since_ms <= at_ms < until_ms)

    def _merged(self, histogram: str, window_ms: int) -> dict[int, int]:
        merged: dict[int, int] = {}
        for at_ms, bins in self._bins.get(histogram, {}).items():
            if self._pane() - window_ms <= at_ms < self._pane():
                for index, count in bins.items():
                    merged[index] = merged.get(index, 0) + count
        return merged

    def observations(self, histogram: str, window_ms: int) -> int:
        """Count what a histogram saw in the trailing panes that have ended."""
        return sum(self._merged(histogram, window_ms).values())

    def quantile(self, histogram: str, q: float, window_ms: int) -> float | None:
        """Return a quantile over the trailing panes that have ended."""
        return quantile(self._merged(histogram, window_ms), q)

    def began_ms(self, age: str) -> int | None:
        """Return since when an age has been growing, as its value says."""
        value = self.gauge(age)
        return None if value is None else self.now_ms - value

    def alarmed(self) -> bool:
        """Return True: a case's gauges are what its series say."""
        return True

    def explain(self, field: str) -> None:
        """Return None: series have values, not what is behind them."""

    def gauge(self, field: str) -> int | None:
        """Return the value that was last given."""
        return self._gauges.get(field)

    def age_ms(self) -> int:
        """Return how long ago the row was touched first."""
        return 0 if self._began_ms is None else self.now_ms - self._began_ms

    def quiet_ms(self) -> int:
        """Return how long nothing has touched the row."""
        return self.now_ms - self._touched_ms

    def at(self, now_ms: int) -> "SeriesRow":
        """Return the same row at an earlier end."""
        earlier = copy(self)
        earlier.now_ms = now_ms
        return earlier

    def account(self, budget: str) -> Account | None:  # noqa: ARG002  as readings have it
        """Return None: accounts are charged by events, which go through the stage that keeps them."""
        return None


class Rows:
    """The series of a case under its rules."""

    def __init__(self, series: Iterable[Series], rules: RuleSet, board: Board) -> None:
        self._rows: Mapping[tuple[str, Key], SeriesRow] = {(each.over, each.key): SeriesRow(each) for each in series}
        self._judging = Judging(rules, "test")
        self._board = board

    def step(self, at_ms: int) -> None:
        """Take the values of a moment, judge, and tell."""
        now_ms, judging = START_MS + at_ms, self._judging
        for (over, key), row in self._rows.items():
            touched = row.take(at_ms)
            row.now_ms = now_ms
            if touched:
                judging.touch(over, key, row, now_ms)
        judging.step(now_ms, self._read)
        judging.rows()
        for send in judging.sends(Completeness()):
            self._board.take(send)

    def _read(self, over: str, key: Key) -> Reading | None:
        return self._rows.get((over, key))


# ---- what differs ----------------------------------------------------------------------------------------------


def differences(check: Check, board: Board) -> list[str]:
    """Return what is otherwise than expected, line by line; nothing when all is as it should be."""
    circuits = [line for circuit in check.breakers for line in _circuit(circuit, board)]
    return circuits if check.alerts is None else _alerts(check.alerts, check.alert, board) + circuits


def _alerts(wanted: list[Expected], alert: str | None, board: Board) -> list[str]:
    named = [each for each in board.alerts.values() if alert is None or each.alert == alert]
    found = [each for each in named if each.state in ALIVE]
    lines: list[str] = []
    for expected in wanted:
        pool = found if expected.state in ALIVE else [each for each in named if each.state == "resolved"]
        same = next((each for each in pool if not _wrong(expected, each)), None)
        if same is not None:
            if same in found:
                found.remove(same)
            continue
        near = next((each for each in named if _means(expected, each)), None)
        lines.append(f"- {_said(expected)}")
        if near is None:
            lines.append("+ nothing of this rule and key")
        else:
            lines.append(f"+ {_shown(near)}: {'; '.join(_wrong(expected, near))}")
            if near in found:
                found.remove(near)
    lines.extend(f"+ {_shown(each)}: not expected" for each in found)
    return lines


def _circuit(expected: Circuit, board: Board) -> list[str]:
    name = breaker_name(expected.over, expected.key)
    state = board.circuits.get(name, "closed")
    return [] if state == expected.state else [f"- breaker {name} {expected.state}", f"+ breaker {name} {state}"]


def _means(expected: Expected, found: AlertRecord) -> bool:
    return found.alert == expected.alert and expected.labels.items() <= found.labels.items()


def _wrong(expected: Expected, found: AlertRecord) -> list[str]:
    """Return in what an alert is not the expected one."""
    if not _means(expected, found):
        return ["another alert"]
    wrong = [] if found.state == expected.state else [f"state is {found.state}"]
    for name in ("severity", "summary", "description"):
        wanted, has = getattr(expected, name), getattr(found, name)
        if wanted is not None and wanted != has:
            wrong.append(f"{name} is {has!r}")
    if expected.value is not None and not _is_value(expected.value, found):
        wrong.append(f"value is {found.value_text}")
    return wrong


def _is_value(expected: object, found: AlertRecord) -> bool:
    """Compare as people write values: as a limit, or as the alert shows it; quantiles are right to a bin."""
    wanted = amount(expected, found.unit)
    if found.unit == "us" and isinstance(found.value, float) and wanted is not None:
        return abs(found.value - wanted) <= QUANTILE_ERROR * wanted
    return (wanted is not None and found.value == wanted) or str(expected) == found.value_text


def _said(expected: Expected) -> str:
    told = f"{expected.state} {expected.alert}{_labels(expected.labels)}"
    for name in ("severity", "value", "summary", "description"):
        value = getattr(expected, name)
        told += "" if value is None else f", {name} {value!r}"
    return told


def _shown(found: AlertRecord) -> str:
    since = duration_text((found.active_since_ms - START_MS) // TICK_MS * TICK_MS)
    value = amount_text(found.value, found.unit)
    return f"{found.state} {found.alert}{_labels(found.labels)} since {since}, value {value}"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={value}" for name, value in labels.items()) + "}"
