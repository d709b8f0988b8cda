"""Ten times as many lives as with every change, on every core: what is rare in two thousand is not in twenty."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import pytest
from fault_table import record
from simulation.life import WrongLife, live
from simulation.test_simulation import SEEDS

LIVES: Final = 20_000
PER_TASK: Final = 100

pytestmark = [pytest.mark.long, pytest.mark.fault("T1"), pytest.mark.timeout(5_400)]


def lived(seeds: range) -> tuple[int, float, list[str]]:
    """Live some lives; return their events, the processor time they took, and what was wrong."""
    events, wrong, began_s = 0, [], time.process_time()
    for seed in seeds:
        try:
            published = live(seed).published
        except WrongLife as error:
            wrong.append(str(error))
        else:
            events += sum(len(one.events) for records in published.values() for _, one in records)
    return events, time.process_time() - began_s, wrong


def test_twenty_thousand_lives_end_with_exact_numbers() -> None:
    first = SEEDS  # those before are lived with every change
    tasks = [range(at, at + PER_TASK) for at in range(first, first + LIVES, PER_TASK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lived, tasks))

    wrong = [each for _, _, some in found for each in some]
    record(
        "T1", "lives", lives=LIVES, first_seed=first, events=sum(events for events, _, _ in found), wrong=len(wrong),
        cpu_s=round(sum(cpu_s for _, cpu_s, _ in found)),
    )  # fmt: skip
    assert not wrong, "\n".join(wrong)
