"""What must a receiver be told now, what again, and when after a failure?  One receiver's memory.  Pure.

Never sends anything.  At least once, with the transition's id as the key that tells a repeat; of an alert only its
newest state waits, so that a receiver that was away is told everything and not flooded.  Silent moves (to pending, or
forgotten) close what the receiver was told to be firing.  What has to be stored is handed out as `rows`.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from streams.rule.receivers import Receiver
from streams.rule.records import AlertRecord

BATCH_MAX: Final = {"alertmanager": 64}  # Prometheus's own; the others take one alert at a time
RESOLVED_RESENT_MS: Final = 15 * 60 * 1000  # Prometheus's own: an Alertmanager that restarts forgets what is resolved
BACKOFF_MS: Final = 500
RETRY_AFTER_MAX_MS: Final = 5 * 60 * 1000  # a receiver that asks for more is asked again all the same
FORGOTTEN: Final = "forgotten"


class Delivered(Struct, frozen=True):
    """What a receiver was last told of an alert; `sent_ms` is when it was told that for the first time."""

    record: AlertRecord
    sent_ms: int


class Begun(Struct, frozen=True):
    """Where the alert topic ended when a receiver was new, by partition: what was over by then is no news."""

    offsets: dict[str, int]

    def old(self, partition: int, offset: int) -> bool:
        """Say whether a record was there already."""
        return offset < self.offsets.get(str(partition), 0)


class Verdict(Enum):
    """What became of an attempt: taken, refused for what it says, or to be tried again."""

    TAKEN = "taken"
    REFUSED = "refused"
    AGAIN = "again"


# What repeating the same body cannot cure.  Everything else can be, by time or by a person: also a wrong password.
REFUSED_STATUSES: Final = frozenset({400, 413, 422})


def verdict_of(status: int) -> Verdict:
    """Say what an HTTP status means for what was sent."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    return Verdict.REFUSED if status in REFUSED_STATUSES else Verdict.AGAIN


class Stored(NamedTuple):
    """A row to be written: nothing means that it may be forgotten."""

    fingerprint: str
    delivered: Delivered | None


def delay_ms(failures: int, limit_ms: int, chance: float, after_ms: int | None = None) -> int:
    """Return how long to wait after this many failures in a row; `chance` in [0, 1) spreads half of it.

    What the receiver asks for (`Retry-After`) is waited for too, within RETRY_AFTER_MAX_MS.
    """
    full_ms = min(BACKOFF_MS << min(failures - 1, 20), limit_ms)
    own_ms = full_ms // 2 + int(full_ms / 2 * chance)
    return own_ms if after_ms is None else max(own_ms, min(after_ms, RETRY_AFTER_MAX_MS))


