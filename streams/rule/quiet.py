"""Which alerts is nobody told of at this moment, and why?  Silences, inhibition and acknowledgements together.  Pure.

Never sends anything and never changes an alert: notify and the views ask.  What is changed answers with the alerts that
have to be looked at again.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.inhibition import Group, Inhibition, Inhibitors
from streams.rule.receivers import routing_labels
from streams.rule.records import AlertRecord
from streams.rule.silence import Silence


class Why(Struct, frozen=True):
    """Why an alert is not told or not repeated: ids of silences, fingerprints of inhibitors, who has taken it on."""

    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    acknowledged: AcknowledgementRecord | None = None

    @property
    def suppressed(self) -> bool:
        """Is it not to be told?"""
        return bool(self.silenced_by or self.inhibited_by)


class Quiet:
    """Everything that keeps alerts from being told, against all that fire."""

    def __init__(self, inhibitions: Sequence[Inhibition] = ()) -> None:
        self._inhibitors = Inhibitors(inhibitions)
        self._silences: dict[str, Silence] = {}
        self._active: set[str] = set()
        self._acknowledged: dict[str, AcknowledgementRecord] = {}
        self._firing: dict[str, Mapping[str, str]] = {}  # labels, by fingerprint
        self._targets: dict[Group, set[str]] = {}

    # ---- what changes -------------------------------------------------------------------------------------------

    def alert(self, fingerprint: str, record: AlertRecord | None) -> set[str]:
        """Take the newest of an alert; return those that it inhibits or no longer does, without itself."""
        before = self._firing.pop(fingerprint, None)
        if before is not None:
            for group in self._inhibitors.groups(before):
                self._targets[group].discard(fingerprint)
                if not self._targets[group]:
                    del self._targets[group]
        labels = routing_labels(record) if record is not None and record.state == "firing" else None
        if labels is not None:
            self._firing[fingerprint] = labels
            for group in self._inhibitors.groups(labels):
                self._targets.setdefault(group, set()).add(fingerprint)
        changed = self._inhibitors.put(fingerprint, labels)
        return set[str]().union(*(self._targets.get(group, ()) for group in changed)) - {fingerprint}

    def silence(self, name: str, silence: Silence | None, now_ms: int) -> set[str]:
        """Take a silence, None: it is ended; return the alerts it is or was about."""
        before = self._silences.pop(name, None)
        was_active = name in self._active
        self._active.discard(name)
        meant = self._meant(before) if before is not None and was_active else set[str]()
        if silence is not None:
            self._silences[name] = silence
            if silence.state(now_ms) == "active":
                self._active.add(name)
                meant |= self._meant(silence)
        return meant

    def acknowledge(self, fingerprint: str, record: AcknowledgementRecord | None) -> set[str]:
        """Take an acknowledgement, None: it is taken back; return whose it is."""
        if record is None:
            self._acknowledged.pop(fingerprint, None)
        else:
            self._acknowledged[fingerprint] = record
        return {fingerprint}

    def pass_time(self, now_ms: int) -> set[str]:
        """Let silences begin and end; return the alerts they are about."""
        meant: set[str] = set()
        for name, silence in self._silences.items():
            active = silence.state(now_ms) == "active"
            if active != (name in self._active):
                (self._active.add if active else self._active.discard)(name)
                meant |= self._meant(silence)
        return meant

    def next_ms(self, now_ms: int) -> int | None:
        """Return when the next silence begins or ends; None when none does."""
        return min((at for each in self._silences.values() if (at := each.next_ms(now_ms)) is not None), default=None)

    def _meant(self, silence: Silence) -> set[str]:
        return {fingerprint for fingerprint, labels in self._firing.items() if silence.means(labels)}

    # ---- what is asked ------------------------------------------------------------------------------------------

    def why(self, record: AlertRecord, now_ms: int) -> Why:
        """Say what keeps an alert from being told now."""
        labels = routing_labels(record)
        silenced = [name for name in self._active if self._silences[name].means(labels)]
        acknowledged = self._acknowledged.get(record.fingerprint)
        holds = acknowledged is not None and acknowledged.holds(record.incarnation, now_ms)
        return Why(tuple(sorted(silenced)), self._inhibitors.inhibiting(labels), acknowledged if holds else None)

    def silences(self) -> Iterable[Silence]:
        """Return every silence, those that have not begun or are over included."""
        return list(self._silences.values())

    @property
    def active(self) -> int:
        """How many silences hold?"""
        return len(self._active)

    @property
    def inhibitors(self) -> Inhibitors:
        """What fires and can mute others."""
        return self._inhibitors
