"""What is a metric: its name, kind, unit and labels, and which measures of which rows it is made of.

Never a number: `streams.sink.catalog` lists the metrics, the view holds what they show.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from streams.event.custom import label_values
from streams.fold import measure
from streams.fold.gauges import GAUGES, Merge
from streams.fold.measure import AGENT, AGENT_TOOL, ALL, MODEL, PARTITION, PROVIDER, TENANT, TOOL, Dimension
from streams.fold.rollup import LifetimeRow
from streams.fold.session import OVERFLOW
from streams.fold.shapes import StoredUnit, bounds_of, shape_of

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info", "summary"]
# Where the numbers of a metric come from when they are no rows: the view as a whole, or the process that serves it.
Origin: TypeAlias = Literal["alerts", "breakers", "view", "exporter", "worker", "notify", "ingest"]

US_PER_SECOND: Final = 1_000_000
NANO_PER_USD: Final = 1_000_000_000
MILLION: Final = 1_000_000
SCALES: Final[Mapping[str, int]] = {"seconds": US_PER_SECOND, "usd": NANO_PER_USD}  # stored units in an exported one
# What observations are exported in; a score or a temperature has no unit.
EXPORTED: Final[Mapping[StoredUnit, tuple[str, int]]] = {
    "us": ("seconds", US_PER_SECOND),
    "bytes": ("bytes", 1),
    "tokens": ("tokens", 1),
    "nano_usd": ("usd", NANO_PER_USD),
    "millionths": ("", MILLION),
    "count": ("", 1),
}

# How many keys of a dimension have series of their own; the rest share one each, labelled OVERFLOW.  Names of agents,
# tools, models and tenants are chosen by whoever publishes: with these SERIES_MAX is the most there can be.
# Partitions are chosen by the operator, and how many series a custom metric's key has by who declares it.
SERIES_MAX: Final = 100_000
KEYS_MAX: Final[Mapping[str, int]] = {
    ALL.name: 1,
    AGENT.name: 200,
    TOOL.name: 200,
    MODEL.name: 50,
    PROVIDER.name: 20,
    TENANT.name: 200,
    measure.USER.name: 0,  # who a person is, is nobody's label
    AGENT_TOOL.name: 500,
    measure.ENDPOINT.name: 100,
    measure.COMPONENT.name: 100,
    measure.DEGRADED.name: 200,
    measure.MODEL_ERROR.name: 200,
    measure.MODEL_FINISH.name: 200,
    measure.MODEL_SWITCH.name: 200,
    measure.PARAMETER.name: 200,
    measure.CYCLE.name: 150,
    measure.CONVERSATION.name: 100,
    measure.FEEDBACK.name: 100,
    measure.RATE_LIMIT.name: 200,
    measure.GUARD.name: 200,
    measure.CACHE.name: 100,
    measure.RESOURCE.name: 200,
    measure.DISCOVERY.name: 10,
    measure.EXECUTION.name: 20,
    measure.SDK.name: 50,
    measure.FILTERING.name: 20,
    measure.SKILL.name: 200,
    measure.SECURITY.name: 100,
    measure.A2A.name: 400,
    measure.A2A_AGENT.name: 100,
    measure.CCR.name: 200,
    measure.CCR_PROVIDER.name: 50,
    measure.PAYLOAD.name: 100,
    measure.SESSION_END.name: 50,
    measure.CUSTOM.name: 500,
    PARTITION.name: PARTITION.rows_max,
}
BREAKERS_MAX: Final = 500  # circuits with a series of their own; states cannot be added up, so the rest have none


class Sample(NamedTuple):
    """One number of a metric that reads no rows; `created_ms` is when a counter began, −1 for unknown."""

    labels: tuple[str, ...]
    value: float
    created_ms: int = -1


class Part(NamedTuple):
    """One value of a metric's own label, and the measures that are added and subtracted for it."""

    value: str | None
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()


class Input(NamedTuple):
    """One integer that a formula takes: a measure, or what a gauge or a histogram of the same key says."""

    what: Literal["measure", "gauge", "sources", "count", "sum", "min", "max"]
    name: str


class Formula(NamedTuple):
    """How a derived metric is made of the integers of one key: in words, and as a function of its inputs in order.

    Without one of its inputs, or when the function returns None, there is no such series; a `partial` one is given
    None for an input that is missing.
    """

    text: str
    inputs: tuple[Input, ...]
    of: Callable[..., float | None]
    partial: bool = False


