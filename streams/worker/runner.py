"""Who owns what, and in which order does it happen?  The partitions of one worker through rebalances and failures.

Never folds or writes itself, and never lets an exception reach an agent: what must end the worker is a value here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams import clock
from streams.errors import AgentStreamsError, EdgeError, Fenced, InvariantBroken
from streams.rule.model import RuleSet
from streams.stage.erasing import Erasures
from streams.topology import Stage
from streams.worker.config import WorkerConfig
from streams.worker.connection import told_to_stop
from streams.worker.flush import HOPELESS, OutcomeUnknown
from streams.worker.load import load
from streams.worker.pace import Standstill, Stillness
from streams.worker.partition import SILENCE_MS, Bench, Partition, Stages, monotonic_ms
from streams.worker.transport import Chunk, Sight

_log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.1
_BACKOFF_LIMIT_S: Final = 5.0
_SILENCES: Final = 5  # an outage is no reason to end, a fetch that hangs for ever is


class Group(Protocol):
    """What is asked of the group's consumer."""

    async def start_at(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Read on from these offsets; return the epochs."""

    async def hold(self, tp: TopicPartition) -> None:
        """Read the partition no more until the next `start_at`."""

    async def committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the group's offsets."""

    async def is_member(self) -> bool:
        """Ask whether our generation is the group's."""

    def sight(self, tp: TopicPartition) -> Sight | None:
        """Return what is known of the partition's end."""

    def trouble(self) -> AgentStreamsError | None:
        """Return why the client will never work again."""


class Rules(Protocol):
    """What is asked of whoever knows which rules hold."""

    @property
    def rules(self) -> RuleSet:
        """They."""

    @property
    def version(self) -> int:
        """Their version, which only grows."""

    @property
    def erasures(self) -> Erasures:
        """The erasures that were accepted."""

    async def known(self) -> None:
        """Wait until those are known that held when this process started."""

    async def at_least(self, version: int) -> None:
        """Wait until rules of this version, or newer ones, are known."""


class Runner:
    """Everything between the group's decisions and the partitions; one per worker.

    Faust calls, in this order per rebalance: `revoked`, `assign` per stage, `ready`, `resume`.
    """

    def __init__(self, config: WorkerConfig, stages: Stages) -> None:
        self.config = config
        self._stages = stages
        self.bench = Bench(config)
        self.counters = self.bench.counters
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._attached: Group | None = None
        self._rules: Rules | None = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._settled = False  # between `resume` and the next `revoked`
        self._turn = 0  # counts what was revoked: a `resume` that belongs to an earlier turn comes too late
        self._turn_of_load = 0
        self._standstill = Standstill[TopicPartition](limit_ms=config.stuck_ms, now_ms=monotonic_ms())
        self._silence = Stillness(limit_ms=_SILENCES * config.stuck_ms, now_ms=monotonic_ms())

    @property
    def partitions(self) -> Iterable[Partition]:
        """What this worker owns, loaded or not."""
        return self._partitions.values()

    @property
    def ready_to_serve(self) -> bool:
        """Is every owned partition being read?"""
        return self._settled and all(partition.reading for partition in self.partitions)

    def attach(self, group: Group) -> None:
        """Give the consumer, once it exists."""
        self._attached = group

    def follow(self, rules: Rules) -> None:
        """Give what says which rules hold; without it they are those that stages are made with."""
        self._rules = rules

    # ---- records ----------------------------------------------------------------------------------------------

    async def feed(self, chunk: Chunk) -> None:
        """Fold a chunk into its partition; never raises."""
        partition = self._partitions.get(chunk.tp)
        if partition is None:
            self.counters.stale_chunks += 1
            return
        try:
            await partition.feed(chunk)
        except Exception as error:  # noqa: BLE001  the outermost loop: an agent that raises loses its event
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the worker with this: nothing is folded or committed any more."""
        if self.failure is None:
            self.failure = error
            for partition in self.partitions:
                partition.suspend()
            self.failed.set()

    async def rules_changed(self) -> None:
        """Go by the rules that hold now, and forget whoever is to be, one partition after the other."""
        for partition in list(self.partitions):
            if self._rules is not None and partition.loaded:
                partition.use(self._rules.rules, self._rules.version)
                partition.erase(self._rules.erasures)
            await asyncio.sleep(0)

    # ---- rebalances, in the order in which Faust calls ----------------------------------------------------------

    async def revoked(self) -> None:
        """Stop reading and write what is unwritten, within half a session; nothing is kept that was not."""
        self._settled = False
        self._turn += 1
        if self._loading is not None:
            self._loading.cancel()
        for tp, partition in self._partitions.items():
            partition.suspend()
            if not partition.loaded and tp in self._tasks:
                self._tasks[tp].cancel()  # it is being loaded anew: whoever owns it next does that
        if self.failure is None:
            budget_s = self.config.session_timeout_ms / 2000
            flushes = {asyncio.ensure_future(self._last_flush(p)): p for p in self.partitions if p.loaded}
            if flushes:
                _, late = await asyncio.wait(flushes, timeout=budget_s)
                for task in late:
                    task.cancel()
                    await flushes[task].spoil()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
            self._tasks.clear()

    def assign(self, stage: Stage, numbers: set[int]) -> None:
        """Own exactly these partitions of the stage; what is lost is dropped at once, what is new is not loaded yet."""
        wanted = {TopicPartition(self.config.topic(stage.source.suffix), number) for number in numbers}
        for tp in [tp for tp, partition in self._partitions.items() if partition.stage == stage and tp not in wanted]:
            self._drop(self._partitions.pop(tp))
        make = next(make for each, make in self._stages if each == stage)
        for tp in wanted - self._partitions.keys():
            self._partitions[tp] = Partition(self.bench, stage, make, tp.partition, sight=self._sight)

    async def ready(self) -> bool:
        """Load what is not loaded; False when the group moved on meanwhile. Waits while the broker is away."""
        self.counters.rebalances += 1
        self._turn_of_load = self._turn
        self._loading = task = asyncio.ensure_future(self._load_missing())
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        return not task.cancelled() and task.exception() is None and self.failure is None

    async def resume(self) -> None:
        """Read every partition from where its state ends."""
        if self.failure is None and self._turn == self._turn_of_load:
            self._settled = True
            await self._read_on([partition for partition in self.partitions if partition.loaded])

    async def close(self) -> None:
        """Write what is unwritten and end every connection."""
        await self.revoked()
        for partition in list(self._partitions.values()):
            self._drop(partition)
        self._partitions.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    # ---- watching -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """End the worker when its client is beyond help, or when work waits for too long without moving."""
        now_ms = monotonic_ms()
        trouble = self._attached.trouble() if self._attached is not None else None
        if trouble is not None:
            self.fail(trouble)
        vitals = {tp: partition.vital() for tp, partition in self._partitions.items()}
        if (stuck := self._standstill.found(vitals, now_ms)) is not None:
            tp, waited_ms = stuck
            self.fail(Fenced(f"{self._partitions[tp]!r} has work, but has not moved for {waited_ms:.0f} ms; restart"))
        heard_ms = max((each.answered_ms for each in self.partitions if each.answered_ms is not None), default=None)
        silent = heard_ms is not None and clock.now_ms() - heard_ms > SILENCE_MS
        if self._silence.stuck(waiting=silent, token=heard_ms, now_ms=now_ms):
            self.fail(Fenced("no fetch was answered for minutes; a restart waits for the broker in a better place"))

    def lags(self) -> dict[str, int]:
        """Return how many offsets each partition is behind."""
        return {repr(partition): partition.lag for partition in self.partitions}

    # ---- inside -------------------------------------------------------------------------------------------------

    @property
    def _group(self) -> Group:
        if self._attached is None:
            raise InvariantBroken("there is no consumer yet")
        return self._attached

    def _sight(self, tp: TopicPartition) -> Sight | None:
        return self._group.sight(tp)

    async def _load_missing(self) -> None:
        try:
            await self._patiently(self._load_all)
        except Exception as error:  # noqa: BLE001  it ends the worker, with its own exit code
            self.fail(error)

    async def _load_all(self) -> None:
        sources = [partition.source for partition in self.partitions]
        committed = await self._group.committed(sources) if sources else {}
        for partition in self.partitions:
            # Retained is not still ours: a paused worker that comes back was replaced meanwhile.
            if partition.loaded and partition.committed != committed.get(partition.source):
                _log.warning(
                    "state_outdated partition=%r committed=%s group=%s",
                    partition,
                    partition.committed,
                    committed.get(partition.source),
                )
                await partition.spoil()
        missing = [partition for partition in self.partitions if not partition.loaded]
        if missing:
            if self._rules is not None:
                await self._rules.known()
            await load(self.config, missing, self._group.committed, self.counters)
        await self._obey(self.partitions)

    async def _obey(self, partitions: Iterable[Partition]) -> None:
        """Go by the rules that hold, once they are as new as those that have judged each state."""
        for partition in list(partitions):
            if self._rules is not None:
                await self._rules.at_least(partition.judged_by)
                partition.use(self._rules.rules, self._rules.version)
                partition.erase(self._rules.erasures)

    async def _read_on(self, partitions: list[Partition]) -> None:
        epochs = await self._group.start_at({partition.source: partition.position for partition in partitions})
        if not self._settled or self.failure is not None:
            return  # revoked meanwhile
        for partition in partitions:
            partition.resume(epochs[partition.source])
            task = self._tasks.get(partition.source)
            if task is None or task.done():
                self._tasks[partition.source] = asyncio.ensure_future(self._keep(partition))

    async def _keep(self, partition: Partition) -> None:
        """Run the partition; after a transaction whose outcome nobody knows, load it anew and go on."""
        try:
            while partition.reading:
                try:
                    await partition.run()
                except OutcomeUnknown as error:
                    _log.warning("outcome_unknown partition=%r error=%s", partition, error)
                    self.counters.unknown_outcomes += 1
                    await partition.spoil()
                    if self._settled:
                        await self._group.hold(partition.source)
                        await self._patiently(lambda: self._reload(partition))
        except asyncio.CancelledError:
            await partition.spoil()
        except Exception as error:  # noqa: BLE001  it ends the worker, with its own exit code
            self.fail(error)

    async def _reload(self, partition: Partition) -> None:
        """Fence and load a partition that was ours a moment ago, if the group still says so."""
        if not await self._group.is_member():
            # A fence now would shut out whoever owns it; the rebalance that is coming decides.
            raise EdgeError("no longer a member of the group", retryable=True)
        await load(self.config, [partition], self._group.committed, self.counters)
        await self._obey([partition])
        await self._read_on([partition])

    async def _patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Repeat while the broker is away."""
        delay_s = _BACKOFF_S
        while True:
            try:
                await attempt()
            except HOPELESS as error:
                raise EdgeError(f"Kafka refused us for good: {error!r}. Check the ACLs", retryable=False) from error
            except asyncio.CancelledError:
                if told_to_stop():
                    raise
                _log.warning("broker_away attempt_again_s=%.1f error=the client gave up a request", delay_s)
            except (KafkaError, OSError) as error:  # TimeoutError is an OSError
                _log.warning("broker_away attempt_again_s=%.1f error=%r", delay_s, error)
            except EdgeError as error:
                if not error.retryable:
                    raise
                _log.warning("attempt_failed attempt_again_s=%.1f error=%s", delay_s, error)
            else:
                return
            self.counters.retries += 1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _BACKOFF_LIMIT_S)

    async def _last_flush(self, partition: Partition) -> None:
        try:
            await partition.flush()
        except OutcomeUnknown as error:
            _log.warning("outcome_unknown partition=%r error=%s", partition, error)
            self.counters.unknown_outcomes += 1
            await partition.spoil()
        except Exception as error:  # noqa: BLE001  it ends the worker, with its own exit code
            self.fail(error)

    def _drop(self, partition: Partition) -> None:
        self._standstill.forget(partition.source)
        partition.suspend()
        task = asyncio.ensure_future(partition.spoil())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
