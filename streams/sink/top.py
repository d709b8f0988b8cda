"""Which keys are the largest?  Rankings over every row, those included that share the overflow's series.

Never a metric: a place in a ranking comes and goes, which no series may.
"""

from collections.abc import Iterator
from heapq import nlargest
from typing import Final, NamedTuple

from streams.fold.measure import AGENT, MODEL, TENANT, TOOL, Dimension
from streams.fold.rollup import LifetimeRow
from streams.sink.metric import SCALES
from streams.sink.view import View

KEYS_SHOWN: Final = 10  # what fits a screen


class Ranking(NamedTuple):
    """Keys of one dimension by the sum of some measures."""

    dimension: Dimension
    by: str
    unit: str
    measures: tuple[str, ...]


RANKINGS: Final = (
    Ranking(AGENT, "requests", "", ("requests_ended",)),
    Ranking(AGENT, "errors", "", ("errors",)),
    Ranking(AGENT, "tokens", "tokens", ("input_tokens", "output_tokens")),
    Ranking(AGENT, "cost", "usd", ("cost_nano_usd",)),
    Ranking(TOOL, "calls", "", ("tool_calls_ended",)),
    Ranking(TOOL, "failures", "", ("tool_calls_error", "tool_calls_timeout", "tool_calls_validation_error")),
    Ranking(MODEL, "calls", "", ("model_calls_ended",)),
    Ranking(MODEL, "tokens", "tokens", ("input_tokens", "output_tokens")),
    Ranking(MODEL, "cost", "usd", ("cost_nano_usd",)),
    Ranking(TENANT, "tokens", "tokens", ("input_tokens", "output_tokens")),
    Ranking(TENANT, "cost", "usd", ("cost_nano_usd",)),
)


class Place(NamedTuple):
    """One key of a ranking, with its number in the exported unit."""

    labels: tuple[tuple[str, str], ...]
    value: float


def rankings(view: View) -> Iterator[tuple[Ranking, list[Place]]]:
    """Yield each ranking, the largest first; keys of equal size by name, keys without any not at all."""
    for ranking in RANKINGS:
        rows = [row for group in view.groups(ranking.dimension.name) for row in group.members.values()]
        counted = ((_sum(ranking, row), row.labels) for row in rows)
        largest = nlargest(KEYS_SHOWN, (each for each in counted if each[0] > 0))
        yield (
            ranking,
            [
                Place(tuple(zip(ranking.dimension.columns, labels, strict=True)), _exported(ranking, stored))
                for stored, labels in sorted(largest, key=lambda each: (-each[0], each[1]))
            ],
        )


def _sum(ranking: Ranking, row: LifetimeRow) -> int:
    return sum(row.sums.get(name, 0) for name in ranking.measures)


def _exported(ranking: Ranking, stored: int) -> float:
    scale = SCALES.get(ranking.unit, 1)
    return stored if scale == 1 else stored / scale
