"""One seed, one life, one verdict."""

from random import Random
from typing import Final

from simulation.judge import Judge
from simulation.limits import small_limits
from simulation.world import Nature, World

ORDINARY: Final = Nature()
TORN: Final = Nature(torn=True)
TORN_EVERY: Final = 5


class WrongLife(AssertionError):
    """A life whose end is not what it must be; says how to see it again."""


def nature_by(seed: int) -> Nature:
    """Return the kind of life a seed leads: one in five has a broker that breaks its promise."""
    return TORN if seed % TORN_EVERY == TORN_EVERY - 1 else ORDINARY


def live(seed: int, nature: Nature | None = None) -> World:
    """Live one life and judge it; returns what is left of it."""
    with small_limits(Random(f"limits {seed}")):
        world = World(seed, nature or nature_by(seed))
        try:
            world.live()
            Judge(world).judge()
        except Exception as error:
            again = f"PYTHONPATH=.:tests python -m simulation {seed}"
            raise WrongLife(f"seed {seed}: {type(error).__name__}: {error}\nonce more: {again}") from error
    return world
