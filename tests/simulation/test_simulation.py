"""Are all numbers exact, whatever happens?  Thousands of lives, and the proof that a wrong one would be noticed.

AGENT_STREAMS_SIM_SEEDS=20000 lives the seeds from 0; AGENT_STREAMS_SIM_SEEDS=500000:20000 begins elsewhere.
"""

import os
from collections import Counter
from typing import Final

import pytest
from simulation.life import WrongLife, live
from simulation.mutants import MUTANTS, nature_of
from simulation.owner import Owner
from simulation.reached import EXPECTED, reached
from simulation.world import Nature

SEEDS_VARIABLE: Final = "AGENT_STREAMS_SIM_SEEDS"
SEEDS: Final = 2_000
PER_TEST: Final = 100
MUTANT_SEEDS: Final = 1_000  # some mistakes show in one life of a hundred
REACHED_SEEDS: Final = 150


def seed_ranges() -> list[range]:
    first, _, count = os.environ.get(SEEDS_VARIABLE, f"0:{SEEDS}").rpartition(":")
    begin, end = int(first or 0), int(first or 0) + int(count)
    return [range(at, min(at + PER_TEST, end)) for at in range(begin, end, PER_TEST)]


def live_all(seeds: range, nature: Nature) -> None:
    for seed in seeds:
        live(seed, nature)


@pytest.mark.fault("T1")
@pytest.mark.parametrize("seeds", seed_ranges(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_every_life_ends_with_exact_numbers(seeds: range) -> None:
    wrong = []
    for seed in seeds:
        try:
            live(seed)
        except WrongLife as error:
            wrong.append(str(error))

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_worker_with_a_mistake_is_caught(mutant: type[Owner]) -> None:
    with pytest.raises(WrongLife):
        live_all(range(MUTANT_SEEDS), nature_of(mutant))


def test_lives_are_full_of_trouble() -> None:
    """What no life ever meets is not proven by any."""
    found: Counter[str] = Counter()
    for seed in range(REACHED_SEEDS):
        found += reached(live(seed))

    assert sorted(EXPECTED - found.keys()) == []
