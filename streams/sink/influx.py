"""How do the same numbers read as InfluxDB line protocol?  One line per series: measurement, tags, fields, nanoseconds.

Never changes a field's type: InfluxDB refuses an integer where it has stored a float, so the metric decides, not the
value.  Format: InfluxData, "Line protocol" reference.  Histograms are laid out as Telegraf does: a field per bound.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Final

from streams.sink.exposition import Samples
from streams.sink.metric import Metric
from streams.sink.series import Distribution, Labels, Series, integral, pieces
from streams.sink.view import View

NS_PER_MS: Final = 1_000_000
INT64_MAX: Final = 2**63 - 1
# The protocol has no line ends, tabs or other control characters in tags: they are written as people write them.
_TAG: Final = str.maketrans(
    {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\v": "\\v", ",": "\\,", "=": "\\=", " ": "\\ "}
)
_MEASUREMENT: Final = str.maketrans({",": "\\,", " ": "\\ "})
_BACKSLASH_AT_END: Final = "%5C"  # a backslash there would escape what ends the tag; nothing else can stand for it


def as_influx(view: View, samples: Samples, *, now_ms: int, customs: Sequence[Metric] = ()) -> Iterator[bytes]:
    """Yield the lines piece by piece; a number that the protocol cannot hold has no line."""
    stamp = now_ms * NS_PER_MS
    for metric, some in pieces(view, samples, customs):
        measurement = metric.name.translate(_MEASUREMENT)
        whole = integral(metric)
        text = "".join(
            f"{measurement}{_tags(each.labels)} {fields} {stamp}\n" for each in some if (fields := _fields(each, whole))
        )
        if text:
            yield text.encode()


def _tags(labels: Labels) -> str:
    """Write tags in the order of their names, which InfluxDB asks for; one without a value cannot be written."""
    return "".join(f",{tag(name)}={tag(value)}" for name, value in sorted(labels) if value)


def tag(text: str) -> str:
    """Escape a tag's name or value, or a field's name."""
    bare = text.rstrip("\\")
    return bare.translate(_TAG) + _BACKSLASH_AT_END * (len(text) - len(bare))


def _fields(series: Series, whole: bool) -> str:
    value = series.value
    if isinstance(value, Distribution):
        if value.observed > INT64_MAX:
            return ""
        return ",".join([*_integers(value.buckets), f"count={value.observed}i", f"sum={value.sum!r}"])
    if whole:
        return f"value={int(value)}i" if abs(value) <= INT64_MAX else ""
    return f"value={float(value)!r}" if isfinite(value) else ""


def _integers(buckets: Iterable[tuple[str, int]]) -> Iterator[str]:
    for bound, count in buckets:
        yield f"{bound}={count}i"
