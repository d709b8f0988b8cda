"""Which numbers are there?  Every series of every metric, in the catalogue's order, for all formats but the texts.

Never writes a format and never rounds: integers stay integers until their unit asks for a fraction.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from streams.fold.baseline import created_ms, reset_ms
from streams.fold.rollup import Exemplar, LifetimeRow, LogBins
from streams.sink.catalog import METRICS
from streams.sink.derived import worth
from streams.sink.exposition import Samples
from streams.sink.metric import Metric, labels_of
from streams.sink.view import Group, View

GROUPS_PER_PIECE: Final = 32  # of a histogram about 0.5 ms in the slowest format

Labels: TypeAlias = tuple[tuple[str, str], ...]  # name and value


class Distribution(NamedTuple):
    """A histogram of one series: `buckets` are cumulative, by upper bound as text, the last is +Inf."""

    observed: int
    sum: float
    buckets: tuple[tuple[str, int], ...]
    exemplars: tuple[Exemplar, ...] = ()
    log_bins: LogBins | None = None


class Series(NamedTuple):
    """One series of a metric in its exported unit; `created_ms` is when its counting began, −1 for unknown.

    `lifetime` is what it would be without its last reset, at `reset_ms`; None and −1 when there was none.
    """

    labels: Labels
    value: float | Distribution
    created_ms: int
    lifetime: float | Distribution | None = None
    reset_ms: int = -1


def integral(metric: Metric) -> bool:
    """Is every value of the metric a whole number, now and always?  Stores that type their columns ask."""
    if metric.histogram is not None or metric.formula is not None or metric.scale != 1:
        return False
    return metric.dimension is not None or metric.kind in {"counter", "info"}


def pieces(view: View, samples: Samples, customs: Sequence[Metric] = ()) -> Iterator[tuple[Metric, list[Series]]]:
    """Yield every metric at least once with some of its series; `samples` are the metrics that are no rows, by name."""
    for metric in (*METRICS, *customs):
        if metric.dimension is None:
            yield (
                metric,
                [
                    Series(tuple(zip(metric.columns, sample.labels, strict=True)), sample.value, sample.created_ms)
                    for sample in samples.get(metric.name, ())
                ],
            )
            continue
        groups = view.groups(metric.dimension.name)
        for begin in range(0, max(len(groups), 1), GROUPS_PER_PIECE):
            yield metric, [each for group in groups[begin : begin + GROUPS_PER_PIECE] for each in _of(metric, group)]


def _of(metric: Metric, group: Group) -> Iterator[Series]:
    begun_ms = reset_ms(group.shown, metric.names) if metric.grows else -1
    lifetimes = _values(metric, group, group.row)
    if begun_ms < 0:
        for labels, value in lifetimes:
            yield Series(labels, value, group.row.created_ms)
        return
    begin_ms = created_ms(group.shown, metric.names)
    for (labels, value), (_, lifetime) in zip(_values(metric, group, group.shown), lifetimes, strict=True):
        yield Series(labels, value, begin_ms, lifetime, begun_ms)


def _values(metric: Metric, group: Group, row: LifetimeRow) -> list[tuple[Labels, float | Distribution]]:
    """Return labels and value of each series of a group, made of one of its rows."""
    assert metric.dimension is not None
    values = labels_of(metric, group.row, group.labels)
    if values is None:
        return []
    columns = metric.dimension.columns if metric.custom is None else metric.columns
    labels = tuple(zip(columns, values, strict=True))
    if metric.histogram is not None:
        distribution = _distribution(metric, row)
        return [] if distribution is None else [(labels, distribution)]
    if metric.formula is not None or metric.gauge is not None:
        single = _single(metric, group)
        return [] if single is None else [(labels, single)]
    sums = row.sums
    found: list[tuple[Labels, float | Distribution]] = []
    for part in metric.parts:
        stored = sum(sums.get(name, 0) for name in part.plus) - sum(sums.get(name, 0) for name in part.minus)
        own = () if metric.own_label is None or part.value is None else ((metric.own_label, part.value),)
        found.append((labels + own, stored if metric.scale == 1 else stored / metric.scale))
    return found


def _single(metric: Metric, group: Group) -> float | None:
    """Return what is no sum of a row: what sources say now, or what a formula makes of a key."""
    if metric.formula is not None:
        return worth(metric.formula, group.row, group.gauges)
    level = group.gauges.get(metric.gauge or "")
    if level is None:
        return None
    return level.value if metric.scale == 1 else level.value / metric.scale


def _distribution(metric: Metric, row: LifetimeRow) -> Distribution | None:
    seen = row.histograms.get(metric.histogram or "")
    if seen is None:
        return None
    cumulative = tuple(accumulate(seen.buckets))
    buckets = tuple(zip(metric.bound_texts, cumulative, strict=True))
    return Distribution(
        cumulative[-1], seen.sum_us / metric.scale, buckets, tuple(seen.exemplars.values()), seen.log_bins
    )
