"""What do receivers say of themselves?  The catalogue's rows of them, filled in when they are asked for.

Never a number of the product: those are the exporter's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streams.event.otel.strange import Strange
from streams.sink.processes import OF_INGEST
from streams.worker.ingest_records import Carried
from streams.worker.web import JSON

OUTCOMES: Final = ("taken", "refused", "again")
STRANGE: Final = "/strange"


@dataclass(slots=True)
class Counters:
    """What became of everything that came in."""

    requests: dict[tuple[str, str], int]
    items: dict[str, int]
    rejected: dict[str, int]
    events: dict[str, int]
    refused: int = 0

    @classmethod
    def of(cls, signals: Iterable[str]) -> Self:
        """Return the counters of those who take these."""
        names = list(signals)
        requests = {(name, outcome): 0 for name in names for outcome in OUTCOMES}
        return cls(requests, dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0))

    def request(self, signal: str, outcome: str) -> None:
        """Count a request or a record."""
        self.requests[signal, outcome] += 1

    def carry(self, signal: str, carried: Carried) -> None:
        """Count what is safe."""
        self.items[signal] += carried.items
        self.rejected[signal] += carried.rejected
        self.events[signal] += carried.events
        self.refused += carried.refused


class Broker(Protocol):
    """What writes to Kafka."""

    failures: int

    @property
    def up(self) -> bool:
        """Does Kafka take records?"""


class Process(Protocol):
    """What is asked of the receiver."""

    counters: Counters

    @property
    def strange(self) -> Strange:
        """What came in that no table knows."""

    @property
    def held_bytes(self) -> int:
        """How much of all bodies waits for Kafka."""

    @property
    def producing(self) -> Broker:
        """What writes to Kafka."""

    @property
    def connections(self) -> int:
        """How many senders are connected."""


def strange_route(strange: Strange) -> web.RouteDef:
    """Return the page of what no table knows: names and counts, as JSON."""

    async def page(_: web.Request) -> web.Response:
        body = orjson.dumps(strange.report(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, content_type=JSON)

    return web.get(STRANGE, page)


def registry_of(process: Process) -> CollectorRegistry:
    """Return what its page shows."""
    registry = CollectorRegistry()
    registry.register(_Numbers(process))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Numbers(Collector):
    """The rows, with their samples."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def collect(self) -> Iterable[Family]:
        """Yield every metric."""
        samples = self._samples()
        for row in OF_INGEST:
            family = Family(row.family, row.help, row.kind, row.unit)
            for labels, value in samples[row.name]:
                family.add_sample(row.name, dict(zip(row.columns, labels, strict=True)), value)
            yield family

    def _samples(self) -> dict[str, list[tuple[tuple[str, ...], float]]]:
        process = self._process
        counters = process.counters
        strange = process.strange.totals()
        return {
            "agent_ingest_requests_total": [(key, value) for key, value in counters.requests.items()],
            "agent_ingest_items_total": [((key,), value) for key, value in counters.items.items()],
            "agent_ingest_rejected_items_total": [((key,), value) for key, value in counters.rejected.items()],
            "agent_ingest_events_total": [((key,), value) for key, value in counters.events.items()],
            "agent_ingest_refused_events_total": [((), counters.refused)],
            "agent_ingest_strange_total": [((key,), value) for key, value in strange.items()],
            "agent_ingest_held_bytes": [((), process.held_bytes)],
            "agent_ingest_connections": [((), process.connections)],
            "agent_ingest_failures_total": [((), process.producing.failures)],
            "agent_ingest_up": [((), int(process.producing.up))],
        }
