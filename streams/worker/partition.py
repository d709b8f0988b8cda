"""One source partition in this worker's hands: chunks and ticks go in, transactions come out.

Never decides what a record means (the stage does) nor who owns the partition (the group does).
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from streams import clock
from streams.errors import InvariantBroken
from streams.rule.model import RuleSet
from streams.stage.erasing import Erasures
from streams.stage.plan import Anchor, Anchored, Erasable, Judged, Plan, Row, SourceRecord, StagePartition
from streams.topology import EVENTS, Stage
from streams.worker.config import WorkerConfig
from streams.worker.counters import Counters
from streams.worker.flush import Writer
from streams.worker.pace import TRANSACTION_CPU_MS, Budget, Load, Seen, SliceSize, flush_wait_ms
from streams.worker.transport import Chunk, Sight, damaged

# Budget that may be spent at once: what eight partitions need when they all become dirty together.
_BURST_MS: Final = 40.0
# What an eager stage may overdraw it by, so that the stage before it waits instead: alerts hang on the later one.
_OVERDRAFT_MS: Final = 40.0
_LOAD_WINDOW_MS: Final = 500.0
# A slice of the loop's time is folded in parts, the clock looked at after each.
PARTS_OF_SLICE: Final = 4
# An answer older than this says nothing about the log's end now.
_FRESH_MS: Final = 2_000
# A broker that has not answered a fetch for so long is away, and waiting for it is no standstill of ours.
SILENCE_MS: Final = 10_000


class StageFactory(Protocol):
    """Makes the empty state of one source partition."""

    def __call__(self, partition: int, partition_count: int, partitions: Mapping[str, int]) -> StagePartition:
        """Make partition `partition` of `partition_count`; `partitions` holds every topic's count by suffix."""


Stages = Sequence[tuple[Stage, StageFactory]]


class Bench:
    """What all partitions of a worker share: the loop's time, the flush budget, the counters."""

    def __init__(self, config: WorkerConfig) -> None:
        now_ms = monotonic_ms()
        self.config = config
        self.counters = Counters()
        self.budget = Budget(share=config.pace.share, burst_ms=_BURST_MS, now_ms=now_ms)
        self.load = Load(window_ms=_LOAD_WINDOW_MS, cpu_ms=_cpu_ms(), now_ms=now_ms)


