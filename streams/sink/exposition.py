"""How do pages of metrics read: Prometheus text 0.0.4 and OpenMetrics 1.0, rendered anew only where rows have changed.

Never asks for a number twice: a group of rows becomes one piece of text per metric, kept until the group changes.
Order is the catalogue's, then that of label values, so equal views make equal pages.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from streams.fold.baseline import created_ms
from streams.fold.measure import DIMENSIONS
from streams.fold.rollup import Exemplar, LifetimeRow
from streams.fold.sketch import DURATION_BOUNDS_US
from streams.sink.catalog import METRICS, by_dimension
from streams.sink.derived import worth
from streams.sink.metric import US_PER_SECOND, Formula, Metric, Sample, labels_of
from streams.sink.view import Group, View

GROUPS_PER_STEP: Final = 8  # about 0.2 ms
BOUNDS: Final = (*(repr(bound / US_PER_SECOND) for bound in DURATION_BOUNDS_US), "+Inf")

Samples: TypeAlias = Mapping[str, Sequence[Sample]]
# The text of one metric for one group: given the labels as text, when they were first seen ("" for unknown), the row to
# show, and the group.
Write: TypeAlias = Callable[[str, str, LifetimeRow, Group], str]


class Writer(NamedTuple):
    """How a metric is written, whether a reset lets it begin anew, and the names that it is made of."""

    write: Write
    grows: bool
    names: tuple[str, ...]
    custom: Metric | None = None  # one of those that share rows, under labels of its own

    def of(self, labels: str, created: str, group: Group) -> str:
        """Return the text of a group; `created` holds for what never was reset."""
        shown = group.shown
        if self.custom is not None:
            values = labels_of(self.custom, group.row, group.labels)
            if values is None:
                return ""
            labels = label_text(self.custom.columns, values)
        if not self.grows or shown.baseline is None:
            return self.write(labels, created, group.row, group)
        return self.write(labels, _seconds(created_ms(shown, self.names)), shown, group)


class Page:
    """The page of one view in one of the two formats."""

    def __init__(self, view: View, *, openmetrics: bool, customs: Sequence[Metric] = ()) -> None:
        self._view = view
        self._openmetrics = openmetrics
        self._metrics = (*METRICS, *customs)
        self._of_dimension = by_dimension(self._metrics)
        self._changed = view.watch()
        self._writers = {
            name: [_writer(metric, openmetrics=openmetrics) for metric in metrics]
            for name, metrics in self._of_dimension.items()
        }
        self._pieces: dict[Group, list[str]] = {}
        self._labels: dict[Group, str] = {}
        self._blocks: dict[str, bytes] = {}  # by metric; gone when a piece of it has changed
        self._heads = {metric.name: _head(metric, openmetrics=openmetrics) for metric in self._metrics}

    def refresh(self) -> Iterator[None]:
        """Render the groups that changed since the last time, a step at a time."""
        changed = self._changed
        while changed:
            for _ in range(min(GROUPS_PER_STEP, len(changed))):
                self._render(changed.pop())
            yield

    def blocks(self, samples: Samples) -> Iterator[bytes]:
        """Yield the page, metric by metric; `samples` are the metrics that are no rows, by name."""
        for metric in self._metrics:
            if metric.dimension is None:
                lines = _lines(metric, samples.get(metric.name, ()), openmetrics=self._openmetrics)
                block = (self._heads[metric.name] + lines).encode() if lines else b""
            else:
                known = self._blocks.get(metric.name)
                block = self._join(metric, metric.dimension.name) if known is None else known
            if block:
                yield block
        if self._openmetrics:
            yield b"# EOF\n"

    def _render(self, group: Group) -> None:
        metrics = self._of_dimension[group.dimension]
        before = self._pieces.pop(group, None)
        if group.members:
            labels = self._labels.get(group)
            if labels is None:
                labels = self._labels[group] = label_text(DIMENSIONS[group.dimension].columns, group.labels)
            created = _seconds(group.row.created_ms)
            after = self._pieces[group] = [each.of(labels, created, group) for each in self._writers[group.dimension]]
        else:
            self._labels.pop(group, None)
            after = [""] * len(metrics)
        if before is None:
            before = [""] * len(metrics)
        for metric, old, new in zip(metrics, before, after, strict=True):
            if old != new:
                self._blocks.pop(metric.name, None)

    def _join(self, metric: Metric, dimension: str) -> bytes:
        pieces, at = self._pieces, self._of_dimension[dimension].index(metric)
        text = "".join([pieces[group][at] for group in self._view.groups(dimension)])
        block = self._blocks[metric.name] = (self._heads[metric.name] + text).encode() if text else b""
        return block


def label_text(columns: Iterable[str], values: Iterable[str]) -> str:
    """Write labels without their braces; backslashes, quotes and line feeds in values are escaped."""
    return ",".join(f'{column}="{_escaped(value)}"' for column, value in zip(columns, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}" if ms >= 0 else ""


def _head(metric: Metric, *, openmetrics: bool) -> str:
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        kind = "gauge" if metric.kind == "info" else metric.kind
        return f"# HELP {metric.name} {text}\n# TYPE {metric.name} {kind}\n"
    quoted = text.replace('"', '\\"')
    unit = f"# UNIT {metric.family} {metric.unit}\n" if metric.unit else ""
    return f"# HELP {metric.family} {quoted}\n# TYPE {metric.family} {metric.kind}\n{unit}"


def _lines(metric: Metric, samples: Iterable[Sample], *, openmetrics: bool) -> str:
    """Write the samples of a metric that reads no rows."""
    lines: list[str] = []
    for sample in samples:
        labels = label_text(metric.columns, sample.labels)
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{metric.name}{braced} {sample.value!r}\n")
        if openmetrics and metric.kind == "counter" and sample.created_ms >= 0:
            lines.append(f"{metric.family}_created{braced} {_seconds(sample.created_ms)}\n")
    return "".join(lines)


# ---- rows --------------------------------------------------------------------------------------------------------
# A template per metric, filled in by one % for all series of a row: a third of the time of a line each.


def _writer(metric: Metric, *, openmetrics: bool) -> Writer:
    shared = None if metric.custom is None else metric
    return Writer(_write(metric, openmetrics), metric.grows, metric.names, shared)


def _write(metric: Metric, openmetrics: bool) -> Write:
    if metric.histogram is not None:
        return _histogram_writer(metric, openmetrics)
    if metric.gauge is not None:
        return _gauge_writer(metric, metric.gauge)
    if metric.formula is not None:
        return _formula_writer(metric, metric.formula)
    return _parts_writer(metric, openmetrics)


def _gauge_writer(metric: Metric, gauge: str) -> Write:
    scale = metric.scale
    template = f"{metric.name}{{%s}} {'%d' if scale == 1 else '%r'}\n"

    def write(labels: str, _: str, _row: LifetimeRow, group: Group) -> str:
        level = group.gauges.get(gauge)
        if level is None:
            return ""
        return template % (labels, level.value if scale == 1 else level.value / scale)

    return write


def _formula_writer(metric: Metric, formula: Formula) -> Write:
    template = f"{metric.name}{{%s}} %r\n"

    def write(labels: str, _: str, _row: LifetimeRow, group: Group) -> str:
        value = worth(formula, group.row, group.gauges)
        return "" if value is None else template % (labels, value)

    return write


def _parts_writer(metric: Metric, openmetrics: bool) -> Write:
    scale, parts = metric.scale, metric.parts
    value = "%d" if scale == 1 else "%r"
    owns = [f',{metric.own_label}="{_escaped(part.value)}"' if part.value is not None else "" for part in parts]
    plain = "".join(f"{metric.name}{{%s{own}}} {value}\n" for own in owns)
    dated = "".join(f"{metric.name}{{%s{own}}} {value}\n{metric.family}_created{{%s{own}}} %s\n" for own in owns)
    with_created = openmetrics and metric.kind == "counter"

    def write(labels: str, created: str, row: LifetimeRow, _: Group) -> str:
        get = row.sums.get
        filled: list[object] = []
        for _value, plus, minus in parts:
            number: float = get(plus[0], 0) if len(plus) == 1 else sum(get(name, 0) for name in plus)
            for name in minus:
                number -= get(name, 0)
            filled += (labels, number if scale == 1 else number / scale)
            if with_created and created:
                filled += (labels, created)
        return (dated if with_created and created else plain) % tuple(filled)

    return write


def _histogram_writer(metric: Metric, openmetrics: bool) -> Write:
    name, histogram, scale = metric.name, metric.histogram or "", metric.scale
    bounds = metric.bound_texts
    totals = f"{name}_count{{%s}} %d\n{name}_sum{{%s}} %r\n"
    began = f"{name}_created{{%s}} %s\n"
    plain = "".join(f'{name}_bucket{{%s,le="{bound}"}} %d\n' for bound in bounds) + totals
    traced = "".join(f'{name}_bucket{{%s,le="{bound}"}} %d%s\n' for bound in bounds) + totals
    dated, traced_dated = plain + began, traced + began

    def write(labels: str, created: str, row: LifetimeRow, _: Group) -> str:
        seen = row.histograms.get(histogram)
        if seen is None:
            return ""
        filled: list[object] = []
        count = 0
        exemplars = seen.exemplars if openmetrics else None
        if exemplars:
            for at, count in enumerate(accumulate(seen.buckets)):
                filled += (labels, count, _exemplar(exemplars.get(at), scale))
        else:
            for count in accumulate(seen.buckets):
                filled += (labels, count)
        filled += (labels, count, labels, seen.sum_us / scale)
        if openmetrics and created:
            filled += (labels, created)
            return (traced_dated if exemplars else dated) % tuple(filled)
        return (traced if exemplars else plain) % tuple(filled)

    return write


def _exemplar(exemplar: Exemplar | None, scale: int) -> str:
    """Write what follows the value of a bucket: the trace, the duration and when it was."""
    if exemplar is None:
        return ""
    return f' # {{trace_id="{exemplar.trace_id}"}} {exemplar.value_us / scale!r} {_seconds(exemplar.event_ms)}'
