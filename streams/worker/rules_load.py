"""Which rules are to hold from now on, and do they?  One command, from the text to the partitions that go by it.

Never changes a worker itself: it publishes a command, and then only reads what the workers have committed.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.codec import Rejected
from streams.event.command import Rules
from streams.stage.ruling import RULES_KEY, RULES_PARTITION, RulesRow, accept_rules, decode_rules
from streams.topology import COMMANDS_CHANGELOG
from streams.worker.asking import POLL_S, Accepting, Outcome, checked, publish, refusal
from streams.worker.connection import KafkaConnection
from streams.worker.looking import Following, following, read_whole
from streams.worker.metas import metas
from streams.worker.tail import Records


@dataclass(slots=True)
class Done:
    """What became of a load; `partitions` says which version each one goes by."""

    id: str
    outcome: Outcome
    version: int | None = None
    digest: str | None = None
    partition: int | None = None
    offset: int | None = None
    repeated: bool = False  # it had been loaded before
    partitions: dict[str, int | None] = field(default_factory=dict)
    reason: str | None = None
    took_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]  # a dict, for a dataclass


@dataclass(slots=True)
class Standing:
    """Which rules hold: the newest that were loaded, and which version every partition with a state goes by."""

    row: RulesRow | None
    partitions: dict[str, int | None]


@dataclass(slots=True)
class _Seen:
    """What the commands stage has committed, as far as it concerns rules."""

    row: RulesRow | None = None
    commands: Accepting = field(default_factory=Accepting)

    def take(self, _suffix: str, partition: int, records: Records) -> None:
        """Take rows of the changelog of the commands."""
        for record in records:
            key, value = record.key, record.value
            if key == RULES_KEY and value is not None:
                self.row = decode_rules(value)
            else:
                self.commands.take(partition, key, value)


def make(command_id: str, by: str, text: str | None, note: str | None) -> Rules:
    """Make a command of now; ConfigError says what no worker would accept."""
    command = Rules(id=command_id, time=now_ms(), by=by, note=note, text=text)
    verdict = accept_rules(checked(command), 0, 0, b"")
    if isinstance(verdict, Rejected):
        raise ConfigError(f"rules: {verdict.detail}")
    return command


async def standing(kafka: KafkaConnection, prefix: str) -> Standing:
    """Return which rules hold now."""
    seen = _Seen()
    await read_whole(kafka, prefix, [COMMANDS_CHANGELOG.suffix], seen.take)
    async with metas(kafka, prefix) as found:
        while not await found.caught_up():
            await found.poll()
    return Standing(seen.row, found.rules)


async def load_rules(kafka: KafkaConnection, prefix: str, command: Rules, timeout_s: float) -> Done:
    """Publish the command and wait until every partition goes by its rules, or until it is refused."""
    seen = _Seen()
    async with following(kafka, prefix, [COMMANDS_CHANGELOG.suffix], seen.take) as topics:
        await topics.catch_up()
        repeated = seen.commands.knows(command.id)
        began = time.monotonic()
        async with metas(kafka, prefix) as found:
            partition, offset = await publish(kafka, prefix, command, partition=RULES_PARTITION)
            done = Done(command.id, Outcome.WAITING, partition=partition, offset=offset, repeated=repeated)
            while done.outcome is Outcome.WAITING and time.monotonic() < began + timeout_s:
                await found.poll()
                _judge(done, topics, seen, found.rules)
                await asyncio.sleep(POLL_S)
            done.partitions = found.rules
        done.took_ms = round((time.monotonic() - began) * 1000)
    if done.outcome is Outcome.REFUSED:
        done.reason = await refusal(kafka, prefix, partition, offset)
    return done


def _judge(done: Done, topics: Following, seen: _Seen, partitions: dict[str, int | None]) -> None:
    """Note what has become of the command, as far as it can be seen."""
    topics.check()
    assert done.partition is not None
    assert done.offset is not None
    if not seen.commands.judged(done.partition, done.offset):
        return
    row = seen.row
    if not seen.commands.knows(done.id):
        done.outcome = Outcome.REFUSED
    elif row is not None:  # this command's, or that of somebody who was as quick
        done.version, done.digest = row.version, row.digest
        if all(version is not None and version >= row.version for version in partitions.values()):
            done.outcome = Outcome.APPLIED
