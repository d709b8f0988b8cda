"""Small limits for short lives: what takes millions of events to happen in production happens within a hundred here."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Final

from streams.fold import apply, cells, dedup, live, measure
from streams.stage import arming, batches, commands, erasing, gauges, rollups, session_table, sessions

_KNOBS: Final[tuple[tuple[ModuleType, str, tuple[int, ...]], ...]] = (
    (apply, "OPEN_MAX", (3, 256)),
    (arming, "ARM_PER_STEP", (1, 5_000)),
    (batches, "BATCH_BYTES_MAX", (1_500, 900_000)),
    (batches, "ROUTES_MAX", (2, 50_000)),
    (cells, "CELLS_KEPT_MAX", (0, 5, 50_000)),
    (cells, "PANES_KEPT_MAX", (1, 4)),
    (commands, "IDS_MAX", (2, 10_000)),
    (dedup, "IDS_PER_SEGMENT", (2, 512)),
    (erasing, "ROWS_PER_STEP", (1, 1_000)),
    (gauges, "EXPIRE_PER_STEP", (60, 2_000)),
    (rollups, "COARSEN_PER_STEP", (3, 2_000)),
    (live, "PANES_MAX", (3, 61)),
    (live, "TOOLS_MAX", (2, 64)),
    (sessions, "BLOCK_EVENTS", (1, 3, 64)),
    (sessions, "EXPIRE_PER_TICK", (1, 5_000)),
    (session_table, "PACK_AFTER_MS", (1_000, 60_000)),
)
_CAPPED: Final = ("user", "tool", "agent_tool", "model", "tenant", "a2a", "a2a_agent", "cache", "custom", "cycle")


@contextmanager
def small_limits(random: Random) -> Iterator[None]:
    """Draw limits for one life, and put the real ones back behind it."""
    kept = [(module, name, getattr(module, name)) for module, name, _ in _KNOBS]
    dimensions = dict(measure.DIMENSIONS)
    try:
        for module, name, values in _KNOBS:
            setattr(module, name, random.choice(values))
        for name in _CAPPED:
            cap = random.choice((1, 3, 1_000))
            measure.DIMENSIONS[name] = dimensions[name]._replace(rows_max=cap)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        measure.DIMENSIONS.update(dimensions)
