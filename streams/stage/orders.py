"""What does a command mean here: which rows, which of their numbers, and which partitions own them?

Never reads a row: whether there is anything to reset is found out where the rows are.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from streams.event.codec import Reason, Rejected
from streams.event.command import Breaker, Command, Reset, Scope
from streams.fold.circuits import GUARDED, named_circuit
from streams.fold.measure import DIMENSIONS
from streams.fold.rollup import BreakerOrder, ResetOrder
from streams.fold.session import OVERFLOW
from streams.sink.catalog import OF_DIMENSION
from streams.stage.keys import dimension_key, partition_of

_GLOB: Final = str.maketrans({"[": "[[]", "?": "[?]"})  # only * is special in a pattern

# What can be reset: the names behind each counter and histogram, by dimension and metric.
RESETTABLE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    dimension: {metric.name: metric.names for metric in metrics if metric.grows}
    for dimension, metrics in OF_DIMENSION.items()
}


class Routed(NamedTuple):
    """An order, and the rollups partitions that must have it."""

    order: ResetOrder | BreakerOrder
    targets: tuple[int, ...]


def route_reset(command: Reset, at_ms: int, partitions: int) -> Routed | str:
    """Turn a reset into an order; text says why it makes no sense."""
    scope = command.scope
    fault = None if scope == "all" else _fault(scope)
    if fault is not None:
        return fault
    dimensions = tuple(RESETTABLE) if isinstance(scope, str) else (scope.dimension,)
    names = None if command.metrics is None else _named(dimensions, command.metrics)
    if isinstance(names, str):
        return names
    if isinstance(scope, str):
        return Routed(ResetOrder(command.id, at_ms, names=names), tuple(range(partitions)))
    labels = tuple(scope.labels.get(column) for column in DIMENSIONS[scope.dimension].columns)
    order = ResetOrder(command.id, at_ms, scope.dimension, labels, names)
    return Routed(order, tuple(_targets(order, partitions)))


def route_breaker(command: Breaker, at_ms: int, partitions: int) -> Routed | str:
    """Turn a command to circuits into an order; text says why it makes no sense."""
    name, kinds = command.breaker, ", ".join(GUARDED)
    circuit = None if "*" in name else named_circuit(name)
    order = BreakerOrder(command.id, at_ms, command.action, name, command.by, command.note or "")
    if circuit is not None:
        if OVERFLOW in circuit[1]:
            return f"{OVERFLOW} stands for many keys and has no circuit"
        return Routed(order, (partition_of(dimension_key(*circuit).encode(), partitions),))
    kind = name.partition("|")[0]
    if "*" not in name or not any(fnmatchcase(over, kind.translate(_GLOB)) for over in GUARDED):
        return f"no circuit can have that name; expected such as tool|search or tool|*; circuits are of {kinds}"
    return Routed(order, tuple(range(partitions)))


# A later kind of command that rows must obey is one more line.
ROUTES: Final[Mapping[type[Command], Callable[[Any, int, int], Routed | str]]] = {
    Reset: route_reset,
    Breaker: route_breaker,
}


def route(command: Command, at_ms: int, partitions: int) -> Routed | str:
    """Turn a command into an order and who must have it; text says why it makes no sense."""
    return ROUTES[type(command)](command, at_ms, partitions)


def order_of(routed: Routed | str, part: bytes) -> Routed | Rejected:
    """Turn text into a refusal."""
    return Rejected(Reason.INVALID, 0, routed, part) if isinstance(routed, str) else routed


def _fault(scope: Scope) -> str | None:
    dimension = DIMENSIONS.get(scope.dimension)
    if dimension is None or not RESETTABLE[scope.dimension]:
        known = ", ".join(name for name, metrics in RESETTABLE.items() if metrics)
        return f"no metric is by that dimension; expected one of {known}"
    if not scope.labels.keys() <= set(dimension.columns):
        return (
            f"a label that the dimension {dimension.name} does not have; its labels are {', '.join(dimension.columns)}"
        )
    return None


def _named(dimensions: tuple[str, ...], patterns: list[str]) -> dict[str, list[str]] | str:
    """Return the names behind the metrics that are meant, by dimension; every pattern must mean one.

    Metrics that are made of the same numbers begin anew together, or one would jump when the other is reset.
    """
    unused = set(patterns)
    found: dict[str, list[str]] = {}
    for dimension in dimensions:
        for metric, names in RESETTABLE[dimension].items():
            matching = {pattern for pattern in patterns if fnmatchcase(metric, pattern.translate(_GLOB))}
            unused -= matching
            if matching:
                found.setdefault(dimension, []).extend(names)
        if dimension in found:
            found[dimension] = _with_kin(dimension, found[dimension])
    if unused:
        return f"{len(unused)} of {len(patterns)} metrics are no counter or histogram of the scope"
    return found


def _with_kin(dimension: str, names: list[str]) -> list[str]:
    """Add the names of every metric that is made of one of these, and so on."""
    all_names = dict.fromkeys(names)
    before = 0
    while len(all_names) > before:
        before = len(all_names)
        for made_of in RESETTABLE[dimension].values():
            if not all_names.keys().isdisjoint(made_of):
                all_names.update(dict.fromkeys(made_of))
    return list(all_names)


def _targets(order: ResetOrder, partitions: int) -> Iterator[int]:
    """Yield the owner of one key, or every partition when there may be several; each has an overflow row."""
    labels = tuple(label for label in order.labels if label is not None)
    if order.dimension is None or len(labels) < len(order.labels) or OVERFLOW in labels:
        yield from range(partitions)
    else:
        yield partition_of(dimension_key(order.dimension, labels).encode(), partitions)
