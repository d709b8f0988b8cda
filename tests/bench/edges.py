"""What does telemetry cost the agent?  Microseconds per event in its thread, events per second, a LangChain request.

    python tests/bench/edges.py                 50,000 events, 300 requests, an outlet that keeps what it is given
    python tests/bench/edges.py --kafka         and the same through a real broker, as fast as it goes

`emit` is timed in the thread that calls it, at 10,000 events/s, while the emitter's own thread encodes and sends beside
it.  The request is one agent with one tool and a model that answers from a list: all of it is overhead, so the share is
the largest there can be; the milliseconds are what a real request pays.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from feed_recording import Recording  # noqa: E402  the path is set above
from fleet import Fleet  # noqa: E402  as above
from harness import Broker  # noqa: E402  as above
from langchain_scripted import QUESTION, one_tool_agent  # noqa: E402  as above
from msgspec.structs import force_setattr  # noqa: E402  as above

from streams.event.codec import decode_record  # noqa: E402  as above
from streams.event.model import Event  # noqa: E402  as above
from streams.feed import BatchPolicy, Emitter, EmitterConfig  # noqa: E402  as above
from streams.feed.adapters.langchain import AgentStreamsCallback  # noqa: E402  as above
from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

PER_S: Final = 10_000
BURST: Final = 100
PARTITIONS: Final = 4
QUEUE: Final = 1_000_000
REPEATED: Final = 10  # how often the events go through the broker


def material(count: int) -> list[Event]:
    """Return events as an agent makes them: without source and number, which are the emitter's."""
    events = [decode_record(json.dumps(event).encode()).events[0] for event in Fleet(3).events(count)]
    for event in events:
        force_setattr(event, "source", None)
        force_setattr(event, "seq", None)
    return events


def paced(events: list[Event]) -> dict[str, float]:
    """Time every call of `emit` at a steady rate."""
    recording = Recording()
    times: list[int] = []
    with Emitter(EmitterConfig(batch=BatchPolicy(queue_events=QUEUE)), outlet=recording.outlet) as emitter:
        started, clock = time.monotonic(), time.perf_counter_ns
        for first in range(0, len(events), BURST):
            for event in events[first : first + BURST]:
                begun = clock()
                emitter.emit(event)
                times.append(clock() - begun)
            time.sleep(max(0.0, started + (first + BURST) / PER_S - time.monotonic()))
    assert len(recording.events()) == len(events), "an event was lost"
    times.sort()
    return {
        "emit_p50_us": times[len(times) // 2] / 1000,
        "emit_p99_us": times[len(times) * 99 // 100] / 1000,
        "emit_mean_us": statistics.fmean(times) / 1000,
    }


def sustained(events: list[Event], config: EmitterConfig) -> dict[str, float]:
    """Hand over as fast as the queue has room; events per second until the broker has acknowledged all, and per CPU-s.

    The CPU is that of the whole process: the caller's thread, the emitter's, compression and the Kafka client.
    """
    with Emitter(config) as emitter:
        emitter.emit(events[0])
        assert emitter.flush_sync(60_000), "the broker does not answer"
        begun, cpu = time.perf_counter(), time.process_time()
        for first in range(1, len(events), BURST):
            while emitter.stats().waiting > config.batch.queue_events // 2:
                time.sleep(0.001)
            for event in events[first : first + BURST]:
                emitter.emit(event)
        assert emitter.flush_sync(600_000), "not everything was acknowledged"
        took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        stats = emitter.stats()
    assert stats.acknowledged == len(events), stats
    count = len(events) - 1
    return {"emitter_events_per_s": count / took_s, "emitter_events_per_cpu_s": count / cpu_s}


def langchain(requests: int) -> dict[str, float]:
    """Run the same agent with and without the callback by turns; the lower quartiles count, others being disturbed."""
    recording = Recording()
    with Emitter(EmitterConfig(batch=BatchPolicy(queue_events=QUEUE)), outlet=recording.outlet) as emitter:
        agent, callback = one_tool_agent(), AgentStreamsCallback(emitter)
        bare: dict[str, Any] = {"configurable": {"thread_id": "t1"}}

        def ask(settings: dict[str, Any]) -> float:
            begun = time.perf_counter()
            agent.invoke(QUESTION, settings)
            return (time.perf_counter() - begun) * 1000

        for _ in range(10):
            ask(bare)
            ask({**bare, "callbacks": [callback]})
        without, with_it = [], []
        for _ in range(requests):
            without.append(ask(bare))
            with_it.append(ask({**bare, "callbacks": [callback]}))
    events = len(recording.events()) / (requests + 10)
    plain, told = (statistics.quantiles(times, n=4)[0] for times in (without, with_it))
    return {
        "request_ms": plain,
        "overhead_ms": told - plain,
        "events_per_request": events,
        "us_per_event": (told - plain) * 1000 / events,
    }


def with_broker(work: Callable[[str], dict[str, float]]) -> dict[str, float]:
    """Do something with an embedded broker."""
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    kafka = EmbeddedKafka(folder / "kafka")
    try:
        return work(kafka.start())
    finally:
        kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)


def measure(count: int, requests: int, *, kafka: bool) -> dict[str, float]:
    """Measure all of it."""
    events = material(count)
    found = paced(events)
    if kafka:

        def through(bootstrap: str) -> dict[str, float]:
            Broker(bootstrap).create("edges.events", PARTITIONS)
            return sustained(events * REPEATED, EmitterConfig(bootstrap_servers=bootstrap, topic_prefix="edges."))

        found |= with_broker(through)
    return found | {f"langchain_{name}": value for name, value in langchain(requests).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--kafka", action="store_true")
    options = parser.parse_args()
    for name, value in measure(options.events, options.requests, kafka=options.kafka).items():
        print(f"{name:30} {value:12,.2f}")


if __name__ == "__main__":
    main()
