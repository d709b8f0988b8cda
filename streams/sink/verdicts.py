"""How many alerts are there in which state, and what does each circuit do: the last word of the topic on every key.

Never judges, and never shows a key: labels are names of rules, kinds and tools, not sessions.
A record that cannot be read is counted and left out: neither topic is the state of anything here.
"""

from collections import Counter
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from streams.fold.circuits import Labels
from streams.rule.acknowledgement import acknowledged_of, read_acknowledgement
from streams.rule.breaker import read_circuit_names
from streams.rule.circuit import BreakerState, State, decode_state, live_rates
from streams.sink.metric import BREAKERS_MAX, Sample

STATES: Final = ("pending", "firing", "resolved")
CIRCUIT_STATES: Final = tuple(state.name.lower() for state in State)
CALL_KINDS: Final = ("successful", "failed")

AlertLabels = tuple[str, str, str]  # alert, severity, state


class Alert(Struct):
    """What is needed of a record of the alert topic."""

    alert: str
    severity: str
    state: str
    incarnation: int = 0


class Circuit(Struct):
    """What is needed of a record of the breaker topic."""

    over: str
    labels: dict[str, str]
    state: str
    code: int
    transition: int

    @property
    def name(self) -> str:
        """The tool or model it guards."""
        return "|".join(self.labels.values())


_decode_alert: Final = msgspec.json.Decoder(Alert).decode
_decode_circuit: Final = msgspec.json.Decoder(Circuit).decode


class Alerts:
    """The alerts of all partitions; transitions are counted once `counting` is set."""

    def __init__(self, started_ms: int) -> None:
        self._started_ms = started_ms
        self._states: dict[bytes, AlertLabels] = {}
        self._live: Counter[AlertLabels] = Counter()
        self._transitions: Counter[AlertLabels] = Counter()
        self._lives: dict[bytes, int] = {}  # incarnations
        self._taken_on: dict[bytes, int] = {}  # the incarnation that is acknowledged, by the alert's key
        # What is read before a process has caught up happened before it started.
        self.counting = False
        self.unreadable = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record; a tombstone forgets the alert, or the acknowledgement of one."""
        owner = acknowledged_of(key)
        if owner is not None:
            self._take_on(owner.encode(), value)
            return
        after = None
        if value is not None:
            try:
                record = _decode_alert(value)
            except msgspec.DecodeError:
                self.unreadable += 1
                return
            after = (record.alert, record.severity, record.state)
            self._lives[key] = record.incarnation
        else:
            self._lives.pop(key, None)
        before = self._states.pop(key, None)
        if before is not None:
            self._live[before] -= 1
        if after is not None:
            self._states[key] = after
            self._live[after] += 1
            if self.counting:
                self._transitions[after] += 1

    def _take_on(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._taken_on.pop(key, None)
            return
        try:
            self._taken_on[key] = read_acknowledgement(value).incarnation
        except msgspec.DecodeError:
            self.unreadable += 1

    def samples(self) -> dict[str, list[Sample]]:
        """Return every state of every alert that was ever seen, so that a first transition is an increase."""
        named = sorted({(alert, severity) for alert, severity, _ in self._live})
        labels = [(*name, state) for name in named for state in STATES]
        taken_on: Counter[tuple[str, str]] = Counter()
        for key, incarnation in self._taken_on.items():
            alert, severity, state = self._states.get(key, ("", "", ""))
            if state == "firing" and self._lives[key] == incarnation:
                taken_on[alert, severity] += 1
        return {
            "agent_alerts": [Sample(each, self._live[each]) for each in labels],
            "agent_alerts_acknowledged": [Sample(name, taken_on[name]) for name in named],
            "agent_alert_transitions_total": [
                Sample(each, self._transitions[each], self._started_ms) for each in labels
            ],
        }


class Breakers:
    """The circuits of all partitions; those beyond BREAKERS_MAX have no series until others are forgotten.

    What a circuit has told is on its topic; what is in its window now is in its row.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}  # by changelog key, which no two partitions share
        self._circuits: dict[bytes, Circuit] = {}
        self._counts: Counter[tuple[str, str]] = Counter()  # by kind and state: there may be many thousands of circuits
        self.unreadable = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record; a tombstone forgets the circuit."""
        before = self._circuits.get(key)
        if value is None:
            self._circuits.pop(key, None)
        else:
            try:
                after = self._circuits[key] = _decode_circuit(value)
            except msgspec.DecodeError:
                self.unreadable += 1
                return
            self._counts[after.over, after.state] += 1
        if before is not None:
            self._counts[before.over, before.state] -= 1

    def take_row(self, names: bytes, stored: bytes | None) -> None:
        """Take the row of a circuit; None forgets it."""
        if stored is None:
            self._rows.pop(names, None)
        else:
            self._rows[names] = stored

    def rows(self) -> dict[tuple[str, Labels], BreakerState]:
        """Return the circuits that have a row, by kind and labels, as many as have series. DecodeError: a newer row."""
        found = sorted(
            (read_circuit_names(names), stored) for names, stored in islice(self._rows.items(), BREAKERS_MAX)
        )
        return {key: decode_state(stored) for key, stored in found}

    def windows(self) -> dict[str, list[Sample]]:
        """Return what is in each circuit's window."""
        ratios: tuple[list[Sample], list[Sample]] = [], []
        calls: list[Sample] = []
        slow: list[Sample] = []
        for (over, key), state in self.rows().items():
            labels = over, "|".join(key)
            for samples, rate in zip(ratios, live_rates(state), strict=True):
                samples.append(Sample(labels, rate))
            counts = state.live_calls - state.live_failures, state.live_failures
            calls += [Sample((*labels, kind), count) for kind, count in zip(CALL_KINDS, counts, strict=True)]
            slow.append(Sample(labels, state.live_slow))
        return {
            "agent_circuit_breaker_failure_ratio": ratios[0],
            "agent_circuit_breaker_slow_call_ratio": ratios[1],
            "agent_circuit_breaker_buffered_calls": calls,
            "agent_circuit_breaker_slow_calls": slow,
        }

    def samples(self) -> dict[str, list[Sample]]:
        """Return each circuit's state, and how many there are in each."""
        shown = sorted(islice(self._circuits.values(), BREAKERS_MAX), key=lambda circuit: (circuit.over, circuit.name))
        return {
            "agent_circuit_breaker_state": [Sample((each.over, each.name), each.code) for each in shown],
            "agent_circuit_breaker_transitions_total": [
                Sample((each.over, each.name), each.transition) for each in shown
            ],
            "agent_circuit_breakers": [
                Sample((over, state), self._counts[over, state])
                for over in sorted({over for over, _ in self._counts})
                for state in CIRCUIT_STATES
            ],
        }
