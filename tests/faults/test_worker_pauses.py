"""Workers that are stopped for two session timeouts and wake up as zombies, also in the middle of a transaction.

What is compared in the end is in tests/life.py; here it is compared once more after everything was compacted and read
back from what that left.
"""

import time
from pathlib import Path
from typing import Final

import fault_table
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from harness import eventually
from life import Life, Load, Watched, drawn_seed, prepared, times
from troubled import STEPS

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(1_500)]

PAUSES: Final = times(20)
TROUBLED: Final = (str(Path(__file__).parent.parent / "troubled.py"),)
# Closes a segment at its next record, and cleans what is closed at once.
CLEANED: Final = {
    "segment.ms": "1000", "min.cleanable.dirty.ratio": "0", "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "500",
}  # fmt: skip
CLEANED_S: Final = 120
CLEANED_TO: Final = 3  # at most one in so many records is left; each key was written some hundred times


@pytest.mark.fault("T9")
async def test_a_worker_is_paused_for_two_session_timeouts_again_and_again(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Every other time it stops inside a transaction, at a step that is drawn."""
    await prepared(kafka, prefix)
    seed = drawn_seed()
    load = Load(seed=seed, rate=1_500)
    with Life(kafka, prefix, tmp_path, load=load, seed=seed, program=TROUBLED) as life, Watched(life) as watched:
        steps: list[str] = []
        for number in range(PAUSES):
            step = life.random.choice(sorted(STEPS)) if number % 2 else None
            life.pause(life.random.choice(life.workers), step)
            steps += [step] if step else []
        life.finish()
        assert {75} >= {code for worker in life.workers for code in worker.exits}, life.exits()
        ended = sum(len(worker.exits) for worker in life.workers)

        life.rate = 300
        life.publish_on()
        before, after = _compacted(life)
        life.kill(*life.workers)
        life.work_until(time.monotonic() + 5)
        life.finish()
        assert [] == watched.faults, life.logs()
    fault_table.record(
        "T9", "paused", pauses=PAUSES, inside_a_transaction=len(steps), ended_with_75=ended, events=life.published,
        changelog_before=before, compacted_to=after, seed=seed,
    )  # fmt: skip


def _compacted(life: Life) -> tuple[int, int]:
    """Have both changelogs compacted; return how many records they had and have."""
    names = [f"{life.prefix}{stage}.changelog" for stage in ("sessions", "rollups")]
    before = sum(len(life.broker.read(name)) for name in names)
    resources = [
        ConfigResource(
            ResourceType.TOPIC, name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in CLEANED.items()
            ],
        )
        for name in names
    ]  # fmt: skip
    for told in life.broker.admin.incremental_alter_configs(resources).values():
        told.result(10)
    return before, eventually(lambda: _fewer(life, names, before // CLEANED_TO), timeout_s=CLEANED_S, what=life.logs)


def _fewer(life: Life, names: list[str], limit: int) -> int:
    """Return how many records are left, once they are that few; else 0. Only an append closes a segment."""
    life.wait_for_progress()
    left = sum(len(life.broker.read(name)) for name in names)
    return left if left <= limit else 0
