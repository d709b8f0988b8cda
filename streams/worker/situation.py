"""What fires, who has taken it on, and what is not told to anybody?  The alert topic and what lies beside it, together.

Never talks to Kafka and never reads a clock: whoever follows the topics hands over what comes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streams.errors import ConfigError
from streams.rule.acknowledgement import acknowledged_of, read_acknowledgement
from streams.rule.alert import KEPT, decode_names, decode_state, fingerprint
from streams.rule.faults import Faults, Form
from streams.rule.inhibition import Inhibition, read_inhibition
from streams.rule.quiet import Quiet, Why
from streams.rule.reading import SESSION
from streams.rule.records import AlertRecord
from streams.rule.silence import Silence, decode_silence, silence_of
from streams.stage.attention import SILENCE
from streams.stage.judging import ALERT_ROW
from streams.topology import (
    ALERTS,
    COMMANDS_CHANGELOG,
    NOTIFY_CHANGELOG,
    ROLLUPS_CHANGELOG,
    ROLLUPS_STAGE,
    SESSIONS_CHANGELOG,
    SESSIONS_STAGE,
)
from streams.worker.notify import INHIBITIONS
from streams.worker.tail import Records

SUFFIXES: Final = (ALERTS.suffix, COMMANDS_CHANGELOG.suffix, NOTIFY_CHANGELOG.suffix)
ID_CHARS_LEAST: Final = 8  # of an id that is shown; more where two would be the same
_STAGES: Final = {SESSIONS_CHANGELOG.suffix: SESSIONS_STAGE.name, ROLLUPS_CHANGELOG.suffix: ROLLUPS_STAGE.name}
_read_alert: Final = msgspec.json.Decoder(AlertRecord).decode
_read_rules: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode


class NoSuch(Exception):
    """Nothing has an id that begins like this; the text says what to do."""


class Ambiguous(Exception):
    """Several ids begin like this; the text names them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One alert as it is seen: its newest record, what keeps it from being told, and since when it is only kept."""

    record: AlertRecord
    why: Why
    kept_since_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs: the record's own fields, and what else is known."""
        why = self.why
        return {
            **msgspec.to_builtins(self.record),
            "kept_since_ms": self.kept_since_ms,
            "acknowledged": msgspec.to_builtins(why.acknowledged),
            "suppressed": {"silenced_by": list(why.silenced_by), "inhibited_by": list(why.inhibited_by)},
        }


