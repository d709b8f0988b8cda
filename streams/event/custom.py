"""Which metrics of their own may publishers send, and what is an event of one worth?  Declarations, and one check.

Never reads settings: whoever starts a process hands the declarations in.  Values count in millionths, so that sums
are exact; a value that has no place there is refused like a metric that nobody declared.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from streams.event.model import Custom

CustomKind: TypeAlias = Literal["counter", "gauge", "histogram"]

VALUE_MAX: Final = 10**9  # in millionths 10^15: nine thousand such events fit into a stored integer


class CustomMetric(NamedTuple):
    """One declared metric; `bounds` are the upper bounds of a histogram's buckets, in millionths."""

    name: str
    kind: CustomKind
    labels: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()
    help: str = ""


Customs: TypeAlias = Mapping[str, CustomMetric]
NO_CUSTOMS: Final[Customs] = {}


class Observation(Custom, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="custom"):
    """A custom event as it was declared: the values of its labels in their declared order, and its buckets."""

    values_json: str
    bounds: tuple[int, ...] = ()


def observe(event: Custom, customs: Customs) -> Observation | str:
    """Return what an event of a declared metric adds; or say what is wrong with it, without quoting it."""
    metric = customs.get(event.metric)
    if metric is None:
        return "the metric is not declared"
    labels = event.labels or {}
    if metric.kind != event.metric_kind:
        return f"the metric is declared as a {metric.kind}, not as a {event.metric_kind}"
    if labels.keys() != set(metric.labels):
        return f"the metric is declared with {len(metric.labels)} labels, and these are others"
    least = -VALUE_MAX if metric.kind == "gauge" else 0
    if not least <= event.value <= VALUE_MAX:
        return f"the value lies outside of {least} to {VALUE_MAX}"
    values = msgspec.json.encode([labels[name] for name in metric.labels]).decode()
    fields = {name: getattr(event, name) for name in Custom.__struct_fields__}
    return Observation(**fields, values_json=values, bounds=metric.bounds)


def label_values(values_json: str) -> tuple[str, ...]:
    """Return the label values of a stored row in their declared order."""
    return msgspec.json.decode(values_json, type=tuple[str, ...])
