"""Does all of it work, here and now?  A worker, an exporter and simulated agents, compared with the truth.

Never leaves anything behind: processes and topics of a run are gone when it ends, however it ends.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from aiokafka import AIOKafkaProducer

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.feed.config import EmitterConfig
from streams.feed.emitter import Emitter
from streams.feed.ending import started
from streams.settings import EXPORTER_PORT, Settings, environment
from streams.topology import EVENTS
from streams.worker import topics
from streams.worker.child import Child
from streams.worker.connection import KafkaConnection, edge_errors
from streams.worker.crew import EVENTS_LEAST, HOSTS, STRANGER_SESSION, Crew, Ledger, Script, Stranger
from streams.worker.demo_summary import Summary, summarise
from streams.worker.looking import Following, following
from streams.worker.loopback import HOST, free_ports, is_free
from streams.worker.picture import SUFFIXES, Picture
from streams.worker.tail import Records

PARTITIONS: Final = {"events": 4, "rollups": 2}
RATE_LEAST: Final = 20
RATE_MOST: Final = 5_000
SETTLE_TIMEOUT_S: Final = 30.0
# Settings of somebody's own workers that the demo's do without.
_NOT_OURS: Final = (
    "redis_url", "app_id", "health_port", "instance_id", "rules_file", "pricing", "prices_file", "log_level",
)  # fmt: skip
_STEP_S: Final = 0.02
_SHOW_EVERY_S: Final = 0.25
_NOTICED_AFTER_S: Final = 20.0  # of trouble: what rules need to see it, at the lowest rate


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What a run is like; a value out of bounds raises ConfigError with every fault."""

    seed: int = 1
    rate: float = 200.0  # events per second
    seconds: float | None = None  # None: until somebody ends it

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not RATE_LEAST <= self.rate <= RATE_MOST:
            yield f"--rate: {self.rate:g} given, expected {RATE_LEAST} to {RATE_MOST} events per second"
        elif self.seconds is not None and self.rate * self.seconds < EVENTS_LEAST:
            yield (
                f"--for: {self.seconds:g}s given, expected {EVENTS_LEAST / self.rate:g}s or more at {self.rate:g} "
                f"events per second: fewer than {EVENTS_LEAST} events do not hold enough failures to be noticed"
            )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: its broker, its topics, a folder of its own for logs."""

    kafka: KafkaConnection
    prefix: str
    folder: Path
    temporary: bool  # the broker goes away by itself, and its topics with it


class Run:
    """One run, from its topics to its summary; `picture` is what there is to show meanwhile."""

    def __init__(self, config: DemoConfig, place: Place, *, began_s: float) -> None:
        """Prepare a run; `began_s` is when whoever watches began to wait (monotonic)."""
        self.config = config
        self.place = place
        self.picture = Picture()
        self.exporter_port = EXPORTER_PORT if is_free(EXPORTER_PORT) else free_ports(1)[0]
        self.first_numbers_s: float | None = None
        self._began_s = began_s
        self._children: tuple[Child, ...] = ()
        self._following: Following | None = None
        self._traffic: Traffic | None = None

    @property
    def published(self) -> int:
        """How many events have been published so far."""
        return self._traffic.ledger.published if self._traffic else 0

    @property
    def metrics_url(self) -> str:
        """Name the page that Prometheus would scrape."""
        return f"http://{HOST}:{self.exporter_port}/metrics"

    async def run(self, *, stop: asyncio.Event, progress: Callable[[str], None], show: Callable[[], None]) -> Summary:
        """Run to the end, or until `stop`, and compare; `show` is called a few times a second."""
        async with AsyncExitStack() as stack:
            progress("creating the topics")
            await stack.enter_async_context(self._topics())
            progress("starting a worker and an exporter")
            self._children = self._programs()
            for child in self._children:
                await stack.enter_async_context(child)
            looking = following(self.place.kafka, self.place.prefix, SUFFIXES, self._take)
            self._following = await stack.enter_async_context(looking)
            progress("starting the agents")
            self._traffic = traffic = Traffic(self.config, self.place, now_ms())
            await stack.enter_async_context(traffic)
            await self._publish(traffic, stop, show)
            progress("waiting for the last numbers")
            return await self._settle(traffic, show)

    async def _publish(self, traffic: "Traffic", stop: asyncio.Event, show: Callable[[], None]) -> None:
        shown_s = 0.0
        while not (stop.is_set() or traffic.done):
            await traffic.step()
            self._check()
            if time.monotonic() - shown_s >= _SHOW_EVERY_S:
                shown_s = time.monotonic()
                show()
            await asyncio.sleep(_STEP_S)

    async def _settle(self, traffic: "Traffic", show: Callable[[], None]) -> Summary:
        """Wait until the tables say what was published, or for so long that they never will."""
        await traffic.flush()
        expect_faults = self.config.seconds is not None or traffic.troubled_s > _NOTICED_AFTER_S
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            self._check()
            show()
            behind = self.picture.tables.sessions.outcomes()["received"] < traffic.ledger.published
            if not behind:  # comparing everything is not for every step
                summary = summarise(self.config.seed, traffic.ledger, self.picture, expect_faults=expect_faults)
                if summary.passed:
                    break
            if time.monotonic() > deadline:
                summary = summarise(self.config.seed, traffic.ledger, self.picture, expect_faults=expect_faults)
                break
            await asyncio.sleep(_SHOW_EVERY_S)
        summary.seconds = round(traffic.at_s, 3)
        summary.first_numbers_s = self.first_numbers_s
        return summary

    def _check(self) -> None:
        """Raise what any part of the run has failed with."""
        for child in self._children:
            child.check()
        if self._following is not None:
            self._following.check()

    # ---- parts --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _topics(self) -> AsyncIterator[None]:
        place = self.place
        try:
            await topics.create(place.kafka, place.prefix, PARTITIONS)
            yield
        finally:
            if not place.temporary:
                await topics.delete_prefix(place.kafka, place.prefix)

    def _programs(self) -> tuple[Child, ...]:
        place = self.place
        # What is set for brokers of one's own has no place on a temporary one, and a demo's circuits in nobody's Redis.
        left_out = [name for name in Settings.model_fields if name.startswith("kafka_")] if place.temporary else []
        environ = environment(
            **dict.fromkeys([*left_out, *_NOT_OURS])
            | {
                "kafka_bootstrap_servers": place.kafka.bootstrap,
                "topic_prefix": place.prefix,
                "exporter_host": HOST,
                "exporter_port": str(self.exporter_port),
            }
        )
        return tuple(Child(name, [name], environ, place.folder) for name in ("worker", "exporter"))

    def _take(self, suffix: str, partition: int, records: Records) -> None:
        self.picture.take(suffix, partition, records)
        if self.first_numbers_s is None and self.picture.tables.sessions.outcomes()["received"]:
            self.first_numbers_s = round(time.monotonic() - self._began_s, 3)


class Traffic:
    """What the agents publish, through emitters of ours, and a stranger, through a client that is not."""

    def __init__(self, config: DemoConfig, place: Place, begin_ms: int) -> None:
        script = Script.of(config.seconds)
        self._total = None if config.seconds is None else int(config.rate * config.seconds)
        self._seconds = config.seconds
        self._script = script
        self._place = place
        self._began = time.monotonic()
        self._crew = Crew(config.seed, rate=config.rate, begin_ms=begin_ms, script=script)
        self._stranger = Stranger(self._crew.ledger, begin_ms)
        self._emitters: Sequence[Emitter] = ()
        self._producer = AIOKafkaProducer(**place.kafka.client_arguments(), enable_idempotence=True, linger_ms=5)

    async def __aenter__(self) -> Self:
        place = self._place
        config = EmitterConfig.from_env(
            {} if place.temporary else None, bootstrap_servers=place.kafka.bootstrap, topic_prefix=place.prefix
        )
        with edge_errors(place.kafka, "starting the agents"):
            try:
                await started(self._producer.start())
            except BaseException:
                await self._producer.stop()
                raise
        self._emitters = [Emitter(config) for _ in range(HOSTS)]
        self._began = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(emitter.aclose() for emitter in self._emitters))
        await self._producer.stop()

    @property
    def ledger(self) -> Ledger:
        """What was published so far."""
        return self._crew.ledger

    @property
    def at_s(self) -> float:
        """How far the story has got."""
        return self._crew.at_s

    @property
    def troubled_s(self) -> float:
        """How long it is since the last thing began to go wrong; negative before it."""
        return self.at_s - max(self._script.bad_s, self._script.runaway_s)

    @property
    def done(self) -> bool:
        """Has the story come to its end?"""
        return self._seconds is not None and self.at_s >= self._seconds

    async def step(self) -> None:
        """Publish everything whose time has come."""
        now_s = time.monotonic() - self._began
        if self._seconds is not None:
            now_s = min(now_s, self._seconds)
        while self._crew.at_s < now_s:
            host, event = next(self._crew)
            self._emitters[host].emit(event)
        key = STRANGER_SESSION.encode()
        while self._stranger.at_s < now_s:
            for value in self._stranger.records():
                await self._producer.send(self._place.prefix + EVENTS.suffix, value, key=key)

    async def publish(self, stop: asyncio.Event) -> None:
        """Publish everything in its time, to the end of the story or until `stop`."""
        while not (stop.is_set() or self.done):
            await self.step()
            await asyncio.sleep(_STEP_S)

    async def flush(self) -> None:
        """Wait until everything is safe in Kafka."""
        with edge_errors(self._place.kafka, "publishing"):
            await asyncio.gather(self._producer.flush(), *(emitter.flush() for emitter in self._emitters))
