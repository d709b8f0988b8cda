"""The receiver of OTLP over HTTP: requests in, events on Kafka, and an answer when they are safe there.

Never answers 200 for what Kafka has not acknowledged, and never waits for Kafka without a limit: senders that cannot be
served are told to come again, which exporters do.  See the OpenTelemetry Protocol specification, "OTLP/HTTP".
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from streams.errors import ConfigError
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
from streams.worker.ingest_door import Limits, Refusal
from streams.worker.ingest_health import Counters, strange_route
from streams.worker.ingest_produce import Producing
from streams.worker.ingest_records import Carried, Signal
from streams.worker.ingest_role import ReceiverRole
from streams.worker.process import until_signal
from streams.worker.web import WebConfig

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


class Receiver(ReceiverRole):
    """The receiver of OTLP."""

    title = "AgentStreams OTLP receiver"

    def __init__(self, config: IngestConfig) -> None:
        self.translator = Translator(config.redactor, claude_code=config.claude_code)
        strange = self.translator.strange
        routes = [web.post(f"/v1/{signal}", self._receive) for signal in Signal]
        super().__init__(
            config.web, config.limits, Producing(config.connection, config.prefix + EVENTS.suffix),
            Counters.of(Signal), [*routes, strange_route(strange)], strange,
        )  # fmt: skip

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
        self.admit(request, _KINDS)
        return await self.carry(request, lambda body: self.translator.carry(signal, body, as_json=as_json))


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: IngestConfig) -> int:
    """Receive until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(Receiver(config).run(), log=_log, ended="ingest_ended"))
