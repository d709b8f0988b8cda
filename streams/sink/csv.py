"""How do the same numbers read as a table?  RFC 4180: one row per series, one column per label there is.

Never a column that comes and goes: all labels of the catalogue and of declared metrics are columns, empty where a
metric has none of that name.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from streams.sink.catalog import METRICS
from streams.sink.exposition import Samples
from streams.sink.metric import Metric
from streams.sink.moment import rfc3339
from streams.sink.series import Distribution, Series, pieces
from streams.sink.view import View

LABELS: Final = tuple(dict.fromkeys(column for metric in METRICS for column in metric.columns))
HEAD: Final = ("metric", "metric_kind", "metric_unit")
TAIL: Final = ("le", "value", "time")
_QUOTED: Final = frozenset(',"\r\n')
_END: Final = "\r\n"


def as_csv(view: View, samples: Samples, *, now_ms: int, customs: Sequence[Metric] = ()) -> Iterator[bytes]:
    """Yield the table piece by piece, header first; a histogram has a row for each bucket, its count and its sum."""
    time = rfc3339(now_ms)
    labels = tuple(dict.fromkeys((*LABELS, *(column for metric in customs for column in metric.columns))))
    yield (",".join((*HEAD, *labels, *TAIL)) + _END).encode()
    for metric, some in pieces(view, samples, customs):
        kind = f"{metric.kind},{metric.unit}"
        text = "".join([_rows(metric.name, kind, each, labels, time) for each in some])
        if text:
            yield text.encode()


def _rows(name: str, kind: str, series: Series, columns: Sequence[str], time: str) -> str:
    """Write the rows of a series; what they share is put together once."""
    named = dict(series.labels)
    shared = ",".join([_cell(named[column]) if column in named else "" for column in columns])
    value = series.value
    if not isinstance(value, Distribution):
        return f"{name},{kind},{shared},,{value!r},{time}{_END}"
    head, tail = f"{name}_bucket,{kind},{shared},", f",{time}{_END}"
    buckets = "".join([f"{head}{bound},{count}{tail}" for bound, count in value.buckets])
    observed = f"{name}_count,{kind},{shared},,{value.observed}{tail}"
    return f"{buckets}{observed}{name}_sum,{kind},{shared},,{value.sum!r}{tail}"


def _cell(text: str) -> str:
    """Quote a cell that holds a comma, a quote or a line end."""
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.intersection(text) else text