class Situation:
    """Everything that the topics say; `take` records of the topics in SUFFIXES, then of those that `kept_in` names."""

    def __init__(self) -> None:
        self.alerts: dict[str, AlertRecord] = {}  # newest, by fingerprint
        self._acknowledgements: dict[str, bytes] = {}
        self._silences: dict[str, Silence] = {}
        self._inhibitions: tuple[Inhibition, ...] = ()
        self._kept: dict[str, int] = {}
        self._quiet: Quiet | None = None

    # ---- what comes ---------------------------------------------------------------------------------------------

    def take(self, suffix: str, partition: int, records: Records) -> None:
        """Take records of one topic."""
        self._quiet = None
        for record in records:
            key, value = record.key or b"", record.value
            if suffix == ALERTS.suffix:
                self._take_alert(key, value)
            elif suffix == COMMANDS_CHANGELOG.suffix and key[:1] == SILENCE:
                self._take_silence(key[1:].decode(), value)
            elif suffix == NOTIFY_CHANGELOG.suffix and key == INHIBITIONS.encode():
                self._inhibitions = _inhibitions(value)
            elif suffix in _STAGES and key[:1] == ALERT_ROW:
                self._take_state(f"{_STAGES[suffix]}-{partition}", key[1:], value)

    def _take_alert(self, key: bytes, value: bytes | None) -> None:
        owner = acknowledged_of(key)
        if owner is not None:
            _put(self._acknowledgements, owner, value)
        else:
            _put(self.alerts, key.decode(), None if value is None else _read_alert(value))

    def _take_silence(self, name: str, value: bytes | None) -> None:
        _put(self._silences, name, None if value is None else silence_of(decode_silence(value)))

    def _take_state(self, origin: str, names: bytes, value: bytes | None) -> None:
        state = None if value is None else decode_state(value)
        kept = state is not None and state.phase is KEPT
        _put(self._kept, fingerprint(origin, *decode_names(names)), state.absent_since_ms if state and kept else None)

    # ---- what is asked ------------------------------------------------------------------------------------------

    def kept_in(self, records: Iterable[AlertRecord]) -> list[str]:
        """Name the changelogs that know which of these alerts are only kept."""
        kept = [record for record in records if record.state == "firing" and record.keep_firing_for_ms]
        sessions = any(record.over == SESSION for record in kept)
        others = any(record.over != SESSION for record in kept)
        return [SESSIONS_CHANGELOG.suffix] * sessions + [ROLLUPS_CHANGELOG.suffix] * others

    def entry(self, record: AlertRecord, now_ms: int) -> Entry:
        """Return one alert as it is seen."""
        if record.state == "resolved":
            return Entry(record, Why())
        kept_ms = self._kept.get(record.fingerprint) if record.state == "firing" else None
        return Entry(record, self.quiet(now_ms).why(record, now_ms), kept_ms)

    def entries(self, now_ms: int, *, every: bool = False) -> list[Entry]:
        """Return what fires or is about to, the newest first; then, with `every`, what is resolved."""
        newest = sorted(self.alerts.values(), key=lambda record: record.time_ms, reverse=True)
        live = [record for record in newest if record.state != "resolved"]
        over = [record for record in newest if record.state == "resolved"] if every else []
        return [self.entry(record, now_ms) for record in (*live, *over)]

    def silences(self, now_ms: int) -> list[tuple[Silence, list[AlertRecord]]]:
        """Return the silences that are not over, those that end first first, and what each of them mutes."""
        quiet = self.quiet(now_ms)
        found = []
        for silence in sorted(self._silences.values(), key=lambda each: (each.ends_ms, each.id)):
            if silence.state(now_ms) != "expired":
                muted = [
                    record
                    for record in self.alerts.values()
                    if record.state == "firing" and silence.id in quiet.why(record, now_ms).silenced_by
                ]
                found.append((silence, muted))
        return found

    def quiet(self, now_ms: int) -> Quiet:
        """Return what keeps alerts from being told, as of a moment."""
        if self._quiet is None:
            quiet = self._quiet = Quiet(self._inhibitions)
            for name, record in self.alerts.items():
                quiet.alert(name, record)
            for name, silence in self._silences.items():
                quiet.silence(name, silence, now_ms)
            for name, value in self._acknowledgements.items():
                quiet.acknowledge(name, read_acknowledgement(value))
        self._quiet.pass_time(now_ms)
        return self._quiet

    def find(self, prefix: str) -> AlertRecord:
        """Return the alert whose id begins like this. Raises NoSuch, Ambiguous."""
        return self.alerts[only(prefix, self.alerts, "alert", "agent-streams alerts --all")]

    def find_silence(self, prefix: str) -> Silence:
        """Return the silence whose id begins like this. Raises NoSuch, Ambiguous."""
        return self._silences[only(prefix, self._silences, "silence", "agent-streams alerts silences")]


def only(prefix: str, ids: Collection[str], noun: str, lists: str) -> str:
    """Return the one id that begins like this. Raises NoSuch, Ambiguous."""
    if prefix in ids:
        return prefix
    found = sorted(each for each in ids if each.startswith(prefix)) if prefix else []
    if not found:
        raise NoSuch(f"no {noun} has an id that begins with {prefix!r}; those there are: {lists}")
    if len(found) > 1:
        few = ", ".join(list(shown(found).values())[:5])
        raise Ambiguous(f"{len(found)} {noun}s have ids that begin with {prefix!r}: {few}; give more of it")
    return found[0]


def shown(ids: Collection[str]) -> dict[str, str]:
    """Return as much of each id as tells it from the others."""
    ordered = sorted(set(ids))
    found: dict[str, str] = {}
    for at, name in enumerate(ordered):
        near = [*ordered[max(at - 1, 0) : at], *ordered[at + 1 : at + 2]]
        chars = ID_CHARS_LEAST
        while chars < len(name) and any(other.startswith(name[:chars]) for other in near):
            chars += 1
        found[name] = name[:chars]
    return found


def _put(rows: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        rows.pop(name, None)
    else:
        rows[name] = value


def _inhibitions(value: bytes | None) -> tuple[Inhibition, ...]:
    """Read the rules that notify has in force; none when somebody else wrote them."""
    faults = Faults()
    try:
        given = [] if value is None else _read_rules(value)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the inhibition rules of notify cannot be read ({error}): its release is another") from error
    found = tuple(read_inhibition(Form(faults, f"inhibit_rules {at}", each)) for at, each in enumerate(given, 1))
    faults.settle("the inhibition rules of notify cannot be read: its release is another")
    return found
