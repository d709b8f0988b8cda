"""Which alerts were there, from when to when, and how bad did it get?  Transitions into lives, and lives compared.

Never judges: what is told of alerts comes in as the alert topic would have it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from streams.rule.amount import amount_text
from streams.rule.model import Rule
from streams.rule.reading import Key, Unit
from streams.rule.records import AlertRecord

LIVES_MAX: Final = 100_000  # some 60 MB; nobody reads more, and counting goes on

_decode: Final = msgspec.json.Decoder(AlertRecord).decode


class Life(Struct):
    """One life of one alert: pending or firing from `since_ms` on; times that did not come are None."""

    alert: str
    over: str
    labels: dict[str, str]
    severity: str
    unit: Unit
    summary: str
    since_ms: int
    fired_ms: int | None = None
    resolved_ms: int | None = None
    reason: str | None = None
    peak: int | float | None = None
    seen_ms: int = -1  # the last moment of which something is known

    @property
    def peak_text(self) -> str:
        """The worst value, for people."""
        return amount_text(self.peak, self.unit)

    @property
    def fired_for_ms(self) -> int:
        """How long it fired; 0 for one that never did."""
        if self.fired_ms is None:
            return 0
        return max(0, (self.seen_ms if self.resolved_ms is None else self.resolved_ms) - self.fired_ms)


class Lives:
    """Every life that transitions tell of, in the order in which they began."""

    def __init__(self) -> None:
        self._live: dict[bytes, Life] = {}  # by fingerprint
        self._named: dict[tuple[str, str, tuple[str, ...]], Life] = {}
        self._over: list[Life] = []
        self.forgotten = 0  # beyond LIVES_MAX

    def take(self, fingerprint: bytes, value: bytes | None) -> None:
        """Take one record of the alert topic: no value, the alert is forgotten."""
        if value is None:
            self._close(self._live.pop(fingerprint, None))
            return
        record = _decode(value)
        life = self._live.get(fingerprint)
        if life is None:
            life = self._live[fingerprint] = _begin(record)
            self._named[_name(record.alert, record.over, record.labels)] = life
        life.seen_ms = max(life.seen_ms, record.time_ms)
        if record.state == "firing":
            life.fired_ms, life.summary = record.time_ms, record.summary
        elif record.state == "resolved":
            life.resolved_ms, life.reason = record.time_ms, record.reason
            self._close(self._live.pop(fingerprint))

    def peak(self, rule: Rule, key: Key, value: float | None, now_ms: int) -> None:
        """Note how an alert that is alive stands now."""
        labels = dict(zip(rule.subject.columns, key, strict=True))
        life = self._named.get(_name(rule.name, rule.over, {**rule.labels, **labels}))
        if life is None:
            return
        life.seen_ms = max(life.seen_ms, now_ms)
        if value is not None and (life.peak is None or (value > life.peak if rule.above else value < life.peak)):
            life.peak = value

    def all(self, since_ms: int = -1) -> list[Life]:
        """Return the lives that fired and were not over by `since_ms`, those that fired first first."""
        found = [life for life in (*self._over, *self._live.values()) if life.fired_ms is not None]
        kept = [life for life in found if life.resolved_ms is None or life.resolved_ms >= since_ms]
        return sorted(kept, key=lambda life: (life.fired_ms or 0, life.alert, sorted(life.labels.items())))

    def _close(self, life: Life | None) -> None:
        if life is None:
            return
        name = _name(life.alert, life.over, life.labels)
        if self._named.get(name) is life:
            del self._named[name]
        if life.fired_ms is None:
            return  # it was pending and no more: nobody would have been told
        if len(self._over) < LIVES_MAX:
            self._over.append(life)
        else:
            self.forgotten += 1


def _begin(record: AlertRecord) -> Life:
    return Life(
        record.alert, record.over, record.labels, record.severity, record.unit, record.summary,
        record.active_since_ms, peak=record.value,
    )  # fmt: skip


def _name(alert: str, over: str, labels: Mapping[str, str]) -> tuple[str, str, tuple[str, ...]]:
    return alert, over, tuple(f"{name}={value}" for name, value in sorted(labels.items()))


# ---- by rule ---------------------------------------------------------------------------------------------------


class OfRule(NamedTuple):
    """What one rule would have done."""

    alert: str
    severity: str
    fired: int
    keys: int
    fired_ms: int
    longest_ms: int


def by_rule(lives: Iterable[Life], rules: Iterable[Rule]) -> list[OfRule]:
    """Add lives up by rule, in the order of the rules; those that never fired are there with nothing."""
    found: dict[str, list[Life]] = {}
    for life in lives:
        found.setdefault(life.alert, []).append(life)
    return [_of_rule(rule, found.get(rule.name, [])) for rule in rules]


def _of_rule(rule: Rule, lives: list[Life]) -> OfRule:
    lasted = [life.fired_for_ms for life in lives]
    keys = {tuple(sorted(life.labels.items())) for life in lives}
    return OfRule(rule.name, rule.severity, len(lives), len(keys), sum(lasted), max(lasted, default=0))


# ---- two of them -----------------------------------------------------------------------------------------------


class Differing(NamedTuple):
    """Lives that only one of two rule sets has, and pairs that have other times."""

    only_first: list[Life]
    only_second: list[Life]
    moved: list[tuple[Life, Life]]
    same: int


def compare(first: Iterable[Life], second: Iterable[Life]) -> Differing:
    """Pair lives of the same alert that were there at the same time; what finds no partner is in one only."""
    waiting: dict[tuple[str, str, tuple[str, ...]], list[Life]] = {}
    for life in second:
        waiting.setdefault(_name(life.alert, life.over, life.labels), []).append(life)
    only: list[Life] = []
    moved: list[tuple[Life, Life]] = []
    same = 0
    for life in first:
        partner = _partner(life, waiting.get(_name(life.alert, life.over, life.labels), []))
        if partner is None:
            only.append(life)
        elif (life.fired_ms, life.resolved_ms) == (partner.fired_ms, partner.resolved_ms):
            same += 1
        else:
            moved.append((life, partner))
    left = [life for lives in waiting.values() for life in lives]
    return Differing(only, sorted(left, key=lambda life: (life.fired_ms or 0, life.alert)), moved, same)


def _partner(life: Life, others: list[Life]) -> Life | None:
    for at, other in enumerate(others):
        if _ends(other) >= life.since_ms and _ends(life) >= other.since_ms:
            return others.pop(at)
    return None


def _ends(life: Life) -> float:
    return float("inf") if life.resolved_ms is None else life.resolved_ms
