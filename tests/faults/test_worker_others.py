"""Faults of whoever else there is: the second stage's owner, the exporter, the one that notifies people.

What is compared in the end is in tests/life.py; of notices their receiver says what it was told.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import fault_table
import msgspec
import pytest
import yaml
from exporting import Writer, create
from harness import Broker, Fleet, WorkerProcess, eventually
from hooks import SECRET, Hooks, hooks
from life import PARTITIONS, SESSION_MS, STANDSTILL_S, STOPPED_S, Life, Load, Watched, drawn_seed, prepared, times
from noticed import record

from streams.clock import now_ms
from streams.topology import ALERTS, NOTIFY_CHANGELOG, ROLLUPS_STAGE
from streams.worker.loopback import HOST, free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(900)]

KILLS: Final = times(6)
PAUSES: Final = times(3)
NOTICES: Final = times(10)


@pytest.mark.fault("T2", "T9")
async def test_the_owner_of_the_second_stage_is_killed_and_paused(kafka: str, prefix: str, tmp_path: Path) -> None:
    await prepared(kafka, prefix)
    seed = drawn_seed()
    with Life(kafka, prefix, tmp_path, load=Load(seed=seed), seed=seed) as life, Watched(life) as watched:
        back_s = []
        for number in range(KILLS + PAUSES):
            owner = life.owner(ROLLUPS_STAGE, number % PARTITIONS["rollups"])
            started = time.monotonic()
            if number < KILLS:
                life.kill(owner)
            else:
                life.pause(owner)
            life.wait_for_progress(topic="rollups")
            back_s.append(time.monotonic() - started)
        life.finish()
        assert [] == watched.faults, life.logs()
    fault_table.record(
        "T2", "owner-of-the-second-stage", kills=KILLS, pauses=PAUSES, events=life.published,
        all_moves_again_s_max=round(max(back_s[:KILLS]), 1), seed=seed,
    )  # fmt: skip


@pytest.mark.fault("T3", "T9")
async def test_the_exporter_is_killed_and_paused(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Whenever there is a page its counters have not shrunk, and in the end they are right to the last call."""
    await prepared(kafka, prefix)
    seed = drawn_seed()
    with Life(kafka, prefix, tmp_path, load=Load(seed=seed), seed=seed) as life, Watched(life) as watched:
        back_s = []
        for number in range(KILLS + PAUSES):
            if number < KILLS:
                life.exporter.kill()
                life.exporter.start()
            else:
                life.exporter.pause()
                life.work_until(time.monotonic() + 2 * SESSION_MS / 1000)
                life.exporter.resume()
            started, before = time.monotonic(), watched.scrapes
            eventually(lambda before=before: watched.scrapes > before + 1, timeout_s=STANDSTILL_S, what=life.logs)  # type: ignore[misc]  # mypy cannot infer a lambda's default
            back_s.append(time.monotonic() - started)
        life.finish()
        assert [] == watched.faults, life.logs()
        assert [-9] * KILLS == life.exporter.exits
    fault_table.record(
        "T3", "the-exporter", kills=KILLS, pauses=PAUSES, scrapes=watched.scrapes,
        page_back_s_max=round(max(back_s), 1), seed=seed,
    )  # fmt: skip


