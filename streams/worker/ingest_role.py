"""What receivers over HTTP are: a server, a producer, and a thread that decodes one request at a time.

Never answers, and never knows what a body means: the receivers of OTLP and of events say that.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Protocol, TypeVar

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from streams.errors import EdgeError
from streams.event.otel.strange import Strange
from streams.feed.batch import Record
from streams.worker.ingest_door import Door, Limits, Refusal, beside, packed
from streams.worker.ingest_health import Counters, registry_of
from streams.worker.ingest_produce import Producing
from streams.worker.ingest_records import TooLarge, unpack
from streams.worker.web import Page, WebConfig, WebServer


class Decoded(Protocol):
    """What a body holds, as far as Kafka is concerned."""

    @property
    def records(self) -> Sequence[Record]:
        """The records to write."""


D = TypeVar("D", bound=Decoded)


class ReceiverRole:
    """What is the same in every receiver."""

    title: ClassVar[str]
    formats = ("prometheus",)

    def __init__(
        self, web_config: WebConfig, limits: Limits, producing: Producing, counters: Counters,
        routes: Iterable[web.RouteDef], strange: Strange,
    ) -> None:  # fmt: skip
        self.counters = counters
        self.producing = producing
        self.strange = strange  # what came in that no table knows
        self._limits = limits
        self._door = Door(limits)
        self._thread = ThreadPoolExecutor(1, "decode")  # one: what came before may matter to what comes next
        self._registry = registry_of(self)
        self.server = WebServer(beside(web_config, limits), self, list(routes))

    async def run(self) -> None:
        """Receive for ever. Raises ConfigError, and EdgeError for what no repetition cures."""
        await self.server.start()
        try:
            await self.producing.run()
        finally:
            await self.server.stop()
            self._thread.shutdown()

    # ---- what the server asks ---------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """How much of all bodies waits for Kafka."""
        return self._door.held_bytes

    @property
    def connections(self) -> int:
        """How many senders are connected."""
        return self.server.connections

    def unready(self) -> str | None:
        """Say why nothing is taken."""
        return None if self.producing.up else "waiting for Kafka"

    async def page(self, accept: str, wanted: str | None) -> Page:  # noqa: ARG002  there is one format
        """Make the page; it is shown ready or not, because that is when it is needed."""
        encode, content_type = choose_encoder(accept)
        return Page(encode(self._registry), content_type)

    # ---- requests ---------------------------------------------------------------------------------------------

    def admit(self, request: web.Request, kinds: Iterable[str]) -> None:
        """Refuse what can be refused before a byte of the body is read. Raises Refusal."""
        self._door.admit(request, tuple(kinds), connections=self.connections, up=self.producing.up)

    async def carry(
        self, request: web.Request, decode: Callable[[bytes], D], note: Callable[[D], None] | None = None
    ) -> D:
        """Read a body, decode it in the thread, and return when what it holds is safe in Kafka. Raises Refusal.

        `note` is told of it before it is written.
        """
        held = [0]
        try:
            found = await self._decoded(await self._door.read(request, held), packed(request), decode)
            if note is not None:
                note(found)
            await self.producing.send(found.records)
        except EdgeError as error:
            raise Refusal(503, str(error)) from error
        finally:
            self._door.held_bytes -= held[0]
        return found

    async def _decoded(self, body: bytes, zipped: bool, decode: Callable[[bytes], D]) -> D:
        limit = self._limits.body_bytes
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: decode(unpack(body, limit) if zipped else body)
            )
        except TooLarge as error:
            raise Refusal(413, f"the body has {error}: send smaller batches") from error
        except ValueError as error:
            raise Refusal(400, str(error)) from error
