"""How do the same numbers read as a table?  RFC 4180: one row per series, one column per label there is.

Never a column that comes and goes: all labels of the catalogue are columns, empty where a metric has none of that name.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from streams.sink.catalog import METRICS
from streams.sink.exposition import Samples
from streams.sink.moment import rfc3339
from streams.sink.series import Distribution, Series, pieces
from streams.sink.view import View

LABELS: Final = tuple(dict.fromkeys(column for metric in METRICS for column in metric.columns))
COLUMNS: Final = ("metric", "metric_kind", "metric_unit", *LABELS, "le", "value", "time")
_QUOTED: Final = frozenset(',"\r\n')
_END: Final = "\r\n"


def as_csv(view: View, samples: Samples, *, now_ms: int) -> Iterator[bytes]:
    """Yield the table piece by piece, header first; a histogram has a row for each bucket, its count and its sum."""
    time = rfc3339(now_ms)
    yield (",".join(COLUMNS) + _END).encode()
    for metric, some in pieces(view, samples):
        text = "".join(
            _line([name, metric.kind, metric.unit, *cells, value, time])
            for each in some
            for name, cells, value in _rows(metric.name, each)
        )
        if text:
            yield text.encode()


def _rows(name: str, series: Series) -> Iterator[tuple[str, list[str], str]]:
    """Yield name, cells of labels and value of each row a series has."""
    labels = dict(series.labels)
    cells = [labels.get(column, "") for column in LABELS]
    if not isinstance(series.value, Distribution):
        yield name, [*cells, ""], repr(series.value)
        return
    for bound, count in series.value.buckets:
        yield f"{name}_bucket", [*cells, bound], str(count)
    yield f"{name}_count", [*cells, ""], str(series.value.observed)
    yield f"{name}_sum", [*cells, ""], repr(series.value.sum)


def _line(cells: Iterable[str]) -> str:
    return ",".join(_cell(cell) for cell in cells) + _END


def _cell(text: str) -> str:
    """Quote a cell that holds a comma, a quote or a line end."""
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _QUOTED.intersection(text) else text
