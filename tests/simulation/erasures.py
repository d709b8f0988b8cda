"""Sessions and users that are told to be forgotten, and the recount of what is left of them: numbers, and no name.

Victims have names that nobody else has, and share agents, tools and models with everybody.  When a partition hears of
an erasure is a matter of luck, so which of their events it still took is what it has committed (`Noting`); the judge
holds everybody else's totals against that, and asks that only victims were refused and that no row names one.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from ledger import Event, Judged
from simulation.traffic import RETRY_MS, Published

from streams.fold import session
from streams.stage.erasing import SESSION, USER, Erasing, digest_of
from streams.stage.plan import SourceRecord

IDS: Final = "gone"  # ids of victims' events begin with it
SCOPES: Final = (SESSION, USER)
# Alerts, and what was learned for them, may outlive the session that they were about: whose it was is unknown by then.
ABOUT: Final = frozenset({b"a", b"e"})
Refused = tuple[int, int, str]  # partition, offset, id
_KINDS: Final[tuple[Event, ...]] = (
    {"kind": "tool_end", "tool": "tool-0", "status": "success", "duration_ms": 12},
    {"kind": "tool_end", "tool": "tool-1", "status": "error", "duration_ms": 700},
    {"kind": "token_usage", "model": "m-1", "provider": "p-1", "input_tokens": 70, "output_tokens": 9,
     "cache_read_tokens": 0, "cost_nano_usd": 1_300},
    {"kind": "agent_end", "status": "success", "duration_ms": 90},
    {"kind": "error", "error_type": "network"},
    {"kind": "heartbeat"},
    {"kind": "session_end", "reason": "done"},
)  # fmt: skip


class Forget(NamedTuple):
    """What an accepted command does: this session or user is forgotten, up to this time and to when it is heard."""

    command: str
    scope: str
    name: str
    at_ms: int


class Victims:
    """Agents whose sessions are forgotten sooner or later; half of all lives have none."""

    def __init__(self, random: Random, partitions: int) -> None:
        self._random = random
        self._partitions = partitions
        self._users = {f"victim-{n}": f"forgotten-{n // 2}" for n in range(random.choice((0, 0, 2, 4)))}
        self._open = dict(self._users)  # who still publishes
        self._sent: list[Published] = []
        self._seq = 0
        self.told: list[Forget] = []
        self.returned: set[str] = set()  # sessions that went on after they had been forgotten

    def records(self, now_ms: int) -> list[Published]:
        """Make what victims publish at one moment; now and then what they have published is sent again."""
        random = self._random
        recent = [one for one in self._sent if now_ms - one.events[0].event_ms < RETRY_MS]
        if recent and random.random() < 0.2:
            return [random.choice(recent)._replace(timestamp=now_ms)]
        if not self._open:
            return []
        name = random.choice(sorted(self._open))
        if any(one.name == name for one in self.told):
            self.returned.add(name)
        number = int(name.rpartition("-")[2]) + (random.random() < 0.1)
        events = [self._event(name, number % self._partitions, now_ms) for _ in range(random.choice((1, 1, 3)))]
        value = json.dumps([one.event for one in events]).encode()
        made = Published(number % self._partitions, now_ms, value, tuple(events), ())
        self._sent.append(made)
        return [made]

    def _event(self, name: str, partition: int, now_ms: int) -> Judged:
        self._seq += 1
        named = {"agent": f"agent-{self._random.choice('ab')}", "session_id": name, "user_id": self._users[name]}
        marks = {"id": f"{IDS}{self._seq}", "time": now_ms, "source": f"victims.{partition}", "seq": self._seq}
        return Judged({**self._random.choice(_KINDS), **named, **marks}, now_ms)

    def forget(self, now_ms: int) -> tuple[bytes, Forget] | None:
        """Ask for a session or a user to be forgotten; a session may go on as another one, a user does not."""
        if not self._open:
            return None
        random = self._random
        session_id = random.choice(sorted(self._open))
        scope = random.choice(SCOPES)
        name = session_id if scope == SESSION else self._users[session_id]
        one = Forget(f"forget-{len(self.told)}", scope, name, now_ms)
        if scope == USER or random.random() < 0.5:
            self._open = {each: user for each, user in self._open.items() if name not in {each, user}}
        self.told.append(one)
        said = {"kind": "purge", "id": one.command, "time": now_ms, "by": "ops", "scope": scope}
        return json.dumps({**said, "digest": digest_of(scope, name)}).encode(), one

    def sessions_of(self, one: Forget) -> set[str]:
        """Name the sessions that an erasure takes with it."""
        return {name for name, user in self._users.items() if one.name in {name, user}}


class Noting(Erasing):
    """Erasures of a partition that note which events were refused for them."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[tuple[int, str]] = []  # offset and id

    def sieve(
        self, events: list[Any], origins: list[SourceRecord], counted: dict[str, int]
    ) -> tuple[list[Any], list[SourceRecord]]:
        """Leave out what was erased."""
        kept, kept_origins = super().sieve(events, origins, counted)
        left = {id(event) for event in kept}
        self.refused += [
            (origin.offset, event.id) for event, origin in zip(events, origins, strict=True) if id(event) not in left
        ]
        return kept, kept_origins


def without_refused(
    partition: int, published: Iterable[tuple[int, Published]], refused: set[Refused]
) -> Iterable[tuple[Published, int]]:
    """Yield records without the events that were refused, and how many those are."""
    for offset, one in published:
        kept = tuple(each for each in one.events if (partition, offset, each.event["id"]) not in refused)
        yield one._replace(events=kept), len(one.events) - len(kept)


def only_victims(refused: Iterable[Refused]) -> None:
    """Nobody else's event was refused for an erasure."""
    others = [each for each in refused if not each[2].startswith(IDS)]
    assert not others, f"refused as erased, and nobody asked for it: {others[:5]}"


def nothing_is_left(victims: Victims, changelogs: Mapping[str, Sequence[Mapping[bytes, bytes]]]) -> None:
    """No row of any stage names who is forgotten; a session that went on began anew."""
    for one in victims.told:
        names = {one.name, *victims.sessions_of(one)} - victims.returned
        for stage, parts in changelogs.items():
            for number, rows in enumerate(parts):
                for key, value in rows.items():
                    for name in names & {one.name} if key[:1] in ABOUT else names:
                        assert name.encode() not in key + value, f"{stage} {number}: {key!r} names {name} after {one}"
    last = {one.name: one for one in victims.told}
    for name in victims.returned & last.keys():
        for rows in changelogs["sessions"]:
            if (row := rows.get(f"s{name}".encode())) is not None:
                assert session.decode(row).started_ms > last[name].at_ms, f"{name} goes on as before {last[name]}"


def seen(victims: Victims) -> Counter[str]:
    """Count what has happened to victims."""
    return Counter(f"forgotten {one.scope}" for one in victims.told) + Counter(
        {"session that went on": len(victims.returned)}
    )
