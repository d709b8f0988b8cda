"""How do declared metrics read on a page?  One catalogue row each, made of its declaration.

Never a number, and never a name that could be one of ours: all of them begin with `agent_custom_`.
"""

from typing import Final

from streams.event.custom import CustomMetric, Customs
from streams.fold.gauges import gauge_of
from streams.fold.measure import CUSTOM
from streams.fold.shapes import CUSTOM_PREFIX, MILLION, custom_histogram
from streams.sink.metric import Metric, Part

NAME_PREFIX: Final = "agent_custom_"


def custom_metrics(customs: Customs) -> tuple[Metric, ...]:
    """Return the catalogue rows of declared metrics, by name."""
    return tuple(_metric(customs[name]) for name in sorted(customs))


def exported_name(metric: CustomMetric) -> str:
    """Name the metric as it is exported."""
    name = NAME_PREFIX + metric.name
    return name if metric.kind != "counter" or name.endswith("_total") else f"{name}_total"


def _metric(metric: CustomMetric) -> Metric:
    row = Metric(
        exported_name(metric),
        metric.kind,
        "",
        metric.help or f"Declared in the settings as {metric.name}.",
        CUSTOM,
        metric.labels,
        divisor=MILLION,
        custom=metric.name,
    )
    if metric.kind == "histogram":
        return row._replace(histogram=custom_histogram(metric.name, metric.bounds))
    if metric.kind == "gauge":
        gauge = CUSTOM_PREFIX + metric.name
        rule = gauge_of(gauge)
        assert rule is not None
        return row._replace(gauge=gauge, merge=rule.merge)
    return row._replace(parts=(Part(None, (CUSTOM_PREFIX + metric.name,)),))
