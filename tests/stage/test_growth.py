"""What a partition of either stage holds after hours of sessions that come and go is what it held an hour before."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from fleet import START_MS, Fleet
from held import held
from one_stage import Record

from streams.fold.panes import LADDER
from streams.fold.streamtime import MINUTE_MS
from streams.rule import book
from streams.rule.defaults import default_rules
from streams.stage.rollups import RollupsPartition
from streams.stage.session_table import Bounds
from streams.stage.sessions import SessionsPartition
from streams.topology import ROLLUPS

HOUR_MS: Final = 60 * MINUTE_MS
WARM_MS: Final = 2 * HOUR_MS  # windows of minutes are full, and every deadline has come once
RATE_MS: Final = 250  # between two events
CHURN_MS: Final = 2 * MINUTE_MS  # then all sessions are others
FLUSH_MS: Final = 10_000
KEPT: Final = 120
RESOLVED: Final = 40  # as 10,000, sooner
SLACK: Final = 1.25  # a moment differs from the one an hour before
FEW: Final = 40
HOURS: Final = ".panes"  # of hours there may be as many as the ladder says, and they fill for a day


class Churning(Fleet):
    """Agents whose sessions are others after a while."""

    def events(self, count: int) -> Iterator[dict[str, Any]]:
        for event in super().events(count):
            yield {**event, "session_id": f"{(event['time'] - START_MS) // CHURN_MS}-{event['session_id']}"}


class Both:
    """One partition of each stage, driven as a worker does."""

    def __init__(self) -> None:
        rules = default_rules()
        self.first = SessionsPartition(0, 1, 1, rules, bounds=Bounds(KEPT, KEPT))
        self.second = RollupsPartition(0, 1, rules)
        self._ends = [0, 0]

    def feed(self, events: list[dict[str, Any]]) -> None:
        records = []
        for event in events:
            key, value = event["session_id"].encode(), json.dumps(event).encode()
            records.append(Record(self._ends[0], event["time"], key, value))
            self._ends[0] += 1
        self.first.feed(records)

    def flush(self, now_ms: int) -> None:
        self.first.tick(now_ms)
        self.second.tick(now_ms)
        plan = self.first.plan()
        for send in plan.sends if plan is not None else ():
            if send.topic == ROLLUPS.suffix:
                self.second.feed([Record(self._ends[1], 0, send.key, send.value, send.headers)])
                self._ends[1] += 1
        self.second.plan()


def test_nothing_grows_once_windows_are_full_and_bounds_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "RESOLVED_PER_RULE_MAX", RESOLVED)
    both, waiting, looks = Both(), list[dict[str, Any]](), list[Counter[str]]()
    next_ms, look_ms = START_MS + FLUSH_MS, START_MS + WARM_MS
    agents = Churning(29, sessions=40, agents=2, tools=3, tools_per_agent=3, tenants=1, sources=4, step_ms=RATE_MS)
    for event in agents.events((WARM_MS + HOUR_MS) // RATE_MS + 1):
        waiting.append(event)
        if event["time"] >= next_ms:
            both.feed(waiting)
            both.flush(event["time"])
            waiting, next_ms = [], event["time"] + FLUSH_MS
        if event["time"] >= look_ms:
            looks.append(held(both.first) + held(both.second))
            look_ms += HOUR_MS
    early, late = looks
    grown = {path: (early[path], count) for path, count in late.items() if count > SLACK * early[path] + FEW}

    assert sum(late[path] for path in late if path.endswith(".resolved")) >= RESOLVED, "as many are over as are kept"
    assert {} == {path: counts for path, counts in grown.items() if HOURS not in path}
    assert KEPT == sum(1 for _ in both.first.sessions())
    for keyed in both.second.keyed():
        sizes = Counter(size_ms for size_ms, _ in keyed.panes.rows)
        assert all(sizes[size_ms] <= kept_ms // size_ms + 3 for size_ms, kept_ms, _ in LADDER), (keyed.key, sizes)
