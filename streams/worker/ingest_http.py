"""The receiver of events over HTTP, for programs without a Kafka client: POST /v1/events.

Never answers 202 for what Kafka has not acknowledged, and never waits for Kafka without a limit.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from streams.errors import ConfigError
from streams.event.custom import Customs
from streams.event.otel.strange import Strange
from streams.event.redact import REDACTOR, Redactor
from streams.topology import EVENTS
from streams.worker.connection import KafkaConnection
from streams.worker.ingest_door import Limits, Refusal
from streams.worker.ingest_health import Counters
from streams.worker.ingest_produce import Producing
from streams.worker.ingest_rate import Rates
from streams.worker.ingest_read import JSON, KINDS, Posted, read, told
from streams.worker.ingest_records import Carried
from streams.worker.ingest_role import ReceiverRole
from streams.worker.process import until_signal
from streams.worker.web import WebConfig

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


class HttpReceiver(ReceiverRole):
    """The receiver of events."""

    title = "AgentStreams event receiver"

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._rates = Rates(config.client_rate)
        super().__init__(
            config.web, config.limits,
            Producing(config.connection, config.prefix + EVENTS.suffix, client="ingest-http"),
            Counters.of((SIGNAL,)), [web.post(PATH, self._receive)],
            Strange(),  # nothing is: what no table knows is refused
        )  # fmt: skip

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
        config, client = self._config, request.remote or ""
        self.admit(request, KINDS)
        wait_s = self._rates.wait_s(client, time.monotonic())
        if wait_s:
            rate = f"more than {config.client_rate} events a second"
            raise Refusal(429, f"{rate}: come again in {wait_s} s", retry_after_s=wait_s)
        lines = request.content_type != JSON
        return await self.carry(
            request,
            lambda body: read(body, lines=lines, customs=config.customs, redactor=config.redactor),
            lambda posted: self._rates.take(client, posted.items, time.monotonic()),
        )


def _answer(status: int, said: dict[str, Any]) -> web.Response:
    body = orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type=JSON)


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: HttpConfig) -> int:
    """Receive until a signal or a failure, and return the exit code."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(until_signal(HttpReceiver(config).run(), log=_log, ended="ingest_ended"))
