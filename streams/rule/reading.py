"""What can a rule look at: the readings it is given, and which fields each kind of row has, in which unit.

Never holds a number itself: a stage makes readings of its rows, and tests make them of plain lists.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from streams.fold.families import FAMILIES
from streams.fold.findings import DETECTED
from streams.fold.gauges import MILLIONTHS, OF_DIMENSION
from streams.fold.measure import DIMENSIONS, PARTITION
from streams.fold.session import Finding, Pane
from streams.fold.shapes import SHAPES
from streams.fold.spending import Account
from streams.fold.streamtime import MINUTE_MS, PANE_MS

Key: TypeAlias = tuple[str, ...]  # label values, in the order of the subject's columns
Unit: TypeAlias = Literal["count", "tokens", "ratio", "us", "ms", "nano_usd", "millionths"]


class Reading(Protocol):
    """One row at one moment, its end: the `now_ms` that the rule is judged with.

    A window is the trailing panes up to that end.  A pane is closed once the end has reached the pane's own end.
    """

    def total(self, field: str) -> int:
        """Return what a measure has added up to since the row began."""

    def window(self, field: str, window_ms: int) -> int:
        """Sum a measure over the trailing panes, the open one included."""

    def window_closed(self, field: str, window_ms: int) -> int:
        """Sum a measure over the trailing closed panes."""

    def observations(self, histogram: str, window_ms: int) -> int:
        """Count what a histogram saw in the trailing closed panes."""

    def quantile(self, histogram: str, q: float, window_ms: int) -> float | None:
        """Return a quantile over the trailing closed panes in the stored unit, or None when nothing was observed."""

    @property
    def now_ms(self) -> int:
        """The reading's end."""

    def account(self, budget: str) -> Account | None:
        """Return what the row has spent of a budget; None when it has no account of it."""

    def gauge(self, field: str) -> int | None:
        """Return a present value, ages counted up to the reading's end; None when there is nothing to measure."""

    def began_ms(self, age: str) -> int | None:
        """Return since when an age grows, which may lie ahead; None when there is nothing to measure."""

    def alarmed(self) -> bool:
        """May a detector have found something?  Cheap: most rows are asked nothing else."""

    def explain(self, field: str) -> Finding | None:
        """Return what is behind a gauge that was detected; None: nothing is."""

    def age_ms(self) -> int:
        """Return how long the row has been there."""

    def quiet_ms(self) -> int:
        """Return how long no event has touched the row."""

    def at(self, now_ms: int) -> "Reading":
        """Return the same row as its panes show it at an earlier end; totals and gauges stay those of now."""


class Subject(NamedTuple):
    """A kind of row: the labels of its key, how its panes are cut, and what may be asked of it."""

    columns: tuple[str, ...]
    step_ms: int  # the finest pane: windows are multiples of it, and it is when a closed window changes
    activity: str  # the measure that grows with every event of the row
    windowed: frozenset[str]
    totals: frozenset[str]
    gauges: frozenset[str]
    histograms: frozenset[str]


_SESSION_WINDOWED: Final = frozenset(Pane.__struct_fields__) - {"start_ms"} | {"tokens"}
_SESSION_TOTALS: Final = _SESSION_WINDOWED | {
    "late",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "unpriced",
    "heartbeats",
    "abandoned",
    "unmatched",
}
AGES: Final = frozenset({"oldest_in_flight_ms", "overdue_ms"})  # gauges that grow by themselves, 1 ms per ms
MOVING: Final = frozenset({"overdue_ms"})  # ages that may begin sooner than was foreseen
LOOPING: Final = frozenset({*DETECTED, "loop_tokens", "loop_cost_nano_usd"})  # what runaway detectors say
EXPLAINED: Final = LOOPING | MOVING
SESSION: Final = "session"

SUBJECTS: Final[Mapping[str, Subject]] = {
    name: Subject(
        columns=dimension.columns,
        step_ms=PANE_MS,
        activity="received" if name == PARTITION.name else "events",
        windowed=frozenset(FAMILIES[name].measures),
        totals=frozenset(FAMILIES[name].measures),
        gauges=OF_DIMENSION.get(name, frozenset()),
        histograms=frozenset(FAMILIES[name].histograms),
    )
    for name, dimension in DIMENSIONS.items()
} | {
    SESSION: Subject(
        columns=("session_id",),
        step_ms=MINUTE_MS,
        activity="events",
        windowed=_SESSION_WINDOWED,
        totals=_SESSION_TOTALS,
        gauges=AGES | LOOPING | {"in_flight"},
        histograms=frozenset(),
    )
}


def unit_of(field: str) -> Unit:
    """Name the unit a field is stored in; bytes are counts, as everything is that has no unit of its own here."""
    shape = SHAPES.get(field)
    if shape is not None:
        return "count" if shape.unit == "bytes" else shape.unit
    if field in MILLIONTHS:
        return "millionths"
    if field.endswith("_us"):
        return "us"
    if field.endswith("_ms"):
        return "ms"
    if field == "tokens" or field.endswith("_tokens"):
        return "tokens"
    return "nano_usd" if field.endswith("nano_usd") else "count"
