"""Where is it written what receivers were told?  In a compacted topic, newest per key, in the background.

Never holds a delivery up: while the broker is away rows wait in a map with one place per key.  What is not written when
the process dies is delivered again.  With a transactional id who wrote before no longer can: opening it fences them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streams.errors import EdgeError, Fenced
from streams.feed.ending import started
from streams.worker.connection import KafkaConnection, edge_errors, told_to_stop

_log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 10.0
_LINGER_MS: Final = 5
_END_S: Final = 5.0  # how long the end waits for what is not written
_STOP_S: Final = 2.0
_STEP: Final = 500  # rows sent before their answers are awaited
_FENCED: Final = (ProducerFenced, InvalidProducerEpoch)


class Ledger:
    """Writes rows to one topic; with a transactional id alone, opening it only once `assured` returns."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        request_timeout_ms: int,
        transactional_id: str | None = None,
        assured: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._request_timeout_ms = request_timeout_ms
        self._transactional_id = transactional_id
        self._assured = assured
        self.opened = asyncio.Event()  # nobody else writes any more
        self._rows: dict[bytes, bytes | None] = {}
        self._changed = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._written.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, EdgeError, Fenced):  # the latter were raised by `ended`
            await self._task

    async def ended(self) -> None:
        """Wait for ever. Raises EdgeError for what no repetition cures: no right to write; Fenced."""
        assert self._task is not None
        await asyncio.shield(self._task)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Note the newest of a key; None is a tombstone."""
        self._rows[key] = value
        self._written.clear()
        self._changed.set()

    async def written(self) -> None:
        """Wait until everything that was put is written."""
        await self._written.wait()

    @property
    def waiting(self) -> int:
        """How many rows are not written."""
        return len(self._rows)

    async def _run(self) -> None:
        delay_s = _BACKOFF_S
        while True:
            try:
                if self._assured is not None:  # opening would fence who may have come after us
                    await self._assured()
                async with edge_errors(self._connection, f"writing to {self._topic}"):
                    await self._write()
            except EdgeError as error:
                if isinstance(error.__cause__, _FENCED):
                    raise Fenced(f"another process writes to {self._topic}") from error
                if not error.retryable:
                    raise
                reason = str(error)
            except asyncio.CancelledError:
                if told_to_stop():
                    raise
                reason = "the client gave up a request"
            _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, reason)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    async def _write(self) -> None:
        producer = AIOKafkaProducer(
            **self._connection.client_arguments(),
            client_id="agent-streams-notify",
            enable_idempotence=True,
            linger_ms=_LINGER_MS,
            request_timeout_ms=self._request_timeout_ms,
            **({"transactional_id": self._transactional_id} if self._transactional_id else {}),
        )
        try:
            await started(producer.start())
            self.opened.set()
            while True:
                while self._rows:
                    await self._step(producer)
                self._written.set()
                self._changed.clear()
                await self._changed.wait()
        finally:
            # Without a broker its `stop` waits for what cannot be sent, and cut short it leaves connections open.
            for end in (producer.stop, producer.client.close):
                await asyncio.wait([asyncio.gather(end(), return_exceptions=True)], timeout=_STOP_S)

    async def _step(self, producer: Any) -> None:
        rows = [row for row, _ in zip(self._rows.items(), range(_STEP), strict=False)]
        if self._transactional_id:
            await producer.begin_transaction()
        sent = [await producer.send(self._topic, value, key=key) for key, value in rows]
        await asyncio.gather(*sent)
        if self._transactional_id:
            await producer.commit_transaction()
        for key, value in rows:
            if self._rows.get(key, b"") is value:
                del self._rows[key]
