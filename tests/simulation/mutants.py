"""Workers with one mistake each, of kinds that real ones have made: a simulation that lets them pass proves nothing."""

from typing import Final

from simulation.broker import COMMANDS, DEAD_LETTER, Log, Record
from simulation.owner import OutcomeUnknown, Owner, Steps
from simulation.world import Nature

from streams.rule.model import RuleSet
from streams.stage.commands import CommandsPartition
from streams.stage.plan import Judged, Plan, Row
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition


class CommitsFirst(Owner):
    """The offset is committed before the rows are written, as Faust's timer does."""

    def transact(self, plan: Plan, now_ms: int) -> Steps:
        meta = Plan(plan.rows[-1:], [], plan.next_offset)
        yield from super().transact(meta, now_ms)
        yield from self.write_rows(Plan(plan.rows[:-1], [], 0), now_ms)
        yield from self.write_sends(plan, now_ms)
        yield from self.commit()


class WritesOutsideTransactions(Owner):
    """Rows, records and offset are written one after the other."""

    def write_rows(self, plan: Plan, now_ms: int) -> Steps:
        for key, value in plan.rows:
            self.broker.publish(*self.changelog, [Record(-1, now_ms, key, value, ())])
            yield

    def write_sends(self, plan: Plan, now_ms: int) -> Steps:
        for send in plan.sends:
            record = Record(-1, now_ms, send.key, send.value, send.headers)
            self.broker.publish(send.topic, send.partition or 0, [record])
            yield


class DoesNotFence(Owner):
    """A new owner goes on with the epoch of the old one."""

    def fence(self) -> None:
        known = self.transactional_id in self.broker._producers
        self.epoch = (
            self.broker.epoch(self.transactional_id) if known else self.broker.initialise(self.transactional_id)
        )


class LoadsBeforeFencing(Owner):
    """The old owner may still write while its changelog is read."""

    def take_over(self) -> Steps:
        yield from super().take_over()
        self.epoch = self.broker.initialise(self.transactional_id)

    def fence(self) -> None:
        """Later."""

    def end_of(self, changelog: Log) -> int:
        return changelog.stable_end


class WritesAgain(Owner):
    """An unknown outcome counts as failed, and the same plan is written once more."""

    def transact(self, plan: Plan, now_ms: int) -> Steps:
        try:
            yield from super().transact(plan, now_ms)
        except OutcomeUnknown:
            self.fence()
            yield from super().transact(plan, now_ms)


class GoesOn(Owner):
    """An unknown outcome counts as done, and the state is kept."""

    def transact(self, plan: Plan, now_ms: int) -> Steps:
        try:
            yield from super().transact(plan, now_ms)
        except OutcomeUnknown:
            self.fence()


class ReadsAbortedRows(Owner):
    """The changelog is read uncommitted."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        records, at = changelog.read(at, 20, committed=False)
        return [(record.key or b"", record.value) for record in records], at


class ReadsAbortedRecords(Owner):
    """The source is read uncommitted."""

    def feed(self) -> None:
        assert self.state is not None
        records, self.position = self.log.read(self.position, 5, committed=False)
        self.state.feed(records)


class StartsAtTheEnd(Owner):
    """Reading goes on at the end of the log and not where the state says."""

    def take_over(self) -> Steps:
        yield from super().take_over()
        self.position = self.log.stable_end


class SendsDeadLettersApart(Owner):
    """Dead letters are no part of the transaction."""

    def write_sends(self, plan: Plan, now_ms: int) -> Steps:
        for send in plan.sends:
            if send.topic == DEAD_LETTER:
                self.broker.publish(send.topic, 0, [Record(-1, now_ms, send.key, send.value, send.headers)])
        kept = [send for send in plan.sends if send.topic != DEAD_LETTER]
        yield from super().write_sends(Plan([], kept, 0), now_ms)


class WritesTombstonesLast(Owner):
    """A row that was deleted and begun anew between two flushes ends up deleted."""

    def write_rows(self, plan: Plan, now_ms: int) -> Steps:
        rows = [row for row in plan.rows if row[1] is not None] + [row for row in plan.rows if row[1] is None]
        yield from super().write_rows(Plan(rows, [], 0), now_ms)


class _Forgetful(Owner):
    """Something does not survive a load."""

    def take_over(self) -> Steps:
        yield from super().take_over()
        self.forget()

    def forget(self) -> None:
        raise NotImplementedError


class ForgetsTheWatermark(_Forgetful):
    """What is late is decided anew after each load."""

    def forget(self) -> None:
        if isinstance(self.state, SessionsPartition):
            self.state._watermark = -1


class ForgetsMarks(_Forgetful):
    """Repeats of (source, seq) count again after a load."""

    def forget(self) -> None:
        if isinstance(self.state, SessionsPartition):
            for key, row in list(self.state.sessions()):
                row.marks = {}
                self.state._rows[key] = row


class ForgetsIds(Owner):
    """Repeats of an id count again after a load."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[0][:1] != b"i"], at


