"""The page about metrics says what the catalogue says."""

from pathlib import Path
from typing import Final

from rare import CUSTOMS

from streams.sink.catalog import METRICS
from streams.sink.custom import custom_metrics
from streams.sink.processes import OF_INGEST, OF_NOTIFY, OF_WORKER
from streams.sink.reference import as_markdown, as_rows

DOCS: Final = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_documentation_is_the_catalogue() -> None:
    """To write it anew: agent-streams metrics --markdown, between the two comments."""
    _, _, rest = DOCS.read_text("utf-8").partition("<!-- metrics -->\n")
    table, end, _ = rest.partition("<!-- end -->")

    assert end, "docs/metrics.md has lost its comments"
    assert as_markdown() == table


def test_every_metric_has_one_line() -> None:
    lines = [line for line in as_markdown(custom_metrics(CUSTOMS)).splitlines() if line.startswith("| `")]
    named = [line.split("`")[1] for line in lines]

    assert len(named) == len(set(named))
    expected = {metric.name for metric in (*METRICS, *OF_WORKER, *OF_NOTIFY, *OF_INGEST, *custom_metrics(CUSTOMS))}
    assert expected == set(named) == {row["name"] for row in as_rows(custom_metrics(CUSTOMS))}
