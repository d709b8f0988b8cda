"""What became of alerts, one turn after the other?  The alert topic as it was written, as far as it is not compacted.

Never puts the turns of one alert out of the order of its partition; those of several are in the order of their times.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from rich.text import Text

from streams.rule.acknowledgement import AcknowledgementRecord, acknowledged_of, read_acknowledgement
from streams.rule.records import AlertRecord
from streams.worker.situation import only
from streams.worker.tail import Records

FORGOTTEN: Final = "forgotten"
ACKNOWLEDGED: Final = "acknowledged"
UNACKNOWLEDGED: Final = "unacknowledged"
_STYLES: Final = {"firing": "red", "pending": "yellow", "resolved": "green", ACKNOWLEDGED: "cyan"}
_read_alert: Final = msgspec.json.Decoder(AlertRecord).decode


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that became of an alert; `alert` is its record, as far as it is known."""

    time_ms: int
    fingerprint: str
    became: str
    alert: AlertRecord | None = None
    acknowledgement: AcknowledgementRecord | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs: a record of the alert topic, its state being what the alert became."""
        known = {} if self.alert is None else msgspec.to_builtins(self.alert)
        told = {**known, "fingerprint": self.fingerprint, "state": self.became, "time_ms": self.time_ms}
        if self.acknowledgement is not None:
            told["acknowledged"] = msgspec.to_builtins(self.acknowledgement)
        return told

    def cells(self) -> tuple[Text, Text, Text, Text]:
        """Return it for people: what it became, its name, its value, what there is to say."""
        record = self.alert
        return (
            Text(self.became, _STYLES.get(self.became, "dim")),
            Text("" if record is None else record.alert),
            Text("" if record is None else record.value_text),
            Text(self._said()),
        )

    def _said(self) -> str:
        if self.acknowledgement is not None:
            note = f": {self.acknowledgement.note}" if self.acknowledgement.note else ""
            return f"by {self.acknowledgement.by}{note}"
        if self.alert is None or self.became in {FORGOTTEN, UNACKNOWLEDGED}:
            return ""
        reason = f" ({self.alert.reason})" if self.alert.reason else ""
        return self.alert.summary + reason


@dataclass(slots=True)
class Past:
    """The turns that were read; `take` records of the alert topic."""

    _turns: list[Turn] = field(default_factory=list)
    _newest: dict[str, AlertRecord] = field(default_factory=dict)

    def take(self, _suffix: str, _partition: int, records: Records) -> None:
        """Take records of one partition, in their order."""
        self._turns += (self._turn(record) for record in records)

    def _turn(self, record: Any) -> Turn:
        owner = acknowledged_of(record.key)
        if owner is not None:
            known = self._newest.get(owner)
            if record.value is None:
                return Turn(_told_ms(record), owner, UNACKNOWLEDGED, known)
            made = read_acknowledgement(record.value)
            return Turn(made.time_ms, owner, ACKNOWLEDGED, known, made)
        name = (record.key or b"").decode()
        if record.value is None:
            return Turn(_told_ms(record), name, FORGOTTEN, self._newest.pop(name, None))
        alert = self._newest[name] = _read_alert(record.value)
        return Turn(alert.time_ms, name, alert.state, alert)

    def turns(self, prefix: str | None = None) -> list[Turn]:
        """Return what became of one alert, or of all. Raises NoSuch, Ambiguous."""
        found: Iterable[Turn] = self._turns
        if prefix is not None:
            known = {turn.fingerprint for turn in self._turns}
            name = only(prefix, known, "alert", "agent-streams alerts history")
            found = (turn for turn in self._turns if turn.fingerprint == name)
        return sorted(found, key=lambda turn: turn.time_ms)  # stable: equal times stay in the order of the log

    def fresh(self) -> list[Turn]:
        """Return what was taken since the last call."""
        fresh, self._turns = self._turns, []
        return fresh


def _told_ms(record: Any) -> int:
    """Return when a tombstone's turn was, as its header says; else when it was written."""
    said: bytes = next((value for name, value in record.headers or () if name == "ce_time"), b"")
    try:
        return round(datetime.fromisoformat(said.decode()).timestamp() * 1000)
    except ValueError:
        return int(record.timestamp)
