"""How do the metrics read as a page for people?  A table of Markdown per kind of row, made of the catalogue.

Never a word that the catalogue does not say.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from streams.sink.catalog import METRICS
from streams.sink.metric import KEYS_MAX, Metric
from streams.sink.processes import OF_INGEST, OF_NOTIFY, OF_WORKER

_HEAD: Final = "| metric | kind | unit | labels | buckets | meaning | also known as |\n|---|---|---|---|---|---|---|\n"
# The last row of a worker's is the exporter's too.
_SOURCES: Final = {
    "alerts": "Alerts",
    "breakers": "Circuits",
    "view": "The tables as a whole",
    "exporter": "The exporter itself",
    "worker": "A worker itself, on its own port",
    "notify": "Notify itself, on its own port",
    "ingest": "The receiver of OTLP itself, on its own port",
}


def as_markdown(customs: Sequence[Metric] = ()) -> str:
    """Return all metrics as Markdown, declared ones last."""
    return "\n".join(_sections((*METRICS, *OF_WORKER[:-1], *OF_NOTIFY, *OF_INGEST, *customs)))


def as_rows(customs: Sequence[Metric] = ()) -> Iterator[dict[str, object]]:
    """Yield all metrics for programs."""
    for metric in (*METRICS, *OF_WORKER[:-1], *OF_NOTIFY, *OF_INGEST, *customs):
        yield {
            "name": metric.name,
            "kind": metric.kind,
            "unit": metric.unit,
            "labels": list(metric.columns),
            "buckets": list(metric.bound_texts) if metric.histogram is not None else [],
            "help": metric.help,
            "seed_names": list(metric.seed_names),
        }


def _sections(metrics: Sequence[Metric]) -> Iterator[str]:
    by_title: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_title.setdefault(_title(metric), []).append(metric)
    for title, some in by_title.items():
        yield f"## {title}\n\n{_HEAD}{''.join(map(_line, some))}"


def _title(metric: Metric) -> str:
    dimension = metric.dimension
    if dimension is None:
        return _SOURCES[metric.origin or "view"]
    return f"By {', '.join(dimension.columns)} ({dimension.name}, {KEYS_MAX[dimension.name]} keys with a series)"


def _line(metric: Metric) -> str:
    buckets = " ".join(metric.bound_texts) if metric.histogram is not None else ""
    cells = (
        f"`{metric.name}`",
        metric.kind,
        metric.unit,
        ", ".join(metric.columns),
        buckets,
        metric.help.replace("|", "\\|"),
        ", ".join(f"`{name}`" for name in metric.seed_names),
    )
    return f"| {' | '.join(cells)} |\n"