class Metric(NamedTuple):
    """One exported metric.

    It reads the rows of `dimension`, or has an `origin` of its own.  `columns` are all labels but `le`; with an
    `own_label`, which is the last of them, a row has one series per part.  A `gauge` is what sources have said last,
    merged by `merge`.  `seed_names` are what the seed documents call it.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    dimension: Dimension | None
    columns: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    histogram: str | None = None
    own_label: str | None = None
    origin: Origin | None = None
    seed_names: tuple[str, ...] = ()
    gauge: str | None = None
    merge: Merge | None = None
    formula: Formula | None = None
    divisor: int = 0  # stored units in an exported one, where the unit does not say it
    custom: str | None = None  # of rows that many declared metrics share, those of this one

    @property
    def family(self) -> str:
        """The name without what its kind appends: OpenMetrics names families so."""
        return self.name.removesuffix({"counter": "_total", "info": "_info"}.get(self.kind, ""))

    @property
    def scale(self) -> int:
        """How many stored units of a row make one exported one."""
        return self.divisor or SCALES.get(self.unit, 1)

    @property
    def bounds(self) -> tuple[int, ...]:
        """The upper bounds of a histogram's buckets, in stored units."""
        return bounds_of(self.histogram).uppers if self.histogram is not None else ()

    @property
    def bound_texts(self) -> tuple[str, ...]:
        """The same as they are exported, with the last one, which holds everything."""
        return (*(repr(upper / self.scale) for upper in self.bounds), "+Inf")

    @property
    def grows(self) -> bool:
        """Can it be reset?  Gauges say how things stand, and do not begin anew."""
        return self.kind in {"counter", "histogram"}

    @property
    def names(self) -> tuple[str, ...]:
        """The sums and histograms of a row that it is made of."""
        own = () if self.histogram is None else (self.histogram,)
        return own + tuple(name for part in self.parts for name in (*part.plus, *part.minus))

    @property
    def series_per_key(self) -> int:
        """How many series one row of the dimension has."""
        return len(self.bounds) + 3 if self.histogram is not None else len(self.parts) or 1

    @property
    def series_max(self) -> int | None:
        """How many series there can be, the overflow included; None when something else bounds them."""
        return None if self.dimension is None else self.series_per_key * (KEYS_MAX[self.dimension.name] + 1)


def plain(
    name: str,
    dimension: Dimension,
    help_text: str,
    plus: tuple[str, ...],
    minus: tuple[str, ...] = (),
    *,
    unit: str = "",
    seeds: tuple[str, ...] = (),
) -> Metric:
    """Return a counter, or a gauge when the name says so, with one series per row."""
    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    part = Part(None, plus, minus)
    return Metric(name, kind, unit, help_text, dimension, dimension.columns, (part,), seed_names=seeds)


def by(
    name: str,
    dimension: Dimension,
    help_text: str,
    own_label: str,
    measures: Mapping[str, str],
    *,
    unit: str = "",
    seeds: tuple[str, ...] = (),
) -> Metric:
    """Return a counter with one series per row and value of its own label."""
    parts = tuple(Part(value, (measure,)) for value, measure in measures.items())
    columns = (*dimension.columns, own_label)
    return Metric(name, "counter", unit, help_text, dimension, columns, parts, own_label=own_label, seed_names=seeds)


def durations(
    name: str, dimension: Dimension, help_text: str, histogram: str, *, seeds: tuple[str, ...] = ()
) -> Metric:
    """Return a histogram of durations, in seconds."""
    return Metric(
        name, "histogram", "seconds", help_text, dimension, dimension.columns, histogram=histogram, seed_names=seeds
    )


def observed(name: str, dimension: Dimension, help_text: str, histogram: str, *, seeds: tuple[str, ...] = ()) -> Metric:
    """Return a histogram in the unit that its observations are exported in."""
    unit, divisor = EXPORTED[shape_of(histogram).unit]
    columns = dimension.columns
    return Metric(
        name,
        "histogram",
        unit,
        help_text,
        dimension,
        columns,
        histogram=histogram,
        seed_names=seeds,
        divisor=divisor,
    )


def labels_of(metric: Metric, row: LifetimeRow, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the label values of a row's series of a metric; None when the row has none of it.

    Only custom metrics share rows: what a row is of stands in it, and in the overflow's row stands everything.
    """
    if metric.custom is None:
        return labels
    if metric.gauge is None:  # gauges stand beside the row
        held = row.histograms if metric.histogram is not None else row.sums
        wanted = metric.histogram or metric.parts[0].plus[0]
        if wanted not in held:
            return None
    if labels[0] == OVERFLOW:
        return (OVERFLOW,) * len(metric.columns)
    values = label_values(labels[1])
    return values if labels[0] == metric.custom and len(values) == len(metric.columns) else None


def own(
    name: str,
    kind: Kind,
    help_text: str,
    origin: Origin,
    columns: tuple[str, ...] = (),
    *,
    unit: str = "",
    seeds: tuple[str, ...] = (),
) -> Metric:
    """Return a metric that reads no rows: its samples come from its origin, in the unit it is exported in."""
    return Metric(name, kind, unit, help_text, None, columns, origin=origin, seed_names=seeds)


def level(
    name: str,
    dimension: Dimension,
    help_text: str,
    gauge: str,
    *,
    unit: str = "",
    divisor: int = 0,
    seeds: tuple[str, ...] = (),
) -> Metric:
    """Return a gauge that sources report, merged by its rule; without a live source it has no series."""
    return Metric(
        name,
        "gauge",
        unit,
        help_text,
        dimension,
        dimension.columns,
        gauge=gauge,
        merge=GAUGES[gauge].merge,
        divisor=divisor,
        seed_names=seeds,
    )
