"""Workers that live and do not work: a loop that is held, tasks that died, a coordinator that moved.

They are started again when they end with 75; what is compared in the end is in tests/life.py.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

import fault_table
import pytest
from cluster_roles import Roles
from harness import WorkerProcess, eventually
from life import STANDSTILL_S, Life, Load, drawn_seed, prepared, times

from streams.worker.embedded import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(900)]

HELD_S: Final = 30
HELD_FOR_GOOD_S: Final = 600
WATCHED_S: Final = 60  # the watchdog's limit (streams/worker/config.py: stuck_ms)
SEEN_S: Final = 30  # what a slow machine may add to it
MOVES: Final = times(2)
TROUBLED: Final = (str(Path(__file__).parent.parent / "troubled.py"),)


@pytest.mark.fault("T15")
async def test_a_worker_whose_loop_or_tasks_stand_still(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A loop held for 30 s goes on by itself; one that is held for good, or has lost a task, ends and starts anew."""
    await prepared(kafka, prefix)
    seed = drawn_seed()
    load = Load(seed=seed, rate=1_000)
    with Life(kafka, prefix, tmp_path, load=load, seed=seed, program=TROUBLED) as life:
        one, two = life.workers
        loads = life.loads(one)
        life.trouble(one, f"block {HELD_S}")
        life.work_until(time.monotonic() + HELD_S)
        life.wait_for_load(one, loads)  # it may find that it was replaced and end with 75, or load its state anew
        life.wait_for_progress()
        assert {75} >= set(one.exits), life.exits()

        ended_s = {what: _ends(life, one, what) for what in ("end fetch", "end drain")}
        ended_s["hold the loop"] = _ends(life, two, f"block {HELD_FOR_GOOD_S}")
        life.finish()
    assert max(ended_s.values()) <= WATCHED_S + SEEN_S, ended_s
    fault_table.record(
        "T15", "stands-still", loop_held_s=HELD_S, fetch_task_ended_after_s=round(ended_s["end fetch"], 1),
        drain_task_ended_after_s=round(ended_s["end drain"], 1),
        held_loop_ended_after_s=round(ended_s["hold the loop"], 1), events=life.published, seed=seed,
    )  # fmt: skip


def _ends(life: Life, worker: WorkerProcess, what: str) -> float:
    """Make trouble; return the seconds until the worker has ended by itself, and is started again."""
    started, ended = time.monotonic(), len(worker.exits)
    loads = life.loads(worker)
    life.trouble(worker, what)
    eventually(lambda: not worker.running, timeout_s=STANDSTILL_S, what=lambda: f"{what}\n{life.logs()}")
    took_s = time.monotonic() - started
    life.wait_for_load(worker, loads)
    assert [75] == worker.exits[ended:], life.exits()
    life.wait_for_progress()
    return took_s


@pytest.mark.fault("T15", "T7")
async def test_the_groups_coordinator_moves(tmp_path: Path) -> None:
    """The node that leads the group dies; its successor has the offsets, and the workers find it."""
    seed = drawn_seed()
    cluster = EmbeddedKafka(tmp_path / "kafka", nodes=3)
    try:
        bootstrap = await asyncio.to_thread(cluster.start, 180)
        await prepared(bootstrap, "moved.")
        moves_s = await asyncio.to_thread(_moves, cluster, bootstrap, tmp_path, seed)
    finally:
        cluster.stop(timeout_s=1)
    fault_table.record(
        "T15", "coordinator-moves", moves=MOVES, working_again_s_max=round(max(moves_s), 1), seed=seed
    )  # fmt: skip


def _moves(cluster: EmbeddedKafka, bootstrap: str, folder: Path, seed: int) -> list[float]:
    with Life(bootstrap, "moved.", folder, load=Load(seed=seed, rate=500), seed=seed) as life:
        moves_s = []
        roles = Roles(cluster)
        for _ in range(MOVES):
            eventually(roles.in_sync, timeout_s=120, what="every copy in sync")
            led_by = roles.group_coordinator(life.group)
            started = time.monotonic()
            cluster.kill(led_by)
            life.wait_for_progress()
            moves_s.append(time.monotonic() - started)
            cluster.restart(led_by, timeout_s=180)
            life.wait_for_progress()
        life.finish(timeout_s=180)
    return moves_s
