"""The exporter: what the workers have committed, as pages of metrics.  One process holds the whole truth.

Shows nothing before it has read everything, because half of a counter looks like a reset; after that it goes on
showing what it has while the broker is away, and says how old that is.  Writes nothing to Kafka.
"""

import asyncio
import contextlib
import logging
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from streams import __version__
from streams.errors import ConfigError, EdgeError, StateRefused
from streams.event.custom import Customs
from streams.sink.csv import as_csv
from streams.sink.custom import custom_metrics
from streams.sink.document import as_json
from streams.sink.exposition import Page as TextPage
from streams.sink.exposition import Samples
from streams.sink.influx import as_influx
from streams.sink.metric import KEYS_MAX, Sample
from streams.sink.view import View
from streams.topology import ALERTS, BREAKERS, ROLLUPS_CHANGELOG
from streams.worker.connection import KafkaConnection
from streams.worker.mirror import Mirror
from streams.worker.otlp import OtlpConfig, Pusher, Request
from streams.worker.process import until_signal
from streams.worker.tail import Followed, Follower, Records, partition_counts, rows_of
from streams.worker.web import CSV, INFLUX, JSON, OPENMETRICS, TEXT, Page, Unready, WebConfig, WebServer, negotiate

_log = logging.getLogger(__name__)

PORT: Final = 8464  # outside 9100 to 9999, which Prometheus's exporters have shared out among themselves
SLICE_S: Final = 0.001  # of the loop's time; whoever else wants it waits no longer than this and one step
# What is asked for by name is not negotiated; the texts are rendered anew where rows have changed, the rest whole.
TEXTS: Final = {"prometheus": TEXT, "openmetrics": OPENMETRICS}
WHOLE: Final = {"json": (JSON, as_json), "csv": (CSV, as_csv), "influx": (INFLUX, as_influx)}
FORMATS: Final = (*TEXTS, *WHOLE)
_BACKOFF_S: Final = 0.5
_BACKOFF_LIMIT_S: Final = 10.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExporterConfig:
    """Everything an exporter needs; a value out of bounds raises ConfigError with every fault.

    `keys_max` replaces the catalogue's caps by dimension: how many keys have series of their own.
    `customs` are the declared metrics that are shown besides ours.
    """

    connection: KafkaConnection
    prefix: str = "agent."
    web: WebConfig = field(default_factory=lambda: WebConfig(port=PORT))
    keys_max: Mapping[str, int] = field(default_factory=dict)
    customs: Customs = field(default_factory=dict)
    otlp: OtlpConfig | None = None  # None: nothing is pushed
    redis_url: str | None = field(default=None, repr=False)  # may hold a password; None: no mirror for guards
    check_ms: int = 10_000  # how often the topics' partition counts are looked at
    stall_ms: int = 30_000  # without any answer for this long, connect anew
    request_timeout_ms: int = 15_000

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {getattr(self, name)} given, expected more than 0"
            for name in ("check_ms", "stall_ms", "request_timeout_ms")
            if getattr(self, name) <= 0
        ]
        for name, count in self.keys_max.items():
            if not KEYS_MAX.get(name):
                known = ", ".join(each for each, most in KEYS_MAX.items() if most)
                faults.append(f"keys of {name!r}: no such dimension of series, expected one of {known}")
            elif count < 1:
                faults.append(f"keys of {name}: {count} given, expected 1 or more")
        if faults:
            raise ConfigError("; ".join(faults))


