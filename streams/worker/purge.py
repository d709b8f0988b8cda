"""Is a session or a user forgotten, and where does something of it remain?  One command, from the question to the rows.

Never deletes a row itself and never writes the id anywhere: workers are told a digest, and hold their ids against it.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.command import Purge
from streams.fold import session
from streams.fold.measure import USER as USERS
from streams.rule.alert import decode_names
from streams.stage import rollup_rows, session_rows
from streams.stage.erasing import ERASE_PARTITION, SESSION, USER, decode_erase, digest_of, erase_key
from streams.stage.judging import ALERT_ROW
from streams.stage.keys import dimension_key
from streams.topology import (
    ALERTS,
    COMMANDS_CHANGELOG,
    DAY_MS,
    DEAD_LETTER,
    EVENTS,
    NOTIFY_CHANGELOG,
    PAYLOADS,
    ROLLUPS,
    ROLLUPS_CHANGELOG,
    SESSIONS_CHANGELOG,
)
from streams.worker import topics
from streams.worker.asking import POLL_S, Accepting, Outcome, checked, publish, refusal
from streams.worker.connection import KafkaConnection
from streams.worker.looking import Following, following
from streams.worker.tail import Records

_decode_rollups_meta: Final = msgspec.msgpack.Decoder(rollup_rows.Meta).decode


@dataclass(frozen=True, slots=True)
class Remains:
    """Where something is left although no row is: a log forgets by age alone."""

    topic: str
    what: str
    until: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what}; {self.until}"


@dataclass(slots=True)
class Done:
    """What became of an erasure; `rows` were kept before, `left` are kept now."""

    id: str
    outcome: Outcome
    scope: str
    digest: str
    rows: int = 0
    left: int = 0
    version: int | None = None
    partition: int | None = None
    offset: int | None = None
    repeated: bool = False
    reason: str | None = None
    took_ms: int | None = None
    remains: list[Remains] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]  # a dict, for a dataclass


class Seen:
    """What the workers have committed, as far as it concerns one session or user."""

    def __init__(self, scope: str, name: str) -> None:
        self._scope = scope
        self._name = name
        self._digest = digest_of(scope, name)
        self._user_key = dimension_key(USERS.name, (name,)).encode()
        self.rows: set[tuple[str, int, bytes]] = set()  # changelog, partition, key of what is kept of it
        self.version: int | None = None
        self.commands = Accepting()
        self.first: dict[int, session_rows.Meta] = {}
        self.second: dict[int, rollup_rows.Meta] = {}

    def take(self, suffix: str, partition: int, records: Records) -> None:
        """Take rows of one of the three changelogs."""
        for record in records:
            key, value = record.key, record.value
            if suffix == COMMANDS_CHANGELOG.suffix:
                self._take_command(partition, key, value)
            elif key == session_rows.META_KEY:
                self._take_meta(suffix, partition, value)
            elif value is not None and self._meant(suffix, key, value):
                self.rows.add((suffix, partition, key))
            else:
                self.rows.discard((suffix, partition, key))

    def carried_out(self) -> bool:
        """Have all partitions with a state let go, and has the second stage heard of it from each of them?"""
        version = self.version
        if version is None or any(meta.erased < version for meta in self.first.values()):
            return False
        return all(
            source in (known := self.second[target].upstreams if target in self.second else {})
            and known[source].sequence >= sequence
            for source, meta in self.first.items()
            for target, sequence in meta.sequences.items()
        )

    def _take_command(self, partition: int, key: bytes, value: bytes | None) -> None:
        if key == erase_key(self._digest) and value is not None:
            self.version = decode_erase(value).version
        else:
            self.commands.take(partition, key, value)

    def _take_meta(self, suffix: str, partition: int, value: bytes | None) -> None:
        if value is None:
            return
        if suffix == SESSIONS_CHANGELOG.suffix:
            self.first[partition] = session_rows.decode_meta(partition, value)
        else:
            self.second[partition] = _decode_rollups_meta(value)

    def _meant(self, suffix: str, key: bytes, value: bytes) -> bool:
        kind = key[:1]
        if kind == ALERT_ROW:
            over, labels = decode_names(key[1:])[1:]
            return over == self._scope and labels == (self._name,)
        if suffix == ROLLUPS_CHANGELOG.suffix:
            named = key[1:] if kind == rollup_rows.LIFETIME else key.split(b":", 2)[-1]
            return self._scope == USER and kind in {rollup_rows.LIFETIME, rollup_rows.PANE} and named == self._user_key
        if kind not in {b"s", b"c", b"p"}:
            return False
        if self._scope == SESSION:
            row_key = session_rows.read_row_key(key)
            return (row_key if isinstance(row_key, str) else row_key[0] if len(row_key) > 1 else None) == self._name
        return session.decode(value).user_id == self._name


def make(command_id: str, by: str, scope: Literal["session", "user"], name: str, note: str | None) -> Purge:
    """Make a command of now; ConfigError says what no worker would accept."""
    if not name:
        raise ConfigError(f"purge: an empty {scope} id given, expected the id as events have it")
    return checked(Purge(id=command_id, time=now_ms(), by=by, note=note, scope=scope, digest=digest_of(scope, name)))


async def purge(kafka: KafkaConnection, prefix: str, command: Purge, name: str, timeout_s: float) -> Done:
    """Publish the command and wait until every worker has committed it, or it is refused."""
    seen = Seen(command.scope, name)
    suffixes = [COMMANDS_CHANGELOG.suffix, SESSIONS_CHANGELOG.suffix, ROLLUPS_CHANGELOG.suffix]
    done = Done(command.id, Outcome.WAITING, command.scope, command.digest)
    async with following(kafka, prefix, suffixes, seen.take) as topics_followed:
        await topics_followed.catch_up()
        done.rows = len(seen.rows)
        done.repeated = seen.commands.knows(command.id)
        if not done.repeated:
            seen.version = None
        began = time.monotonic()
        done.partition, done.offset = await publish(kafka, prefix, command, partition=ERASE_PARTITION)
        while done.outcome is Outcome.WAITING and time.monotonic() < began + timeout_s:
            _judge(done, topics_followed, seen)
            await asyncio.sleep(POLL_S)
        done.took_ms = round((time.monotonic() - began) * 1000)
        done.left, done.version = len(seen.rows), seen.version
    if done.outcome is Outcome.REFUSED:
        done.reason = await refusal(kafka, prefix, done.partition, done.offset)
    elif done.outcome is Outcome.APPLIED:
        done.remains = remains((await topics.look(kafka, prefix)).topics, prefix)
    return done


def remains(seen: Mapping[str, topics.Seen], prefix: str) -> list[Remains]:
    """Say where something is left and until when, from what the brokers say of each topic; pure."""

    def config(suffix: str, key: str) -> int:
        return int(seen[prefix + suffix].config[key]) if prefix + suffix in seen else 0

    found = [
        Remains(prefix + topic.suffix, what, _by_age(config(topic.suffix, "retention.ms")))
        for topic, what in (
            (EVENTS, "the events themselves, as agents published them"),
            (ROLLUPS, "deltas of the user, where a user was erased"),
            (PAYLOADS, "redacted bodies, where payload logging is on"),
            (DEAD_LETTER, "redacted beginnings of events that were refused"),
        )
    ]
    lag_ms = config(ALERTS.suffix, "min.compaction.lag.ms")
    found.append(
        Remains(prefix + ALERTS.suffix, "alerts that name it, each forgotten by a tombstone", _by_compaction(lag_ms))
    )
    for topic in (SESSIONS_CHANGELOG, ROLLUPS_CHANGELOG, NOTIFY_CHANGELOG):
        roll_ms = config(topic.suffix, "segment.ms")
        found.append(Remains(prefix + topic.suffix, "rows under a tombstone", _by_compaction(roll_ms)))
    return found


def _by_age(retention_ms: int) -> str:
    if retention_ms < 0:
        return "for ever: retention.ms is -1"
    return f"until it is {retention_ms / DAY_MS:g} days old (retention.ms); sooner only with kafka-delete-records"


def _by_compaction(wait_ms: int) -> str:
    return f"until the log cleaner comes by, {wait_ms / 60_000:g} minutes from now or later"


def _judge(done: Done, following_: Following, seen: Seen) -> None:
    following_.check()
    assert done.partition is not None
    assert done.offset is not None
    if not seen.commands.judged(done.partition, done.offset):
        return
    if not seen.commands.knows(done.id):
        done.outcome = Outcome.REFUSED
    elif seen.carried_out():
        done.outcome = Outcome.APPLIED
