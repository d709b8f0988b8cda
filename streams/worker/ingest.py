"""The receiver of OTLP over HTTP: requests in, events on Kafka, and an answer when they are safe there.

Never answers 200 for what Kafka has not acknowledged, and never waits for Kafka without a limit: senders that cannot be
served are told to come again, which exporters do.  See the OpenTelemetry Protocol specification, "OTLP/HTTP".
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from streams.errors import ConfigError, EdgeError
from streams.event.otel.strange import Strange
from streams.event.redact import REDACTOR, Redactor
from streams.topology import EVENTS
from streams.worker.connection import KafkaConnection
from streams.worker.ingest_codec import (
    JSON,
    PROTOBUF,
    Translator,
    answer,
    failure,
)
from streams.worker.ingest_door import Door, Limits, Refusal, beside, packed
from streams.worker.ingest_health import Counters, registry_of, strange_route
from streams.worker.ingest_produce import Producing
from streams.worker.ingest_records import Carried, Signal, TooLarge, unpack
from streams.worker.process import until_signal
from streams.worker.web import Page, WebConfig, WebServer

_log: Final = logging.getLogger(__name__)
PORT: Final = 8467  # the exporter's is 8464, a worker's 8465, notify's 8466
_KINDS: Final = (PROTOBUF, JSON)
# Of gRPC, which the bodies of failures speak whatever the transport.
_INVALID: Final = 3
_CODES: Final = {401: 16, 429: 8, 503: 14}  # unauthenticated, resource exhausted, unavailable


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """Everything the receiver needs; a value out of bounds raises ConfigError with every fault."""

    connection: KafkaConnection
    prefix: str = "agent."
    web: WebConfig = field(default_factory=lambda: WebConfig(port=PORT))
    limits: Limits = field(default_factory=Limits)
    claude_code: str = "events"
    redactor: Redactor | None = field(default=REDACTOR, repr=False)

    def __post_init__(self) -> None:
        if faults := "; ".join(self.limits.faults()):
            raise ConfigError(faults)


class Receiver:
    """One receiver: a server, a producer, and a thread that translates one request at a time."""

    title = "AgentStreams OTLP receiver"
    formats = ("prometheus",)

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self.counters = Counters.of(Signal)
        self.translator = Translator(config.redactor, claude_code=config.claude_code)
        self.producing = Producing(config.connection, config.prefix + EVENTS.suffix)
        self._door = Door(config.limits)
        self._thread = ThreadPoolExecutor(1, "translate")  # one: what came before matters to what comes next
        self._registry = registry_of(self)
        routes = [web.post(f"/v1/{signal}", self._receive) for signal in Signal]
        self.server = WebServer(beside(config.web, config.limits), self, [*routes, strange_route(self.strange)])

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
    def strange(self) -> Strange:
        """What came in that no table knows."""
        return self.translator.strange

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
        signal = Signal(request.path.rpartition("/")[2])
        as_json = request.content_type == JSON
        kind = JSON if as_json else PROTOBUF
        try:
            carried = await self._take(request, signal, as_json=as_json)
        except Refusal as refusal:
            self.counters.request(signal, "again" if refusal.again else "refused")
            body = failure(_CODES.get(refusal.status, _INVALID), str(refusal), as_json=as_json)
            return refusal.dress(web.Response(status=refusal.status, body=body, content_type=kind))
        self.counters.request(signal, "taken")
        self.counters.carry(signal, carried)
        return web.Response(body=answer(signal, carried, as_json=as_json), content_type=kind)

    async def _take(self, request: web.Request, signal: Signal, *, as_json: bool) -> Carried:
        self._door.admit(request, _KINDS, connections=self.connections, up=self.producing.up)
        held = [0]
        try:
            body = await self._door.read(request, held)
            carried = await self._translate(signal, body, request, as_json=as_json)
            await self.producing.send(carried.records)
        except EdgeError as error:
            raise Refusal(503, str(error)) from error
        finally:
            self._door.held_bytes -= held[0]
        return carried

    async def _translate(self, signal: Signal, body: bytes, request: web.Request, *, as_json: bool) -> Carried:
        zipped = packed(request)
        limit = self._config.limits.body_bytes

        def translate() -> Carried:
            plain = unpack(body, limit) if zipped else body
            return self.translator.carry(signal, plain, as_json=as_json)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, translate)
        except TooLarge as error:
            raise Refusal(413, f"the body has {error}: send smaller batches") from error
        except ValueError as error:
            raise Refusal(400, str(error)) from error


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: IngestConfig) -> int:
    """Receive until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(Receiver(config).run(), log=_log, ended="ingest_ended"))
