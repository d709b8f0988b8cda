"""Workers that come and go as operators want: rolled with SIGTERM, scaled out and in under load.

What is compared in the end is in tests/life.py.
"""

import time
from pathlib import Path
from typing import Final

import fault_table
import pytest
from harness import eventually
from life import PARTITIONS, STANDSTILL_S, STOPPED_S, Life, Load, Watched, drawn_seed, prepared, times

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(1_200)]

NAMES: Final = ("one", "two", "three", "four")
ROUNDS: Final = times(3)
SCALE: Final = (4, 2, 4)  # from one
APART_S: Final = 30
SCRAPED_S: Final = 15.0  # Prometheus comes by this often, if nobody says otherwise
TROUBLED: Final = (str(Path(__file__).parent.parent / "troubled.py"),)
ALL: Final = sorted(
    (stage, number) for stage, topic in (("sessions", "events"), ("rollups", "rollups"))
    for number in range(PARTITIONS[topic])
)  # fmt: skip


@pytest.mark.fault("T4")
async def test_four_workers_are_rolled_and_nothing_is_folded_twice(kafka: str, prefix: str, tmp_path: Path) -> None:
    await prepared(kafka, prefix)
    seed = drawn_seed()
    load = Load(seed=seed, rate=1_000)
    with Life(kafka, prefix, tmp_path, load=load, seed=seed, workers=NAMES, program=TROUBLED) as life:
        gaps_s = [gap_s for _ in range(ROUNDS) for gap_s in life.roll()]
        life.finish()
        assert [0] * len(NAMES) == [worker.stop(STOPPED_S) for worker in life.workers]

        folded = sum(report["records"] for worker in life.workers for report in worker.reports())
        logged = sum(len(life.broker.read(f"{prefix}{topic}")) for topic in PARTITIONS)
        assert logged == folded, life.logs()
        assert {0} == {code for worker in life.workers for code in worker.exits}, life.exits()
    fault_table.record(
        "T4", "four-workers", rounds=ROUNDS, records=logged, folded_twice=folded - logged,
        standstill_s_max=round(max(gaps_s), 1), seed=seed,
    )  # fmt: skip


@pytest.mark.fault("T5")
async def test_workers_are_scaled_out_and_in_under_load(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Wherever partitions move, each is on one worker's page within a scrape, and the exporter's page never moves."""
    await prepared(kafka, prefix)
    seed = drawn_seed()
    load = Load(seed=seed)
    with (
        Life(kafka, prefix, tmp_path, load=load, seed=seed, workers=NAMES[:1]) as life,
        Watched(life) as watched,
    ):
        moved_s = []
        for count in SCALE:
            life.work_until(time.monotonic() + APART_S)
            moved_s.append(_scaled(life, count))
        life.work_until(time.monotonic() + APART_S)
        life.finish()

        assert [] == watched.faults, life.logs()
        assert {0} == {code for worker in life.fleet.workers for code in worker.exits}, life.exits()
    fault_table.record(
        "T5", "scaled", steps="1 4 2 4", events=life.published, one_owner_each_after_s_max=round(max(moved_s), 1),
        scrapes=watched.scrapes, seed=seed,
    )  # fmt: skip


def _scaled(life: Life, count: int) -> float:
    """Start or stop workers until there are so many; return the seconds until each partition has one owner."""
    for worker in life.workers[count:]:
        assert worker.stop(STOPPED_S) == 0, worker.tail()
    for worker in life.workers[:count]:
        if not worker.running:
            worker.start()
    life.workers += [life.add(name) for name in NAMES[len(life.workers) : count]]
    running = life.workers[:count]
    eventually(lambda: all(life.loads(worker) for worker in running), timeout_s=STANDSTILL_S, what=life.logs)
    eventually(lambda: all(life.owned(worker) for worker in running), timeout_s=STANDSTILL_S, what=life.logs)
    started = time.monotonic()
    eventually(lambda: _shown(life) == ALL, timeout_s=SCRAPED_S, what=lambda: f"{_shown(life)}\n{life.logs()}")
    life.wait_for_progress()
    return time.monotonic() - started


def _shown(life: Life) -> list[tuple[str, int]]:
    """Return the partitions on all pages; one that is on two of them is there twice."""
    return sorted(
        (stage, number)
        for worker in life.workers
        if worker.running
        for stage, numbers in life.owned(worker).items()
        for number in numbers
        if stage != "commands"
    )