class Partition:
    """From the fence to the loss of one source partition.

    Without a state it is `loaded` no more, and has to be fenced and loaded again before it reads on.
    """

    def __init__(
        self,
        bench: Bench,
        stage: Stage,
        make: StageFactory,
        number: int,
        *,
        sight: Callable[[TopicPartition], Sight | None],
    ) -> None:
        config = bench.config
        self.stage = stage
        self.source = TopicPartition(config.topic(stage.source.suffix), number)
        self.changelog = TopicPartition(config.topic(stage.changelog.suffix), number)
        self.position = 0  # everything below it is folded, or no record
        self.committed: int | None = None  # the group's offset, as far as we know
        self._bench = bench
        self._make = make
        self._sight = sight
        self._state: StagePartition | None = None
        self._loading: StagePartition | None = None
        self._writer: Writer | None = None
        self._epoch = 0  # of the chunks that may be folded; 0: none
        self._slice = SliceSize(config.slice_ms / PARTS_OF_SLICE)
        self._dirty_since_ms: float | None = None
        self._behind_ms = 0.0
        self._flushes = 0
        self._tick_at_ms = 0.0  # monotonic: when to look for the next tick
        self._ticked_ms = 0  # wall: the last tick, which never goes backwards
        self._changed = asyncio.Event()
        self._one_flush = asyncio.Lock()
        # Its input comes in flushes of the stage before: waiting for more of them only adds delay.
        self._eager = stage.source != EVENTS

    def __repr__(self) -> str:
        return f"{self.stage.name}-{self.source.partition}"

    @property
    def loaded(self) -> bool:
        """Is there a state, and a writer for it?"""
        return self._state is not None

    @property
    def reading(self) -> bool:
        """Are chunks folded?"""
        return self._epoch > 0

    # ---- taking over ------------------------------------------------------------------------------------------

    async def fence(self) -> Writer:
        """Shut every earlier owner out; before it, the changelog has no end."""
        await self.spoil()
        writer = Writer(self._bench.config, stage=self.stage.name, source=self.source, changelog=self.changelog)
        self._writer = await writer.fence()
        return self._writer

    def begin(self, partitions: Mapping[str, int]) -> None:
        """Start loading into an empty state; `partitions` holds every topic's count by suffix."""
        self._loading = self._make(self.source.partition, partitions[self.stage.source.suffix], partitions)

    def load(self, rows: Iterable[Row]) -> None:
        """Take changelog rows, in log order."""
        self._begun.load(rows)

    def build(self) -> int | None:
        """End loading; return where the state says to read on."""
        self._begun.loaded()
        return self._begun.next_offset

    @property
    def anchor(self) -> Anchor | None:
        """By which record the log of the state that was just built is known; None where none says so."""
        return self._begun.anchor if isinstance(self._begun, Anchored) else None

    def stand(self, position: int, *, committed: int | None) -> None:
        """Be ready to read on from `position`."""
        self._state, self._loading = self._begun, None
        self.position = position
        self.committed = committed
        self._dirty_since_ms = None

    async def spoil(self) -> None:
        """Throw the state away: what it holds may differ from the changelog. The writer goes with it."""
        self._epoch = 0
        self._state = self._loading = None
        self._dirty_since_ms = None
        self._changed.set()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()

    # ---- rules ------------------------------------------------------------------------------------------------

    @property
    def judged_by(self) -> int:
        """The version of the rules that the state was last judged by; 0 where none judge."""
        return self._state.judged_by if isinstance(self._state, Judged) else 0

    def erase(self, erasures: Erasures) -> None:
        """Begin with the erasures that are new, between two batches."""
        if isinstance(self._state, Erasable) and self._state.erase(erasures):
            self._touch(monotonic_ms())

    def use(self, rules: RuleSet, version: int) -> None:
        """Go by these rules from the next record on, and have written by which."""
        if isinstance(self._state, Judged):
            self._state.use(rules, version)
            if self._state.next_offset is not None:
                self._touch(monotonic_ms())

    # ---- working ----------------------------------------------------------------------------------------------

    def resume(self, epoch: int) -> None:
        """Fold the chunks of this epoch from now on."""
        self._epoch = epoch
        self._tick_at_ms = 0.0

    def suspend(self) -> None:
        """Fold nothing more; `run` ends after the flush under way."""
        self._epoch = 0
        self._changed.set()

    async def feed(self, chunk: Chunk) -> None:
        """Fold a chunk, a slice at a time; a stale one is dropped, and so is the rest when we are suspended."""
        if chunk.epoch != self._epoch:
            self._bench.counters.stale_chunks += 1
            return
        if chunk.start != self.position:
            raise InvariantBroken(f"{chunk.tp} is folded up to {self.position}, but the chunk begins at {chunk.start}")
        records, began_ms = iter(chunk.records), monotonic_ms()
        while part := self._next(records):
            now_ms = self._fold(part)
            self.position = part[-1].offset + 1
            if now_ms - began_ms >= self._bench.config.slice_ms:
                await asyncio.sleep(0)
                if chunk.epoch != self._epoch:
                    return
                began_ms = monotonic_ms()
        self.position = chunk.end  # offsets after the last record hold transaction marks
        self._bench.counters.chunks += 1
        if self._eager:
            self._changed.set()

    async def run(self) -> None:
        """Flush and tick until suspended. Raises what `Writer.write` raises."""
        while self.reading:
            now_ms = monotonic_ms()
            self._bench.load.look(_cpu_ms(), now_ms=now_ms)
            self._maybe_tick(now_ms)
            wait_ms = flush_wait_ms(self._bench.config.pace, self._seen(now_ms))
            if wait_ms == 0.0:
                await self.flush()
                continue
            until_tick_ms = max(1.0, self._tick_at_ms - now_ms)
            await self._wait(min(wait_ms, until_tick_ms) if wait_ms is not None else until_tick_ms)

    async def flush(self) -> None:
        """Write everything that changed, in one transaction; one at a time, while folding goes on."""
        async with self._one_flush:
            state, writer = self._state, self._writer
            if state is None or writer is None or self._dirty_since_ms is None:
                return
            started_ms, cpu_ms = monotonic_ms(), _cpu_ms()
            state.pass_over(self.position)
            plan = state.plan()
            self._dirty_since_ms = None
            encoded_ms = monotonic_ms()
            self._bench.counters.encode_ms += encoded_ms - started_ms
            # CPU time, not what passed: others may have the core or the interpreter meanwhile.
            self._bench.budget.spend(_cpu_ms() - cpu_ms, now_ms=encoded_ms)
            if plan is not None:
                await self._write(writer, plan)
            self._flushes += 1

    @property
    def lag(self) -> int:
        """How many offsets wait to be folded; 0 when caught up or not reading."""
        sight = self._sight(self.source)
        if sight is None or sight.stable_end is None or self.caught_up(sight):
            return 0
        return max(0, sight.stable_end - self.position)

    def caught_up(self, sight: Sight) -> bool:
        """Is everything folded that the broker would show us?"""
        return (
            sight.stable_end is not None
            and sight.position >= sight.stable_end
            and sight.handed_to == self.position  # behind it there are only transaction marks
        )

    @property
    def answered_ms(self) -> int | None:
        """When the broker last answered a fetch, by the wall clock; None while nothing is read."""
        sight = self._sight(self.source) if self.reading else None
        return None if sight is None else sight.answered_ms

    def vital(self) -> tuple[bool, object]:
        """Return whether work waits that is in our hands, and a token that changes when something moves."""
        sight = self._sight(self.source) if self.reading else None
        if sight is None:
            return False, None
        waiting = self._dirty_since_ms is not None or sight.handed_to != self.position or self._fetchable(sight)
        return waiting, (self.position, self._flushes)

    def _fetchable(self, sight: Sight) -> bool:
        behind = sight.stable_end is not None and sight.position < sight.stable_end
        return behind and clock.now_ms() - sight.answered_ms < SILENCE_MS

    @property
    def _held(self) -> StagePartition:
        if self._state is None:
            raise InvariantBroken(f"{self!r} has no state")
        return self._state

    @property
    def _begun(self) -> StagePartition:
        if self._loading is None:
            raise InvariantBroken(f"{self!r} is not being loaded")
        return self._loading

    def _next(self, records: Iterator[SourceRecord]) -> list[SourceRecord]:
        """Unpack some records; empty at the end."""
        try:
            return list(itertools.islice(records, self._slice.records))
        except CorruptRecordException as error:
            raise damaged(self.source, self.position) from error

    def _fold(self, records: Sequence[SourceRecord]) -> float:
        """Fold some records; return the monotonic time after it."""
        bench, state = self._bench, self._held
        started_ms = monotonic_ms()
        state.feed(records)
        now_ms = monotonic_ms()
        took_ms = now_ms - started_ms
        self._slice.learn(len(records), took_ms)
        bench.counters.fold_ms += took_ms
        bench.counters.records += len(records)
        self._behind_ms = clock.now_ms() - records[-1].timestamp
        self._touch(started_ms)
        return now_ms

    def _touch(self, now_ms: float) -> None:
        if self._dirty_since_ms is None:
            self._dirty_since_ms = now_ms
            self._changed.set()

    def _maybe_tick(self, now_ms: float) -> None:
        if now_ms < self._tick_at_ms:
            return
        self._tick_at_ms = now_ms + self._bench.config.tick_ms
        sight, wall_ms = self._sight(self.source), clock.now_ms()
        if sight is None or wall_ms - sight.answered_ms > _FRESH_MS or not self.caught_up(sight):
            return
        if self._held.next_offset is None:
            return  # without a first record there is nothing for time to pass in, and no offset to write beside it
        self._ticked_ms = max(self._ticked_ms, wall_ms)
        self._held.pass_over(sight.clear_to)
        self._held.tick(self._ticked_ms)
        self._bench.counters.ticks += 1
        self._touch(now_ms)

    def _seen(self, now_ms: float) -> Seen:
        sight = self._sight(self.source)
        drained = sight is not None and self.caught_up(sight)
        return Seen(
            now_ms=now_ms,
            dirty_ms=None if self._dirty_since_ms is None else now_ms - self._dirty_since_ms,
            pending=self._held.pending,
            drained=drained,
            eager=self._eager,
            load=self._bench.load.value,
            behind_ms=0.0 if drained else self._behind_ms,
            budget_ms=self._bench.budget.wait_ms(now_ms=now_ms, overdraft_ms=_OVERDRAFT_MS if self._eager else 0.0),
        )

    async def _write(self, writer: Writer, plan: Plan) -> None:
        started_ms = monotonic_ms()
        self._bench.budget.spend(TRANSACTION_CPU_MS, now_ms=started_ms)
        await writer.write(plan, now_ms=clock.now_ms())
        self.committed = plan.next_offset
        self._bench.counters.flushed(rows=len(plan.rows), sends=len(plan.sends), took_ms=monotonic_ms() - started_ms)

    async def _wait(self, wait_ms: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                await self._changed.wait()


def _cpu_ms() -> float:
    return time.thread_time() * 1000.0


def monotonic_ms() -> float:
    """Return the clock that only goes forward."""
    return time.monotonic() * 1000.0
