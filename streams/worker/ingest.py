"""The receiver of OTLP over HTTP: requests in, events on Kafka, and an answer when they are safe there.

Never answers 200 for what Kafka has not acknowledged, and never waits for Kafka without a limit: senders that cannot be
served are told to come again, which exporters do.  See the OpenTelemetry Protocol specification, "OTLP/HTTP".
"""

import asyncio
import hmac
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from streams.errors import ConfigError, EdgeError
from streams.event.redact import REDACTOR, Redactor
from streams.topology import EVENTS
from streams.worker.connection import KafkaConnection
from streams.worker.ingest_codec import (
    JSON,
    PROTOBUF,
    Carried,
    Signal,
    TooLarge,
    Translator,
    answer,
    failure,
    unpack,
)
from streams.worker.ingest_health import Counters, registry_of, strange_route
from streams.worker.ingest_produce import Producing
from streams.worker.process import until_signal
from streams.worker.web import Page, WebConfig, WebServer

_log: Final = logging.getLogger(__name__)
PORT: Final = 8467  # the exporter's is 8464, a worker's 8465, notify's 8466
READ_S: Final = 10.0  # exporters give up after as long; a slower sender is let go
RETRY_AFTER_S: Final = "1"
_ENCODINGS: Final = ("", "identity", "gzip")
# Of gRPC, which the bodies of failures speak whatever the transport.
_INVALID, _UNAUTHENTICATED, _EXHAUSTED, _UNAVAILABLE = 3, 16, 8, 14


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """Everything the receiver needs; a value out of bounds raises ConfigError with every fault."""

    connection: KafkaConnection
    prefix: str = "agent."
    web: WebConfig = field(default_factory=lambda: WebConfig(port=PORT))
    token: str | None = field(default=None, repr=False)
    body_bytes: int = 16 * 1024 * 1024
    held_bytes: int = 64 * 1024 * 1024
    connections: int = 512
    claude_code: str = "events"
    redactor: Redactor | None = field(default=REDACTOR, repr=False)

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {getattr(self, name)} given, expected 1 or more"
            for name in ("body_bytes", "held_bytes", "connections")
            if getattr(self, name) < 1
        ]
        if self.body_bytes > self.held_bytes:
            faults.append(f"body bytes: {self.body_bytes} given, expected at most held bytes ({self.held_bytes})")
        if faults:
            raise ConfigError("; ".join(faults))


class Refusal(Exception):
    """A request is not taken: the HTTP status, the code of gRPC, and why."""

    def __init__(self, status: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


class Receiver:
    """One receiver: a server, a producer, and a thread that translates one request at a time."""

    title = "AgentStreams OTLP receiver"
    formats = ("prometheus",)

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self.counters = Counters()
        self.translator = Translator(config.redactor, claude_code=config.claude_code)
        self.producing = Producing(config.connection, config.prefix + EVENTS.suffix)
        self.held_bytes = 0
        self._thread = ThreadPoolExecutor(1, "translate")  # one: what came before matters to what comes next
        self._registry = registry_of(self)
        routes = [web.post(f"/v1/{signal}", self._receive) for signal in Signal]
        self.server = WebServer(config.web, self, [*routes, strange_route(self.translator.strange)])

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
        try:
            carried = await self._take(request, signal, as_json=as_json)
        except Refusal as refusal:
            again = refusal.status in {429, 503}
            self.counters.request(signal, "again" if again else "refused")
            return _refused(refusal, as_json=as_json, close=refusal.status != 401)
        self.counters.request(signal, "taken")
        self.counters.carry(signal, carried)
        kind = JSON if as_json else PROTOBUF
        return web.Response(body=answer(signal, carried, as_json=as_json), content_type=kind)

    async def _take(self, request: web.Request, signal: Signal, *, as_json: bool) -> Carried:
        self._admit(request)
        held = [0]
        try:
            body = await self._read(request, held)
            carried = await self._translate(signal, body, request, as_json=as_json)
            await self.producing.send(carried.records)
        except EdgeError as error:
            raise Refusal(503, _UNAVAILABLE, str(error)) from error
        finally:
            self.held_bytes -= held[0]
        return carried

    def _admit(self, request: web.Request) -> None:
        """Refuse what can be refused before a byte of the body is read."""
        config = self._config
        if config.token is not None:
            shown = request.headers.get("Authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(shown, f"Bearer {config.token}".encode()):
                raise Refusal(401, _UNAUTHENTICATED, "the header Authorization: Bearer … is missing or wrong")
        if self.connections > config.connections:
            raise Refusal(503, _UNAVAILABLE, f"{self.connections} connections: come again")
        if request.content_type not in {JSON, PROTOBUF}:
            raise Refusal(415, _INVALID, f"Content-Type: expected {PROTOBUF} or {JSON}")
        if request.headers.get("Content-Encoding", "").lower() not in _ENCODINGS:
            raise Refusal(415, _INVALID, "Content-Encoding: expected gzip or none")
        if (request.content_length or 0) > config.body_bytes:
            raise Refusal(413, _INVALID, f"the body is larger than {config.body_bytes} bytes: send smaller batches")
        if not self.producing.up:
            raise Refusal(503, _UNAVAILABLE, "waiting for Kafka")

    async def _read(self, request: web.Request, held: list[int]) -> bytes:
        config, body = self._config, bytearray()
        try:
            async with asyncio.timeout(READ_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    held[0] += len(chunk)
                    self.held_bytes += len(chunk)
                    if len(body) > config.body_bytes:
                        reason = f"the body is larger than {config.body_bytes} bytes: send smaller batches"
                        raise Refusal(413, _INVALID, reason)
                    if self.held_bytes > config.held_bytes:
                        raise Refusal(429, _EXHAUSTED, "too much waits for Kafka: come again")
        except TimeoutError as error:
            raise Refusal(408, _INVALID, f"the body took longer than {READ_S:.0f} s") from error
        return bytes(body)

    async def _translate(self, signal: Signal, body: bytes, request: web.Request, *, as_json: bool) -> Carried:
        packed = request.headers.get("Content-Encoding", "").lower() == "gzip"
        limit = self._config.body_bytes

        def translate() -> Carried:
            plain = unpack(body, limit) if packed else body
            return self.translator.carry(signal, plain, as_json=as_json)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, translate)
        except TooLarge as error:
            raise Refusal(413, _INVALID, f"the body has {error}: send smaller batches") from error
        except ValueError as error:
            raise Refusal(400, _INVALID, str(error)) from error


def _refused(refusal: Refusal, *, as_json: bool, close: bool) -> web.Response:
    body = failure(refusal.code, str(refusal), as_json=as_json)
    response = web.Response(status=refusal.status, body=body, content_type=JSON if as_json else PROTOBUF)
    if refusal.status in {429, 503}:
        response.headers["Retry-After"] = RETRY_AFTER_S
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if close:  # what is left of the body is not worth reading
        response.force_close()
    return response


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: IngestConfig) -> int:
    """Receive until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(Receiver(config).run(), log=_log, ended="ingest_ended"))
