"""Which rules are to hold from now on, and do they?  One command, from the text to the partitions that go by it.

Never changes a worker itself: it publishes a command, and then only reads what the workers have committed.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.codec import Rejected
from streams.event.command import Rules, decode_command
from streams.stage import commands
from streams.stage.ruling import RULES_KEY, RULES_PARTITION, RulesRow, accept_rules, decode_rules
from streams.topology import COMMANDS, COMMANDS_CHANGELOG, DEAD_LETTER
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.looking import Following, following, read_whole
from streams.worker.metas import metas
from streams.worker.reset import Outcome
from streams.worker.tail import Records

POLL_S: Final = 0.02


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
    accepted: dict[bytes, bytes] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)

    def take(self, _suffix: str, partition: int, records: Records) -> None:
        """Take rows of the changelog of the commands."""
        for record in records:
            key, value = record.key, record.value
            if key == RULES_KEY and value is not None:
                self.row = decode_rules(value)
            elif key == commands.META_KEY and value is not None:
                self.next_offsets[partition] = commands.decode_meta(value).next_offset
            elif key[:1] == commands.ACCEPTED and value is not None:
                self.accepted[key] = value


def make(command_id: str, by: str, text: str | None, note: str | None) -> Rules:
    """Make a command of now; ConfigError says what no worker would accept."""
    command = Rules(id=command_id, time=now_ms(), by=by, note=note, text=text)
    read = decode_command(msgspec.json.encode(command))
    verdict = read if isinstance(read, Rejected) else accept_rules(command, 0, 0, b"")
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
        repeated = commands.accepted_key(command.id) in seen.accepted
        began = time.monotonic()
        async with metas(kafka, prefix) as found:
            partition, offset = await _publish(kafka, prefix, command)
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
    if seen.next_offsets.get(done.partition, 0) <= done.offset:
        return
    row = seen.row
    if commands.accepted_key(done.id) not in seen.accepted:
        done.outcome = Outcome.REFUSED
    elif row is not None:  # this command's, or that of somebody who was as quick
        done.version, done.digest = row.version, row.digest
        if all(version is not None and version >= row.version for version in partitions.values()):
            done.outcome = Outcome.APPLIED


async def _publish(kafka: KafkaConnection, prefix: str, command: Rules) -> tuple[int, int]:
    topic = prefix + COMMANDS.suffix
    async with edge_errors(kafka, f"publishing to {topic}"):
        producer = AIOKafkaProducer(
            **kafka.client_arguments(), client_id="agent-streams-rules", enable_idempotence=True
        )
        try:
            await producer.start()
            told = await producer.send_and_wait(
                topic, msgspec.json.encode(command), key=command.id.encode(), partition=RULES_PARTITION
            )
        finally:
            await producer.stop()
    return told.partition, told.offset


async def refusal(kafka: KafkaConnection, prefix: str, partition: int, offset: int) -> str:
    """Return what the dead letter of a command says."""
    key, found = f"{COMMANDS.suffix}:{partition}:{offset}:0".encode(), ["the dead letter topic does not say why"]

    def take(_suffix: str, _partition: int, records: Records) -> None:
        for record in records:
            if record.key == key and record.value:
                letter = msgspec.json.decode(record.value)
                found[0] = f"{letter['reason']}: {letter['detail']}"

    await read_whole(kafka, prefix, [DEAD_LETTER.suffix], take)
    return found[0]
