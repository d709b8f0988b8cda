"""How does one receiver get what is due to it?  A loop: ask the outbox, make an attempt, note what came of it, wait.

Never decides what is due, and never ends by itself: every outage of the receiver is waited out.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from streams.clock import now_ms
from streams.rule.outbox import Begun, Delivered, Outbox, Verdict, delay_ms
from streams.rule.quiet import Why
from streams.rule.receivers import RESENT
from streams.rule.records import AlertRecord
from streams.worker.notify_senders import Outcome, Sender, Target

_log = logging.getLogger(__name__)

_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Seen:
    """What the alert topic says of one alert: its newest record, and the newest that people hear of."""

    newest: AlertRecord | None = None
    notable: AlertRecord | None = None
    partition: int = 0
    offset: int = 0  # of the notable one


class Lane:
    """One receiver: what waits for it, what sends, and what became of it.

    People, who cannot tell a repeat, are told something only once `assured` returns: nobody else tells them.
    """

    def __init__(
        self, target: Target, store: Callable[[bytes, bytes | None], None], assured: Callable[[], Awaitable[None]]
    ) -> None:
        self.receiver = target.receiver
        self.outbox = Outbox(target.receiver)
        self._sender: Sender = target.sender()
        self._store = store
        self._assured = None if target.receiver.kind in RESENT else assured
        self._changed = asyncio.Event()
        self._failures = 0
        self.new = False  # it is not stored yet since when there is such a receiver
        self.sent = 0
        self.resent = 0
        self.retries = 0
        self.failed = 0

    @property
    def up(self) -> bool:
        """Did the newest attempt get through?"""
        return not self._failures

    def begin(
        self,
        delivered: dict[str, Delivered],
        begun: Begun | None,
        seen: Mapping[str, Seen],
        why: Callable[[AlertRecord], Why],
    ) -> None:
        """Take up what was told before, and what the topic says now; without `begun` the receiver is new.

        What fired last and is not stored as told may have been: whoever told it died before that was written.
        """
        self.outbox = outbox = Outbox(self.receiver, delivered)
        self.new = begun is None
        moment_ms = now_ms()
        for fingerprint, each in seen.items():
            if each.notable is not None:
                self._heed(fingerprint, why(each.notable), moment_ms)
                if begun is not None:
                    outbox.doubt(each.notable)
                old = begun is None or begun.old(each.partition, each.offset)
                outbox.learn(fingerprint, each.notable, moment_ms, old=old)
            if each.newest is not each.notable:
                outbox.learn(fingerprint, each.newest, moment_ms)
        for fingerprint in outbox.known():
            if fingerprint not in seen:
                outbox.learn(fingerprint, None, moment_ms)
        self._keep()

    def heed(self, fingerprint: str, why: Why) -> None:
        """Take what keeps an alert from being told, or no longer does."""
        self._heed(fingerprint, why, now_ms())
        self._keep()
        self._changed.set()

    def _heed(self, fingerprint: str, why: Why, moment_ms: int) -> None:
        self.outbox.mute(fingerprint, moment_ms, muted=why.suppressed)
        until_ms = None if why.acknowledged is None else why.acknowledged.ends_ms
        self.outbox.acknowledge(fingerprint, until_ms, moment_ms)

    def learn(self, fingerprint: str, record: AlertRecord | None, why: Why | None) -> None:
        """Take the newest of an alert, and what keeps it from being told."""
        if why is not None:
            self._heed(fingerprint, why, now_ms())
        self.outbox.learn(fingerprint, record, now_ms())
        self._keep()
        self._changed.set()

    async def run(self) -> None:
        """Send what is due for ever, through every outage of the receiver."""
        try:
            while True:
                self._changed.clear()
                if self._assured is not None:
                    await self._assured()
                batch = self.outbox.due(now_ms())
                if batch:
                    await self._deliver(batch)
                else:
                    await self._wait()
        finally:
            await self._sender.close()

    async def _wait(self) -> None:
        again_ms = self.outbox.again_ms()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if again_ms is None else max(0, again_ms - now_ms()) / 1000):
                await self._changed.wait()

    async def _deliver(self, batch: list[AlertRecord]) -> None:
        outcome = await self._sender.send(batch)
        if outcome.verdict is Verdict.REFUSED and len(batch) > 1:
            for at, record in enumerate(batch):  # one of them is at fault, and the others must not suffer for it
                alone = await self._sender.send([record])
                if alone.verdict is Verdict.AGAIN:
                    await self._fail(batch[at:], alone)
                    return
                self._done([record], alone)
        elif outcome.verdict is Verdict.AGAIN:
            await self._fail(batch, outcome)
        else:
            self._done(batch, outcome)

    def _done(self, batch: list[AlertRecord], outcome: Outcome) -> None:
        fresh = self.outbox.sent(batch, now_ms())
        if outcome.verdict is Verdict.REFUSED:
            self.failed += fresh
            _log.error("notice_refused receiver=%s alert=%s %s", self.receiver.name, batch[0].id, outcome.reason)
        else:
            self.sent += fresh
            self.resent += len(batch) - fresh
        if self._failures:
            _log.info("receiver_back receiver=%s pending=%d", self.receiver.name, self.outbox.pending)
        self._failures = 0
        self._keep()

    async def _fail(self, batch: list[AlertRecord], outcome: Outcome) -> None:
        self.outbox.failed(batch)
        self._keep()
        self.retries += 1
        self._failures += 1
        if self._failures == 1:
            _log.warning("receiver_away receiver=%s reason=%s", self.receiver.name, outcome.reason)
        chance = random.random()  # noqa: S311  spreads attempts, no secret hangs on it
        wait_ms = delay_ms(self._failures, self.receiver.backoff_limit_ms, chance, outcome.after_ms)
        await asyncio.sleep(wait_ms / 1000)

    def _keep(self) -> None:
        for fingerprint, delivered in self.outbox.rows():
            key = f"{self.receiver.name}/{fingerprint}".encode()
            self._store(key, None if delivered is None else _encode(delivered))
