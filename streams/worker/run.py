"""How does a worker start, stop and end?  Signals, exit codes, and a watchdog for what goes on without moving.

Never restarts anything itself: whoever supervises the process does, unless the code says that a person must look.
"""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiokafka.errors import KafkaError

from streams.errors import AgentStreamsError, ConfigError, EdgeError, Fenced
from streams.fold import live
from streams.stage.ruling import Ruling
from streams.topology import NOTIFY_CHANGELOG
from streams.worker import topics
from streams.worker.app import App, create_app
from streams.worker.config import WorkerConfig
from streams.worker.partition import Stages
from streams.worker.rules_tail import RulesTail

_log = logging.getLogger(__name__)

EXIT_RESTART: Final = Fenced.exit_code
EXIT_BUG: Final = AgentStreamsError.exit_code
EXIT_AWAY: Final = EdgeError.exit_code
_BEAT_S: Final = 1.0
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 10.0
# Python's default looks at every young object after 700 allocations; a queue of fetched records is 100,000 of them.
# 500,000 to 1,100,000 records/s through transport and transactions, folding nothing (one core).
_GC_THRESHOLDS: Final = (100_000, 20, 50)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(
    config: WorkerConfig,
    stages: Stages,
    *,
    ruling: Ruling | None = None,
    started: Callable[[App], None] | None = None,
) -> int:
    """Work until a signal or a failure, and return the exit code; `started` is called once with the app.

    With a `ruling`, which the stages are made with, rules are those that operators have loaded last.
    When stopping takes too long the process is ended here, with the same code.
    """
    gc.set_threshold(*_GC_THRESHOLDS)
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of theirs reaches us as an exception
    return asyncio.run(_serve(config, stages, ruling, started))


async def _serve(
    config: WorkerConfig, stages: Stages, ruling: Ruling | None, started: Callable[[App], None] | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unheard)
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        if not await _unless(stop, _wait_for_topics(config)):
            return 0
        return await _work(config, stages, ruling, started, stop)
    except AgentStreamsError as error:
        return _code(error)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _work(
    config: WorkerConfig,
    stages: Stages,
    ruling: Ruling | None,
    started: Callable[[App], None] | None,
    stop: asyncio.Event,
) -> int:
    app = create_app(config, stages)
    runner = app.runner
    watchdog = Watchdog(config.stuck_ms)
    tail = None if ruling is None else RulesTail(config, ruling)
    if tail is not None:
        runner.follow(tail)
    following = asyncio.ensure_future(_follow_rules(app, tail))
    starting = asyncio.ensure_future(_start(app))
    if started is not None:
        started(app)
    ends = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(runner.failed.wait())}
    beating = asyncio.ensure_future(_beat(app, watchdog))
    watchdog.start()
    compiled = not live.__file__.endswith(".py")
    _log.info("worker_started group=%s instance=%s compiled=%s", config.group_id, config.instance_id, compiled)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    _log.info("worker_stopping failed=%s", runner.failure is not None)
    for task in (*ends, beating, starting, following):
        task.cancel()
    code = 0 if runner.failure is None else _code(runner.failure)
    try:
        async with asyncio.timeout(config.stop_timeout_ms / 1000):
            await asyncio.gather(*ends, beating, starting, following, return_exceptions=True)
            await app.stop()
    except TimeoutError:
        _log.critical("worker_stop_incomplete after_ms=%d exit_code=%d", config.stop_timeout_ms, code or EXIT_RESTART)
        logging.shutdown()
        os._exit(code or EXIT_RESTART)
    finally:
        watchdog.end()
    if runner.failure is not None and not code:  # the last flush found out that we were fenced
        return _code(runner.failure)
    return code


async def _start(app: App) -> None:
    try:
        await app.start()
    except Exception as error:  # noqa: BLE001  it ends the worker, with its own exit code
        app.runner.fail(error)


async def _follow_rules(app: App, tail: RulesTail | None) -> None:
    """Hear of rules for as long as the worker runs; until they are known no partition is loaded."""
    delay_s = _BACKOFF_S
    while tail is not None:
        try:
            await tail.run(app.runner.rules_changed)
        except EdgeError as error:
            if not error.retryable:
                app.runner.fail(error)
                return
            _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
        except Exception as error:  # noqa: BLE001  it ends the worker, with its own exit code
            app.runner.fail(error)
            return
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless we are told to stop before it is done."""
    stopping, working = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(work)
    await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        return False
    working.result()
    return True


async def _wait_for_topics(config: WorkerConfig) -> None:
    """Wait until the broker answers; refuse when topics are missing or would lose data."""
    delay_s = _BACKOFF_S
    while True:
        try:
            findings = await topics.check(config.connection, config.prefix)
        except EdgeError as error:
            if not error.retryable:
                raise
            _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)
        else:
            # A worker runs without the topic that is notify's alone, and needs no rights to it.
            others = config.topic(NOTIFY_CHANGELOG.suffix)
            faults = [str(finding) for finding in findings if finding.fault and finding.topic != others]
            if faults:
                raise ConfigError("; ".join(faults))
            return


async def _beat(app: App, watchdog: "Watchdog") -> None:
    """Tell the watchdog that the loop turns, and look for what does not."""
    while True:
        watchdog.beat()
        await asyncio.sleep(_BEAT_S)
        app.runner.look()


def _code(error: BaseException) -> int:
    """Log why the worker ends and return its exit code."""
    code = _exit_code(error)
    bug = error if code == EXIT_BUG else None
    _log.error("worker_ended exit_code=%d error=%s: %s", code, type(error).__name__, error, exc_info=bug)
    return code


def _exit_code(error: BaseException) -> int:
    if isinstance(error, AgentStreamsError):
        return error.exit_code
    return EXIT_AWAY if isinstance(error, (KafkaError, OSError)) else EXIT_BUG


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep quiet about what a failed transaction leaves behind: its error was raised once where it matters."""
    if isinstance(context.get("exception"), KafkaError) or "aiokafka" in repr(context.get("handle")):
        _log.debug("unheard %s: %r", context.get("message"), context["exception"])
    else:
        loop.default_exception_handler(context)


class Watchdog(threading.Thread):
    """Ends the process when its event loop stands still; a process that was stopped from outside is given its time."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._limit = max(2, limit_ms // 1000)
        self._missed = 0
        self._ended = threading.Event()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._missed = 0

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def run(self) -> None:
        """Count seconds in which we ran and the loop did not: time in which neither ran does not count."""
        while not self._ended.wait(1.0):
            self._missed += 1
            if self._missed > self._limit:
                _log.critical("loop_stuck seconds=%d exit_code=%d", self._missed, EXIT_RESTART)
                os._exit(EXIT_RESTART)
