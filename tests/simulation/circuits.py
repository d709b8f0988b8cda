"""What must a circuit be that nothing but calls and commands moves?  Told from the log of the second stage alone.

Shares nothing with the product but the two bits of a call: the rules are those of `rule.resilience`.
"""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec
from rule.resilience import Breaker, Config
from simulation.broker import Record

OVER: Final = "agent"
CONFIG: Final = Config(window=4, minimum=3, failure_rate=0.5, slow_rate=0.75, wait_ms=10**12)  # as in rules.yaml


class Standing(NamedTuple):
    """What can be told of a circuit: its state, how often it has moved or told, and the calls in its window."""

    state: int
    transitions: int
    attempts: int
    calls: tuple[int, int, int]


CODES: Final = {"closed": 0, "open": 1, "half_open": 2, "disabled": 3, "forced_open": 4, "metrics_only": 5}


def codes_of(text: str) -> Iterator[int]:
    """Yield the two bits of each call, in order."""
    empty, *packed = b64decode(text)
    codes = [byte >> shift & 3 for byte in packed for shift in (0, 2, 4, 6)]
    yield from codes[: len(codes) - empty]


def recount(records: Sequence[Record]) -> dict[str, Standing]:
    """Let the circuits of one partition live once more."""
    breakers: dict[str, Breaker] = {}
    moves: dict[str, int] = {}

    def of(agent: str) -> Breaker:
        moves.setdefault(agent, 0)
        return breakers.setdefault(agent, Breaker(CONFIG, 0))

    def note(agent: str, before: list[str], *, ordered: bool = False) -> None:
        """Count what was told: a command always is; otherwise a transition, or rates exceeded without one."""
        told = of(agent).events[len(before) :]
        moves[agent] += int(ordered or bool(told))

    rows: list[str] = []
    for record in records:
        batch: dict[str, Any] = json.loads(record.value or b"")
        for dimension, labels, *rest in batch["deltas"]:
            if dimension != OVER:
                continue
            if labels[0] not in rows:
                rows.append(labels[0])
            for code in codes_of(rest[6]) if rest[6] else ():
                before = list(of(labels[0]).events)
                of(labels[0]).call(bool(code & 1), bool(code & 2))
                note(labels[0], before)
        for _, _, _, action, name, *_ in batch.get("breaker_orders", ()):
            meant = [name.partition("|")[2]] if "*" not in name and name.startswith(OVER + "|") else []
            meant += [each for each in {*rows, *breakers} if "*" in name and fnmatchcase(f"{OVER}|{each}", name)]
            for agent in meant:
                before = list(of(agent).events)
                of(agent).order(action)
                note(agent, before, ordered=True)
    return {
        agent: Standing(CODES[each.state], moves[agent], each.attempts, each.window())
        for agent, each in breakers.items()
    }


def stored(rows: dict[bytes, bytes]) -> dict[str, Standing]:
    """Return the circuits of one partition as its rows have them."""
    found: dict[str, Standing] = {}
    for key, value in rows.items():
        over, *labels = json.loads(key[1:]) if key[:1] == b"b" else ("",)
        if over == OVER:
            row = msgspec.msgpack.decode(value)
            codes = [byte >> shift & 3 for byte in row[15][1:] for shift in (0, 2, 4, 6)]
            codes = codes[: len(codes) - row[15][0]] if row[15] else []
            counts = len(codes), sum(code & 1 for code in codes), sum(code >> 1 for code in codes)
            found[labels[0]] = Standing(row[0], row[2], row[11], counts)
    return found


def ended(logs: Sequence[Sequence[Record]]) -> dict[str, tuple[int, int]]:
    """Return how many calls each agent's circuit was told of, and how many of them had failed."""
    found: dict[str, tuple[int, int]] = {}
    for records in logs:
        for record in records:
            for dimension, labels, *rest in json.loads(record.value or b"")["deltas"]:
                if dimension == OVER and rest[6]:
                    codes = list(codes_of(rest[6]))
                    calls, failed = found.get(labels[0], (0, 0))
                    found[labels[0]] = calls + len(codes), failed + sum(code & 1 for code in codes)
    return found
