"""Which alerts has somebody taken on, and which is nobody to hear of?  State of the commands stage, ended by tick.

Never looks at an alert: whether one with this fingerprint fires is known where its row is, and to whoever asks.
A row that a torn transaction has left behind (its offset is not folded yet) is dropped at the load: its command comes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from streams.event.codec import time_ms
from streams.event.command import Acknowledge, Command, SilenceAlerts, Unacknowledge, Unsilence
from streams.rule.acknowledgement import (
    KEPT_MS,
    StoredAcknowledgement,
    acknowledged_message,
    decode_acknowledgement,
    encode_acknowledgement,
    unacknowledged_message,
)
from streams.rule.matcher import LabelMatcher
from streams.rule.records import Message
from streams.rule.silence import StoredSilence, decode_silence, encode_silence, fault_of
from streams.stage.plan import Row, Send
from streams.topology import ALERTS

ACKNOWLEDGEMENT: Final = b"k"
SILENCE: Final = b"s"
ACKNOWLEDGEMENTS_MAX: Final = 10_000  # about 3 MB; the oldest is taken back: to be told again is the safe side
SILENCES_MAX: Final = 1_000  # each is held against every alert; one more is refused, and says so
SILENCED_MAX_MS: Final = 366 * 24 * 60 * 60 * 1000  # longer is a rule that should not be there


class Attention:
    """Acknowledgements and silences of one partition of commands."""

    def __init__(self) -> None:
        self._acknowledged: dict[str, StoredAcknowledgement] = {}  # by fingerprint, the oldest first
        self._silences: dict[str, StoredSilence] = {}
        self._changed: dict[bytes, bytes | None] = {}
        self._messages: list[Message] = []
        self._next_ms: int | None = None  # nothing ends before

    def acknowledged(self) -> dict[str, StoredAcknowledgement]:
        """Return what is acknowledged, by fingerprint."""
        return dict(self._acknowledged)

    def silences(self) -> dict[str, StoredSilence]:
        """Return the silences, by id."""
        return dict(self._silences)

    # ---- commands -----------------------------------------------------------------------------------------------

    def take(self, command: Command, at_ms: int, offset: int) -> str | None:
        """Carry a command out; text says why it makes no sense."""
        return HANDLERS[type(command)](self, command, at_ms, offset)

    def acknowledge(self, command: Acknowledge, at_ms: int, offset: int) -> str | None:
        """Note who has taken an alert on; a later one replaces an earlier one."""
        ends_ms = at_ms + KEPT_MS if command.until is None else time_ms(command.until)
        fault = _fault("until", ends_ms, at_ms, KEPT_MS, "30 days")
        if fault is not None or ends_ms is None:
            return fault
        fingerprint = command.fingerprint
        stored = StoredAcknowledgement(
            offset, command.id, fingerprint, command.incarnation, at_ms, ends_ms, command.by, command.note
        )
        self._acknowledged.pop(fingerprint, None)
        self._acknowledged[fingerprint] = stored
        self._changed[ACKNOWLEDGEMENT + fingerprint.encode()] = encode_acknowledgement(stored)
        self._messages.append(acknowledged_message(stored))
        self._ends(ends_ms)
        while len(self._acknowledged) > ACKNOWLEDGEMENTS_MAX:
            self._forget(next(iter(self._acknowledged)), at_ms)
        return None

    def unacknowledge(self, command: Unacknowledge, at_ms: int, offset: int) -> str | None:  # noqa: ARG002  as the others
        """Take an acknowledgement back."""
        if command.fingerprint in self._acknowledged:
            self._forget(command.fingerprint, at_ms)
        return None

    def silence(self, command: SilenceAlerts, at_ms: int, offset: int) -> str | None:
        """Note a silence."""
        starts_ms = at_ms if command.starts_at is None else time_ms(command.starts_at)
        if starts_ms is None:
            return "startsAt is neither epoch milliseconds nor RFC 3339 with an offset"
        starts_ms = max(starts_ms, at_ms)  # what was sent cannot be silenced any more
        ends_ms = time_ms(command.until)
        fault = _fault("until", ends_ms, starts_ms, SILENCED_MAX_MS, "a year")
        if fault is not None or ends_ms is None:
            return fault
        given = [(each.name, each.value, each.is_regex, each.is_equal) for each in command.matchers]
        try:
            matchers = tuple(LabelMatcher.of(name, value, regex=re, equal=eq) for name, value, re, eq in given)
        except ValueError as error:
            return f"an expression that cannot be used: {error}"
        fault = fault_of(matchers)
        if fault is None and command.id not in self._silences and len(self._silences) >= SILENCES_MAX:
            fault = f"{SILENCES_MAX} silences are there already: end one, or silence more with one"
        if fault is not None:
            return fault
        stored = StoredSilence(offset, command.id, given, starts_ms, ends_ms, at_ms, command.by, command.note)
        self._silences[command.id] = stored
        self._changed[SILENCE + command.id.encode()] = encode_silence(stored)
        self._ends(ends_ms)
        return None

    def unsilence(self, command: Unsilence, at_ms: int, offset: int) -> str | None:  # noqa: ARG002  as the others
        """End a silence."""
        self._unsilence(command.silence)
        return None

    def _forget(self, fingerprint: str, at_ms: int) -> None:
        stored = self._acknowledged.pop(fingerprint)
        self._changed[ACKNOWLEDGEMENT + fingerprint.encode()] = None
        self._messages.append(unacknowledged_message(stored, at_ms))

    def _unsilence(self, silence: str) -> None:
        if self._silences.pop(silence, None) is not None:
            self._changed[SILENCE + silence.encode()] = None

    def _ends(self, ends_ms: int) -> None:
        self._next_ms = ends_ms if self._next_ms is None else min(self._next_ms, ends_ms)

    # ---- time ---------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """End what has lasted for as long as it was to."""
        if self._next_ms is None or now_ms < self._next_ms:
            return
        for fingerprint, acknowledged in list(self._acknowledged.items()):
            if acknowledged.ends_ms <= now_ms:
                self._forget(fingerprint, now_ms)
        for name, silence in list(self._silences.items()):
            if silence.ends_ms <= now_ms:
                self._unsilence(name)
        self._next_ms = min(self._every_end(), default=None)

    def _every_end(self) -> list[int]:
        ends = [each.ends_ms for each in self._acknowledged.values()]
        return ends + [each.ends_ms for each in self._silences.values()]

    # ---- storage ------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Is there something to write?"""
        return bool(self._changed or self._messages)

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored row if it is one of these; returns whether it was."""
        if key[:1] == ACKNOWLEDGEMENT:
            acknowledged = decode_acknowledgement(value)
            self._acknowledged[acknowledged.fingerprint] = acknowledged
        elif key[:1] == SILENCE:
            silence = decode_silence(value)
            self._silences[silence.id] = silence
        else:
            return False
        return True

    def loaded(self, next_offset: int) -> None:
        """All rows are in: drop what is not folded yet, and put the rest into the order of its coming."""
        acknowledged = [each for each in self._acknowledged.values() if each.offset < next_offset]
        self._acknowledged = {each.fingerprint: each for each in sorted(acknowledged, key=lambda each: each.offset)}
        self._silences = {name: each for name, each in self._silences.items() if each.offset < next_offset}
        self._next_ms = min(self._every_end(), default=None)

    def rows(self) -> list[Row]:
        """Return the rows that changed since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed.items())

    def sends(self) -> list[Send]:
        """Return what the alert topic is to be told since the last call."""
        messages, self._messages = self._messages, []
        return [Send(ALERTS.suffix, None, each.key, each.value, each.headers) for each in messages]


HANDLERS: Final[Mapping[type[Command], Callable[[Attention, Any, int, int], str | None]]] = {
    Acknowledge: Attention.acknowledge,
    Unacknowledge: Attention.unacknowledge,
    SilenceAlerts: Attention.silence,
    Unsilence: Attention.unsilence,
}


def _fault(name: str, ends_ms: int | None, begins_ms: int, most_ms: int, words: str) -> str | None:
    """Say what is wrong with an end."""
    if ends_ms is None:
        return f"{name} is neither epoch milliseconds nor RFC 3339 with an offset"
    if ends_ms <= begins_ms:
        return f"{name} is over when it begins"
    return f"{name} is more than {words} away" if ends_ms - begins_ms > most_ms else None
