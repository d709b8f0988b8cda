"""Notify: the alert topic, carried to receivers.  One loop per receiver, so that none waits for another.

Decides nothing about what is due, nor about what is muted: that is `streams.rule.outbox` and `streams.rule.quiet`.
Starts sending only once it has shut out who sent before and read what fires and what was told, so that neither a
restart nor a replica that takes over repeats or loses anything.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from prometheus_client.exposition import choose_encoder

from streams.clock import now_ms
from streams.errors import ConfigError, EdgeError, Fenced
from streams.rule.acknowledgement import acknowledged_of, read_acknowledgement
from streams.rule.inhibition import Inhibition, written
from streams.rule.outbox import Begun, Delivered
from streams.rule.quiet import Quiet
from streams.rule.records import AlertRecord
from streams.rule.silence import decode_silence, silence_of
from streams.stage.attention import SILENCE
from streams.topology import ALERTS, COMMANDS_CHANGELOG, NOTIFY_CHANGELOG
from streams.worker.connection import KafkaConnection
from streams.worker.notify_health import registry_of
from streams.worker.notify_lane import Lane, Seen
from streams.worker.notify_lead import Lead
from streams.worker.notify_ledger import Ledger
from streams.worker.notify_senders import Target
from streams.worker.process import until_signal
from streams.worker.tail import Followed, Follower, Records, partition_counts
from streams.worker.web import Page, WebConfig, WebServer

_log = logging.getLogger(__name__)

INHIBITIONS: Final = "inhibit_rules"  # the row that says which are in force; receivers' rows have a slash
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
    inhibitions: tuple[Inhibition, ...] = ()
    prefix: str = "agent."
    group: str = "notify"  # of this name one replica sends
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
    """One notify process: a server, a follower of the alerts, a lane per receiver and the ledger of deliveries.

    Several of one group stand by for each other: all of them read, one of them sends.
    """

    title = "AgentStreams notify"
    formats = ("prometheus",)

    def __init__(self, config: NotifyConfig) -> None:
        self._config = config
        self._topic = config.prefix + NOTIFY_CHANGELOG.suffix
        self._place = f"{config.prefix}{config.group}"
        self.lead = Lead(config.connection, self._topic, self._place, request_timeout_ms=config.request_timeout_ms)
        self.ledger: Ledger | None = None
        self.lanes = [Lane(target, self._store, self.lead.assured) for target in config.targets]
        self.quiet = Quiet(config.inhibitions)
        self.follower: Follower | None = None
        self._seen: dict[str, Seen] = {}
        self._rows: dict[str, bytes] = {}
        self._ends: dict[str, int] = {}
        self._quietened = asyncio.Event()
        self.leading = False
        self.unreadable = 0
        self._registry = registry_of(self)
        self.server = WebServer(config.web, self)

    async def run(self) -> None:
        """Deliver for ever. Raises ConfigError, StateRefused, and EdgeError for what no repetition cures."""
        await self.server.start()
        try:
            follower = self._follow(await self._counts())
            async with _running(self.lead.run()) as member, asyncio.TaskGroup() as group:
                group.create_task(follower.run())
                group.create_task(_ended(member))
                group.create_task(self._terms(follower))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            await self.server.stop()

    # ---- what the server asks ---------------------------------------------------------------------------------

    def unready(self) -> str | None:
        """Say why nothing is sent yet; a receiver that is away is no reason, and neither is another that sends."""
        if self.follower is None:
            return "waiting for Kafka"
        if not self.follower.caught_up.is_set():
            return "reading what fires and what was told before"
        if not self.lead.decided.is_set():
            return f"waiting for the group {self._place}"
        return "taking over from who sent before" if self.lead.ours and not self.leading else None

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
                names = [config.prefix + each.suffix for each in (ALERTS, COMMANDS_CHANGELOG, NOTIFY_CHANGELOG)]
                return await partition_counts(config.connection, names)
            except EdgeError as error:
                if not error.retryable:
                    raise
                _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    def _follow(self, counts: Mapping[str, int]) -> Follower:
        config = self._config
        takers = {
            ALERTS.suffix: self._take_alerts,
            COMMANDS_CHANGELOG.suffix: self._take_silences,
            NOTIFY_CHANGELOG.suffix: self._take_rows,
        }
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
                owner = acknowledged_of(each.key)
                if owner is not None:
                    acknowledged = None if each.value is None else read_acknowledgement(each.value)
                    self._look_again(self.quiet.acknowledge(owner, acknowledged))
                    continue
                fingerprint = (each.key or b"").decode()
                record = None if each.value is None else _read_alert(each.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
                continue
            self._take_alert(fingerprint, record, partition, each.offset)

    def _take_alert(self, fingerprint: str, record: AlertRecord | None, partition: int, offset: int) -> None:
        if record is None:
            self._seen.pop(fingerprint, None)
        else:
            seen = self._seen.setdefault(fingerprint, Seen())
            seen.newest = record
            if record.state != "pending":
                seen.notable, seen.partition, seen.offset = record, partition, offset
        others = self.quiet.alert(fingerprint, record)
        if self.leading:
            told = record is not None and record.state != "pending"
            why = self.quiet.why(record, now_ms()) if record is not None and told else None
            for lane in self.lanes:
                lane.learn(fingerprint, record, why)
        self._look_again(others)

    def _take_silences(self, _: int, records: Records) -> None:
        for each in records:
            key = each.key or b""
            if key[:1] != SILENCE:
                continue
            try:
                silence = None if each.value is None else silence_of(decode_silence(each.value))
            except (msgspec.MsgspecError, ValueError):  # a newer release's: told rather than kept from people
                self.unreadable += 1
                continue
            self._look_again(self.quiet.silence(key[1:].decode(), silence, now_ms()))
            self._quietened.set()

    def _look_again(self, fingerprints: Iterable[str]) -> None:
        """Have every receiver heed what has become of these alerts."""
        if not self.leading:
            return
        moment_ms = now_ms()
        for fingerprint in fingerprints:
            seen = self._seen.get(fingerprint)
            if seen is None or seen.newest is None or seen.newest.state != "firing":
                continue
            why = self.quiet.why(seen.newest, moment_ms)
            for lane in self.lanes:
                lane.heed(fingerprint, why)

    def _take_rows(self, _: int, records: Records) -> None:
        for each in records:
            key = (each.key or b"").decode("utf-8", "replace")
            if each.value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = each.value

    # ---- sending ----------------------------------------------------------------------------------------------

    async def _terms(self, follower: Follower) -> None:
        """Send for as long as the group lets us, and stand by for as long as it does not."""
        await follower.caught_up.wait()
        while True:
            await self.lead.gained.wait()
            async with _running(self._term(follower)) as term, _running(self.lead.lost.wait()) as lost:
                await asyncio.wait({term, lost}, return_when=asyncio.FIRST_COMPLETED)
            self.leading = False
            error = None if term.cancelled() else term.exception()
            if isinstance(error, BaseExceptionGroup):
                error = _first(error)
            if error is not None and not isinstance(error, Fenced):
                raise error
            if error is not None:
                _log.warning("notify_fenced error=%s", error)
                await asyncio.sleep(_BACKOFF_S)

    async def _term(self, follower: Follower) -> None:
        """Fence who sent before, read what it was able to write, and go on from there."""
        config = self._config
        ledger = Ledger(
            config.connection,
            self._topic,
            request_timeout_ms=config.request_timeout_ms,
            transactional_id=self._place,
            assured=self.lead.assured,
        )
        async with ledger, asyncio.TaskGroup() as group:
            group.create_task(ledger.ended())
            await ledger.opened.wait()
            await follower.reach_end(self._topic)
            self.ledger = ledger
            self._begin()
            for lane in self.lanes:
                group.create_task(_lane(lane, ledger))
            group.create_task(self._pass_time())
            _log.info("notify_ready receivers=%d records=%d", len(self.lanes), follower.records)

    def _begin(self) -> None:
        moment_ms = now_ms()
        self.quiet.pass_time(moment_ms)
        for lane in self.lanes:
            name = lane.receiver.name
            begun = self._begun(name)
            lane.begin(self._delivered(name), begun, self._seen, lambda record: self.quiet.why(record, moment_ms))
            if begun is None:
                self._store(f"{name}/".encode(), _encode(Begun(dict(self._ends))))
        rules = _encode(written(self._config.inhibitions))
        if self._rows.get(INHIBITIONS) != rules:
            self._store(INHIBITIONS.encode(), rules)
        self.leading = True

    async def _pass_time(self) -> None:
        """Let silences begin and end at their times."""
        while True:
            self._quietened.clear()
            next_ms = self.quiet.next_ms(now_ms())
            with suppress(TimeoutError):
                async with asyncio.timeout(None if next_ms is None else max(0, next_ms - now_ms()) / 1000):
                    await self._quietened.wait()
            self._look_again(self.quiet.pass_time(now_ms()))

    def _store(self, key: bytes, value: bytes | None) -> None:
        assert self.ledger is not None, "nothing is told before the ledger is open"
        self.ledger.put(key, value)

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


async def _lane(lane: Lane, ledger: Ledger) -> None:
    """Tell a new receiver nothing before it is stored since when there is one: who dies meanwhile owes it the ends."""
    if lane.new:
        await ledger.written()
    await lane.run()


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, _T]) -> AsyncIterator["asyncio.Task[_T]"]:
    """Run something beside the block, and end it with the block."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ended(task: "asyncio.Task[None]") -> None:
    """Wait for what another ends with."""
    await asyncio.shield(task)


def _first(errors: BaseExceptionGroup) -> BaseException:
    """Return one of several failures, however deep."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: NotifyConfig) -> int:
    """Deliver until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(Notifier(config).run(), log=_log, ended="notify_ended"))