@pytest.mark.fault("T22")
async def test_notify_is_killed_between_delivery_and_commit(kafka: str, prefix: str, tmp_path: Path) -> None:
    """People are told everything, ends too that come while nobody is there; what they are told twice has the same id.

    The first alert fires before notify has ever run: it dies of telling it before it has stored anything else.
    """
    await create(kafka, prefix)
    writer, broker, (port,) = Writer(kafka, prefix), Broker(kafka), free_ports(1)
    async with hooks() as taken:
        there = ["--bootstrap", kafka, "--prefix", prefix, "--port", str(port)]
        with Fleet(tmp_path) as fleet:
            _kill_when_told(taken, lambda: notify, after_answer=False)
            writer.commit(_said("tool-0", "firing", 1))
            command = ["-m", "streams", "notify", *there, "--receivers", str(_receivers(tmp_path, taken))]
            notify = fleet.add("notify", command)
            for number in range(NOTICES):
                if number:
                    await _until(lambda: _ready(port), "notify", notify)
                    await _until(partial(_stored_are, broker, prefix, number), "what is told again", notify)
                    _kill_when_told(taken, lambda: notify, after_answer=number % 2 == 1)
                    writer.commit(_said(f"tool-{number}", "firing", 1))
                await _until(lambda: not notify.running, f"the death of number {number}", notify)
                notify.wait(1)
                if _ends_meanwhile(number):
                    writer.commit(_said(f"tool-{number}", "resolved", 2))
                notify.start()
            await _until(lambda: _ready(port), "notify", notify)
            for number in range(NOTICES):
                if not _ends_meanwhile(number):
                    writer.commit(_said(f"tool-{number}", "resolved", 2))
            wanted = {f"tool-{number}-{turn}" for number in range(NOTICES) for turn in (1, 2)}
            await _until(lambda: wanted == set(taken.ids), "everything to be told", notify)
            assert notify.stop(STOPPED_S) == 0
    told = Counter(taken.ids)
    assert [] == taken.faults
    assert max(told.values()) <= 2, told
    assert {1} == {told[name] for name in wanted if name.endswith("-2")}, told
    firsts = list(dict.fromkeys(taken.ids))
    assert all(firsts.index(f"tool-{number}-1") < firsts.index(f"tool-{number}-2") for number in range(NOTICES))
    fault_table.record(
        "T22", "notify-killed", kills=NOTICES, notices=len(wanted), missing=0,
        ended_while_dead=sum(_ends_meanwhile(number) for number in range(NOTICES)),
        told_twice_with_the_same_id=sum(count == 2 for count in told.values()),
    )  # fmt: skip


def _stored_are(broker: Broker, prefix: str, count: int) -> bool:
    """Are there so many rows that say of a tool's alert that it was delivered?"""
    tables = broker.rows(prefix + NOTIFY_CHANGELOG.suffix)
    return count == sum(b"tool-" in key for table in tables.values() for key in table)


def _ends_meanwhile(number: int) -> bool:
    """Does this alert resolve while notify is dead: two of four, told before the answer and after it."""
    return number % 4 < 2


def _kill_when_told(taken: Hooks, notify: Callable[[], WorkerProcess], *, after_answer: bool) -> None:
    """Have the next notice kill who sent it: before it hears that it arrived, or in the moment in which it does."""

    def die() -> None:
        taken.before_answer = lambda: None
        if after_answer:
            asyncio.get_running_loop().call_soon(notify().signal, signal.SIGKILL)
        else:
            notify().signal(signal.SIGKILL)

    taken.before_answer = die


def _said(name: str, state: Any, transition: int) -> list[Any]:
    at_ms = now_ms()
    times_ms = {"time_ms": at_ms, "active_since_ms": at_ms, "fired_ms": at_ms}
    made = record(name, state, transition, **times_ms, resolved_ms=at_ms if state == "resolved" else None)
    return [(ALERTS.suffix, None, made.fingerprint.encode(), msgspec.json.encode(made))]


def _receivers(folder: Path, taken: Hooks) -> Path:
    (folder / "secret").write_bytes(SECRET)
    (folder / "token").write_text("token-1\n")
    path = folder / "receivers.yaml"
    entry = {
        "name": "oncall", "kind": "webhook", "url": f"{taken.url}/hook", "secret_file": str(folder / "secret"),
        "bearer_token_file": str(folder / "token"), "retry_limit": "1s",
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"receivers": [entry]}))
    return path


async def _ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://{HOST}:{port}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _until(holds: Callable[[], Any], what: str, notify: WorkerProcess) -> None:
    """Wait until something is true, which may have to be awaited."""
    deadline = time.monotonic() + STANDSTILL_S
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        assert time.monotonic() < deadline, f"waited {STANDSTILL_S} s for {what}\n{notify.tail()}"
        await asyncio.sleep(0.05)
