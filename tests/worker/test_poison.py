"""One record in a hundred is hostile, then every one, of every kind: no worker ends, nothing else is counted wrong."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from changelogs import totals
from fault_table import record
from fleet import Fleet as Agents
from harness import Broker, Fleet, eventually
from hostile import BAD_BYTES, BAD_EVENTS, BAD_RECORDS
from truth import listed_cost, recount

from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = [pytest.mark.kafka, pytest.mark.fault("T11")]

EVENTS: Final = 40_000
EVERY: Final = 100
NOTHING_ELSE: Final = 1_000  # hostile records, one after the other


async def test_hostile_records_end_in_the_dead_letter_and_nothing_else_changes(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Record by record: what was refused is the bad set, by digest and reason; what was good is exact."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 4, "rollups": 2})
    broker = Broker(kafka)
    events = list(Agents(11, sessions=200, tools=20).events(EVENTS))
    bad: Counter[tuple[str, str]] = Counter()
    # librdkafka itself refuses records of more than 1 MB; the codec's own tests send them.
    every = [one for one in (*BAD_EVENTS, *BAD_BYTES, *BAD_RECORDS) if len(one.value or b"") < 900_000]
    poison = itertools.cycle(every)

    def hostile() -> bytes | None:
        one = next(poison)
        bad[hashlib.sha256(one.value or b"").hexdigest(), one.reason] += 1
        return one.value

    def records() -> Iterator[tuple[bytes, bytes | None]]:
        for number, event in enumerate(events):
            key = event["session_id"].encode()
            if number % EVERY == 0:
                yield key, hostile()
            yield key, json.dumps(event).encode()

    def nothing_else() -> Iterator[tuple[bytes, bytes | None]]:
        for number in range(NOTHING_ELSE):
            yield b"%d" % number, hostile()

    with Fleet(tmp_path) as fleet:
        command = ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", prefix]
        worker = fleet.add("worker", command)
        broker.publish(f"{prefix}events", records())
        truth = recount(events, listed_cost)
        eventually(lambda: totals(broker, prefix) == truth, timeout_s=180, what=fleet.logs)

        def refused() -> Counter[tuple[str, str]]:
            letters = [json.loads(message.value()) for message in broker.read(f"{prefix}dead-letter")]
            return Counter((letter["value_sha256"], letter["reason"]) for letter in letters)

        eventually(lambda: refused() == bad, timeout_s=60, what=fleet.logs)
        broker.publish(f"{prefix}events", nothing_else())
        eventually(lambda: refused() == bad, timeout_s=60, what=fleet.logs)
        assert totals(broker, prefix) == truth
        assert worker.running
        assert worker.exits == []
        assert worker.stop() == 0
    record("T11", "poison", events=EVENTS, hostile=bad.total(), kinds=len(every), restarts=0)
