"""The receiver of events over HTTP, for programs without a Kafka client: POST /v1/events.

Never answers 202 for what Kafka has not acknowledged, and never waits for Kafka without a limit.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from streams.errors import ConfigError, EdgeError
from streams.event.custom import Customs
from streams.event.otel.strange import Strange
from streams.event.redact import REDACTOR, Redactor
from streams.topology import EVENTS
from streams.worker.connection import KafkaConnection
from streams.worker.ingest_door import Door, Limits, Refusal, beside, packed
from streams.worker.ingest_health import Counters, registry_of
from streams.worker.ingest_produce import Producing
from streams.worker.ingest_rate import Rates
from streams.worker.ingest_read import JSON, KINDS, Posted, read, told
from streams.worker.ingest_records import Carried, TooLarge, unpack
from streams.worker.process import until_signal
from streams.worker.web import Page, WebConfig, WebServer

_log: Final = logging.getLogger(__name__)
PORT: Final = 8468  # the receiver of OTLP has 8467
PATH: Final = "/v1/events"
SIGNAL: Final = "events"


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Everything the receiver needs; a value out of bounds raises ConfigError with every fault."""

    connection: KafkaConnection
    prefix: str = "agent."
    web: WebConfig = field(default_factory=lambda: WebConfig(port=PORT))
    limits: Limits = field(default_factory=Limits)
    client_rate: int = 20_000  # events a second of one address
    customs: Customs = field(default_factory=dict)
    redactor: Redactor | None = field(default=REDACTOR, repr=False)

    def __post_init__(self) -> None:
        faults = [*self.limits.faults()]
        if self.client_rate < 1:
            faults.append(f"client rate: {self.client_rate} given, expected 1 or more")
        if faults:
            raise ConfigError("; ".join(faults))


class HttpReceiver:
    """One receiver: a server, a producer, and a thread that decodes one request at a time."""

    title = "AgentStreams event receiver"
    formats = ("prometheus",)

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self.counters = Counters.of((SIGNAL,))
        self.producing = Producing(config.connection, config.prefix + EVENTS.suffix, client="ingest-http")
        self.strange = Strange()  # nothing is: what no table knows is refused
        self._door = Door(config.limits)
        self._rates = Rates(config.client_rate)
        self._thread = ThreadPoolExecutor(1, "decode")
        self._registry = registry_of(self)
        self.server = WebServer(beside(config.web, config.limits), self, [web.post(PATH, self._receive)])

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

    async def _receive(self, request: web.Request) -> web.Response:
        try:
            posted = await self._take(request)
        except Refusal as refusal:
            self.counters.request(SIGNAL, "again" if refusal.again else "refused")
            return refusal.dress(_answer(refusal.status, {"error": str(refusal)}))
        refused = len(posted.refused)
        self.counters.request(SIGNAL, "refused" if refused else "taken")
        self.counters.carry(SIGNAL, Carried(posted.records, posted.events, posted.items, refused, "", 0))
        return _answer(422 if refused else 202, told(posted.events, posted.refused))

    async def _take(self, request: web.Request) -> Posted:
        client = request.remote or ""
        self._door.admit(request, KINDS, connections=self.connections, up=self.producing.up)
        wait_s = self._rates.wait_s(client, time.monotonic())
        if wait_s:
            rate = f"more than {self._config.client_rate} events a second"
            raise Refusal(429, f"{rate}: come again in {wait_s} s", retry_after_s=wait_s)
        held = [0]
        try:
            body = await self._door.read(request, held)
            posted = await self._read(body, request)
            self._rates.take(client, posted.items, time.monotonic())
            await self.producing.send(posted.records)
        except EdgeError as error:
            raise Refusal(503, str(error)) from error
        finally:
            self._door.held_bytes -= held[0]
        return posted

    async def _read(self, body: bytes, request: web.Request) -> Posted:
        config, zipped, lines = self._config, packed(request), request.content_type != JSON

        def decode() -> Posted:
            plain = unpack(body, config.limits.body_bytes) if zipped else body
            return read(plain, lines=lines, customs=config.customs, redactor=config.redactor)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, decode)
        except TooLarge as error:
            raise Refusal(413, f"the body has {error}: send smaller batches") from error
        except ValueError as error:
            raise Refusal(400, str(error)) from error


def _answer(status: int, said: dict[str, Any]) -> web.Response:
    body = orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type=JSON)


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: HttpConfig) -> int:
    """Receive until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(HttpReceiver(config).run(), log=_log, ended="ingest_ended"))
