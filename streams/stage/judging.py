"""Alerts and breakers of one partition, as a stage sees them: rows to judge in, rows to store and records out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from streams.fold.rollup import BreakerOrder
from streams.rule.alert import KEY_EXPIRED, AlertState, Transition
from streams.rule.book import AlertBook
from streams.rule.breaker import BreakerBook, BreakerTransition
from streams.rule.model import Rule, RuleSet
from streams.rule.reading import Key, Reading
from streams.rule.records import Completeness, Message, alert_message, breaker_message
from streams.stage.plan import Row, Send
from streams.stage.trust import Trust
from streams.topology import ALERTS, BREAKERS

ALERT_ROW: Final = b"a"
BREAKER_ROW: Final = b"b"
LEARNED_ROW: Final = b"e"  # what is expected of a key

NO_RULES: Final = RuleSet()

Read = Callable[[str, Key], Reading | None]  # a row as it is now; None: it is gone


class Judging:
    """The rule set at work on one partition."""

    def __init__(self, rules: RuleSet, origin: str, version: int = 0) -> None:
        self.version = version  # of the rules
        self._alerts = AlertBook(rules, origin)
        self._breakers = BreakerBook(rules)
        self._breaker_kinds = {policy.over for policy in rules.breakers}
        self._demanding = any(rule.complete_ppm for rule in rules.rules)
        self.trust = Trust()
        self._moved: list[Transition] = []
        self._tripped: list[BreakerTransition] = []

    @property
    def changed(self) -> bool:
        """Is there something to write that no row of the stage tells?"""
        alerts = self._alerts
        return bool(self._moved or self._tripped or alerts.changed or alerts.learned or self._breakers.changed)

    @property
    def newest_incarnation(self) -> int:
        """The highest incarnation ever given; a stage keeps it in its meta row."""
        return self._alerts.newest_incarnation

    @newest_incarnation.setter
    def newest_incarnation(self, value: int) -> None:
        self._alerts.newest_incarnation = max(self._alerts.newest_incarnation, value)

    def use(self, rules: RuleSet, version: int) -> None:
        """Go by these rules from now on: between two flushes, like a restart with them that takes no time."""
        self.version = version
        self._alerts.use(rules)
        self._breakers.use(rules)
        self._breaker_kinds = {policy.over for policy in rules.breakers}
        self._demanding = any(rule.complete_ppm for rule in rules.rules)

    def fresh(self, over: str, *, in_flight: bool = True) -> bool:
        """Must rows of this kind be armed since the last `use`?"""
        return self._alerts.fresh(over, in_flight=in_flight)

    def arm_fresh(self, over: str, key: Key, now_ms: int) -> None:
        """Have a row judged at the next step by the rules that are new since the last `use`, if time can move them."""
        self._alerts.arm_fresh(over, key, now_ms)

    def armed(self) -> None:
        """All rows are armed since the last `use`."""
        self._alerts.armed()

    def alive(self, read: Read) -> Iterable[tuple[Rule, Key, AlertState, Reading]]:
        """Yield every alert that is pending or firing with its row as it is now."""
        for rule, key, state in self._alerts.live():
            reading = read(rule.over, key)
            if reading is not None:
                yield rule, key, state, reading

    def weigh(self, now_ms: int, outcomes: Callable[[], tuple[int, int]]) -> None:
        """Say how whole the numbers are that are judged from now on, if any rule demands it: applied, and lost."""
        if self._demanding:
            applied, lost = outcomes()
            self._alerts.complete_ppm = self.trust.note(now_ms, applied=applied, lost=lost)

    def touch(self, over: str, key: Key, reading: Reading, now_ms: int, *, circuit: bool = True) -> None:
        """Judge a row that changed; `circuit` False: it stands for many keys and has no breaker."""
        self._moved.extend(self._alerts.touch(over, key, reading, now_ms))
        if circuit and over in self._breaker_kinds:
            tripped = self._breakers.touch(over, key, reading, now_ms)
            if tripped is not None:
                self._tripped.append(tripped)

    def outcomes(self, over: str, key: Key, outcomes: bytes, offset: int, now_ms: int) -> None:
        """Let a circuit go through calls in their order; `offset` is that of the record they came in."""
        self._tripped.extend(self._breakers.take(over, key, outcomes, offset, now_ms))

    def obey(self, order: BreakerOrder, rows: Iterable[tuple[str, Key]], offset: int, now_ms: int, read: Read) -> None:
        """Carry out a command to circuits at this place of the log; `rows` are the keys that can have one."""
        for over, key in self._breakers.meant(order, rows):
            tripped = self._breakers.obey(order, over, key, offset, read(over, key), now_ms)
            if tripped is not None:
                self._tripped.append(tripped)

    def step(self, now_ms: int, read: Read) -> None:
        """Judge the rows that time alone may have changed."""
        for rule, key in self._alerts.due(now_ms):
            reading = read(rule.over, key)
            if reading is None:
                self.end(rule.over, key, now_ms, KEY_EXPIRED)
                continue
            moved = self._alerts.recheck(rule, key, reading, now_ms)
            if moved is not None:
                self._moved.append(moved)
        for over, key in self._breakers.due(now_ms):
            reading = read(over, key)
            if reading is None:
                self.end(over, key, now_ms, KEY_EXPIRED)
                continue
            tripped = self._breakers.touch(over, key, reading, now_ms)
            if tripped is not None:
                self._tripped.append(tripped)
        self._moved.extend(self._alerts.expire(now_ms))
        self._tripped.extend(self._breakers.expire(now_ms))

    def end(self, over: str, key: Key, now_ms: int, reason: str) -> None:
        """Resolve the alerts of a row that goes, and forget its breaker."""
        self._moved.extend(self._alerts.end(over, key, now_ms, reason))
        tripped = self._breakers.end(over, key, now_ms)
        if tripped is not None:
            self._tripped.append(tripped)

    def forget(self, over: str, key: Key, now_ms: int, reason: str) -> None:
        """Resolve the alerts of a row that goes, and have them and its breaker forgotten, wherever they are told of."""
        self._moved.extend(self._alerts.forget(over, key, now_ms, reason))
        tripped = self._breakers.end(over, key, now_ms)
        if tripped is not None:
            self._tripped.append(tripped)

    def kept_keys(self, over: str) -> set[Key]:
        """Return the keys of what is kept and may have no row: alerts, live ones until they are due, and lessons."""
        return self._alerts.kept_keys(over)

    def arm(self, over: str, keys: Sequence[Key], now_ms: int, *, in_flight: bool = True) -> None:
        """Have rows that were just loaded judged at the next steps, if time alone can move them."""
        if self._alerts.arms(over, in_flight=in_flight):
            self._alerts.arm(over, keys, now_ms)

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored row if it is one of these; returns whether it was."""
        if key[:1] == ALERT_ROW:
            self._alerts.load(key[1:], value)
        elif key[:1] == BREAKER_ROW:
            self._breakers.load(key[1:], value)
        elif key[:1] == LEARNED_ROW:
            self._alerts.load_learned(key[1:], value)
        else:
            return False
        return True

    def loaded(self) -> None:
        """All rows are in."""
        self._alerts.loaded()

    def rows(self, stamp: int = -1) -> list[Row]:
        """Return the rows that changed since the last call; `stamp` is the last offset that is in them."""
        rows: list[Row] = [(ALERT_ROW + names, state) for names, state in self._alerts.drain()]
        rows.extend((BREAKER_ROW + names, state) for names, state in self._breakers.drain(stamp))
        rows.extend((LEARNED_ROW + names, learned) for names, learned in self._alerts.drain_learned())
        return rows

    def sends(self, completeness: Completeness) -> list[Send]:
        """Return the records of every transition since the last call, in order."""
        moved, self._moved = self._moved, []
        tripped, self._tripped = self._tripped, []
        sends = _sends(ALERTS.suffix, (alert_message(one, completeness) for one in moved))
        return sends + _sends(BREAKERS.suffix, (breaker_message(one) for one in tripped))


def _sends(topic: str, messages: Iterable[Message]) -> list[Send]:
    return [Send(topic, None, message.key, message.value, message.headers) for message in messages]
