"""What is shown of metrics that no other board has?  One panel each, made from its row of the catalogue.

Never decides what matters: a metric that deserves a better picture gets one on another board, and leaves this one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from streams.sink.dashboards.panel import Ask, Board, Panel, Section, Target, lines
from streams.sink.metric import Metric
from streams.sink.promql import CATALOGUE

SERIES_MAX: Final = 20  # of a panel, the largest: more cannot be told apart
# What the value 1 of an info metric says stands in its labels; they are no picture.
LEFT_OUT: Final = frozenset({"info"})
_NAME: Final = re.compile(r"\bagent_\w+")
_SUFFIX: Final = re.compile(r"_(bucket|count|sum)$")
_UNITS: Final[Mapping[str, str]] = {
    "seconds": "s", "bytes": "bytes", "usd": "currencyUSD", "ratio": "percentunit",
}  # fmt: skip
_RATES: Final[Mapping[str, str]] = {"seconds": "percentunit", "bytes": "Bps", "usd": "currencyUSD", "tokens": "short"}
_PLACES: Final = {"alerts": "Alerts", "breakers": "Circuits", "view": "Pipeline", "exporter": "Exporter",
                  "worker": "Workers", "notify": "Notify"}  # fmt: skip


def rest(boards: Iterable[Board]) -> Board:
    """Return the board of all that other boards do not show."""
    shown = shown_on(boards)
    ask = Ask(())
    sections: dict[str, list[Panel]] = {}
    for metric in CATALOGUE.values():
        if metric.name not in shown and metric.kind not in LEFT_OUT:
            sections.setdefault(_place(metric), []).extend(_panels(ask, metric))
    return Board(
        "agent-streams-rest",
        "AgentStreams / Everything else",
        f"Every metric that no other dashboard shows; of each at most the {SERIES_MAX} largest series.",
        (),
        tuple(Section(title, tuple(panels)) for title, panels in sections.items()),
    )


def shown_on(boards: Iterable[Board]) -> frozenset[str]:
    """Return the names of the metrics that boards show."""
    expressions = (
        target.expr
        for board in boards
        for section in board.sections
        for panel in section.panels
        for target in panel.targets
    )
    found = {name for expression in expressions for name in _NAME.findall(expression)}
    return frozenset(name if name in CATALOGUE else _SUFFIX.sub("", name) for name in found)


def _place(metric: Metric) -> str:
    if metric.dimension is None:
        return _PLACES[metric.origin or "view"]
    return f"By {' and '.join(metric.dimension.columns)}" if metric.dimension.columns else "Of everything"


def _panels(ask: Ask, metric: Metric) -> Iterator[Panel]:
    labels = metric.columns or (("instance",) if metric.origin in {"exporter", "worker", "notify"} else ())
    if metric.kind == "counter":
        yield _panel(
            metric, f"{metric.help} Per second.", _RATES.get(metric.unit, "cps"), ask.rate(metric.name, *labels)
        )
    elif metric.kind == "histogram":
        described = f"{metric.help} One in twenty is above this."
        yield _panel(metric, described, _unit(metric), ask.quantile(0.95, metric.name, *labels))
    else:
        yield _panel(metric, metric.help, _unit(metric), ask.level(metric.name, *labels, how="max"))


def _panel(metric: Metric, description: str, unit: str, target: Target) -> Panel:
    words = metric.family.removeprefix("agent_").replace("_", " ")
    largest = f"topk({SERIES_MAX}, {target.expr})" if metric.columns else target.expr
    return lines(words.capitalize(), description, unit, target._replace(expr=largest))


def _unit(metric: Metric) -> str:
    return _UNITS.get(metric.unit, "short")
