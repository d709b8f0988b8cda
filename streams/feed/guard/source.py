"""Who tells a guard what is stopped: what it needs of a source, and the thread in which one is followed.

Never held up by an agent and never holds one up: the agent's threads only look at what lies here, made anew each time.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from streams.errors import EdgeError
from streams.feed.guard.verdicts import Index, Standing
from streams.feed.obstacle import redis_said

THREAD_NAME: Final = "agent-streams-guard"
LOOK_S: Final = 0.25  # how often what is due is done beside the reading
END_S: Final = 2.0  # for a thread to let go of its connections
BACKOFF_MS: Final = 100
BACKOFF_LIMIT_MS: Final = 5_000
_log: Final = logging.getLogger("streams.feed")


class Heard:
    """What a source has told so far; its thread writes, everybody reads."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.index = Index()
        self.heard_ms: int | None = None  # monotonic; None: not everything has been read yet
        self.ready = threading.Event()
        self.failures = 0
        self.last_failure: str | None = None

    def show(self) -> None:
        """Let everybody see what was taken."""
        self.index = self.standing.index()

    def alive(self) -> None:
        """Say that all that is known by now is shown."""
        self.heard_ms = time.monotonic_ns() // 1_000_000
        self.last_failure = None
        self.ready.set()


class Source(Protocol):
    """Reads verdicts from somewhere."""

    async def follow(self, heard: Heard) -> None:
        """Read everything, then what comes, until it fails or is cancelled; say `alive` at least every second."""


class Watcher:
    """A thread with a source in it, from its start to its end; it ends with the process at the latest."""

    def __init__(self, source: Source, heard: Heard, beside: Callable[[], None]) -> None:
        self._source = source
        self._heard = heard
        self._beside = beside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for it a little."""
        self._ending.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(END_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._both())

    async def _both(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        following = asyncio.create_task(self._follow())
        try:
            while not self._ending.is_set():
                await asyncio.sleep(LOOK_S)
                self._beside()
        finally:
            while not following.done():
                following.cancel()  # again, when a client took it for the end of a request of its own
                await asyncio.wait([following], timeout=LOOK_S)

    async def _follow(self) -> None:
        delay_ms = BACKOFF_MS
        while True:
            before = self._heard.heard_ms
            try:
                await self._source.follow(self._heard)
            except Exception as error:  # noqa: BLE001  whatever it is, an agent goes on and it is tried again
                self._note(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._note(ConnectionError("the client gave up a request"))
            delay_ms = BACKOFF_MS if self._heard.heard_ms != before else min(delay_ms * 2, BACKOFF_LIMIT_MS)
            await asyncio.sleep(delay_ms * random.uniform(0.5, 1.0) / 1000)  # noqa: S311  spreads agents, hides nothing

    def _note(self, error: Exception) -> None:
        heard = self._heard
        heard.failures += 1
        if heard.last_failure is None:  # one line per outage
            _log.warning("guard.not_connected: %s", error if isinstance(error, EdgeError) else redis_said(error))
        heard.last_failure = f"{type(error).__name__}: {error}"
