"""How does a worker say that it is well?  Probes and a page of its own numbers, on a port of its own.

Never a number of the product: those are the exporter's, which shows them once however many workers there are.
"""

import platform
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streams import __version__
from streams.rule.model import RuleSet
from streams.sink.processes import OF_WORKER
from streams.stage.ruling import Ruling
from streams.worker.counters import Counters
from streams.worker.web import Page, WebConfig, WebServer

PORT: Final = 8465  # the exporter's is 8464
QUANTILES: Final = (0.5, 0.95, 0.99)


class Worker(Protocol):
    """What is asked of a worker."""

    @property
    def counters(self) -> Counters:
        """What it has done."""

    @property
    def failure(self) -> BaseException | None:
        """What ends it, if something does."""

    @property
    def ready_to_serve(self) -> bool:
        """Is every partition it owns being read?"""

    def lags(self) -> dict[str, int]:
        """How many offsets each partition is behind, by `stage-partition`."""


class Health:
    """The site of one worker; `server` listens while the worker runs."""

    title = "AgentStreams worker"
    formats = ("prometheus",)

    def __init__(
        self, config: WebConfig, worker: Worker, price_lists: tuple[str, ...] = (), ruling: Ruling | None = None
    ) -> None:
        self._worker = worker
        self._registry = CollectorRegistry()
        self._registry.register(_Numbers(worker, price_lists, ruling or Ruling(RuleSet())))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.server = WebServer(config, self)

    def unready(self) -> str | None:
        """Say why the worker does not work yet, or no more."""
        if self._worker.failure is not None:
            return "ending after a failure"
        return None if self._worker.ready_to_serve else "partitions are being assigned or loaded"

    async def page(self, accept: str, wanted: str | None) -> Page:  # noqa: ARG002  there is one format
        """Make the page; it is shown ready or not, because that is when it is needed."""
        encode, content_type = choose_encoder(accept)
        return Page(encode(self._registry), content_type)


class _Numbers(Collector):
    """The catalogue's rows of a worker, filled in when they are asked for."""

    def __init__(self, worker: Worker, price_lists: tuple[str, ...], ruling: Ruling) -> None:
        self._worker = worker
        self._price_lists = price_lists
        self._ruling = ruling

    def collect(self) -> Iterable[Family]:
        """Yield every metric."""
        counters = self._worker.counters
        totals = _totals(counters)
        for row in OF_WORKER:
            family = Family(row.family, row.help, row.kind, row.unit)
            if row.name == "agent_worker_ready":
                family.add_sample(row.name, {}, int(self._worker.ready_to_serve))
            elif row.name == "agent_worker_lag_offsets":
                for place, lag in sorted(self._worker.lags().items()):
                    labels = dict(zip(row.columns, place.rsplit("-", 1), strict=True))
                    family.add_sample(row.name, labels, lag)
            elif row.name == "agent_worker_price_list_info":
                for order, name in enumerate(self._price_lists, 1):
                    family.add_sample(row.name, {"list": name, "order": str(order)}, 1)
            elif row.name == "agent_worker_rules_version":
                family.add_sample(row.name, {}, self._ruling.version)
            elif row.name == "agent_worker_rules_info":
                held = {"origin": self._ruling.source, "digest": self._ruling.digest}
                family.add_sample(row.name, held, 1)
            elif row.kind == "summary":
                for q in QUANTILES:
                    family.add_sample(row.name, {"quantile": str(q)}, counters.flush_quantile_ms(q) / 1000)
                family.add_sample(f"{row.name}_count", {}, counters.transactions)
                family.add_sample(f"{row.name}_sum", {}, counters.transaction_ms / 1000)
            elif row.kind == "info":
                family.add_sample(row.name, {"version": __version__, "python": platform.python_version()}, 1)
            else:
                family.add_sample(row.name, {}, totals[row.name])
            yield family


def _totals(counters: Counters) -> Mapping[str, float]:
    """Return the counters by the name they are exported under."""
    return {
        "agent_worker_records_total": counters.records,
        "agent_worker_chunks_total": counters.chunks,
        "agent_worker_stale_chunks_total": counters.stale_chunks,
        "agent_worker_ticks_total": counters.ticks,
        "agent_worker_rows_written_total": counters.rows,
        "agent_worker_records_sent_total": counters.sends,
        "agent_worker_fold_seconds_total": counters.fold_ms / 1000,
        "agent_worker_encode_seconds_total": counters.encode_ms / 1000,
        "agent_worker_unknown_outcomes_total": counters.unknown_outcomes,
        "agent_worker_retries_total": counters.retries,
        "agent_worker_rebalances_total": counters.rebalances,
        "agent_worker_partition_loads_total": counters.loads,
        "agent_worker_rows_loaded_total": counters.rows_loaded,
        "agent_worker_load_seconds_total": counters.load_ms / 1000,
    }