class ForgetsAlerts(Owner):
    """Alerts begin anew after a load."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[0][:1] not in {b"a", b"b"}], at


class ForgetsCommands(_Forgetful):
    """A repeated command happens again after a load."""

    def forget(self) -> None:
        if isinstance(self.state, CommandsPartition):
            self.state._accepted = {}


class ForgetsAttention(Owner):
    """What somebody took on or silenced is unknown after a load."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[0][:1] not in {b"k", b"s"} or self.stage != COMMANDS], at


class ForgetsBaselines(_Forgetful):
    """What was reset comes back after a load."""

    def forget(self) -> None:
        if isinstance(self.state, RollupsPartition):
            for keyed in self.state.keyed():
                keyed.row.baseline = None


class ForgetsGauges(Owner):
    """What sources said before a load is unknown until they say it again."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[0][:1] != b"g"], at


class IgnoresStamps(_Forgetful):
    """What a torn transaction left behind is folded once more."""

    def forget(self) -> None:
        if isinstance(self.state, SessionsPartition):
            self.state._replay_below = 0
        if isinstance(self.state, RollupsPartition):
            for keyed in self.state.keyed():
                keyed.row.stamp = -1


class LeavesErasuresHalfDone(_Forgetful):
    """An erasure that a crash has cut short counts as carried out."""

    def forget(self) -> None:
        if isinstance(self.state, SessionsPartition):
            erasing = self.state._erasing
            erasing._todo, erasing.version = {}, erasing._until


class KeepsErasedUsers(Owner):
    """The row of an erased user is never deleted from the changelog."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[1] is not None or row[0][:6] != b"luser|"], at


class FreesPlaces(Owner):
    """Who is admitted after a load may have the place of an erased user, and earlier numbers in the row of many."""

    def feed(self) -> None:
        if isinstance(self.state, RollupsPartition):
            users = [keyed.row.ordinal for keyed in self.state.keyed() if keyed.row.dimension == "user"]
            self.state._named["user"] = max(users, default=-1) + 1
        super().feed()


class LetsErasedReturn(Owner):
    """Up to when something was erased is unknown after a load: what is sent again counts again."""

    def read_rows(self, changelog: Log, at: int) -> tuple[list[Row], int]:
        rows, at = super().read_rows(changelog, at)
        return [row for row in rows if row[0][:1] != b"x"], at


class RefusesNeighbours(Owner):
    """Whoever shares an agent with somebody who is erased is refused as well."""

    def feed(self) -> None:
        if isinstance(self.state, SessionsPartition) and self.state._erasing.known:
            erasing, event_of = self.state._erasing, self.state._erasing._refuses
            erasing._refuses = lambda event, origin: event.agent == "agent-a" or event_of(event, origin)  # type: ignore[method-assign]  # a mistake
            super().feed()
            del erasing._refuses
        else:
            super().feed()


class DoesNotAskForRules(Owner):
    """State is judged by the rules that the worker happens to know, also when newer ones have judged it."""

    def hears(self, state: Judged) -> bool:  # noqa: ARG002  the owner's
        return True


class JudgesAllAnew(Owner):
    """When the rules change every alert begins anew."""

    def obey(self) -> None:
        state = self.state
        if isinstance(state, SessionsPartition | RollupsPartition) and state._judging.version != self.ear.version:
            state.use(RuleSet(), -1)
            if state.next_offset is not None:
                state.plan()
        super().obey()


MUTANTS: Final = (
    CommitsFirst, WritesOutsideTransactions, DoesNotFence, LoadsBeforeFencing, WritesAgain, GoesOn, ReadsAbortedRows,
    ReadsAbortedRecords, StartsAtTheEnd, SendsDeadLettersApart, WritesTombstonesLast, ForgetsTheWatermark,
    ForgetsMarks, ForgetsIds, ForgetsAlerts, ForgetsCommands, ForgetsAttention, ForgetsBaselines, ForgetsGauges,
    IgnoresStamps, LeavesErasuresHalfDone, KeepsErasedUsers, FreesPlaces, LetsErasedReturn, RefusesNeighbours,
    DoesNotAskForRules, JudgesAllAnew,
)  # fmt: skip


def nature_of(mutant: type[Owner]) -> Nature:
    """Return the kind of life in which a mutant's mistake can matter."""
    return Nature(torn=mutant is IgnoresStamps, owner=mutant)
