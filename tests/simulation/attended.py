"""Acknowledgements and silences in the traffic, and the recount of which are left: those nobody took back or that last.

Shares no code with the stage but the readers of its rows.
"""

import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

from simulation.broker import ALERTS, Broker
from simulation.traffic import MINUTE_MS
from simulation.verdicts import told

from streams.stage.commands import CommandsPartition

SUBJECTS: Final = tuple(f"{number:032x}" for number in range(4))
FAR_MS: Final = 10 * 24 * 60 * MINUTE_MS
Left = dict[tuple[str, str], tuple[str, int]]  # kind and subject → the command that made it, and its end


class Attended(NamedTuple):
    """What an accepted command does: with `ends_ms` it makes something, without it ends something."""

    command: str
    kind: str
    subject: str
    ends_ms: int | None


def ask(random: Random, name: str, now_ms: int) -> tuple[bytes, Attended]:
    """Make a good command."""
    kind = random.choice(("acknowledge", "acknowledge", "unacknowledge", "silence", "unsilence"))
    ends_ms = now_ms + random.choice((1, MINUTE_MS, FAR_MS))
    command: dict[str, Any] = {"kind": kind, "id": name, "time": now_ms, "by": "ops"}
    subject = random.choice(SUBJECTS)
    if kind == "acknowledge":
        command |= {"fingerprint": subject, "incarnation": random.randrange(3), "until": ends_ms}
    elif kind == "unacknowledge":
        command |= {"fingerprint": subject}
    elif kind == "silence":
        subject = name
        command |= {"matchers": [{"name": "tool", "value": "a.*", "isRegex": True}], "until": ends_ms}
    else:
        subject = f"c{random.randrange(40)}"
        command |= {"silence": subject}
    made = ends_ms if kind in {"acknowledge", "silence"} else None
    return json.dumps(command).encode(), Attended(name, kind.removeprefix("un"), subject, made)


def bad(random: Random, now_ms: int) -> dict[str, Any]:
    """Make a command that must be refused."""
    acknowledge = {"kind": "acknowledge", "fingerprint": SUBJECTS[0], "incarnation": 1}
    matcher = {"name": "tool", "value": "a"}
    silence = {"kind": "silence", "matchers": [matcher], "until": now_ms + MINUTE_MS}
    choices: tuple[dict[str, Any], ...] = (
        {**acknowledge, "fingerprint": "short"}, {**acknowledge, "until": now_ms - 1}, {**acknowledge, "until": "soon"},
        {**acknowledge, "until": now_ms + 4 * FAR_MS}, {**silence, "matchers": []}, {**silence, "until": now_ms - 1},
        {**silence, "matchers": [{**matcher, "value": ""}]}, {**silence, "startsAt": now_ms + FAR_MS},
        {**silence, "matchers": [{**matcher, "value": "(", "isRegex": True}]}, {"kind": "unsilence"},
        {**silence, "matchers": [{**matcher, "value": "(a)\\1", "isRegex": True}]},
    )  # fmt: skip
    return {"id": "bad", "time": now_ms, "by": "ops", **random.choice(choices)}


def left(happen: Sequence[Attended]) -> Left:
    """Return what would be there if nothing ever ended by itself."""
    found: Left = {}
    for one in happen:
        if one.ends_ms is None:
            found.pop((one.kind, one.subject), None)
        else:
            found[one.kind, one.subject] = one.command, one.ends_ms
    return found


def held(part: CommandsPartition) -> Left:
    """Return what a partition has."""
    acknowledged = {
        ("acknowledge", name): (each.command, each.ends_ms) for name, each in part.attention.acknowledged().items()
    }
    return acknowledged | {("silence", name): (name, each.ends_ms) for name, each in part.attention.silences().items()}


def follow_acknowledgements(broker: Broker) -> tuple[Left, Counter[str]]:
    """Return what a reader of the alert topic believes, and how often each command was told there."""
    believed: Left = {}
    times: Counter[str] = Counter()
    for record in told(broker, ALERTS):
        key = (record.key or b"").decode()
        if not key.startswith("ack/"):
            continue
        subject = "acknowledge", key.removeprefix("ack/")
        if record.value is None:
            assert believed.pop(subject, None), f"{subject} ended, and had not begun"
        else:
            said = json.loads(record.value)
            times[said["id"]] += 1
            believed[subject] = said["id"], said["ends_ms"]
    return believed, times
