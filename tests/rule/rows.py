"""Rows for rules to read: plain lists of what happened when, summed the slow and obvious way."""

from dataclasses import dataclass, field
from typing import Final

from streams.fold.session import Finding
from streams.fold.spending import Account
from streams.rule.model import Rule
from streams.rule.parse import parse_rules

PANE_MS: Final = 10_000
NOW_MS: Final = 1_000_000_000  # on the edge of a pane and of a minute's sixth pane: any round moment will do


@dataclass
class Row:
    """What happened to one key: (moment, field, amount), observations, and present values."""

    pane_ms: int = PANE_MS
    entries: list[tuple[int, str, int]] = field(default_factory=list)
    seen: list[tuple[int, str, int]] = field(default_factory=list)
    started_ms: dict[str, int] = field(default_factory=dict)  # ages: since when
    gauges: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    found: dict[str, Finding] = field(default_factory=dict)  # what is behind a gauge

    def add(self, at_ms: int, **amounts: int) -> None:
        """Let measures grow; `events` grows by one with them."""
        self.entries += [(at_ms, name, amount) for name, amount in {"events": 1, **amounts}.items()]

    def observe(self, at_ms: int, histogram: str, *values: int) -> None:
        """Let a histogram see values."""
        self.seen += [(at_ms, histogram, value) for value in values]

    def at(self, now_ms: int) -> "RowAt":
        """Read the row at a moment."""
        return RowAt(self, now_ms)


@dataclass
class RowAt:
    """A row at one moment: a Reading."""

    row: Row
    end_ms: int

    @property
    def now_ms(self) -> int:
        return self.end_ms

    def account(self, budget: str) -> Account | None:
        return self.row.accounts.get(budget)

    @property
    def open_ms(self) -> int:
        """Start of the open pane."""
        return self.end_ms - self.end_ms % self.row.pane_ms

    def total(self, field: str) -> int:
        return sum(amount for _, name, amount in self.row.entries if name == field)

    def window(self, field: str, window_ms: int) -> int:
        since_ms = self.open_ms + self.row.pane_ms - window_ms
        return sum(amount for at_ms, name, amount in self.row.entries if name == field and at_ms >= since_ms)

    def window_closed(self, field: str, window_ms: int) -> int:
        return sum(
            amount
            for at_ms, name, amount in self.row.entries
            if name == field and self.open_ms - window_ms <= at_ms < self.open_ms
        )

    def _observed(self, histogram: str, window_ms: int) -> list[int]:
        return sorted(
            value
            for at_ms, name, value in self.row.seen
            if name == histogram and self.open_ms - window_ms <= at_ms < self.open_ms
        )

    def observations(self, histogram: str, window_ms: int) -> int:
        return len(self._observed(histogram, window_ms))

    def quantile(self, histogram: str, q: float, window_ms: int) -> float | None:
        values = self._observed(histogram, window_ms)
        return float(values[min(int(q * len(values)), len(values) - 1)]) if values else None

    def gauge(self, field: str) -> int | None:
        since_ms = self.row.started_ms.get(field)
        return self.row.gauges.get(field) if since_ms is None else self.end_ms - since_ms

    def began_ms(self, age: str) -> int | None:
        return self.row.started_ms.get(age)

    def alarmed(self) -> bool:
        return any(self.row.gauges.values())

    def explain(self, field: str) -> Finding | None:
        return self.row.found.get(field)

    def age_ms(self) -> int:
        return self.end_ms - min((at_ms for at_ms, _, _ in self.row.entries), default=self.end_ms)

    def quiet_ms(self) -> int:
        return self.end_ms - max((at_ms for at_ms, _, _ in self.row.entries), default=self.end_ms)

    def at(self, now_ms: int) -> "RowAt":
        return RowAt(self.row, now_ms)


def rule_of(text: str, *, name: str = "R") -> Rule:
    """Read one rule from its lines, or from `key: value` pairs on one line, separated by semicolons."""
    lines = [part.strip() for part in text.replace("\n", ";").split(";") if part.strip()]
    body = "".join(f"        {line}\n" for line in lines)
    return parse_rules(f"groups:\n  - name: g\n    rules:\n      - alert: {name}\n{body}").rules[0]
