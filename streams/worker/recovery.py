"""When are the states loaded?  In Faust's recovery task, between a rebalance and the first record.

Never reads a changelog through Faust: its recovery waits for records that transactions do not have.
"""

import logging
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager as BaseTableManager
from faust.tables.recovery import RebalanceAgain, ServiceStopped
from faust.tables.recovery import Recovery as BaseRecovery
from mode import Service


class Recovery(BaseRecovery):  # type: ignore[misc]  # Faust carries no types
    """Faust's recovery service with the runner in place of its reading."""

    logger = logging.getLogger("faust.worker")

    @Service.task  # type: ignore[untyped-decorator]  # Faust carries no types
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            try:
                await self._recover(self._generation_id)
            except (RebalanceAgain, IllegalStateError):
                continue  # the group has moved on; its next word starts the next recovery
            except ServiceStopped:
                return

    @Service.task  # type: ignore[untyped-decorator]  # Faust carries no types
    async def _slurp_changelogs(self) -> None:
        """Read nothing."""

    @Service.task  # type: ignore[untyped-decorator]  # Faust carries no types
    async def _publish_stats(self) -> None:
        """Say nothing: the loader does."""

    async def _recover(self, generation_id: int) -> None:
        self._set_recovery_started()
        ready: list[bool] = []

        async def load() -> None:
            ready.append(await self.app.runner.ready())

        await self._wait(load())
        if ready == [True]:
            await self._wait(self.on_recovery_completed(generation_id))


class TableManager(BaseTableManager):  # type: ignore[misc]  # Faust carries no types
    """Faust's table manager with our recovery, and without its second of waiting at the start."""

    logger = logging.getLogger("faust.worker")

    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        """Return the recovery service, made at first use."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Register the changelogs, then wait for rebalances."""
        await self._update_channels()
        await self.recovery.start()

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing: the runner hears of it through the app's signal."""


__all__ = ["Recovery", "TableManager"]
