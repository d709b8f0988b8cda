"""Half an hour of steady load with sessions that come and go and windows that open and close: nothing grows.

The slope of memory is Theil's and Sen's, the median of the slopes between all pairs, over the least that was resident
in each block of time: garbage comes and goes within a block, and one block that was odd moves no median.  A short run
cannot tell one percent an hour from nothing (a page or two): it is held to a bound in bytes.  Windows fill for a day: a
day's past is published first, because what is looked for here is what never stops growing.
"""

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from fault_table import record
from fleet import Fleet as Agents
from harness import eventually
from pressed import Pressed

from streams.fold.panes import LADDER
from streams.fold.streamtime import MINUTE_MS
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka

SOAK_S: Final = float(os.environ.get("SOAK_S", "1800"))
pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("T16"), pytest.mark.timeout(2 * int(SOAK_S) + 600)]

RATE: Final = 2_000.0  # half of what one process publishes beside a worker on two cores
WARM: Final = 1 / 3  # of the time: caches fill, and each partition holds as many sessions as it may
SAMPLE_S: Final = 0.5
BLOCKS: Final = 24
LONG_S: Final = 1_500.0  # a slope of one percent an hour is told from nothing in so much time
SLOPE: Final = 0.01  # an hour
MEMORY_BYTES: Final = 300 << 20  # an idle worker, sessions as configured, and what is fetched meanwhile
FILES: Final = 4  # connections that are made anew
CHURN_S: Final = 5.0  # then all sessions are others
SESSIONS: Final = 400
PARTITIONS: Final = 4
KEPT: Final = 1_000  # per partition, as configured
HISTORY_MS: Final = max(size_ms + kept_ms for size_ms, kept_ms, _ in LADDER)
EACH_MINUTE: Final = 60  # events: some of every agent, tool and model, in every partition
LOG: Final = {"segment.ms": "10000", "delete.retention.ms": "10000"}  # as the defaults, sixty times as fast
LOG_GROWTH: Final = 1.5  # the cleaner comes when it has time


class Sample(NamedTuple):
    """What a worker held at a moment."""

    at_s: float
    memory: int
    files: int
    log: int


class Churning(Agents):
    """Agents whose sessions are others after a while."""

    def events(self, count: int) -> Iterator[dict[str, Any]]:
        for event in super().events(count):
            yield {**event, "session_id": f"{int(time.time() / CHURN_S)}-{event['session_id']}"}


