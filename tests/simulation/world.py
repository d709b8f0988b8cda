"""One life: agents publish, workers fold and flush, die, sleep and come back, all of it out of one seed.

Decides what happens next and nothing else; `simulation.judge` says whether it was right.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from simulation.broker import COMMANDS, EVENTS, ROLLUPS, Broker, Fenced, Record
from simulation.erasures import Refused, Victims
from simulation.orders import Orders, Told
from simulation.owner import SESSIONS, OutcomeUnknown, Owner
from simulation.rulings import Ear
from simulation.traffic import MINUTE_MS, START_MS, Published, Traffic

from streams.errors import InvariantBroken

STEPS: Final = 450
LIFE_MS_MAX: Final = 20 * 60 * MINUTE_MS  # panes go after a day, and the judge recounts every one of them
Slot = tuple[str, int]  # stage and partition


@dataclass(frozen=True, slots=True)
class Nature:
    """What kind of life it is."""

    torn: bool = False  # the broker leaves parts of aborted transactions visible
    owner: Callable[..., Owner] = Owner


class World:
    """Everything there is, and the seed that moves it."""

    def __init__(self, seed: int, nature: Nature) -> None:
        self.random = Random(seed)
        self.aside = Random(f"commands {seed}")  # what operators do takes no turn from where events flow
        self.nature = nature
        self.broker = Broker()
        self.now_ms = START_MS
        first, second = self.random.choice((1, 2, 2)), self.random.choice((1, 2, 3))
        self.partitions = {SESSIONS: first, COMMANDS: 1, ROLLUPS: second}
        self.traffic = Traffic(self.random, self.partitions[SESSIONS])
        self.published: dict[int, list[tuple[int, Published]]] = {}  # with their offsets, by partition
        self.orders = Orders(self.aside)
        self.told: list[tuple[int, Told]] = []  # commands with their offsets
        self.third = Random(f"erasures {seed}")  # nor do those who are forgotten, and what they do
        self.victims = Victims(self.third, self.partitions[SESSIONS])
        self.refused: set[Refused] = set()
        self.owners: dict[Slot, Owner] = {}
        self.zombies: list[Owner] = []
        self.workers = [f"w{n}" for n in range(self.random.randint(1, 3))]
        self.clock_ms = {name: self.random.choice((0, 0, -120_000, 45_000)) for name in self.workers}
        self.works_at: dict[Slot, str] = {}
        self.ears = {name: Ear(self.broker) for name in self.workers}
        self.happened: Counter[str] = Counter()
        self.slots = [(stage, n) for stage, count in self.partitions.items() for n in range(count)]
        self.events = [slot for slot in self.slots if slot[0] != COMMANDS]

    # ---- a life -----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Let things happen, then let everything that was published come to rest."""
        for _ in range(STEPS):
            self.step()
        for _ in range(3):
            self.publish(self.traffic.left(self.now_ms))
            self.settle()
            self.now_ms += 1_000

    def step(self) -> None:
        """One thing happens, and now and then something with commands beside it."""
        random = self.random
        if self.aside.random() < 0.03:
            self.command()
        if self.aside.random() < 0.25:
            self.work((COMMANDS, 0))
        if self.aside.random() < 0.04:
            self.hear(self.aside.choice(self.workers))
        if self.third.random() < 0.15:
            self.publish(self.victims.records(self.now_ms))
        if self.third.random() < 0.01:
            self.forget()
        self.now_ms += random.choice((0, 0, 1, 30, 400))
        luck = random.random()
        if luck < 0.2:
            self.publish(self.traffic.records(self.now_ms))
        elif luck < 0.93:
            self.work()
        elif luck < 0.95:
            self.compact()
        elif luck < 0.96:
            self.sleep(random.choice((2_000, 20_000, 4 * MINUTE_MS, 31 * MINUTE_MS, 65 * MINUTE_MS)))
        elif luck < 0.965:
            self.mark()
        else:
            self.harm(random.random())

    def sleep(self, ms: int) -> None:
        """Nothing is published for a while; nobody who lives leaves anything unwritten for that long."""
        if self.now_ms + ms - START_MS > LIFE_MS_MAX:
            return
        for owner in list(self.owners.values()):
            if owner.state is not None:
                self.run(owner, lambda one=owner: self.last_flush(one))  # type: ignore[misc]  # bound at once
        self.now_ms += ms
        for owner in self.owners.values():
            if owner.caught_up:
                owner.tick(self.now_ms + self.clock_of(owner))
        if ms > MINUTE_MS and self.random.random() < 0.5:
            self.sleep(ms)

    def harm(self, luck: float) -> None:
        """Something goes wrong."""
        random = self.random
        if luck < 0.35:
            self.crash(random.choice(self.workers))
        elif luck < 0.42:
            for worker in self.workers:
                self.crash(worker)
        elif luck < 0.65:
            self.pause(random.choice(self.workers))
        elif luck < 0.85 and self.owners:
            self.move(random.choice(list(self.owners)))
        elif self.owners:
            slot = random.choice(list(self.owners))
            self.broker.expire(self.owners[slot].transactional_id)

    # ---- agents -----------------------------------------------------------------------------------------------------

    def publish(self, records: list[Published]) -> None:
        """Append records to the source topic."""
        for one in records:
            record = Record(-1, one.timestamp, None, one.value, ())
            (offset,) = self.broker.publish(EVENTS, one.partition, [record])
            self.published.setdefault(one.partition, []).append((offset, one))

    def command(self) -> None:
        """An operator asks for something."""
        one = self.orders.next(self.now_ms)
        (offset,) = self.broker.publish(COMMANDS, 0, [Record(-1, one.timestamp, None, one.value, ())])
        self.told.append((offset, one))

    def forget(self) -> None:
        """An operator asks for a session or a user to be forgotten; the command may come twice."""
        made = self.victims.forget(self.now_ms)
        if made is not None:
            one = Told(made[0], self.now_ms, None, None, made[1])
            for _ in range(self.third.choice((1, 1, 2))):
                (offset,) = self.broker.publish(COMMANDS, 0, [Record(-1, one.timestamp, None, one.value, ())])
                self.told.append((offset, one))

    def mark(self) -> None:
        """Leave holes in the source, as a transactional publisher does: an aborted record and two markers."""
        place = EVENTS, self.random.randrange(self.partitions[SESSIONS])
        epoch = self.broker.initialise("publisher")
        self.broker.send("publisher", epoch, place, [Record(-1, self.now_ms, None, b"never seen", ())])
        self.broker.initialise("publisher")

    # ---- workers ----------------------------------------------------------------------------------------------------

    def work(self, slot: Slot | None = None) -> None:
        """Some owner, alive or not, does one thing; a partition without an owner may get one."""
        random = self.random
        slot = slot or random.choice(self.events)
        owner = self.owners.get(slot)
        if self.zombies and random.random() < 0.15:
            owner = random.choice(self.zombies)
        if owner is None:
            if random.random() < 0.3:
                self.assign(slot)
            return
        self.run(owner, lambda: owner.step(self.now_ms + self.clock_of(owner)))

    def run(self, owner: Owner, act: Callable[[], None]) -> None:
        """Act, and do what a worker does when that fails."""
        slot = owner.stage, owner.partition
        try:
            act()
        except OutcomeUnknown:
            self.happened["unknown outcome"] += 1
            self.dismiss(owner)
            if owner not in self.zombies and slot not in self.owners:
                self.assign(slot, self.works_at[slot])
        except Fenced:
            if self.broker.epoch(owner.transactional_id) == owner.epoch:
                raise InvariantBroken(f"{owner} was fenced by nobody") from None
            self.happened["fenced"] += 1
            self.dismiss(owner)

    def assign(self, slot: Slot, worker: str | None = None) -> None:
        """Give a partition to a worker."""
        stage, partition = slot
        self.works_at[slot] = worker or self.random.choice(self.workers)
        make = self.nature.owner
        self.owners[slot] = make(
            self.broker, self.aside if stage == COMMANDS else self.random, stage, partition, self.partitions,
            self.ears[self.works_at[slot]],
            torn=self.nature.torn, refused=self.refused,
        )  # fmt: skip

    def hear(self, worker: str) -> None:
        """A worker reads what rules hold now, and goes by them between two of its other deeds."""
        self.happened["rules changed"] += self.ears[worker].listen()
        for slot, owner in self.owners.items():
            if self.works_at[slot] == worker:
                owner.obey()

    def dismiss(self, owner: Owner) -> None:
        """Throw an owner and its state away."""
        slot = owner.stage, owner.partition
        if self.owners.get(slot) is owner:
            del self.owners[slot]
        if owner in self.zombies:
            self.zombies.remove(owner)

    def crash(self, worker: str) -> None:
        """Kill -9: all that a worker owns is gone, and its transactions stay open."""
        for slot, owner in list(self.owners.items()):
            if self.works_at[slot] == worker:
                self.happened["crash while loading" if owner.state is None else "crash"] += 1
                self.happened["crash within a flush"] += int(owner.steps is not None)
                self.happened["crash while erasing"] += int(owner.erasing)
                self.dismiss(owner)
        self.ears[worker] = Ear(self.broker)
        self.ears[worker].listen()  # a process knows the rules before it has any partition

    def pause(self, worker: str) -> None:
        """SIGSTOP for long enough: others take over, and the old owners wake up without knowing."""
        for slot, owner in list(self.owners.items()):
            if self.works_at[slot] == worker:
                self.happened["pause"] += 1
                self.dismiss(owner)
                self.zombies.append(owner)
        self.ears[worker] = Ear(self.broker)  # it will go on as another process; the old one is deaf
        self.ears[worker].listen()

    def move(self, slot: Slot) -> None:
        """Rebalance: hand a partition over, after a last flush or at once."""
        owner = self.owners[slot]
        if owner.state is not None and self.random.random() < 0.5:
            self.run(owner, lambda: self.last_flush(owner))
        self.dismiss(owner)
        self.assign(slot)

    def last_flush(self, owner: Owner) -> None:
        """Finish the flush under way, and flush what is left."""
        for _ in owner.steps or ():
            pass
        owner.steps = None
        for _ in owner.flush(self.now_ms):
            pass

    def clock_of(self, owner: Owner) -> int:
        """Return how far the clock of an owner's machine is off, in ms."""
        return self.clock_ms[self.works_at[owner.stage, owner.partition]]

    def compact(self) -> None:
        """The log cleaner visits a changelog."""
        stage, partition = self.random.choice(self.slots)
        log = self.broker.log(f"{stage}.changelog", partition)
        reading = any(owner.loading for owner in self.owners.values())
        # A reader that has seen a row must still find its tombstone, which brokers keep for a day.
        before = len(log.entries)
        log.compact(self.random.randint(0, log.end), tombstones=not reading and self.random.random() < 0.5)
        self.happened["compacted"] += before - len(log.entries)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """No more harm: everything is read, folded and written."""
        self.zombies.clear()
        # Those that send come before those that are sent to, and rules before those that go by them.
        for slot in sorted(self.slots, key=lambda slot: slot[0] != COMMANDS):
            for worker in self.workers:
                self.hear(worker)
            for _ in range(100):
                if slot not in self.owners:
                    self.assign(slot)
                owner = self.owners[slot]
                self.run(owner, lambda one=owner: one.finish(self.now_ms))  # type: ignore[misc]  # bound at once
                if self.owners.get(slot) is owner:
                    break
            else:
                raise InvariantBroken(f"{slot} does not come to rest")
