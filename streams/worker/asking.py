"""Has a command been accepted?  Published, then looked for in what the workers have committed.

Never carries anything out itself, and never publishes a command twice.
"""

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer

from streams.errors import ConfigError
from streams.event.codec import Rejected
from streams.event.command import Command, decode_command
from streams.feed.ending import started
from streams.stage import commands
from streams.stage.commands import Accepted
from streams.topology import COMMANDS, COMMANDS_CHANGELOG, DEAD_LETTER
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.looking import following, read_whole
from streams.worker.tail import Records

POLL_S: Final = 0.02

C = TypeVar("C", bound=Command)


class Outcome(StrEnum):
    """What became of a command that is to be carried out."""

    APPLIED = "applied"
    NOTHING = "nothing"  # no row is meant: nothing was published
    REFUSED = "refused"  # by the workers: the dead letter says why
    WAITING = "waiting"  # published, but no worker was seen to carry it out in time


class Answer(StrEnum):
    """What became of a command that is done once it is accepted."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    WAITING = "waiting"


@dataclass(slots=True)
class Asked:
    """What became of a command, and where it stands in the log of commands."""

    id: str
    answer: Answer
    partition: int
    offset: int
    reason: str | None = None
    took_ms: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]  # a dict, for a dataclass


@dataclass(slots=True)
class Accepting:
    """What the commands stage has committed: which commands it has accepted, and how far it has judged."""

    rows: dict[bytes, bytes] = field(default_factory=dict)  # of accepted commands
    next_offsets: dict[int, int] = field(default_factory=dict)  # by commands partition

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take a row of its changelog; those about anything else are left alone."""
        if key == commands.META_KEY and value is not None:
            self.next_offsets[partition] = commands.read_meta(partition, value).next_offset
        elif key[:1] == commands.ACCEPTED and value is not None:
            self.rows[key] = value
        elif key[:1] == commands.ACCEPTED:
            self.rows.pop(key, None)

    def knows(self, command_id: str) -> bool:
        """Has a command been accepted, now or before?"""
        return commands.accepted_key(command_id) in self.rows

    def judged(self, partition: int, offset: int) -> bool:
        """Is all that the stage wrote of the command at this place here?  Its meta row comes last."""
        return self.next_offsets.get(partition, 0) > offset

    def verdict(self, command_id: str, partition: int, offset: int) -> Accepted | bool:
        """Return where an accepted command went; else whether it was judged, which then means refused."""
        stored = self.rows.get(commands.accepted_key(command_id))
        if stored is not None:
            return commands.decode_accepted(stored)
        return self.judged(partition, offset)


def checked(command: C) -> C:
    """Return a command that every worker can read; ConfigError says what none would accept."""
    read = decode_command(msgspec.json.encode(command))
    if isinstance(read, Rejected):
        raise ConfigError(f"{command.__struct_config__.tag}: {read.detail}")
    return command


async def ask(kafka: KafkaConnection, prefix: str, command: Command, key: str, timeout_s: float) -> Asked:
    """Publish a command under a key, and wait until the workers have accepted or refused it."""
    seen = Accepting()

    def take(_suffix: str, partition: int, records: Records) -> None:
        for record in records:
            seen.take(partition, record.key, record.value)

    async with following(kafka, prefix, [COMMANDS_CHANGELOG.suffix], take) as topic:
        await topic.catch_up()
        began = time.monotonic()
        partition, offset = await publish(kafka, prefix, command, key=key)
        asked = Asked(command.id, Answer.WAITING, partition, offset)
        while asked.answer is Answer.WAITING and time.monotonic() < began + timeout_s:
            topic.check()
            asked.answer = _answer(seen.verdict(command.id, partition, offset))
            await asyncio.sleep(POLL_S)
        asked.took_ms = round((time.monotonic() - began) * 1000)
    if asked.answer is Answer.REFUSED:
        asked.reason = await refusal(kafka, prefix, partition, offset)
    return asked


def _answer(verdict: Accepted | bool) -> Answer:
    if isinstance(verdict, Accepted):
        return Answer.ACCEPTED
    return Answer.REFUSED if verdict else Answer.WAITING


async def publish(
    kafka: KafkaConnection, prefix: str, command: Command, *, key: str | None = None, partition: int | None = None
) -> tuple[int, int]:
    """Publish a command, under its id unless a key is given; return its partition and offset."""
    topic, value = prefix + COMMANDS.suffix, msgspec.json.encode(command)
    async with edge_errors(kafka, f"publishing to {topic}"):
        producer = AIOKafkaProducer(
            **kafka.client_arguments(), client_id="agent-streams-command", enable_idempotence=True
        )
        try:
            await started(producer.start())
            told = await producer.send_and_wait(topic, value, key=(key or command.id).encode(), partition=partition)
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
