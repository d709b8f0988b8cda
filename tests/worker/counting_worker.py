"""A worker process that counts; four times a second and when it ends it prints what it has done as a line of JSON."""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from counting import SessionCounts, ToolCounts

from streams.topology import ROLLUPS_STAGE, SESSIONS_STAGE
from streams.worker.app import App
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.run import run

_STAGES = ((SESSIONS_STAGE, SessionCounts), (ROLLUPS_STAGE, ToolCounts))
# After which call of the producer a dying worker kills itself, and after how many of them.
_STEPS = {
    "begin": "begin_transaction",
    "send": "send_batch",
    "offsets": "send_offsets_to_transaction",
    "commit": "commit_transaction",
    "committed": "commit_transaction",
}
_CALLS = 25
_REPORT_S = 0.25


def main() -> int:
    """Run until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--instance")
    parser.add_argument("--session-ms", type=int, default=10_000)
    parser.add_argument("--heartbeat-ms", type=int, default=500)
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--die-at", choices=_STEPS)
    given = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = WorkerConfig(
        connection=KafkaConnection(bootstrap=given.bootstrap),
        prefix=given.prefix,
        instance_id=given.instance,
        session_timeout_ms=given.session_ms,
        heartbeat_ms=given.heartbeat_ms,
    )
    if given.die_at:
        die_at(given.die_at)
    apps: list[App] = []

    def started(app: App) -> None:
        apps.append(app)
        report_again(app)

    code = run(config, _STAGES[: given.stages], started=started)
    for app in apps:
        report(app)
    return code


def report_again(app: App) -> None:
    """Report, and do it again after a while."""
    report(app)
    asyncio.get_running_loop().call_later(_REPORT_S, report_again, app)


def report(app: App) -> None:
    """Print what the worker has done."""
    counters = app.runner.counters
    seen = {name: value for name, value in dataclasses.asdict(counters).items() if name != "recent_ms"}
    seen |= {
        "flush_p50_ms": counters.flush_quantile_ms(0.5),
        "flush_p95_ms": counters.flush_quantile_ms(0.95),
        "lags": app.runner.lags(),
        "reading": [repr(partition) for partition in app.runner.partitions if partition.reading],
        "ready": app.runner.ready_to_serve,
        "pid": os.getpid(),
        "at": time.time(),
        "cpu_s": time.process_time(),
    }
    print(json.dumps(seen), flush=True)  # noqa: T201  read by the test


def die_at(step: str) -> None:
    """Kill this process around one of the steps of a transaction."""
    name = _STEPS[step]
    method: Callable[..., Awaitable[Any]] = getattr(AIOKafkaProducer, name)
    calls = 0

    async def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == _CALLS and step == "commit":
            # The request is under way, its answer is not here yet.
            asyncio.get_running_loop().call_later(0.001, os.kill, os.getpid(), signal.SIGKILL)
        answer = await method(*arguments, **options)
        if calls >= _CALLS:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(AIOKafkaProducer, name, deadly)


if __name__ == "__main__":
    sys.exit(main())
