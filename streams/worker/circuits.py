"""Which circuits are there, what has each done, and has a command to them happened?

Never moves a circuit itself: it publishes a command, and then only reads what the workers have committed.
"""

from collections import deque
from typing import Any, Final

import msgspec

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.command import Breaker
from streams.rule.breaker import breaker_name, read_circuit_names
from streams.rule.circuit import BreakerState, decode_state, live_rates
from streams.rule.records import BreakerRecord
from streams.stage import orders
from streams.stage.judging import BREAKER_ROW
from streams.topology import BREAKERS, ROLLUPS_CHANGELOG
from streams.worker.asking import Outcome, checked
from streams.worker.connection import KafkaConnection
from streams.worker.looking import read_whole
from streams.worker.reset import Asking, Done
from streams.worker.tail import Records

SUFFIXES: Final = (BREAKERS.suffix, ROLLUPS_CHANGELOG.suffix)
HISTORY_MAX: Final = 10_000  # transitions of one circuit: more than anybody reads

_decode: Final = msgspec.json.Decoder(BreakerRecord).decode


class Circuits:
    """What the topics of one prefix say of its circuits; `take` records as they are read.

    `records` are the last words on each, `rows` what is in its window; `changes` are all transitions seen, or those of
    one circuit, the oldest first.
    """

    def __init__(self, only: str | None = None) -> None:
        self.records: dict[str, BreakerRecord] = {}
        self.rows: dict[str, BreakerState] = {}
        self.changes: deque[BreakerRecord] = deque(maxlen=HISTORY_MAX)
        self._only = only

    def take(self, suffix: str, _partition: int, records: Records) -> None:
        """Take records of one of the topics in `SUFFIXES`."""
        for record in records:
            if suffix == BREAKERS.suffix:
                self._take_word((record.key or b"").decode("utf-8", "replace"), record.value)
            elif (record.key or b"")[:1] == BREAKER_ROW:
                self._take_row(record.key[1:], record.value)

    def _take_word(self, name: str, value: bytes | None) -> None:
        if value is None:
            self.records.pop(name, None)
            return
        told = self.records[name] = _decode(value)
        if self._only in {None, name}:
            self.changes.append(told)

    def _take_row(self, names: bytes, value: bytes | None) -> None:
        name = breaker_name(*read_circuit_names(names))
        if value is None:
            self.rows.pop(name, None)
        else:
            self.rows[name] = decode_state(value)

    def names(self) -> list[str]:
        """Return every circuit that has moved or that has a window of calls, in the order of their names."""
        return sorted(self.records.keys() | self.rows.keys())

    def as_dict(self, name: str) -> dict[str, Any]:
        """Return what is known of one circuit for programs."""
        told, row = self.records.get(name), self.rows.get(name)
        state = "closed" if told is None else told.state
        known: dict[str, Any] = {"breaker": name, "state": state}
        if told is not None:
            known |= msgspec.to_builtins(told)
        if row is not None:
            failing, slow = live_rates(row)
            known["window"] = {
                "calls": row.live_calls, "failures": row.live_failures, "slow_calls": row.live_slow,
                "failure_rate": failing, "slow_call_rate": slow,
            }  # fmt: skip
        return known


async def look(kafka: KafkaConnection, prefix: str, only: str | None = None) -> Circuits:
    """Read what there is now."""
    circuits = Circuits(only)
    await read_whole(kafka, prefix, list(SUFFIXES), circuits.take)
    return circuits


def make(command_id: str, by: str, action: str, breaker: str, note: str | None) -> Breaker:
    """Make a command of now; ConfigError says what no worker would accept."""
    command = Breaker(id=command_id, time=now_ms(), by=by, note=note, breaker=breaker, action=action)  # type: ignore[arg-type]  # the decoder looks
    routed = orders.route_breaker(checked(command), 0, 1)
    if isinstance(routed, str):
        raise ConfigError(f"breakers {action}: {routed}")
    return command


class Moving(Asking):
    """One command to circuits."""

    async def _carried_out(self, done: Done) -> None:
        """Name the circuits that moved; none means that no policy guards such a key."""
        circuits = await look(self._kafka, self._prefix)
        done.rows = sorted({told.breaker for told in circuits.changes if told.command == done.id})
        if not done.rows:
            done.outcome = Outcome.NOTHING
            done.reason = "no policy of the workers' rules guards such a key, or no key has such a name"
