"""What do the topics of a prefix say, now or from now on?  Followed in the background, or read to their end once.

Never takes part in a group and never commits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from streams.worker.connection import KafkaConnection
from streams.worker.tail import Followed, Follower, Records, partition_counts

_CHECK_MS: Final = 10_000
_STALL_MS: Final = 30_000
_REQUEST_TIMEOUT_MS: Final = 15_000

Take: TypeAlias = Callable[[str, int, Records], None]  # topic suffix, partition, records in offset order


class Following:
    """Topics being followed; what went wrong is raised by whoever asks."""

    def __init__(self, follower: Follower, task: "asyncio.Task[None]") -> None:
        self._follower = follower
        self._task = task

    @property
    def caught_up(self) -> bool:
        """Has everything been taken that was there at the start?"""
        return self._follower.caught_up.is_set()

    def check(self) -> None:
        """Raise what following has ended with, if it has."""
        if self._task.done():
            self._task.result()

    async def catch_up(self) -> None:
        """Wait until everything has been taken that was there at the start."""
        waiting = asyncio.ensure_future(self._follower.caught_up.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self.check()


@asynccontextmanager
async def following(
    kafka: KafkaConnection, prefix: str, suffixes: Sequence[str], take: Take
) -> AsyncIterator[Following]:
    """Hand over everything in these topics, from their beginnings on. Raises ConfigError when one is missing."""
    counts = await partition_counts(kafka, [prefix + suffix for suffix in suffixes])

    def taker(suffix: str) -> Callable[[int, Records], None]:
        return lambda partition, records: take(suffix, partition, records)

    follower = Follower(
        kafka,
        "agent-streams-reader",
        [Followed(prefix + suffix, counts[prefix + suffix], taker(suffix)) for suffix in suffixes],
        check_ms=_CHECK_MS,
        stall_ms=_STALL_MS,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    task = asyncio.create_task(follower.run())
    try:
        yield Following(follower, task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):  # what it failed with was raised where it was asked for
            await task


async def read_whole(kafka: KafkaConnection, prefix: str, suffixes: Sequence[str], take: Take) -> None:
    """Hand over everything that these topics hold now, and return."""
    async with following(kafka, prefix, suffixes, take) as topics:
        await topics.catch_up()
