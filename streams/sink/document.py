"""How do the same numbers read as JSON?  One object per metric of the catalogue, with its series.

Never a number that the other pages do not have, and the same units; but a series that was reset by command also has its
`lifetime`, which they hide, and since when it counts (`reset`, Unix time).
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import msgspec

from streams.fold.baseline import reset_ms
from streams.fold.rollup import LifetimeRow
from streams.sink.catalog import METRICS
from streams.sink.exposition import BOUNDS, Samples
from streams.sink.metric import Metric
from streams.sink.view import View

_encode = msgspec.json.Encoder().encode


def as_json(view: View, samples: Samples) -> Iterator[bytes]:
    """Yield a JSON object, metric by metric; `samples` are the metrics that are no rows, by name."""
    separator = b'{"metrics":['
    for metric in METRICS:
        series = list(_series(metric, view, samples))
        if series:
            named = {"name": metric.name, "kind": metric.kind, "unit": metric.unit, "help": metric.help}
            yield separator + _encode({**named, "series": series})
            separator = b",\n"
    yield b"]}\n" if separator == b",\n" else separator + b"]}\n"


def _series(metric: Metric, view: View, samples: Samples) -> Iterator[Mapping[str, Any]]:
    if metric.dimension is None:
        for sample in samples.get(metric.name, ()):
            yield {"labels": dict(zip(metric.columns, sample.labels, strict=True)), "value": sample.value}
        return
    for group in view.groups(metric.dimension.name):
        labels = dict(zip(metric.dimension.columns, group.labels, strict=True))
        lifetimes = _of_row(metric, group.row)
        begun_ms = reset_ms(group.shown, metric.names) if metric.grows else -1
        if begun_ms < 0:
            yield from ({"labels": {**labels, **own}, **numbers} for own, numbers in lifetimes)
            continue
        for (own, shown), (_, lifetime) in zip(_of_row(metric, group.shown), lifetimes, strict=True):
            yield {"labels": {**labels, **own}, **shown, "lifetime": lifetime, "reset": begun_ms / 1000}


def _of_row(metric: Metric, row: LifetimeRow) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the metric's own labels and its numbers, a series each."""
    if metric.histogram is not None:
        return _histogram(metric, row)
    found: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for part in metric.parts:
        own = {metric.own_label: part.value} if metric.own_label is not None else {}
        value = sum(row.sums.get(name, 0) for name in part.plus) - sum(row.sums.get(name, 0) for name in part.minus)
        found.append((own, {"value": value if metric.scale == 1 else value / metric.scale}))
    return found


def _histogram(metric: Metric, row: LifetimeRow) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    seen = row.histograms.get(metric.histogram or "")
    if seen is None:
        return []
    cumulative = list(accumulate(seen.buckets))
    numbers = {
        "count": cumulative[-1],
        "sum": seen.sum_us / metric.scale,
        "buckets": dict(zip(BOUNDS, cumulative, strict=True)),
    }
    return [({}, numbers)]
