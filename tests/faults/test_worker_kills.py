"""Workers killed with -9: one of two, again and again; all at once; and one that another joins while it recovers.

What is compared in the end is in tests/life.py.
"""

import re
import signal
import time
from pathlib import Path
from typing import Final, NamedTuple

import fault_table
import pytest
from harness import WorkerProcess, eventually
from life import PARTITIONS, STANDSTILL_S, TAKEOVER_S, Life, Load, Watched, drawn_seed, prepared, times

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(1_500)]

KILLS: Final = times(20)
APART_S: Final = (5, 25)
ALL_KILLS: Final = times(5)
RECOVERY_S: Final = 60.0  # of everything, from the kill to progress on every partition, with Python's start in it
JOINS: Final = times(10)
MANY: Final = {"sessions": 60_000, "tools": 40}  # so that there is something to recover
LOADED: Final = re.compile(r"partitions_loaded partitions=(\S+) rows=(\d+) ms=(\d+)")
TROUBLED: Final = (str(Path(__file__).parent.parent / "troubled.py"),)


@pytest.mark.fault("T2", "T20")
async def test_one_of_two_workers_is_killed_again_and_again(kafka: str, prefix: str, tmp_path: Path) -> None:
    await prepared(kafka, prefix)
    seed = drawn_seed()
    with Life(kafka, prefix, tmp_path, load=Load(seed=seed), seed=seed) as life, Watched(life) as watched:
        takeovers_s = []
        for _ in range(KILLS):
            next_s = time.monotonic() + life.random.uniform(*APART_S)
            takeovers_s.append(life.kill(life.random.choice(life.workers)))
            life.work_until(next_s)
        life.finish()

        assert [] == watched.faults, life.logs()
        assert max(takeovers_s) <= TAKEOVER_S, (takeovers_s, life.logs())
        assert {-9, 75} >= {code for worker in life.workers for code in worker.exits}, life.exits()
    takeovers_s.sort()
    fault_table.record(
        "T2", "one-of-two", kills=KILLS, events=life.published, takeover_s_median=round(takeovers_s[KILLS // 2], 1),
        takeover_s_max=round(takeovers_s[-1], 1), scrapes=watched.scrapes, seed=seed,
    )  # fmt: skip


@pytest.mark.fault("T3")
async def test_all_workers_are_killed_at_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    await prepared(kafka, prefix)
    seed = drawn_seed()
    with Life(kafka, prefix, tmp_path, load=Load(seed=seed, fleet=MANY), seed=seed) as life, Watched(life) as watched:
        back_s = []
        for _ in range(ALL_KILLS):
            life.work_until(time.monotonic() + life.random.uniform(2, 10))
            back_s.append(life.kill(*life.workers))
        life.finish()

        assert [] == watched.faults, life.logs()
        assert max(back_s) <= RECOVERY_S, (back_s, life.logs())
        loads = [_load(line) for worker in life.workers for line in worker.log.read_text().splitlines()]
    rows, took_ms = max(load for load in loads if load is not None)
    fault_table.record(
        "T3", "all-at-once", kills=ALL_KILLS, events=life.published, working_again_s_max=round(max(back_s), 1),
        largest_recovery_rows=rows, it_took_ms=took_ms, seed=seed,
    )  # fmt: skip


@pytest.mark.fault("T6", "T3")
async def test_a_second_worker_joins_while_the_first_is_half_recovered(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Every join interrupts a recovery of all partitions, which begins anew for what is left and always ends."""
    await prepared(kafka, prefix)
    seed = drawn_seed()
    load = Load(seed=seed, fleet=MANY, rate=8_000)
    with Life(kafka, prefix, tmp_path, load=load, seed=seed, workers=("one",), program=TROUBLED) as life:
        (one,) = life.workers
        life.work_until(time.monotonic() + 30)
        life.finish(timeout_s=600)
        alone_s = _back_alone(life, one)
        life.rate = 1_000
        life.publish_on()
        two = life.add("two", gate=True)
        life.workers.append(two)
        joins = _joins(life, one, two)
        life.finish(timeout_s=600)
        assert {-9} == set(two.exits), life.exits()
    met = [join for join in joins if join.reached < 1]
    fault_table.record(
        "T6", "joined-at-half", joins=JOINS, met_a_recovery=len(met),
        which_was_done_to=" ".join(f"{join.reached:.0%}" for join in met), undisturbed_s=round(alone_s, 1),
        disturbed_s_max=round(max(join.took_s for join in joins), 1), events=life.published, seed=seed,
    )  # fmt: skip
    assert len(met) >= JOINS // 2, f"only {len(met)} of {JOINS} joins met a recovery under way: {joins}"


class Join(NamedTuple):
    """One worker that came while another recovered: how far that one was (1: done), and when all was well again."""

    reached: float
    took_s: float


def _back_alone(life: Life, one: WorkerProcess) -> float:
    """Kill the only worker, and return the seconds until all is loaded again."""
    before, started = life.loads(one), time.monotonic()
    one.kill()
    one.start()
    life.wait_for_load(one, before, RECOVERY_S)
    return time.monotonic() - started


def _joins(life: Life, one: WorkerProcess, two: WorkerProcess) -> list[Join]:
    """Kill both and let the second one join when the first is about half recovered, again and again."""
    joins: list[Join] = []
    at = 0.2  # how far the first is when the second is let go; it takes a moment to reach the group
    for _ in range(JOINS):
        two.kill()
        one.kill()
        seen, begun = life.loads(one), len(one.log.read_text())
        whole = sum(
            sum(life.broker.ends(f"{life.prefix}{name}.changelog").values()) for name in ("sessions", "rollups")
        )
        opened = len(two.reports())
        two.start()
        eventually(lambda opened=opened: len(two.reports()) > opened, timeout_s=STANDSTILL_S, what=life.logs)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        one.start()
        started = time.monotonic()
        eventually(lambda at=at, whole=whole: _rows(life, one) > at * whole, timeout_s=RECOVERY_S, what=life.logs)  # type: ignore[misc]  # as above
        two.signal(signal.SIGUSR2)
        life.wait_for_load(one, seen, RECOVERY_S)
        life.wait_for_progress(RECOVERY_S)
        first = LOADED.search(one.log.read_text(), begun)
        assert first is not None
        done = first[1].count(",") + 1 == sum(PARTITIONS.values())  # a recovery that met nobody is one of all
        # What was read in vain counts as read; the rest of the second attempt is the share that was left to us.
        reached = 1.0 if done else min(0.99, (_rows(life, one) - int(first[2])) / whole)
        joins.append(Join(reached, time.monotonic() - started))
        at = min(0.9, max(0.0, at + (0.5 - reached) / 3))
    return joins


def _rows(life: Life, worker: WorkerProcess) -> float:
    return life.number(worker, "agent_worker_rows_loaded_total")


def _load(line: str) -> tuple[int, int] | None:
    found = LOADED.search(line)
    return (int(found[2]), int(found[3])) if found else None
