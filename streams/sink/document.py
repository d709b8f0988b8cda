"""How do the same numbers read as JSON?  One object per metric of the catalogue, with its series, and the rankings.

Never a number that the other pages do not have, and the same units; but for the rankings, and for the `lifetime` of a
series that was reset by command, which they hide.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from streams.fold.gauges import Merge
from streams.sink.exposition import Samples
from streams.sink.metric import Kind, Metric
from streams.sink.series import Distribution, Series, pieces
from streams.sink.top import rankings
from streams.sink.view import View

SCHEMA: Final = 1

_encode: Final = msgspec.json.Encoder().encode


class DocumentLifetime(Struct, omit_defaults=True):
    """What a series would show if it had never been reset."""

    value: int | float | UnsetType = UNSET
    count: int | UnsetType = UNSET
    sum: int | float | UnsetType = UNSET
    buckets: dict[str, int] | UnsetType = UNSET


class DocumentSeries(Struct, omit_defaults=True):
    """One series: a `value`; of a histogram `count`, `sum` and the cumulative `buckets` by upper bound instead."""

    labels: dict[str, str]
    value: int | float | UnsetType = UNSET
    count: int | UnsetType = UNSET
    sum: int | float | UnsetType = UNSET
    buckets: dict[str, int] | UnsetType = UNSET
    created_ms: int | UnsetType = UNSET  # since when a counter counts, where that is known
    lifetime: DocumentLifetime | UnsetType = UNSET  # only of what was reset, at `reset_ms`
    reset_ms: int | UnsetType = UNSET


class DocumentMetric(Struct, omit_defaults=True):
    """One metric of the catalogue; it is there also while it has no series.

    `merge` says how the sources of a gauge are put together, `formula` what a derived metric is made of.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    series: list[DocumentSeries]
    merge: Merge | UnsetType = UNSET
    formula: str | UnsetType = UNSET


class DocumentPlace(Struct):
    """One key of a ranking."""

    labels: dict[str, str]
    value: int | float


class DocumentRanking(Struct):
    """The largest keys of a dimension, largest first; keys without a series of their own are among them."""

    dimension: str
    by: str
    unit: str
    places: list[DocumentPlace]


class Document(Struct):
    """Everything an exporter shows, as of one moment."""

    schema: Literal[1]
    time_ms: int
    metrics: list[DocumentMetric]
    top: list[DocumentRanking]


def as_json(view: View, samples: Samples, *, now_ms: int, customs: Sequence[Metric] = ()) -> Iterator[bytes]:
    """Yield a Document piece by piece; `samples` are the metrics that are no rows, by name."""
    yield b'{"schema":%d,"time_ms":%d,"metrics":[' % (SCHEMA, now_ms)
    last, opened = "", False
    for metric, some in pieces(view, samples, customs):
        head = b""
        if metric.name != last:
            named = {"name": metric.name, "kind": metric.kind, "unit": metric.unit, "help": metric.help}
            if metric.merge is not None:
                named["merge"] = metric.merge
            if metric.formula is not None:
                named["formula"] = metric.formula.text
            head = (b"]},\n" if last else b"") + _encode(named)[:-1] + b',"series":['
            last, opened = metric.name, False
        series = b",".join([_encode(_series(each, cumulative=metric.kind != "gauge")) for each in some])
        if series and opened:
            series = b"," + series
        opened = opened or bool(series)
        yield head + series
    yield b'%b],"top":[' % (b"]}" if last else b"")
    separator = b"\n"
    for ranking, places in rankings(view):
        shown = [DocumentPlace(dict(place.labels), place.value) for place in places]
        yield separator + _encode(DocumentRanking(ranking.dimension.name, ranking.by, ranking.unit, shown))
        separator = b",\n"
    yield b"]}\n"


def _series(series: Series, *, cumulative: bool) -> DocumentSeries:
    made = DocumentSeries(dict(series.labels))
    _tell(made, series.value)
    if cumulative and series.created_ms >= 0:
        made.created_ms = series.created_ms
    if series.lifetime is not None:
        made.lifetime, made.reset_ms = DocumentLifetime(), series.reset_ms
        _tell(made.lifetime, series.lifetime)
    return made


def _tell(made: DocumentSeries | DocumentLifetime, value: float | Distribution) -> None:
    if isinstance(value, Distribution):
        made.count, made.sum, made.buckets = value.observed, value.sum, dict(value.buckets)
    else:
        made.value = value