class Exporter:
    """One exporter: a server, a follower and the view between them."""

    title = "AgentStreams exporter"
    formats = FORMATS

    def __init__(self, config: ExporterConfig) -> None:
        self._config = config
        self._customs = custom_metrics(config.customs)
        self._started_ms = _now_ms()
        self._view: View | None = None
        self._texts: dict[bool, TextPage] = {}  # by: is it OpenMetrics?
        self._follower: Follower | None = None
        self._pusher = None if config.otlp is None else self._make_pusher(config.otlp)
        self._mirror = (
            None if config.redis_url is None else Mirror(config.redis_url, prefix=config.prefix, age_ms=self._age_ms)
        )
        self._ready = False
        self._opened = asyncio.Event()
        self._failure: StateRefused | None = None
        self._failed = asyncio.Event()
        self._one_page = asyncio.Lock()
        self._page_s = 0.0
        self.server = WebServer(config.web, self)

    async def run(self) -> None:
        """Serve for ever. Raises ConfigError, StateRefused, and EdgeError for what no repetition cures."""
        await self.server.start()
        try:
            follower, view = self._begin(await self._counts())
            async with self._mirror or contextlib.nullcontext(), asyncio.TaskGroup() as group:
                group.create_task(follower.run())
                group.create_task(self._open(follower, view))
                group.create_task(self._end())
                if self._pusher is not None:
                    group.create_task(self._push(self._pusher))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self.server.stop()

    # ---- what the server asks ---------------------------------------------------------------------------------

    def unready(self) -> str | None:
        """Say why there is nothing to show yet; None once everything that was there at the start is read."""
        if self._ready:
            return None
        if self._follower is None:
            return "waiting for Kafka"
        return f"reading the tables: {self._follower.records} records so far"

    async def page(self, accept: str, wanted: str | None) -> Page:
        """Make a page of one moment. Raises Unready."""
        reason = self.unready()
        if reason is not None:
            raise Unready(reason)
        async with self._one_page:
            return await self._make(accept, wanted)

    async def _settled(self) -> tuple[View, Samples]:
        """Take in all that was read so far; return it with what is no row. Raises Unready."""
        view = self._view
        if view is None:
            raise Unready("waiting for Kafka")
        try:
            await _sliced(view.settle())
        except StateRefused as error:
            self._failure = error
            self._failed.set()
            raise Unready(str(error)) from error
        return view, {**view.samples(_now_ms()), **self._samples(view)}

    async def _make(self, accept: str, wanted: str | None) -> Page:
        started = time.perf_counter()
        view, samples = await self._settled()
        blocks: list[bytes] = []
        if wanted in WHOLE:
            content_type, render = WHOLE[wanted]
            await _sliced(render(view, samples, now_ms=_now_ms(), customs=self._customs), blocks.append)
        else:
            content_type = TEXTS[wanted] if wanted in TEXTS else negotiate(accept)
            text = self._text(view, openmetrics=content_type == OPENMETRICS)
            await _sliced(text.refresh())
            await _sliced(text.blocks(samples), blocks.append)
        body = b"".join(blocks)
        self._page_s = time.perf_counter() - started
        return Page(body, content_type)

    def _text(self, view: View, *, openmetrics: bool) -> TextPage:
        text = self._texts.get(openmetrics)
        if text is None:
            text = self._texts[openmetrics] = TextPage(view, openmetrics=openmetrics, customs=self._customs)
        return text

    def _samples(self, view: View) -> dict[str, list[Sample]]:
        """Return what the exporter says of itself."""
        follower, started_ms = self._follower, self._started_ms
        age_ms = 0 if follower is None else follower.age_ms(_now_ms())
        unreadable = view.alerts.unreadable + view.breakers.unreadable
        counted = {
            "agent_exporter_records_total": 0 if follower is None else follower.records,
            "agent_exporter_unreadable_records_total": unreadable,
            "agent_exporter_scrapes_total": self.server.served,
            "agent_exporter_refused_scrapes_total": self.server.refused,
        }
        return {
            **self._push_samples(),
            "agent_state_age_seconds": [Sample((), age_ms / 1000)],
            "agent_exporter_rows": [Sample((), view.rows)],
            "agent_exporter_scrape_duration_seconds": [Sample((), self._page_s)],
            "agent_streams_build_info": [Sample((__version__, platform.python_version()), 1)],
            **{name: [Sample((), count, started_ms)] for name, count in counted.items()},
        }

    # ---- pushing ----------------------------------------------------------------------------------------------

    def _make_pusher(self, config: OtlpConfig) -> Pusher:
        try:
            from streams.sink import otlp  # noqa: PLC0415  its packages are an extra
        except ImportError as error:
            raise ConfigError(
                f"pushing metrics needs the package {error.name}: pip install 'agent-streams[otlp]'"
            ) from error
        namespace = self._config.prefix.strip(".")
        attributes = (
            ("service.name", "agent-streams"),
            *((("service.namespace", namespace),) if namespace else ()),
            ("service.version", __version__),
        )
        source = otlp.Source(attributes, __version__, config.genai, self._customs)

        async def make() -> list[Request]:
            made: list[Request] = []
            async with self._one_page:
                try:
                    view, samples = await self._settled()
                except Unready:  # it ends for this reason, and says so
                    return made
                steps = otlp.requests(view, samples, source, now_ms=_now_ms())
                await _sliced(steps, lambda each: None if each is None else made.append(each))
            return made

        return Pusher(config, make, otlp.rejected_points)

    async def _push(self, pusher: Pusher) -> None:
        """Push once everything that was there at the start is read: half of a counter looks like a reset."""
        await self._opened.wait()
        await pusher.run()

    def _push_samples(self) -> dict[str, list[Sample]]:
        if self._pusher is None:
            return {}
        counters, since_ms = self._pusher.counters, self._started_ms
        outcomes = {"accepted": counters.accepted, "rejected": counters.rejected, "given_up": counters.given_up}
        pushed = [Sample((), counters.pushed_ms / 1000)] if counters.pushed_ms >= 0 else []
        return {
            "agent_exporter_otlp_points_total": [Sample((name,), n, since_ms) for name, n in outcomes.items()],
            "agent_exporter_otlp_failures_total": [Sample((), counters.failures, since_ms)],
            "agent_exporter_otlp_push_timestamp_seconds": pushed,
        }

    # ---- reading ----------------------------------------------------------------------------------------------

    async def _counts(self) -> dict[str, int]:
        """Wait until the broker answers; return the partitions of the topics we read, by full name."""
        config, delay_s = self._config, _BACKOFF_S
        while True:
            try:
                return await partition_counts(
                    config.connection,
                    [config.prefix + each.suffix for each in (ROLLUPS_CHANGELOG, ALERTS, BREAKERS)],
                )
            except EdgeError as error:
                if not error.retryable:
                    raise
                _log.warning("broker_away attempt_again_s=%.1f error=%s", delay_s, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    def _begin(self, counts: Mapping[str, int]) -> tuple[Follower, View]:
        config = self._config
        changelog = config.prefix + ROLLUPS_CHANGELOG.suffix
        view = View(counts[changelog], config.keys_max, started_ms=self._started_ms)

        def take_rows(partition: int, records: Records) -> None:
            view.feed(partition, rows_of(records))

        def take_alerts(_: int, records: Records) -> None:
            for key, value in rows_of(records):
                view.alerts.take(key, value)
                if self._mirror is not None:
                    self._mirror.take_alert(key, value)

        def take_breakers(_: int, records: Records) -> None:
            for key, value in rows_of(records):
                view.breakers.take(key, value)
                if self._mirror is not None:
                    self._mirror.take(key, value)

        takers = {
            changelog: take_rows,
            config.prefix + ALERTS.suffix: take_alerts,
            config.prefix + BREAKERS.suffix: take_breakers,
        }
        follower = Follower(
            config.connection,
            f"{config.prefix}exporter",
            [Followed(topic, counts[topic], take) for topic, take in takers.items()],
            check_ms=config.check_ms,
            stall_ms=config.stall_ms,
            request_timeout_ms=config.request_timeout_ms,
        )
        self._view, self._follower = view, follower
        return follower, view

    def _age_ms(self) -> int:
        """Return how long ago all that was committed was known to be read."""
        now_ms = _now_ms()
        return now_ms if self._follower is None else self._follower.age_ms(now_ms)

    async def _end(self) -> None:
        """End with what was found while a page was made."""
        await self._failed.wait()
        if self._failure is not None:
            raise self._failure

    async def _open(self, follower: Follower, view: View) -> None:
        """Show pages once everything that was there at the start is read and taken in."""
        await follower.caught_up.wait()
        view.alerts.counting = True
        if self._mirror is not None:
            self._mirror.settle()
        await _sliced(view.settle())
        self._ready = True
        self._opened.set()
        _log.info("exporter_ready records=%d rows=%d", follower.records, view.rows)


async def _sliced(steps: Iterable[_T], take: Callable[[_T], object] = lambda _: None) -> None:
    """Go through steps without holding the loop for longer than a slice and a step."""
    since = time.perf_counter()
    for step in steps:
        take(step)
        if time.perf_counter() - since > SLICE_S:
            await asyncio.sleep(0)
            since = time.perf_counter()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# ---- process ---------------------------------------------------------------------------------------------------


def run(config: ExporterConfig, *, started: Callable[[Exporter], None] | None = None) -> int:
    """Serve until a signal or a failure, and return the exit code; `started` is called once with the exporter."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return asyncio.run(_serve(config, started))


async def _serve(config: ExporterConfig, started: Callable[[Exporter], None] | None) -> int:
    exporter = Exporter(config)

    async def work() -> None:
        if started is not None:  # by now a signal ends the process as it should
            started(exporter)
        await exporter.run()

    return await until_signal(work(), log=_log, ended="exporter_ended")
