"""How long from the emitter's call until a consumer holds the alert?  Both stages, default settings, under load.

    python tests/bench/latency.py                   10,000 events/s beside it, 120 probes
    python tests/bench/latency.py --compiled        the same with the path of an event compiled, as in the image

A probe is a tool nobody has heard of whose calls fail: the eleventh failure breaks the default rule ToolFailing.  The
clock runs from that emit to the moment a read_committed consumer has the firing alert.  Emitter, load, worker, broker
and consumer share this machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from compiled import build  # noqa: E402  the path is set above
from confluent_kafka import Consumer  # noqa: E402  as above
from fleet import Fleet  # noqa: E402  as above
from harness import Broker, eventually  # noqa: E402  as above
from msgspec.structs import force_setattr  # noqa: E402  as above

from streams.event.codec import decode_record  # noqa: E402  as above
from streams.event.model import ToolEnd  # noqa: E402  as above
from streams.feed import Emitter, EmitterConfig, new_id  # noqa: E402  as above
from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

FAILURES: Final = 11  # one more than the rule allows


def load(bootstrap: str, prefix: str, per_second: int) -> None:
    """Emit plausible events at this rate until killed."""
    emitter = Emitter(EmitterConfig(bootstrap_servers=bootstrap, topic_prefix=prefix))
    pool = [json.dumps(event).encode() for event in Fleet(3, sessions=500, tools=30).events(50_000)]
    events = [decode_record(value).events[0] for value in pool]
    for event in events:
        force_setattr(event, "source", None)
        force_setattr(event, "seq", None)
    started, count = time.monotonic(), 0
    while True:
        now_ms = time.time_ns() // 1_000_000
        for event in events[count % len(events) :][:100]:
            force_setattr(event, "time", now_ms)
            emitter.emit(event)
        count += 100
        time.sleep(max(0.0, started + count / per_second - time.monotonic()))


def probe(emitter: Emitter, number: int) -> float:
    """Let a tool fail often enough; return when the last call was emitted."""
    for _ in range(FAILURES):
        at = time.time()
        emitter.emit(
            ToolEnd(
                id=new_id(),
                time=int(at * 1000),
                agent="prober",
                session_id=f"probe-{number}",
                tool=f"probe-{number}",
                status="error",
                duration_ms=5,
            )
        )
    return at


def consume(bootstrap: str, topic: str, arrived: dict[int, float], stop: threading.Event) -> None:
    """Note when each probe's alert arrives."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"latency-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.subscribe([topic])
    while not stop.is_set():
        message = consumer.poll(0.05)
        if message is None or message.error() or message.value() is None:
            continue
        alert = json.loads(message.value())
        name = alert["labels"].get("tool", "")
        if alert["alert"] == "ToolFailing" and alert["state"] == "firing" and name.startswith("probe-"):
            arrived.setdefault(int(name.removeprefix("probe-")), time.time())
    consumer.close()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--probes", type=int, default=120)
    parser.add_argument("--compiled", action="store_true", help="compile the worker's path of an event first")
    parser.add_argument("--load", nargs=2, metavar=("BOOTSTRAP", "PREFIX"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load[0], options.load[1], options.rate)
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    kafka = EmbeddedKafka(folder / "kafka")
    started: list[subprocess.Popen[bytes]] = []
    stop = threading.Event()
    try:
        code = build(folder) if options.compiled else ROOT
        bootstrap, prefix = kafka.start(), "latency."
        environment = {
            **os.environ,
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "AGENT_STREAMS_TOPIC_PREFIX": prefix,
            "PYTHONPATH": str(code),
        }
        command = [sys.executable, "-m", "streams"]
        topics = [*command, "topics", "create", "--partitions", "events=4", "--partitions", "rollups=2"]
        subprocess.run(topics, env=environment, check=True, stdout=subprocess.DEVNULL)
        with (folder / "worker.log").open("wb") as log:
            # Not from here: `python -m` looks into the current folder first.
            worker = subprocess.Popen([*command, "worker"], env=environment, stderr=log, cwd=folder)
            started.append(worker)
        loader = [sys.executable, __file__, "--rate", str(options.rate), "--load", bootstrap, prefix]
        started.append(subprocess.Popen(loader, env=environment))
        broker = Broker(bootstrap)
        eventually(
            lambda: sum(broker.committed(f"{prefix}workers", f"{prefix}events").values()) > options.rate,
            timeout_s=60,
            what="the worker to follow the load",
        )
        arrived: dict[int, float] = {}
        consumer = threading.Thread(target=consume, args=(bootstrap, f"{prefix}alerts", arrived, stop))
        consumer.start()
        emitter = Emitter(EmitterConfig(bootstrap_servers=bootstrap, topic_prefix=prefix))
        emitted = {}
        for number in range(-5, options.probes):  # five to warm up
            emitted[number + 5] = probe(emitter, number + 5)
            time.sleep(0.25)
        eventually(lambda: len(arrived) == len(emitted), timeout_s=30, what="every alert to arrive")
        waits = sorted((arrived[number] - at) * 1000 for number, at in emitted.items() if number >= 5)
        quantiles = statistics.quantiles(waits, n=100, method="inclusive")
        print(
            f"emit to alert, {options.rate} events/s, {'compiled' if options.compiled else 'plain Python'}, "
            f"{len(waits)} probes: p50 {quantiles[49]:.0f} ms, "
            f"p95 {quantiles[94]:.0f} ms, p99 {quantiles[98]:.0f} ms, max {waits[-1]:.0f} ms"
        )
    finally:
        stop.set()
        for process in started:
            process.kill()
            process.wait()
        kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
