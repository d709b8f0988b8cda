"""How does an emitter show up on the /metrics page that an agent's process has already?

REGISTRY.register(EmitterCollector(emitter))

Never opens a port, and costs nothing until it is scraped.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.feed.emitter import Emitter
from streams.feed.report import samples

_TOTAL: Final = "_total"


class EmitterCollector(Collector):
    """The counts of one emitter, as metrics named agent_emitter_…; `source` is no label, it would never end."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        families: dict[str, Metric] = {}
        for row, label, value in samples(self._emitter.stats()):
            name = row.name.removesuffix(_TOTAL)
            family = families.setdefault(name, Metric(name, row.help, row.kind))
            family.add_sample(row.name, {} if row.label is None else {row.label: str(label)}, value)
        return families.values()