def history(agents: Agents, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield a little of every minute that the longest window remembers: windows that fill up are no leak."""
    for at_ms in range(now_ms - HISTORY_MS, now_ms, MINUTE_MS):
        for event in agents.events(EACH_MINUTE):
            yield event["session_id"].encode(), json.dumps({**event, "time": at_ms}).encode()


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Return the share of memory that is added in an hour."""
    begin_s, span_s = samples[0].at_s, samples[-1].at_s - samples[0].at_s
    blocks: dict[int, Sample] = {}
    for each in samples:
        number = min(BLOCKS - 1, int((each.at_s - begin_s) / span_s * BLOCKS))
        blocks[number] = min(blocks.get(number, each), each, key=lambda sample: sample.memory)
    slopes = [(b.memory - a.memory) / (b.at_s - a.at_s) for a, b in combinations(blocks.values(), 2)]
    return statistics.median(slopes) * 3600 / statistics.median(each.memory for each in samples)


def test_the_slope_of_noise_is_none_and_of_a_leak_is_the_leak() -> None:
    teeth = [Sample(at, 10**8 + (at % 7) * 10**6, 0, 0) for at in range(600)]
    leaking = [each._replace(memory=each.memory + int(each.at_s * 10**4)) for each in teeth]

    assert abs(slope_per_hour(teeth)) < SLOPE
    assert abs(slope_per_hour(leaking) - 0.34) < 0.03  # 36 MB an hour


@pytest.fixture
def kafka_alone(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A broker whose files can be looked at."""
    folder = tmp_path / "kafka"
    with EmbeddedKafka(folder) as broker:
        yield broker.bootstrap, folder


def quicken(bootstrap: str, names: Sequence[str]) -> None:
    """Have changelogs roll and be compacted within seconds."""
    changes = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in LOG.items()]
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes) for name in names]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its end would be that of what it was asked
    for told in admin.incremental_alter_configs(resources).values():
        told.result(10)


def size_of(folder: Path) -> int:
    """Return the bytes of all changelogs; files may be deleted while we look."""
    found = 0
    for file in folder.glob("**/*.changelog-*/*.log"):
        try:
            found += file.stat().st_size
        except FileNotFoundError:
            continue
    return found


async def test_nothing_grows(kafka_alone: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bootstrap, folder), prefix = kafka_alone, "soak."
    monkeypatch.setenv("AGENT_STREAMS_SESSIONS", str(KEPT))
    await topics.create(
        KafkaConnection(bootstrap=bootstrap), prefix, {"events": PARTITIONS, "rollups": 2}, replication=1
    )
    quicken(bootstrap, [f"{prefix}{stage}.changelog" for stage in ("sessions", "rollups")])
    samples: list[Sample] = []
    agents = Churning(23, sessions=SESSIONS, agents=2, tools=3, tools_per_agent=3, tenants=1, sources=4)
    pressed = Pressed(bootstrap, prefix, tmp_path, rate=RATE, agents=agents)
    past = history(agents, int(time.time() * 1000))
    pressed.published = await asyncio.to_thread(pressed.broker.publish, f"{prefix}events", past)
    with pressed.working():
        begun_s = time.monotonic()

        def over() -> bool:
            at_s = time.monotonic() - begun_s
            if not samples or at_s - samples[-1].at_s >= SAMPLE_S:
                samples.append(Sample(at_s, pressed.memory_bytes(), pressed.files(), size_of(folder)))
            return at_s >= SOAK_S

        work = pressed.turn(1)
        eventually(over, timeout_s=2 * SOAK_S, what="the soak to end")
        pressed.settle()
        rows = pressed.broker.rows(f"{prefix}rollups.changelog")
        sessions = pressed.broker.rows(f"{prefix}sessions.changelog")
        assert pressed.worker.running
        assert pressed.worker.stop(60) == 0

    warm = [each for each in samples if each.at_s >= WARM * SOAK_S]
    half = len(warm) // 2
    earlier, later = warm[:half], warm[half:]
    slope = slope_per_hour(warm)
    logs = [max(each.log for each in part) for part in (earlier, later)]
    live = [sum(key[:1] == b"s" for key in table) for table in sessions.values()]
    sixths = ", ".join(str(samples[len(samples) * part // 6 - 1].memory >> 20) for part in range(1, 7))
    record(
        "T16", "soak", seconds=round(SOAK_S), events=pressed.published, cpu_us_per_event=round(work.cost_us, 1),
        memory_mb=sixths, slope_percent_per_hour=round(100 * slope, 2) if SOAK_S >= LONG_S else "too short to tell",
        files=f"{warm[0].files} to {warm[-1].files}",
        changelogs_mb=f"{logs[0] / 2**20:.1f} to {logs[1] / 2**20:.1f}", sessions=sum(live),
    )  # fmt: skip
    if SOAK_S >= LONG_S:
        assert slope < SLOPE
    assert max(each.memory for each in samples) <= MEMORY_BYTES
    assert max(each.files for each in later) <= max(each.files for each in earlier) + FILES
    assert logs[1] <= LOG_GROWTH * logs[0]
    assert live == [KEPT] * PARTITIONS, "sessions come and go, and each partition holds as many as it may"
    windows = Counter(
        int(key[1:].split(b":", 1)[0])
        for table in rows.values()
        for key in table
        if key[:1] == b"p" and key.split(b":", 2)[2] == b"all"
    )
    assert windows
    for size_ms, kept_ms, _ in LADDER:
        assert windows[size_ms] <= kept_ms // size_ms + 3, (size_ms, windows)