class Outbox:
    """One receiver's: what waits, what it was told, and when it is to be told again."""

    def __init__(self, receiver: Receiver, delivered: dict[str, Delivered] | None = None) -> None:
        self.receiver = receiver
        self._batch_max = BATCH_MAX.get(receiver.kind, 1)
        self._told: dict[str, Delivered] = delivered or {}
        self._waiting: dict[str, AlertRecord] = {}
        self._gone = set[str]()
        self._flying = set[str]()  # handed out, and nobody knows yet what became of it
        self._meanwhile: dict[str, list[tuple[AlertRecord | None, int, bool]]] = {}
        self._again_ms: dict[str, int] = {}  # in the order of their times, as every wait is equally long
        self._rows: dict[str, Delivered | None] = {}

    @property
    def pending(self) -> int:
        """How many alerts the receiver has not been told the newest of."""
        return len(self._waiting)

    def known(self) -> Iterable[str]:
        """Return the alerts it was told of."""
        return list(self._told)

    def learn(self, fingerprint: str, record: AlertRecord | None, now_ms: int, *, old: bool = False) -> None:
        """Take the newest of an alert; None when it is forgotten, `old` when it was there before the receiver."""
        if fingerprint in self._flying:
            self._meanwhile.setdefault(fingerprint, []).append((record, now_ms, old))
            return
        if record is None or record.state == "pending":
            self._fall_silent(fingerprint, record)
            return
        self._gone.discard(fingerprint)
        told = self._told.get(fingerprint)
        self._waiting.pop(fingerprint, None)
        if told is not None and told.record.id == record.id:
            if fingerprint not in self._again_ms:
                self._plan(fingerprint, now_ms, 0)  # told before a restart: again at once, it may have been lost since
            return
        open_there = told is not None and told.record.state == "firing"
        if record.state == "resolved":
            if not self.receiver.send_resolved:
                self._forget(fingerprint)
                return
            if told is None and (old or not self.receiver.wants(record)):
                return
            if told is not None and not open_there and not self.receiver.wants(record):
                return
        elif not self.receiver.wants(record):
            return
        self._waiting[fingerprint] = record

    def _fall_silent(self, fingerprint: str, record: AlertRecord | None) -> None:
        """Close what was told to be firing; a resolve that still waits goes out all the same."""
        if record is None:
            self._gone.add(fingerprint)
        held, told = self._waiting.get(fingerprint), self._told.get(fingerprint)
        if held is None or held.state != "resolved":
            self._waiting.pop(fingerprint, None)
            if told is not None and told.record.state == "firing" and self.receiver.send_resolved:
                self._waiting[fingerprint] = closing(told.record, record)
        if record is None and fingerprint not in self._waiting:
            self._forget(fingerprint)

    def due(self, now_ms: int) -> list[AlertRecord]:
        """Return what to send now, at most a batch: what is new first, in the order of its coming.

        What is returned is to be answered by `sent` or `failed`; what is learned of these alerts meanwhile waits.
        """
        found = [record for _, record in zip(range(self._batch_max), self._waiting.values(), strict=False)]
        for fingerprint, due_ms in self._again_ms.items():
            if due_ms > now_ms or len(found) >= self._batch_max:
                break
            if fingerprint not in self._waiting:
                found.append(self._told[fingerprint].record)
        self._flying.update(record.fingerprint for record in found)
        return found

    def again_ms(self) -> int | None:
        """Return when something is to be told again; None when nothing is."""
        return next(iter(self._again_ms.values()), None)

    def sent(self, records: Sequence[AlertRecord], now_ms: int) -> int:
        """Note that the receiver took these (or will never take them); return how many it had not been told before."""
        fresh = 0
        for record in records:
            fingerprint = record.fingerprint
            told = self._told.get(fingerprint)
            if told is None or told.record.id != record.id:
                fresh += 1
                self._told[fingerprint] = self._rows[fingerprint] = Delivered(record, now_ms)
            waiting = self._waiting.get(fingerprint)
            if waiting is not None and waiting.id == record.id:
                del self._waiting[fingerprint]
            self._plan(fingerprint, now_ms, self.receiver.resend_ms)
            if fingerprint in self._gone and fingerprint not in self._waiting:
                self._forget(fingerprint)
        self._land(records)
        return fresh

    def failed(self, records: Sequence[AlertRecord]) -> None:
        """Note that these did not get through: others go first next time, so that one cannot hold up all."""
        for record in records:
            waiting = self._waiting.get(record.fingerprint)
            if waiting is not None and waiting.id == record.id:
                self._waiting[record.fingerprint] = self._waiting.pop(record.fingerprint)
        self._land(records)

    def _land(self, records: Sequence[AlertRecord]) -> None:
        """Take what was learned while these were on their way."""
        for record in records:
            self._flying.discard(record.fingerprint)
            for newer, now_ms, old in self._meanwhile.pop(record.fingerprint, ()):
                self.learn(record.fingerprint, newer, now_ms, old=old)

    def rows(self) -> list[Stored]:
        """Hand out what has to be stored since the last call, the newest of each alert."""
        rows, self._rows = self._rows, {}
        return [Stored(*each) for each in rows.items()]

    def _plan(self, fingerprint: str, now_ms: int, wait_ms: int) -> None:
        """Note when to tell it again, if ever."""
        self._again_ms.pop(fingerprint, None)
        told = self._told[fingerprint]
        over = told.record.state == "resolved" and now_ms - told.sent_ms >= RESOLVED_RESENT_MS
        if self.receiver.resend_ms and not over:
            self._again_ms[fingerprint] = now_ms + wait_ms

    def _forget(self, fingerprint: str) -> None:
        self._gone.discard(fingerprint)
        self._again_ms.pop(fingerprint, None)
        self._waiting.pop(fingerprint, None)
        if self._told.pop(fingerprint, None) is not None:
            self._rows[fingerprint] = None


def closing(told: AlertRecord, record: AlertRecord | None) -> AlertRecord:
    """Make the end of what a receiver believes to be firing, of an alert that is pending again or forgotten."""
    time_ms = told.time_ms if record is None else record.time_ms
    return msgspec.structs.replace(
        told,
        id=f"{told.id}-closed",
        state="resolved",
        time_ms=time_ms,
        resolved_ms=time_ms,
        reason=FORGOTTEN if record is None else record.reason,
    )
