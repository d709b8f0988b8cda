"""The installed command in trouble: on SIGUSR1 it does to itself what the file TROUBLE_FILE names, in one line.

`block S`: hold the event loop for S seconds. `stop-in STEP`: SIGSTOP itself in that step of the next transaction.
`end fetch`, `end drain`: cancel the task that fetches from the broker, or the one that hands on what was fetched.
With TROUBLE_GATE=1 it imports everything and then waits for SIGUSR2 before it begins.  When it ends it prints what it
has done as a line of JSON; on SIGQUIT it writes where each of its threads is.
"""

import asyncio
import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from streams import __main__ as program
from streams.worker.app import App
from streams.worker.cli import worker
from streams.worker.run import run

STEPS: Final = {
    "begin": "begin_transaction",
    "send": "send_batch",
    "offsets": "send_offsets_to_transaction",
    "commit": "commit_transaction",
}
apps: list[App] = []


def main() -> None:
    """Run the command line, in trouble."""
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    if os.environ.get("TROUBLE_GATE") == "1":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        print("{}", flush=True)  # noqa: T201  read by the test: everything is imported
        signal.sigwait({signal.SIGUSR2})
    worker.run = _run  # type: ignore[attr-defined]  # the command's own name for it
    program.main()


def _run(*arguments: Any, started: Callable[[App], None] | None = None, **options: Any) -> int:
    def begun(app: App) -> None:
        apps.append(app)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _trouble)
        if started is not None:
            started(app)

    code = run(*arguments, started=begun, **options)
    for app in apps:
        counters = app.runner.counters
        done = {"records": counters.records, "transactions": counters.transactions, "code": code}
        print(json.dumps(done), flush=True)  # noqa: T201  read by the test
    return code


def _trouble() -> None:
    name, _, detail = Path(os.environ["TROUBLE_FILE"]).read_text().strip().partition(" ")
    if name == "block":
        time.sleep(float(detail))
    elif name == "stop-in":
        _stop_in(STEPS[detail])
    else:
        _end(detail)


def _stop_in(name: str) -> None:
    """Have the next call of a producer's method stop this process while its request is under way."""
    method: Callable[..., Awaitable[Any]] = getattr(AIOKafkaProducer, name)

    async def stopping(*arguments: Any, **options: Any) -> Any:
        setattr(AIOKafkaProducer, name, method)
        asyncio.get_running_loop().call_later(0.001, os.kill, os.getpid(), signal.SIGSTOP)
        return await method(*arguments, **options)

    setattr(AIOKafkaProducer, name, stopping)


def _end(what: str) -> None:
    for app in apps:
        if what == "fetch":
            thread = app.consumer._thread
            thread.thread_loop.call_soon_threadsafe(thread._consumer._fetcher._fetch_task.cancel)
        else:  # the only task of Faust's service of that name
            for task in app._fetcher._futures:
                task.cancel()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]  # the exit code is raised
