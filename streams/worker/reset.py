"""Which counters are to begin anew, and has it happened?  One command, from the question to the row.

Never changes a row itself: it publishes a command, and then only reads what the workers have committed.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.command import Command, Reset, Scope
from streams.fold.baseline import concerns
from streams.fold.rollup import LifetimeRow, ResetOrder, decode_lifetime
from streams.stage import orders, rollup_rows
from streams.stage.commands import Accepted, upstream_of
from streams.topology import COMMANDS_CHANGELOG, ROLLUPS_CHANGELOG
from streams.worker.asking import POLL_S, Accepting, Outcome, checked, publish, refusal
from streams.worker.connection import KafkaConnection
from streams.worker.looking import Following, following, read_whole
from streams.worker.tail import Records


@dataclass(slots=True)
class Done:
    """What became of a reset; `rows` are the keys that begin anew, as `dimension|label|…`."""

    id: str
    outcome: Outcome
    rows: list[str] = field(default_factory=list)
    partition: int | None = None
    offset: int | None = None
    repeated: bool = False  # it had been carried out before
    reason: str | None = None
    took_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]  # a dict, for a dataclass


@dataclass(slots=True)
class Seen:
    """What the workers have committed, as far as it concerns commands."""

    rows: dict[bytes, bytes] = field(default_factory=dict)  # lifetime rows
    upstreams: dict[int, Mapping[int, rollup_rows.Upstream]] = field(default_factory=dict)  # by rollups partition
    commands: Accepting = field(default_factory=Accepting)

    def take(self, suffix: str, partition: int, records: Records) -> None:
        """Take rows of one of the two changelogs."""
        for record in records:
            key, value = record.key, record.value
            if suffix == COMMANDS_CHANGELOG.suffix:
                self.commands.take(partition, key, value)
            elif key == rollup_rows.META_KEY and value is not None:
                self.upstreams[partition] = rollup_rows.decode_meta(partition, value).upstreams
            elif key[:1] == rollup_rows.LIFETIME:
                _put(self.rows, b"%d:" % partition + key, value)

    def meant(self, order: ResetOrder) -> list[LifetimeRow]:
        """Return the rows that an order would reset."""
        decoded = (decode_lifetime(value) for value in self.rows.values())
        return [row for row in decoded if concerns(order, row)]

    def begun(self, command_id: str) -> list[LifetimeRow]:
        """Return the rows whose newest reset was this command's."""
        decoded = (decode_lifetime(value) for value in self.rows.values())
        return [row for row in decoded if row.baseline is not None and row.baseline.command == command_id]

    def carried_out(self, partition: int, accepted: Accepted) -> bool:
        """Has every partition that was told committed it?"""
        source = upstream_of(partition)
        return all(
            source in (known := self.upstreams.get(target, {})) and known[source].sequence >= sequence
            for target, sequence in accepted.sequences.items()
        )


def _put(rows: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        rows.pop(key, None)
    else:
        rows[key] = value


def names_of(rows: list[LifetimeRow]) -> list[str]:
    """Name rows for people and programs, in the order of their names."""
    return sorted("|".join((row.dimension, *row.labels)) for row in rows)


def make(command_id: str, by: str, scope: Scope | None, metrics: list[str] | None, note: str | None) -> Reset:
    """Make a command of now; ConfigError says what no worker would accept. Without a scope it is about everything."""
    command = Reset(
        id=command_id, time=now_ms(), by=by, note=note, scope="all" if scope is None else scope, metrics=metrics or None
    )
    checked(command)
    routed = orders.route_reset(command, 0, 1)
    if isinstance(routed, str):
        raise ConfigError(f"reset: {routed}")
    return command


class Asking(ABC):
    """One command that is published, and what became of it."""

    def __init__(self, kafka: KafkaConnection, prefix: str, command: Command) -> None:
        self._kafka = kafka
        self._prefix = prefix
        self._command = command
        self._seen = Seen()

    async def act(self, timeout_s: float) -> Done:
        """Publish the command and wait until it is seen to be carried out, or refused."""
        self._seen = Seen()
        suffixes = [COMMANDS_CHANGELOG.suffix, ROLLUPS_CHANGELOG.suffix]
        async with following(self._kafka, self._prefix, suffixes, self._seen.take) as topics:
            await topics.catch_up()
            repeated = self._seen.commands.knows(self._command.id)
            began = time.monotonic()
            partition, offset = await publish(self._kafka, self._prefix, self._command)
            done = Done(self._command.id, Outcome.WAITING, [], partition, offset, repeated)
            await self._wait(topics, done, began + timeout_s)
            done.took_ms = round((time.monotonic() - began) * 1000)
        if done.outcome is Outcome.REFUSED:
            done.reason = await refusal(self._kafka, self._prefix, partition, offset)
        elif done.outcome is Outcome.APPLIED:
            await self._carried_out(done)
        return done

    @abstractmethod
    async def _carried_out(self, done: Done) -> None:
        """Note what the command has changed."""

    async def _wait(self, topics: Following, done: Done, deadline: float) -> None:
        assert done.partition is not None
        assert done.offset is not None
        while time.monotonic() < deadline:
            topics.check()
            verdict = self._seen.commands.verdict(done.id, done.partition, done.offset)
            if verdict is True:
                done.outcome = Outcome.REFUSED
                return
            if isinstance(verdict, Accepted) and self._seen.carried_out(done.partition, verdict):
                done.outcome = Outcome.APPLIED
                return
            await asyncio.sleep(POLL_S)


class Resetting(Asking):
    """A reset against what is known of the workers."""

    def __init__(self, kafka: KafkaConnection, prefix: str, command: Reset) -> None:
        super().__init__(kafka, prefix, command)
        self._reset = command

    async def look(self) -> list[LifetimeRow]:
        """Return the rows that would begin anew, as they are now."""
        await read_whole(self._kafka, self._prefix, [ROLLUPS_CHANGELOG.suffix], self._seen.take)
        routed = orders.route_reset(self._reset, 0, 1)
        if isinstance(routed, str) or not isinstance(routed.order, ResetOrder):
            return []
        return self._seen.meant(routed.order)

    async def _carried_out(self, done: Done) -> None:
        done.rows = names_of(self._seen.begun(done.id))
