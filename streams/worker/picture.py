"""What is going on, as far as the topics say: tables, alerts, breakers, and how fast the numbers move.

Never talks to Kafka and never reads a clock: whoever follows the topics hands over what comes.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from streams.rule.acknowledgement import AcknowledgementRecord, acknowledged_of, read_acknowledgement
from streams.rule.records import AlertRecord, BreakerRecord
from streams.topology import ALERTS, BREAKERS, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG
from streams.worker.tables import Tables
from streams.worker.tail import Records

SUFFIXES: Final = (SESSIONS_CHANGELOG.suffix, ROLLUPS_CHANGELOG.suffix, ALERTS.suffix, BREAKERS.suffix)
NEWEST_KEPT: Final = 200  # transitions, of each kind
RATE_OVER_MS: Final = 5_000
_SAMPLES: Final = 64  # in RATE_OVER_MS; a board is drawn a few times a second
_T = TypeVar("_T")

_decode_alert: Final = msgspec.json.Decoder(AlertRecord).decode
_decode_breaker: Final = msgspec.json.Decoder(BreakerRecord).decode


class Picture:
    """Everything that the topics of one prefix say; `take` records as they are read."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.alerts: dict[bytes, AlertRecord] = {}  # the newest transition of each, by record key
        self.acknowledged: dict[str, AcknowledgementRecord] = {}  # by fingerprint
        self.breakers: dict[bytes, BreakerRecord] = {}
        self.alert_changes: deque[AlertRecord] = deque(maxlen=NEWEST_KEPT)
        self.breaker_changes: deque[BreakerRecord] = deque(maxlen=NEWEST_KEPT)
        self.fired: Counter[str] = Counter()  # alerts by name, how often
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)

    def take(self, suffix: str, partition: int, records: Records) -> None:
        """Take records of one of the topics in `SUFFIXES`."""
        if suffix == ALERTS.suffix:
            moved = _take(self._taken_on(records), _decode_alert, self.alerts)
            self.alert_changes.extend(moved)
            self.fired.update(record.alert for record in moved if record.state == "firing")
        elif suffix == BREAKERS.suffix:
            self.breaker_changes.extend(_take(records, _decode_breaker, self.breakers))
        else:
            for record in records:
                self.tables.take(suffix, partition, record.key, record.value)

    def _taken_on(self, records: Records) -> Records:
        """Note who has taken which alert on; return the records of alerts themselves."""
        alerts = []
        for record in records:
            owner = acknowledged_of(record.key)
            if owner is None:
                alerts.append(record)
            elif record.value is None:
                self.acknowledged.pop(owner, None)
            else:
                self.acknowledged[owner] = read_acknowledgement(record.value)
        return alerts

    def acknowledgement(self, record: AlertRecord, now_ms: int) -> AcknowledgementRecord | None:
        """Return who has taken this life of an alert on."""
        found = self.acknowledged.get(record.fingerprint)
        return found if found is not None and found.holds(record.incarnation, now_ms) else None

    def sample(self, now_ms: int) -> None:
        """Note how many events have been received, for `rate`; call it whenever the picture is shown."""
        received = self.tables.sessions.outcomes()["received"]
        self._samples.append((now_ms, received))
        while len(self._samples) > 2 and now_ms - self._samples[1][0] >= RATE_OVER_MS:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Events received per second, over the last few seconds of samples."""
        if len(self._samples) < 2:
            return 0.0
        (since_ms, before), (now_ms, now) = self._samples[0], self._samples[-1]
        return (now - before) * 1000 / (now_ms - since_ms) if now_ms > since_ms else 0.0

    def firing(self) -> list[AlertRecord]:
        """Return the alerts that fire or are pending, the newest first."""
        live = [record for record in self.alerts.values() if record.state != "resolved"]
        return sorted(live, key=lambda record: record.time_ms, reverse=True)


def _take(records: Records, decode: Callable[[bytes], _T], current: dict[bytes, _T]) -> list[_T]:
    """Note the newest record of each key, and return all that are no tombstones."""
    moved: list[_T] = []
    for record in records:
        if record.value is None:
            current.pop(record.key, None)
        else:
            decoded = current[record.key] = decode(record.value)
            moved.append(decoded)
    return moved
