"""Which PromQL asks for a metric?  Expressions made from rows of the catalogue, so that no name or label can drift.

Never evaluates anything.  A metric, a label or a label value that the catalogue does not have raises UnknownMetric by
name, when the expression is made and not when somebody looks at an empty panel.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from streams.sink.catalog import METRICS
from streams.sink.metric import Metric
from streams.sink.processes import OF_NOTIFY, OF_WORKER

CATALOGUE: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*METRICS, *OF_WORKER, *OF_NOTIFY)}
# Exporters that run side by side show the same numbers: these labels of a target are all that tells them apart.
REPLICAS: Final = ("instance", "pod")
TARGET_LABELS: Final = frozenset({"job", *REPLICAS})
# What Prometheus and the client library of the workers' page say by themselves, with the labels they have.
FOREIGN: Final[Mapping[str, tuple[str, ...]]] = {
    "up": (),
    "process_cpu_seconds_total": (),
    "process_resident_memory_bytes": (),
}
_OF_PROCESS: Final = frozenset({"exporter", "worker", "notify"})
_PATTERN: Final = frozenset("|*$")

Growth: TypeAlias = Literal["rate", "increase"]
Suffix: TypeAlias = Literal["", "_bucket", "_count", "_sum"]


class UnknownMetric(LookupError):
    """An expression asks for something that the catalogue does not have."""


def metric_of(name: str) -> Metric:
    """Return the row of a metric."""
    metric = CATALOGUE.get(name)
    if metric is None:
        raise UnknownMetric(f"the catalogue has no metric {name}")
    return metric


def columns_of(name: str) -> frozenset[str]:
    """Return the labels a metric's series have, without `le` and those of the target."""
    return frozenset(FOREIGN[name] if name in FOREIGN else metric_of(name).columns)


def select(name: str, where: Mapping[str, str], suffix: Suffix = "") -> str:
    """Name the series of a metric whose labels are these; a value with |, * or $ in it is a pattern."""
    if suffix and metric_of(name).kind not in {"histogram", "summary"}:
        raise UnknownMetric(f"{name} is no histogram: there is no {name}{suffix}")
    _check(name, where)
    matchers = ",".join(
        f'{label}{"=~" if _PATTERN & set(wanted) else "="}"{wanted}"' for label, wanted in where.items()
    )
    return f"{name}{suffix}{{{matchers}}}" if matchers else f"{name}{suffix}"


def grown(how: Growth, name: str, window: str, where: Mapping[str, str], suffix: Suffix = "") -> str:
    """Say how fast or by how much each series grew within a window, however many exporters show it."""
    if name not in FOREIGN and not suffix and metric_of(name).kind != "counter":
        raise UnknownMetric(f"{name} is no counter: there is no {how} of it")
    return once(name, f"{how}({select(name, where, suffix)}[{window}])")


def once(name: str, expr: str) -> str:
    """Take each number once when several exporters show it; what a process says of itself stays by process."""
    of_process = name in FOREIGN or metric_of(name).origin in _OF_PROCESS
    return expr if of_process else f"max without ({', '.join(REPLICAS)}) ({expr})"


def by(how: str, labels: Iterable[str], expr: str) -> str:
    """Add series up, or take the largest or smallest, by labels."""
    kept = ", ".join(labels)
    return f"{how} by ({kept}) ({expr})" if kept else f"{how}({expr})"


def quantile(q: float, labels: Iterable[str], buckets: str) -> str:
    """Estimate a quantile from the growth of a histogram's buckets."""
    return f"histogram_quantile({q:g}, {by('sum', (*labels, 'le'), buckets)})"


def check_labels(name: str, labels: Iterable[str]) -> None:
    """Raise UnknownMetric for a label that the series of a metric do not have."""
    unknown = set(labels) - columns_of(name) - TARGET_LABELS - {"le"}
    if unknown:
        raise UnknownMetric(f"{name} has no label {min(unknown)}")


def _check(name: str, where: Mapping[str, str]) -> None:
    check_labels(name, where)
    if name in FOREIGN:
        return
    metric = metric_of(name)
    wanted = where.get(metric.own_label or "", "$")
    if not {"$", "*"} & set(wanted):
        unknown = set(wanted.split("|")) - {part.value for part in metric.parts}
        if unknown:
            raise UnknownMetric(f"{name} has no {metric.own_label}={min(unknown)}")
