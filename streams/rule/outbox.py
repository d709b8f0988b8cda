"""What must a receiver be told now, what again, and when after a failure?  One receiver's memory.  Pure.

Never sends anything.  At least once, with the transition's id as the key that tells a repeat; of an alert only its
newest state waits, so that a receiver that was away is told everything and not flooded.  Silent moves (to pending, or
forgotten) close what the receiver was told, or may have been told, to be firing.  What has to be stored is handed out
as `rows`.
What is muted (silenced or inhibited) is held back while it fires, and told when it no longer is; an end that comes
meanwhile is noted as if it had been told, as in Alertmanager.  What is acknowledged is not repeated.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from heapq import heappop, heappush
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
AGAIN: Final = "-again-"  # people's receivers know a notice by its id: a repeat is meant to be read, so it has another


class Delivered(Struct, frozen=True):
    """What a receiver was last told of an alert, and how often `again`.

    `sent_ms` is when what holds state was told it for the first time, and people for the last time.
    """

    record: AlertRecord
    sent_ms: int
    again: int = 0


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
        self._doubtful: dict[str, AlertRecord] = {}  # newer than what was told, and nobody knows whether it arrived
        self._waiting: dict[str, AlertRecord] = {}
        self._held: dict[str, AlertRecord] = {}  # would wait, were it not muted
        self._muted = set[str]()
        self._acknowledged: dict[str, int] = {}  # until when
        self._gone = set[str]()
        self._flying = set[str]()  # handed out, and nobody knows yet what became of it
        self._meanwhile: dict[str, list[tuple[AlertRecord | None, int, bool]]] = {}
        self._again_ms: dict[str, int] = {}
        self._agenda: list[tuple[int, str]] = []  # a heap of the same, with what no longer holds
        self._rows: dict[str, Delivered | None] = {}
        self.suppressed = 0  # states that were held back or never told, because they were muted

    @property
    def pending(self) -> int:
        """How many alerts the receiver has not been told the newest of, though it should."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many alerts are not told because they are muted."""
        return len(self._held)

    def known(self) -> Iterable[str]:
        """Return the alerts it was told of."""
        return list(self._told)

    # ---- what is learned ----------------------------------------------------------------------------------------

    def doubt(self, record: AlertRecord) -> None:
        """Note that a state may have arrived without an answer that was heard or stored: its end has to be told."""
        told = self._told.get(record.fingerprint)
        if record.state == "firing" and (told is None or told.record.id != record.id):
            self._doubtful[record.fingerprint] = record

    def _believed(self, fingerprint: str) -> AlertRecord | None:
        """Return what the receiver may believe of an alert; None when it cannot know of it."""
        doubtful, told = self._doubtful.get(fingerprint), self._told.get(fingerprint)
        return doubtful if doubtful is not None or told is None else told.record

    def learn(self, fingerprint: str, record: AlertRecord | None, now_ms: int, *, old: bool = False) -> None:
        """Take the newest of an alert; None when it is forgotten, `old` when it was there before the receiver."""
        if fingerprint in self._flying:
            self._meanwhile.setdefault(fingerprint, []).append((record, now_ms, old))
            return
        if record is None or record.state == "pending":
            self._fall_silent(fingerprint, record, now_ms)
            return
        self._gone.discard(fingerprint)
        told = self._told.get(fingerprint)
        self._drop(fingerprint)
        if told is not None and told.record.id == record.id:
            if fingerprint not in self._again_ms:
                self._plan(fingerprint, now_ms, 0)  # told before a restart: again at once, it may have been lost since
            return
        if self._due_to_be_told(record, old=old):
            self._put(fingerprint, record, now_ms)

    def _due_to_be_told(self, record: AlertRecord, *, old: bool) -> bool:
        if record.state != "resolved":
            return self.receiver.wants(record)
        if not self.receiver.send_resolved:
            self._forget(record.fingerprint)
            return False
        believed = self._believed(record.fingerprint)
        if believed is None:
            return not old and self.receiver.wants(record)
        return believed.state == "firing" or self.receiver.wants(record)

    def _put(self, fingerprint: str, record: AlertRecord, now_ms: int) -> None:
        """Have a state told, unless it is muted: then it is held while it fires, and its end is nobody's news."""
        if fingerprint not in self._muted:
            self._waiting[fingerprint] = record
            return
        self.suppressed += 1
        if record.state == "firing":
            self._held[fingerprint] = record
        elif self._believed(fingerprint) is not None:
            self._doubtful.pop(fingerprint, None)
            self._told[fingerprint] = self._rows[fingerprint] = Delivered(record, now_ms)
            self._plan(fingerprint, now_ms, 0)

    def _drop(self, fingerprint: str) -> None:
        self._waiting.pop(fingerprint, None)
        self._held.pop(fingerprint, None)

    def _fall_silent(self, fingerprint: str, record: AlertRecord | None, now_ms: int) -> None:
        """Close what was told to be firing; a resolve that still waits goes out all the same."""
        if record is None:
            self._gone.add(fingerprint)
        held, believed = self._waiting.get(fingerprint), self._believed(fingerprint)
        if held is None or held.state != "resolved":
            self._drop(fingerprint)
            if believed is not None and believed.state == "firing" and self.receiver.send_resolved:
                end, told = closing(believed, record), self._told.get(fingerprint)
                if told is None or told.record.id != end.id:
                    self._put(fingerprint, end, now_ms)
        if record is None and fingerprint not in self._waiting:
            self._forget(fingerprint)

    def mute(self, fingerprint: str, now_ms: int, *, muted: bool) -> None:
        """Hold back what is told of an alert from now on, or no longer; call it before `learn`."""
        if muted == (fingerprint in self._muted) or self.receiver.send_suppressed:
            return
        if muted:
            self._muted.add(fingerprint)
            waiting = self._waiting.get(fingerprint)
            if waiting is not None and waiting.state == "firing" and fingerprint not in self._flying:
                self._held[fingerprint] = self._waiting.pop(fingerprint)
                self.suppressed += 1
            self._again_ms.pop(fingerprint, None)
            return
        self._muted.discard(fingerprint)
        held = self._held.pop(fingerprint, None)
        if held is not None:
            self._waiting[fingerprint] = held
        elif fingerprint in self._told:
            self._plan(fingerprint, now_ms, 0)

    def acknowledge(self, fingerprint: str, until_ms: int | None, now_ms: int) -> None:
        """Do not repeat an alert to people before this moment; None: nobody has taken it on (any more)."""
        if until_ms == self._acknowledged.get(fingerprint):
            return
        if until_ms is None:
            del self._acknowledged[fingerprint]
        else:
            self._acknowledged[fingerprint] = until_ms
        if self.receiver.repeat_ms and fingerprint in self._told:
            self._plan(fingerprint, now_ms, 0)

    # ---- what is told -------------------------------------------------------------------------------------------

    def due(self, now_ms: int) -> list[AlertRecord]:
        """Return what to send now, at most a batch: what is new first, in the order of its coming.

        What is returned is to be answered by `sent` or `failed`; what is learned of these alerts meanwhile waits.
        """
        found = [record for _, record in zip(range(self._batch_max), self._waiting.values(), strict=False)]
        if len(found) < self._batch_max:
            again = list(self._due_again(now_ms, self._batch_max - len(found)))
            found += [self._repeated(self._told[fingerprint]) for fingerprint in again]
        self._flying.update(record.fingerprint for record in found)
        return found

    def _due_again(self, now_ms: int, most: int) -> Iterator[str]:
        """Yield what is to be told again; it stays on the agenda until it is."""
        kept: dict[str, int] = {}
        while self._agenda and self._agenda[0][0] <= now_ms and len(kept) < most:
            due_ms, fingerprint = heappop(self._agenda)
            if self._again_ms.get(fingerprint) == due_ms and fingerprint not in kept:
                kept[fingerprint] = due_ms
        for fingerprint, due_ms in kept.items():
            heappush(self._agenda, (due_ms, fingerprint))
            if fingerprint not in self._waiting:
                yield fingerprint

    def _repeated(self, told: Delivered) -> AlertRecord:
        """Return what is told again: to what holds state the same, to people a notice of its own."""
        if not self.receiver.repeat_ms:
            return told.record
        return msgspec.structs.replace(told.record, id=f"{told.record.id}{AGAIN}{told.again + 1}")

    def again_ms(self) -> int | None:
        """Return when something is to be told again; None when nothing is."""
        while self._agenda and self._again_ms.get(self._agenda[0][1]) != self._agenda[0][0]:
            heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    def sent(self, records: Sequence[AlertRecord], now_ms: int) -> int:
        """Note that the receiver took these (or will never take them); return how many it had not been told before."""
        fresh = 0
        for record in records:
            fingerprint = record.fingerprint
            told = self._told.get(fingerprint)
            if told is not None and record.id == self._repeated(told).id:
                if self.receiver.repeat_ms:
                    again = Delivered(told.record, now_ms, told.again + 1)
                    self._told[fingerprint] = self._rows[fingerprint] = again
            elif told is None or told.record.id != record.id:
                fresh += 1
                self._told[fingerprint] = self._rows[fingerprint] = Delivered(record, now_ms)
            self._doubtful.pop(fingerprint, None)
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
            fingerprint = record.fingerprint
            waiting = self._waiting.get(fingerprint)
            if waiting is not None and waiting.id == record.id:
                self.doubt(record)
                muted = fingerprint in self._muted and record.state == "firing"
                (self._held if muted else self._waiting)[fingerprint] = self._waiting.pop(fingerprint)
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
        told, again_ms = self._told[fingerprint], None
        over = told.record.state == "resolved"
        if self.receiver.resend_ms and not (over and now_ms - told.sent_ms >= RESOLVED_RESENT_MS):
            again_ms = now_ms + wait_ms
        elif self.receiver.repeat_ms and not over:
            again_ms = max(told.sent_ms + self.receiver.repeat_ms, self._acknowledged.get(fingerprint, 0))
        if again_ms is not None and fingerprint not in self._muted:
            self._again_ms[fingerprint] = again_ms
            heappush(self._agenda, (again_ms, fingerprint))

    def _forget(self, fingerprint: str) -> None:
        self._gone.discard(fingerprint)
        self._muted.discard(fingerprint)
        self._acknowledged.pop(fingerprint, None)
        self._again_ms.pop(fingerprint, None)
        self._doubtful.pop(fingerprint, None)
        self._drop(fingerprint)
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
