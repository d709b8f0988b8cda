"""What a Faust table is to us: the registration that gives a stage its changelog, its assignment and co-partitioning.

Never holds a row (the partitions do) and never writes one.
"""

import logging
from typing import Any

import faust
from faust.stores.memory import Store as MemoryStore

from streams.topology import Stage


class Store(MemoryStore):  # type: ignore[misc]  # Faust carries no types
    """Passes each rebalance on to the runner; its own dictionary stays empty."""

    logger = logging.getLogger("faust.worker")

    def __init__(self, table: "Table", **options: Any) -> None:
        super().__init__("agent-streams://", table.app, table, **options)
        self._stage = table.stage

    async def on_rebalance(
        self,
        assigned: set[Any],
        revoked: set[Any],
        newly_assigned: set[Any],
        generation_id: int = 0,
    ) -> None:
        """Keep what is assigned and drop the rest; nothing is loaded here, no heartbeat is sent meanwhile."""
        runner = self.app.runner
        topic = runner.config.topic(self._stage.source.suffix)
        runner.assign(self._stage, {tp.partition for tp in assigned if tp.topic == topic})


class Table(faust.Table):  # type: ignore[misc]  # Faust carries no types
    """A stage's changelog in Faust's eyes."""

    logger = logging.getLogger("faust.worker")

    def __init__(self, app: Any, *, stage: Stage, **options: Any) -> None:
        super().__init__(app, **options)
        self.stage = stage

    def _new_store(self) -> Store:
        return Store(self, loop=self.loop)
