"""Notify: the alert topic, carried to receivers.  One loop per receiver, so that none waits for another.

Decides nothing about what is due: that is `streams.rule.outbox`.  Starts sending only once it has read what fires and
what was told before, so that a restart repeats nothing and loses nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
from prometheus_client.exposition import choose_encoder

from streams.errors import ConfigError, EdgeError
from streams.rule.outbox import Begun, Delivered
from streams.rule.records import AlertRecord
from streams.topology import ALERTS, NOTIFY_CHANGELOG
from streams.worker.connection import KafkaConnection
from streams.worker.notify_health import registry_of
from streams.worker.notify_lane import Lane, Seen
from streams.worker.notify_ledger import Ledger
from streams.worker.notify_senders import Target
from streams.worker.process import until_signal
from streams.worker.tail import Followed, Follower, Records, partition_counts
from streams.worker.web import Page, WebConfig, WebServer

_log = logging.getLogger(__name__)

PORT: Final = 8466  # the exporter's is 8464, a worker's 8465
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 10.0
_T = TypeVar("_T")
_encode: Final = msgspec.json.Encoder().encode
_read_alert: Final = msgspec.json.Decoder(AlertRecord).decode
_read_delivered: Final = msgspec.json.Decoder(Delivered).decode
_read_begun: Final = msgspec.json.Decoder(Begun).decode


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """Everything notify needs; a value out of bounds raises ConfigError with every fault."""

    connection: KafkaConnection
    targets: tuple[Target, ...]
    prefix: str = "agent."
    web: WebConfig = field(default_factory=lambda: WebConfig(port=PORT))
    check_ms: int = 10_000  # how often the topics' partition counts are looked at
    stall_ms: int = 30_000  # without any answer for this long, connect anew
    request_timeout_ms: int = 15_000

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {getattr(self, name)} given, expected more than 0"
            for name in ("check_ms", "stall_ms", "request_timeout_ms")
            if getattr(self, name) <= 0
        ]
        if not self.targets:
            faults.append("receivers: none given, expected 1 or more")
        if faults:
            raise ConfigError("; ".join(faults))


class Notifier:
    """One notify process: a server, a follower of the alerts, a lane per receiver and the ledger of deliveries."""

    title = "AgentStreams notify"
    formats = ("prometheus",)

    def __init__(self, config: NotifyConfig) -> None:
        self._config = config
        topic = config.prefix + NOTIFY_CHANGELOG.suffix
        self.ledger = Ledger(config.connection, topic, request_timeout_ms=config.request_timeout_ms)
        self.lanes = [Lane(target, self.ledger.put) for target in config.targets]
        self.follower: Follower | None = None
        self._seen: dict[str, Seen] = {}
        self._rows: dict[str, bytes] = {}
        self._ends: dict[str, int] = {}
        self._ready = False
        self.unreadable = 0
        self._registry = registry_of(self)
        self.server = WebServer(config.web, self)

    async def run(self) -> None:
        """Deliver for ever. Raises ConfigError, StateRefused, and EdgeError for what no repetition cures."""
        await self.server.start()
        try:
            follower = self._follow(await self._counts())
            async with self.ledger, asyncio.TaskGroup() as group:
                group.create_task(follower.run())
                group.create_task(self.ledger.ended())
                group.create_task(self._open(follower, group))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self.server.stop()

    # ---- what the server asks ---------------------------------------------------------------------------------

    def unready(self) -> str | None:
        """Say why nothing is sent yet; a receiver that is away is no reason."""
        if self._ready:
            return None
        return "waiting for Kafka" if self.follower is None else "reading what fires and what was told before"

    async def page(self, accept: str, wanted: str | None) -> Page:  # noqa: ARG002  there is one format
        """Make the page; it is shown ready or not, because that is when it is needed."""
        encode, content_type = choose_encoder(accept)
        return Page(encode(self._registry), content_type)

    # ---- reading ----------------------------------------------------------------------------------------------

    async def _counts(self) -> dict[str, int]:
        """Wait until the broker answers; return the partitions of the topics we read, by full name."""
        config, delay_s = self._config, _BACKOFF_S
        while True:
            try:
                names = [config.prefix + each.suffix for each in (ALERTS, NOTIFY_CHANGELOG)]
                return await partition_counts(config.connection, names)
            except EdgeError as error:
                if not error.retryable:
                    raise
                _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    def _follow(self, counts: Mapping[str, int]) -> Follower:
        config = self._config
        takers = {ALERTS.suffix: self._take_alerts, NOTIFY_CHANGELOG.suffix: self._take_rows}
        self.follower = Follower(
            config.connection,
            f"{config.prefix}notify",
            [Followed(config.prefix + suffix, counts[config.prefix + suffix], take) for suffix, take in takers.items()],
            check_ms=config.check_ms,
            stall_ms=config.stall_ms,
            request_timeout_ms=config.request_timeout_ms,
        )
        return self.follower

    def _take_alerts(self, partition: int, records: Records) -> None:
        for each in records:
            self._ends[str(partition)] = each.offset + 1
            try:
                fingerprint = (each.key or b"").decode()
                record = None if each.value is None else _read_alert(each.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
                continue
            if self._ready:
                for lane in self.lanes:
                    lane.learn(fingerprint, record)
            else:
                self._note(fingerprint, record, partition, each.offset)

    def _note(self, fingerprint: str, record: AlertRecord | None, partition: int, offset: int) -> None:
        seen = self._seen.setdefault(fingerprint, Seen())
        seen.newest = record
        if record is not None and record.state != "pending":
            seen.notable, seen.partition, seen.offset = record, partition, offset

    def _take_rows(self, _: int, records: Records) -> None:
        if self._ready:
            return  # our own, coming back
        for each in records:
            key = (each.key or b"").decode("utf-8", "replace")
            if each.value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = each.value

    async def _open(self, follower: Follower, group: asyncio.TaskGroup) -> None:
        """Start sending once everything that was there at the start is read."""
        await follower.caught_up.wait()
        for lane in self.lanes:
            begun = self._begun(lane.receiver.name)
            lane.begin(self._delivered(lane.receiver.name), begun, self._seen)
            if begun is None:
                self.ledger.put(f"{lane.receiver.name}/".encode(), _encode(Begun(dict(self._ends))))
        self._seen, self._rows, self._ready = {}, {}, True
        for lane in self.lanes:
            group.create_task(lane.run())
        _log.info("notify_ready receivers=%d records=%d", len(self.lanes), follower.records)

    def _begun(self, name: str) -> Begun | None:
        stored = self._rows.get(f"{name}/")
        return None if stored is None else self._read(_read_begun, stored)

    def _delivered(self, name: str) -> dict[str, Delivered]:
        prefix = f"{name}/"
        found = {
            key.removeprefix(prefix): self._read(_read_delivered, stored)
            for key, stored in self._rows.items()
            if key.startswith(prefix) and key != prefix
        }
        return {fingerprint: each for fingerprint, each in found.items() if each is not None}

    def _read(self, read: Callable[[bytes], _T], stored: bytes) -> _T | None:
        try:
            return read(stored)
        except msgspec.DecodeError:  # somebody else's, or of another version: told again rather than never
            self.unreadable += 1
            return None


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: NotifyConfig) -> int:
    """Deliver until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(Notifier(config).run(), log=_log, ended="notify_ended"))
