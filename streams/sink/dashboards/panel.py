"""What is on a dashboard: boards of sections of panels, and the queries they show.  Data, and short ways to write it.

Never Grafana's JSON: `streams.sink.dashboards.grafana` writes that.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from streams.sink import promql
from streams.sink.promql import Growth, Suffix

RATE: Final = "$__rate_interval"  # four scrapes or more, as Grafana knows them
RANGE: Final = "$__range"  # all that the dashboard shows
JOB: Final = "$job"
WORKERS: Final = "$workers"

Kind: TypeAlias = Literal["stat", "timeseries", "gauge", "bargauge", "table", "heatmap", "state-timeline"]
Steps: TypeAlias = tuple[tuple[float, str], ...]  # from this value on, this colour

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"
BLUE: Final = "blue"
SHARE_OF_FAILURES: Final[Steps] = ((0.05, YELLOW), (0.15, RED))
ANY_IS_BAD: Final[Steps] = ((1, RED),)


class Target(NamedTuple):
    """One query, and what its series are called: labels in double braces."""

    expr: str
    legend: str = ""


class Variable(NamedTuple):
    """A choice at the top of a board: the values that a label of a metric has."""

    name: str
    label: str
    metric: str
    column: str


class Panel(NamedTuple):
    """One picture; `width` and `height` in cells of Grafana's grid, 24 cells wide."""

    kind: Kind
    title: str
    description: str
    unit: str
    targets: tuple[Target, ...]
    width: int
    height: int
    steps: Steps = ()
    stacked: bool = False
    most: float | None = None
    words: Mapping[int, tuple[str, str]] = {}  # of a value: its text and colour


class Section(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """One dashboard; `uid` is what links point to and never changes."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]


GRID_WIDTH: Final = 24


def stat(title: str, description: str, unit: str, target: Target, *, steps: Steps = (), width: int = 4) -> Panel:
    """Return one large number."""
    return Panel("stat", title, description, unit, (target,), width, 4, steps)


def lines(
    title: str, description: str, unit: str, *targets: Target, stacked: bool = False, width: int = 12, steps: Steps = ()
) -> Panel:
    """Return numbers over time."""
    return Panel("timeseries", title, description, unit, targets, width, 8, steps, stacked)


def dial(title: str, description: str, target: Target, *, steps: Steps = (), width: int = 6) -> Panel:
    """Return a share on a dial, from 0 to 1."""
    return Panel("gauge", title, description, "percentunit", (target,), width, 8, steps, most=1)


def bars(title: str, description: str, unit: str, target: Target, *, width: int = 12) -> Panel:
    """Return one bar per series, as it is now."""
    return Panel("bargauge", title, description, unit, (target,), width, 8)


def table(title: str, description: str, unit: str, target: Target, *, width: int = 12) -> Panel:
    """Return one row per series, as it is now."""
    return Panel("table", title, description, unit, (target,), width, 8)


def heat(title: str, description: str, target: Target, *, width: int = 12) -> Panel:
    """Return how durations are spread, over time."""
    return Panel("heatmap", title, description, "s", (target,), width, 8)


def states(
    title: str, description: str, target: Target, words: Mapping[int, tuple[str, str]], *, width: int = 24
) -> Panel:
    """Return what each series was when, in words."""
    return Panel("state-timeline", title, description, "short", (target,), width, 8, words=words)


# ---- queries ---------------------------------------------------------------------------------------------------


class Ask(NamedTuple):
    """Queries of one board: each is narrowed by those of the board's variables that the metric has a label for."""

    variables: tuple[Variable, ...]

    def rate(self, name: str, *labels: str, window: str = RATE, **where: str) -> Target:
        """Ask how fast something grows, per second."""
        return self._grown("rate", name, labels, window, where)

    def increase(self, name: str, *labels: str, window: str = RANGE, **where: str) -> Target:
        """Ask by how much something grew within the range shown."""
        return self._grown("increase", name, labels, window, where)

    def level(self, name: str, *labels: str, how: str = "sum", **where: str) -> Target:
        """Ask for a present value."""
        promql.check_labels(name, labels)
        return Target(
            promql.by(how, labels, promql.once(name, promql.select(name, self._where(name, where)))), _legend(labels)
        )

    def quantile(self, q: float, name: str, *labels: str, **where: str) -> Target:
        """Ask for a quantile of durations."""
        promql.check_labels(name, labels)
        buckets = promql.grown("rate", name, RATE, self._where(name, where), "_bucket")
        return Target(promql.quantile(q, labels, buckets), " ".join((f"p{100 * q:g}", *_braced(labels))))

    def quantiles(self, name: str, *labels: str) -> tuple[Target, ...]:
        """Ask for the median, the slowest in twenty and the slowest in a hundred."""
        return tuple(self.quantile(q, name, *labels) for q in (0.5, 0.95, 0.99))

    def mean(self, name: str, *labels: str) -> Target:
        """Ask for an average of a histogram or a summary."""
        return ratio(*(self._grown("rate", name, labels, RATE, {}, suffix) for suffix in ("_sum", "_count")))

    def spread(self, name: str) -> Target:
        """Ask how many observations fell into each bucket."""
        target = self._grown("increase", name, ("le",), RATE, {}, "_bucket")
        return target._replace(legend="{{le}}")

    def _grown(
        self,
        how: Growth,
        name: str,
        labels: tuple[str, ...],
        window: str,
        where: Mapping[str, str],
        suffix: Suffix = "",
    ) -> Target:
        promql.check_labels(name, labels)
        return Target(
            promql.by("sum", labels, promql.grown(how, name, window, self._where(name, where), suffix)), _legend(labels)
        )

    def _where(self, name: str, where: Mapping[str, str]) -> dict[str, str]:
        of_worker = name in promql.FOREIGN or promql.metric_of(name).origin == "worker"
        columns = promql.columns_of(name)
        narrowed = {each.column: f"${each.name}" for each in self.variables if each.column in columns}
        return {"job": WORKERS if of_worker else JOB, **narrowed, **where}


def ratio(of: Target, to: Target) -> Target:
    """Divide one query by another; they have the same labels."""
    return Target(f"{of.expr} / {to.expr}", of.legend)


def or_zero(target: Target) -> Target:
    """Show 0 where there is nothing to count, such as an alert that has never fired."""
    return target._replace(expr=f"({target.expr} or vector(0))")


def named(target: Target, legend: str) -> Target:
    """Call the series of a query something else."""
    return target._replace(legend=legend)


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(_braced(labels))


def _braced(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{{{{{label}}}}}" for label in labels)
