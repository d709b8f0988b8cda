"""A replay on a real broker: cut off and run again, with other partitions, to the same totals; refused where not."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import changelogs
import pytest
from confluent_kafka import KafkaException
from fleet import Fleet as Agents
from harness import ROOT, Broker, Fleet, eventually
from truth import recount

from streams.errors import ConfigError
from streams.settings import PREFIX
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.replay import Route, replay

EVENTS: Final = 6_000


def program(kafka: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "streams", *arguments, "--bootstrap", kafka]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run(kafka: str, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        program(kafka, *arguments), capture_output=True, text=True, timeout=120, env=environment(), cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def copied(broker: Broker, topic: str) -> dict[bytes, tuple[bytes | None, int]]:
    """Return key and time of every committed record by value; the same value twice fails."""
    found: dict[bytes, tuple[bytes | None, int]] = {}
    for message in broker.read(topic):
        value = message.value() or b""
        assert value not in found, "a record was copied twice"
        found[value] = message.key(), message.timestamp()[1]
    return found


def start_and_kill(kafka: str, command: tuple[str, ...], broker: Broker, topic: str) -> None:
    """Run the program until the first records are there, and end it as a power cut would."""
    process = subprocess.Popen(program(kafka, *command), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL)

    def begun() -> bool:
        try:
            return process.poll() is not None or (broker.exists(topic) and sum(broker.ends(topic).values()) > 0)
        except KafkaException:  # a topic that is being made has no leader yet
            return False

    try:
        eventually(begun, timeout_s=60, what="the first records")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.kafka
async def test_a_replay_that_is_cut_off_goes_on_and_ends_in_the_same_totals(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle, run again, run once more for the rest, to another partition count."""
    connection, broker = KafkaConnection(bootstrap=kafka), Broker(kafka)
    old, new = f"{prefix}old.", f"{prefix}new."
    await topics.create(connection, old, {"events": 2, "rollups": 1})
    now_ms = int(time.time() * 1000)
    events = list(Agents(11, sessions=200, start_ms=now_ms - 60_000, step_ms=5).events(EVENTS))
    records = [(each["session_id"].encode(), json.dumps(each).encode()) for each in events]
    broker.publish(f"{old}events", records[: EVENTS - 500])
    command = ("replay", "--prefix", old, "--from", "earliest", "--to-prefix", new, "--partitions", "events=3")

    await asyncio.to_thread(start_and_kill, kafka, command, broker, f"{new}events")
    broker.publish(f"{old}events", records[EVENTS - 500 : EVENTS - 200])
    run(kafka, *command)
    broker.publish(f"{old}events", records[EVENTS - 200 :])
    again = json.loads(run(kafka, *command, "--json"))

    assert (True, 200, False) == (again["resumed"], again["copied"], again["same_partitions"])
    before, after = copied(broker, f"{old}events"), copied(broker, f"{new}events")
    assert EVENTS == len(before)
    assert before == after, "key, value and time of every record, each once"
    seen = (await topics.look(connection, new)).topics[f"{new}events"]
    assert (3, "LogAppendTime") == (seen.partitions, seen.config["message.timestamp.type"])
    monkeypatch.setenv(f"{PREFIX}PRICING", "false")  # a recount knows no prices
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", new])
        truth = recount(events)
        eventually(lambda: changelogs.totals(broker, new) == truth, timeout_s=120, what=worker.tail)


@pytest.mark.kafka
async def test_what_cannot_be_right_is_refused(kafka: str, prefix: str) -> None:
    connection, broker = KafkaConnection(bootstrap=kafka), Broker(kafka)
    old, lived = f"{prefix}old.", f"{prefix}lived."
    for each in (old, lived):
        await topics.create(connection, each, {"events": 1, "rollups": 1})
        broker.publish(f"{each}events", [(b"k", b"v%d" % number) for number in range(10)])
    began_ms = int(time.time() * 1000) - 60_000
    with pytest.raises(ConfigError, match="expected another one"):
        await replay(connection, Route(old, old, None, {}))
    assert "not empty, and no replay of ours" in run(
        kafka, "replay", "--prefix", old, "--from", "earliest", "--to-prefix", lived, code=78
    )
    broker.delete_before(f"{old}events", {0: 4})
    said = run(kafka, "replay", "--prefix", old, "--from", str(began_ms), "--to-prefix", f"{prefix}late.", code=78)
    assert "begins at offset 4" in said
    assert "--from earliest" in said
    run(kafka, "replay", "--prefix", old, "--from", "2999-01-01T00:00:00Z", "--to-prefix", f"{prefix}l.", code=78)
    done = await replay(connection, Route(old, f"{prefix}fresh.", None, {}))
    assert (6, False, True) == (done.copied, done.resumed, done.same_partitions)


@pytest.mark.kafka
@pytest.mark.long
async def test_what_was_erased_is_not_brought_back_by_a_replay(kafka: str, prefix: str, tmp_path: Path) -> None:
    connection, broker = KafkaConnection(bootstrap=kafka), Broker(kafka)
    old, new = f"{prefix}old.", f"{prefix}new."
    await topics.create(connection, old, {"events": 1, "rollups": 1})
    now_ms = int(time.time() * 1000) - 5_000
    broker.publish(f"{old}events", [
        (name, json.dumps({"kind": "cycle", "id": f"{name!r}{n}", "time": now_ms + n, "agent": "a", "phase": "planning",
                           "session_id": name.decode()}).encode())
        for n in range(20) for name in (b"gone", b"kept")
    ])  # fmt: skip
    with Fleet(tmp_path) as fleet:
        fleet.add("old", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", old])
        eventually(lambda: len(changelogs.totals(broker, old)[0]) == 2, timeout_s=60, what=fleet.logs)
        await asyncio.to_thread(run, kafka, "purge", "session", "gone", "--yes", "--prefix", old)
        run(kafka, "replay", "--prefix", old, "--from", "earliest", "--to-prefix", new)
        fleet.add("new", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", new])
        eventually(
            lambda: changelogs.totals(broker, new)[0] == {"kept": {"events": 20}}, timeout_s=60,
            what=lambda: f"{changelogs.totals(broker, new)[0]} {fleet.logs()}",
        )  # fmt: skip
