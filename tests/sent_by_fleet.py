"""All that the stages send when a fleet with a failing tool has them work."""

import json
from collections.abc import Iterator
from typing import Final

from fleet import START_MS, Fleet
from through_stages import Record

from streams.rule.defaults import default_rules
from streams.stage import examples
from streams.stage.commands import CommandsPartition
from streams.stage.payloads import PayloadPolicy
from streams.stage.plan import Plan, Send
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition
from streams.topology import ROLLUPS

RESET: Final = json.dumps(examples.record(examples.RESET)).encode()


def sent_by_a_fleet() -> Iterator[Send]:
    """Yield what all stages send while a tool fails, records are refused, the tool recovers, and its row is reset."""
    first = SessionsPartition(0, 1, 1, default_rules(), payloads=PayloadPolicy())
    second = RollupsPartition(0, 1, default_rules())
    fleet = Fleet(7, sessions=40, tools=6, step_ms=50, failing_tool="tool-01")
    good = [(event["time"], json.dumps(event).encode()) for event in fleet.events(4_000)]
    bad = [(START_MS, value) for value in (None, b"", b"{", b'{"kind":"?"}', b'{"kind":"tool_end","id":""}', b"[1,2]")]
    bad.append((START_MS, json.dumps(examples.event("payload") | {"time": START_MS}).encode()))
    published = [Record(offset, at_ms, None, value) for offset, (at_ms, value) in enumerate([*good, *bad])]
    rolled = 0
    for begin in range(0, len(published), 500):
        block = published[begin : begin + 500]
        first.feed(block)
        for step_ms in (0, 60_000) if begin + 500 >= len(published) else (0,):
            now_ms = max(record.timestamp for record in block) + step_ms
            first.tick(now_ms)
            for send in sends(first.plan()):
                yield send
                if send.topic == ROLLUPS.suffix:
                    second.feed([Record(rolled, now_ms, send.key, send.value, send.headers)])
                    rolled += 1
            second.tick(now_ms)
            yield from sends(second.plan())
    third = CommandsPartition(0, 1)
    third.feed([Record(at, START_MS, None, value) for at, value in enumerate((b"{", RESET))])
    yield from sends(third.plan())


def sends(plan: Plan | None) -> list[Send]:
    return [] if plan is None else plan.sends
