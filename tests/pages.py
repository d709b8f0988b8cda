"""Pages for the tests of the exporter: a view with something in every metric, and what the official parsers read."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fleet import Fleet
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from rare import CUSTOMS, rare_events, session_end, undeclared
from through_stages import Stages, event, of_every_kind, of_every_mishap, of_gauges, of_money

from streams.event.custom import NO_CUSTOMS, Customs
from streams.fold.price import Overrides, PriceBook
from streams.rule.parse import parse_rules
from streams.rule.pricefile import parse_prices
from streams.sink.custom import custom_metrics
from streams.sink.exposition import Page
from streams.sink.metric import Sample
from streams.sink.processes import OF_EXPORTER
from streams.sink.view import View
from streams.stage.payloads import PayloadPolicy
from streams.topology import ALERTS, BREAKERS

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]  # by sample name and labels

RULES: Final = parse_rules(
    """
groups:
  - name: pages
    rules:
      - {alert: ToolFails, over: tool, value: {sum: tool_calls_error}, window: 1m, above: 0, severity: critical}
breakers:
  - {over: tool, failure_rate: 0.3, min_calls: 3}
  - {over: agent, window: 50 calls, min_calls: 2, slow_call: 1ms, initial: metrics_only}
budgets:
  - {budget: tenant-day, over: tenant, of: cost, limit: 1 USD, per: day}
"""
)


PRICES: Final = PriceBook(Overrides(parse_prices('prices: [{model: house-model, input: "2", cache_read: "0.5"}]')))


def full_view() -> tuple[Stages, View]:
    """Return stages that have seen every kind of event, and the view of what they wrote."""
    stages = Stages(RULES, PRICES, CUSTOMS, payloads=PayloadPolicy(256))
    stages.publish(of_every_kind())
    stages.publish([*rare_events(), *undeclared(), session_end()])
    of_every_mishap(stages)
    stages.publish(of_money())
    stages.publish(Fleet(3, sessions=50, step_ms=40).events(2_000))
    stages.publish(of_gauges())
    stages.publish([event("guard", 4_010, target="tool|search", denied_by="breaker")])
    view = View(len(stages.rollups), started_ms=1_763_724_000_000)
    for number, rows in stages.changelog():
        view.feed(number, rows)
    for key, value in stages.sent(ALERTS.suffix):
        view.alerts.take(key, value)
    for key, value in stages.sent(BREAKERS.suffix):
        view.breakers.take(key, value)
    settle(view)
    return stages, view


def settle(view: View) -> None:
    for _ in view.settle():
        pass


def own_samples() -> dict[str, list[Sample]]:
    """Return something for each metric that an exporter says of itself."""
    return {row.name: [Sample(tuple("x" for _ in row.columns), 1, 1_763_724_000_000)] for row in OF_EXPORTER}


def render(view: View, page: Page | None = None, *, openmetrics: bool = False, customs: Customs = NO_CUSTOMS) -> str:
    """Return the page of a view, or what a page that already exists makes of it now."""
    page = page or Page(view, openmetrics=openmetrics, customs=custom_metrics(customs))
    for _ in page.refresh():
        pass
    return b"".join(page.blocks({**view.samples(), **own_samples()})).decode()


def families(text: str) -> list[Family]:
    """Read a page with the official parser of its format."""
    if text.endswith("# EOF\n"):
        return list(parse_openmetrics(text))  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return list(parse_text(text))


def series(text: str) -> Series:
    """Return every sample of a page; the same series twice fails."""
    found: Series = {}
    for family in families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} stands on the page twice"
            found[key] = float(sample.value)
    return found


def value(found: Mapping[Any, float], name: str, /, **labels: str) -> float:
    """Return the value of one series."""
    return found[name, frozenset(labels.items())]


def total(found: Series, name: str, /, **labels: str) -> float:
    """Add up the series of a metric that have these labels among theirs."""
    wanted = frozenset(labels.items())
    return sum(each for (sample, has), each in found.items() if sample == name and wanted <= has)


def names(found: Iterable[tuple[str, Any]]) -> set[str]:
    """Return the sample names of a page."""
    return {name for name, _ in found}


def promtool(page: str) -> tuple[str, str, int]:
    """Return what promtool says of a page, and its exit status."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    said = subprocess.run(
        [program, "check", "metrics"], input=page, capture_output=True, text=True, timeout=120, check=False
    )
    return said.stdout, said.stderr, said.returncode
