"""Has a command been accepted?  Published, then looked for in what the workers have committed.

Never carries anything out itself, and never publishes a command twice.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from streams.errors import ConfigError
from streams.event.codec import Rejected
from streams.event.command import Command, decode_command
from streams.stage import commands
from streams.topology import COMMANDS, COMMANDS_CHANGELOG, DEAD_LETTER
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.looking import following, read_whole
from streams.worker.tail import Records

POLL_S: Final = 0.02


class Answer(StrEnum):
    """What became of a command."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # by the workers: the dead letter says why
    WAITING = "waiting"  # published, but no worker was seen to take it in time


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


def checked(command: Command) -> Command:
    """Return a command that every worker can read; ConfigError says what none would accept."""
    read = decode_command(msgspec.json.encode(command))
    if isinstance(read, Rejected):
        raise ConfigError(f"{command.__struct_config__.tag}: {read.detail}")
    return command


class _Seen:
    """What the workers say of commands."""

    def __init__(self) -> None:
        self.accepted: dict[bytes, int] = {}  # offsets, by row key
        self.next_offsets: dict[int, int] = {}

    def take(self, _suffix: str, partition: int, records: Records) -> None:
        for record in records:
            if record.value is None:
                self.accepted.pop(record.key, None)
            elif record.key == commands.META_KEY:
                self.next_offsets[partition] = commands.decode_meta(record.value).next_offset
            elif record.key[:1] == commands.ACCEPTED:
                self.accepted[record.key] = commands.decode_accepted(record.value).offset

    def answer(self, asked: Asked) -> Answer:
        """Say what has become of it until now."""
        if commands.accepted_key(asked.id) in self.accepted:
            return Answer.ACCEPTED
        judged = self.next_offsets.get(asked.partition, 0) > asked.offset
        return Answer.REFUSED if judged else Answer.WAITING


async def ask(kafka: KafkaConnection, prefix: str, command: Command, key: str, timeout_s: float) -> Asked:
    """Publish a command under a key, and wait until the workers have accepted or refused it."""
    seen = _Seen()
    async with following(kafka, prefix, [COMMANDS_CHANGELOG.suffix], seen.take) as topic:
        await topic.catch_up()
        began = time.monotonic()
        partition, offset = await _publish(kafka, prefix + COMMANDS.suffix, command, key)
        asked = Asked(command.id, Answer.WAITING, partition, offset)
        while asked.answer is Answer.WAITING and time.monotonic() < began + timeout_s:
            topic.check()
            asked.answer = seen.answer(asked)
            await asyncio.sleep(POLL_S)
        asked.took_ms = round((time.monotonic() - began) * 1000)
    if asked.answer is Answer.REFUSED:
        asked.reason = await _reason(kafka, prefix, partition, offset)
    return asked


async def _publish(kafka: KafkaConnection, topic: str, command: Command, key: str) -> tuple[int, int]:
    async with edge_errors(kafka, f"publishing to {topic}"):
        producer = AIOKafkaProducer(
            **kafka.client_arguments(), client_id="agent-streams-command", enable_idempotence=True
        )
        try:
            await producer.start()
            told = await producer.send_and_wait(topic, msgspec.json.encode(command), key=key.encode())
        finally:
            await producer.stop()
    return told.partition, told.offset


async def _reason(kafka: KafkaConnection, prefix: str, partition: int, offset: int) -> str:
    key, found = f"{COMMANDS.suffix}:{partition}:{offset}:0".encode(), ["the dead letter topic does not say why"]

    def take(_suffix: str, _partition: int, records: Records) -> None:
        for record in records:
            if record.key == key and record.value:
                letter = msgspec.json.decode(record.value)
                found[0] = f"{letter['reason']}: {letter['detail']}"

    await read_whole(kafka, prefix, [DEAD_LETTER.suffix], take)
    return found[0]
