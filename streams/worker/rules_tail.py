"""Which rules hold for this worker now?  It reads the changelog of the commands for itself, like every other worker.

Never judges, and never lets state that newer rules have judged be judged by older ones: it waits for the newer ones.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streams.errors import AgentStreamsError, StateRefused
from streams.rule.model import RuleSet
from streams.stage.erasing import Erasures
from streams.stage.loading import UNREADABLE
from streams.stage.ruling import Ruling
from streams.topology import COMMANDS_CHANGELOG
from streams.worker.config import WorkerConfig
from streams.worker.tail import Followed, Follower, Records, partition_counts, rows_of

_log = logging.getLogger(__name__)

_CHECK_MS: Final = 10_000
_STALL_MS: Final = 30_000
_WAIT_MS: Final = 50

Changed = Callable[[], Awaitable[None]]


class RulesTail:
    """Follows the rules for as long as `run` runs; `ruling` says which hold."""

    def __init__(self, config: WorkerConfig, ruling: Ruling) -> None:
        self._config = config
        self._ruling = ruling
        self._known = asyncio.Event()  # everything that was there at the start is read
        self._moved = asyncio.Event()
        self.erasures = Erasures()  # they are read in the same place
        self.changes = 0  # since the start, what held then not counted

    @property
    def rules(self) -> RuleSet:
        """The rules that hold."""
        return self._ruling.rules

    @property
    def version(self) -> int:
        """Their version; 0: those of the settings, and none were ever loaded."""
        return self._ruling.version

    async def run(self, changed: Changed) -> None:
        """Read for ever; `changed` is called when other rules hold, but not before `known`.

        Raises StateRefused when rules cannot be read by this release, and EdgeError that no repetition cures.
        """
        topic = self._config.topic(COMMANDS_CHANGELOG.suffix)
        counts = await partition_counts(self._config.connection, [topic])
        follower = Follower(
            self._config.connection,
            f"{self._config.group_id}-rules",
            [Followed(topic, counts[topic], self._take)],
            check_ms=_CHECK_MS,
            stall_ms=_STALL_MS,
            request_timeout_ms=self._config.request_timeout_ms,
        )
        reading = asyncio.ensure_future(follower.run())
        try:
            await _first(reading, follower.caught_up)
            self._log_rules("rules_hold")
            self._known.set()
            while True:
                await _first(reading, self._moved)
                self._moved.clear()
                await changed()
        finally:
            reading.cancel()

    async def known(self) -> None:
        """Wait until everything is read that was there at the start."""
        await self._known.wait()

    async def at_least(self, version: int) -> None:
        """Wait until rules of this version, or newer ones, are known; StateRefused when there are none."""
        waited_ms = 0
        while self.version < version:
            if not waited_ms:
                _log.warning("rules_awaited version=%d known=%d", version, self.version)
            if waited_ms >= self._config.stuck_ms:
                raise StateRefused(
                    f"the state was judged by version {version} of the rules, but "
                    f"{self._config.topic(COMMANDS_CHANGELOG.suffix)} knows {self.version} only: the topic was created "
                    "anew or has lost records. Restore it, or start over under another topic prefix"
                )
            await asyncio.sleep(_WAIT_MS / 1000)
            waited_ms += _WAIT_MS

    def _take(self, partition: int, records: Records) -> None:
        rows = list(rows_of(records))
        try:
            erased, ruled = self.erasures.take(rows), self._ruling.take(rows)
        except UNREADABLE as error:
            raise StateRefused(
                f"{self._config.topic(COMMANDS_CHANGELOG.suffix)} partition {partition}: a row near offset "
                f"{records[0].offset} cannot be read ({error}). A newer release or somebody else wrote it: run that "
                "release, restore the topic, or start over under another topic prefix"
            ) from error
        if not self._known.is_set():
            return
        if ruled:
            self.changes += 1
            self._log_rules("rules_changed")
        if erased:
            _log.info("erasure_accepted version=%d", self.erasures.version)
        if ruled or erased:
            self._moved.set()

    def _log_rules(self, what: str) -> None:
        ruling = self._ruling
        row = ruling.row
        _log.info(
            "%s version=%d source=%s digest=%s rules=%d breakers=%d by=%s",
            what,
            ruling.version,
            ruling.source,
            ruling.digest,
            len(ruling.rules.rules),
            len(ruling.rules.breakers),
            "" if row is None else row.by,
        )


async def _first(reading: "asyncio.Future[None]", event: asyncio.Event) -> None:
    """Wait for an event; raise what reading has ended with, if it ends before."""
    waiting = asyncio.ensure_future(event.wait())
    both: list[asyncio.Future[Any]] = [reading, waiting]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if reading.done():
        reading.result()
        raise AgentStreamsError("nobody follows the rules any more")
