"""How long from the emitter's call until a guard denies?  Both stages, default settings, Kafka and Redis both followed.

    python tests/bench/guard_latency.py             120 fresh tools, nothing beside it
    python tests/bench/guard_latency.py --rate 5000 the same beside 5,000 events/s

Each trial lets a tool that nobody has heard of fail 20 times, which opens its circuit by the rules that are shipped.
The clock runs from the emit of the last failure to the first call that each guard denies; both are asked every
millisecond.  Emitter, guards, load, worker, exporter (the mirror), broker and Redis share this machine.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redis_server import RedisServer  # noqa: E402  the path is set above

from streams.event.model import ToolEnd  # noqa: E402  as above
from streams.feed import Emitter, EmitterConfig, Guard, GuardPolicy, new_id  # noqa: E402  as above
from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

FAILURES: Final = 20  # the shipped breaker judges no fewer calls
WARM_UP: Final = 5
WAIT_S: Final = 30.0
BAR_MS: Final = 500


def trial(emitter: Emitter, guards: dict[str, Guard], number: int) -> dict[str, float]:
    """Let a tool fail; return how many ms later each guard denied it."""
    tool, at = f"probe-{number}-{new_id()}", 0.0
    for _ in range(FAILURES):
        at = time.time()
        emitter.emit(
            ToolEnd(
                id=new_id(),
                time=int(at * 1000),
                agent="prober",
                session_id=tool,
                tool=tool,
                status="error",
                duration_ms=5,
            )
        )
    waits: dict[str, float] = {}
    while len(waits) < len(guards):
        if time.time() - at > WAIT_S:
            sys.exit(f"{tool} was not denied within {WAIT_S:g} s: {[guard.stats() for guard in guards.values()]}")
        for name, guard in guards.items():
            if name not in waits and not guard.allow(f"tool:{tool}"):
                waits[name] = (time.time() - at) * 1000
        time.sleep(0.001)
    return waits


def measure(bootstrap: str, prefix: str, redis: RedisServer, trials: int) -> bool:
    """Run the trials and print; True when both guards hold the bar."""
    about: dict[str, Any] = {"bootstrap_servers": bootstrap, "topic_prefix": prefix}
    guards = {
        name: Guard(EmitterConfig(**about, guard=GuardPolicy(source=name, redis_url=redis.url)))
        for name in ("kafka", "redis")
    }
    held = True
    with Emitter(EmitterConfig(**about)) as emitter:
        for guard in guards.values():
            if not guard.wait_ready(60_000):
                sys.exit(f"a guard did not become ready: {guard.stats()}")
        waits = [trial(emitter, guards, number) for number in range(WARM_UP + trials)][WARM_UP:]
    for name, guard in guards.items():
        own = sorted(each[name] for each in waits)
        quantiles = statistics.quantiles(own, n=100, method="inclusive")
        held = held and quantiles[98] <= BAR_MS
        print(
            f"emit to denial by {name}, {len(own)} tools: p50 {quantiles[49]:.0f} ms, p95 {quantiles[94]:.0f} ms, "
            f"p99 {quantiles[98]:.0f} ms, max {own[-1]:.0f} ms (bar: p99 {BAR_MS} ms)"
        )
        guard.close()
    return held


def main() -> None:
    """Run and print; ends with 1 when the bar is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--rate", type=int, default=0, help="events/s beside it")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    kafka, redis = EmbeddedKafka(folder / "kafka"), RedisServer()
    started: list[subprocess.Popen[bytes]] = []
    try:
        bootstrap, prefix = kafka.start(), "guards."
        redis.start()
        environment = {
            **os.environ,
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "AGENT_STREAMS_TOPIC_PREFIX": prefix,
            "AGENT_STREAMS_REDIS_URL": redis.url,
            "AGENT_STREAMS_EXPORTER_PORT": "0",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "streams"]
        topics = [*command, "topics", "create", "--partitions", "events=4", "--partitions", "rollups=2"]
        subprocess.run(topics, env=environment, check=True, stdout=subprocess.DEVNULL)
        for name in ("worker", "exporter"):
            with (folder / f"{name}.log").open("wb") as log:
                started.append(subprocess.Popen([*command, name], env=environment, stderr=log))
        if options.rate:
            beside = [sys.executable, str(ROOT / "tests" / "bench" / "latency.py"), "--rate", str(options.rate)]
            started.append(subprocess.Popen([*beside, "--load", bootstrap, prefix], env=environment))
        held = measure(bootstrap, prefix, redis, options.trials)
    finally:
        for process in started:
            process.kill()
            process.wait()
        redis.stop()
        kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
