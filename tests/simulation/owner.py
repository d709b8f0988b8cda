"""One source partition in a virtual worker's hands: what the real worker does, cut at every point where it may die.

Every `yield` is such a point.  Decides nothing about records: that is the stage's.
"""

from collections.abc import Generator
from random import Random
from typing import Final

from rare import CUSTOMS
from simulation.broker import COMMANDS, EVENTS, ROLLUPS, Broker, Log, Place, Record
from simulation.erasures import Noting, Refused
from simulation.rulings import Ear
from simulation.verdicts import PRICES

from streams.errors import InvariantBroken
from streams.stage.commands import CommandsPartition
from streams.stage.plan import Judged, Plan, Row, StagePartition
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition

Steps = Generator[None]
SESSIONS: Final = "sessions"
SOURCES: Final = {SESSIONS: EVENTS, ROLLUPS: ROLLUPS, COMMANDS: COMMANDS}
LOAD_ROWS: Final = 40  # read from a changelog at once, at most
LEAP_MS: Final = 600_000


class OutcomeUnknown(Exception):
    """The answer to the commit was lost."""


class Owner:
    """From the fence to the loss of one source partition."""

    def __init__(
        self, broker: Broker, random: Random, stage: str, partition: int, partitions: dict[str, int], ear: Ear, *,
        torn: bool, refused: set[Refused],
    ) -> None:  # fmt: skip
        self.broker = broker
        self.random = random
        self.stage = stage
        self.partition = partition
        self.partitions = partitions
        self.ear = ear
        self.torn = torn
        self.refused = refused  # for an erasure, and committed: what all owners have left
        self.committing = 0
        self.transactional_id = f"app-{stage}-{partition}"
        self.epoch = -1
        self.state: StagePartition | None = None
        self.position = 0
        self.ticked_ms = 0
        self.judges_by = -1  # version of the rules in use; another partition of the worker may have heard of newer ones
        self.loading = False
        self.steps: Steps | None = self.take_over()

    def __repr__(self) -> str:
        return f"{self.transactional_id}@{self.epoch}"

    @property
    def source(self) -> Place:
        """What is read."""
        return SOURCES[self.stage], self.partition

    @property
    def changelog(self) -> Place:
        """Where the state is."""
        return f"{self.stage}.changelog", self.partition

    @property
    def log(self) -> Log:
        """The source's log."""
        return self.broker.log(*self.source)

    @property
    def caught_up(self) -> bool:
        """Is everything folded that may be read?"""
        return self.state is not None and self.position >= self.log.stable_end

    def empty(self) -> StagePartition:
        """Make the state of a partition that nothing is known of."""
        rules, version = self.ear.rules, self.ear.version
        if self.stage == SESSIONS:
            counts = self.partitions[SESSIONS], self.partitions[ROLLUPS]
            part = SessionsPartition(self.partition, *counts, rules, PRICES, customs=CUSTOMS, rules_version=version)
            part._erasing = Noting()
            return part
        if self.stage == COMMANDS:
            return CommandsPartition(self.partition, self.partitions[ROLLUPS])
        return RollupsPartition(self.partition, self.partitions[ROLLUPS], rules, rules_version=version)

    # ---- taking over ------------------------------------------------------------------------------------------------

    def take_over(self) -> Steps:
        """Fence, load, and stand where the state says."""
        self.fence()
        yield
        state = self.empty()
        changelog = self.broker.log(*self.changelog)
        end, at = self.end_of(changelog), 0
        self.loading = True
        while at < end:
            if changelog.stable_end <= at and self.broker.epoch(self.transactional_id) == self.epoch:
                raise InvariantBroken(f"{self} waits for ever: somebody's transaction is open behind its fence")
            rows, at = self.read_rows(changelog, at)
            state.load(rows)
            yield
        self.loading = False
        state.loaded()
        if isinstance(state, Judged):
            while not self.hears(state):
                yield
            state.use(self.ear.rules, self.ear.version)
            self.judges_by = self.ear.version
        self.position = state.next_offset or 0
        self.state = state
        self.erase()

    def hears(self, state: Judged) -> bool:
        """Has this worker heard of the rules that the state was judged by?"""
        if state.judged_by > self.ear.version:
            self.ear.listen()
        return state.judged_by <= self.ear.version

    def obey(self) -> None:
        """Go by the rules that this worker has heard of."""
        if isinstance(self.state, Judged) and self.judges_by != self.ear.version:
            self.state.use(self.ear.rules, self.ear.version)
            self.judges_by = self.ear.version

        self.erase()

    def erase(self) -> None:
        """Begin with the erasures that this worker has heard of."""
        if isinstance(self.state, SessionsPartition):
            self.state.erase(self.ear.erasures)

    @property
    def erasing(self) -> bool:
        """Are there rows that have not been looked at for an erasure?"""
        return isinstance(self.state, SessionsPartition) and self.state._erasing.busy

    def fence(self) -> None:
        """Shut earlier owners out; with `torn` their open transaction may leave some rows behind."""
        torn_rows = self.random.randrange(12) if self.torn and self.random.random() < 0.7 else 0
        self.epoch = self.broker.initialise(self.transactional_id, torn_rows=self._without_meta(torn_rows))

    def _without_meta(self, torn_rows: int) -> int:
        """Cut the torn part before the meta row: with it the transaction would have been applied."""
        producer = self.broker._producers.get(self.transactional_id)
        transaction = None if producer is None else producer.open
        entries = [] if transaction is None else transaction.places.get(self.changelog, [])
        for at, entry in enumerate(entries[:torn_rows]):
            if entry.record is not None and entry.record.key == b"m":
                return at
        return torn_rows

    def end_of(self, changelog: Log) -> int:
        """Return how far the changelog must be read: to what stood there when everybody else was shut out."""
        return changelog.end

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        """Read some of the changelog."""
        records, at = changelog.read(at, self.random.randint(1, LOAD_ROWS))
        return [(record.key or b"", record.value) for record in records], at

    # ---- working ----------------------------------------------------------------------------------------------------

    def feed(self) -> None:
        """Fetch a chunk of any size and fold it."""
        assert self.state is not None
        records, self.position = self.log.read(self.position, self.random.choice((1, 1, 2, 5, 20)))
        self.state.feed(records)
        self.state.pass_over(self.position)

    def tick(self, now_ms: int) -> None:
        """Let wall time pass; before a leap of it everything is written, so that no row comes and goes unseen."""
        assert self.state is not None
        if self.state.pending and now_ms - self.ticked_ms > LEAP_MS:
            return
        self.ticked_ms = now_ms
        self.state.tick(now_ms)

    def flush(self, now_ms: int) -> Steps:
        """Write everything that changed in one transaction."""
        assert self.state is not None
        plan = self.state.plan()
        if plan is not None:
            yield
            yield from self.transact(plan, now_ms)

    def transact(self, plan: Plan, now_ms: int) -> Steps:
        """Rows, sends, offset, commit."""
        yield from self.write_rows(plan, now_ms)
        yield from self.write_sends(plan, now_ms)
        self.broker.send_offset(self.transactional_id, self.epoch, self.source, plan.next_offset)
        self.committing = plan.next_offset
        yield
        yield from self.commit()

    def write_rows(self, plan: Plan, now_ms: int) -> Steps:
        """Write the changelog rows in batches."""
        at = 0
        while at < len(plan.rows):
            most = self.random.choice((1, 7, len(plan.rows)))
            rows = [Record(-1, now_ms, key, value, ()) for key, value in plan.rows[at : at + most]]
            self.broker.send(self.transactional_id, self.epoch, self.changelog, rows)
            at += most
            yield

    def write_sends(self, plan: Plan, now_ms: int) -> Steps:
        """Write the records for other topics."""
        for send in plan.sends:
            place = send.topic, send.partition or 0
            self.broker.send(
                self.transactional_id, self.epoch, place, [Record(-1, now_ms, send.key, send.value, send.headers)]
            )
            if self.random.random() < 0.5:
                yield

    def commit(self) -> Steps:
        """Commit; the request or its answer may be lost."""
        luck = self.random.random()
        if luck < 0.02:
            raise OutcomeUnknown("the request was lost")
        self.broker.commit(self.transactional_id, self.epoch)
        self.witness()
        if luck < 0.05:
            raise OutcomeUnknown("the answer was lost")
        yield

    def witness(self) -> None:
        """Say which events are refused for good now that the offset behind them is committed."""
        if isinstance(self.state, SessionsPartition) and isinstance(noted := self.state._erasing, Noting):
            done = {each for each in noted.refused if each[0] < self.committing}
            self.refused |= {(self.partition, *each) for each in done}
            noted.refused = [each for each in noted.refused if each not in done]

    # ---- being driven -----------------------------------------------------------------------------------------------

    def step(self, now_ms: int) -> None:
        """Do one thing: go on with what is under way, or begin something."""
        if self.steps is not None and (self.state is None or self.random.random() < 0.8):
            if next(self.steps, self) is self:
                self.steps = None
            return
        choice = self.random.random()
        if choice < 0.6 and not self.caught_up:
            self.feed()
        elif choice < 0.75 and self.caught_up:
            self.tick(now_ms)
        elif self.steps is None:
            self.steps = self.flush(now_ms)

    def finish(self, now_ms: int) -> None:
        """Do everything that is left to do, one thing after the other."""
        while True:
            for _ in self.steps or ():
                pass
            self.steps = None
            if self.caught_up:
                break
            self.feed()
        for _ in range(2):
            for _ in self.flush(now_ms):
                pass
            self.tick(now_ms)
        while self.erasing:
            for _ in self.flush(now_ms):
                pass
        for _ in self.flush(now_ms):
            pass
