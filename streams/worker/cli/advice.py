"""`agent-streams advice`: what would be worth doing, by the numbers that the workers have committed.

Never joins a group and never writes: it reads what the workers have committed, and asks none of them.
"""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Final

import typer
from rich.text import Text

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.fold.measure import DIMENSIONS
from streams.fold.merge import add_sums
from streams.fold.rollup import PaneRow
from streams.fold.spending import DAY_MS
from streams.rule.amount import DURATION_SHAPE, duration_ms, duration_text
from streams.sink.advice import ADVICE, Figures, Given, advise, evidence
from streams.topology import ROLLUPS_CHANGELOG
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, print_json
from streams.worker.looking import read_whole
from streams.worker.tables import Tables
from streams.worker.tail import Records, rows_of

EXAMPLES: Final = ("agent-streams advice", "agent-streams advice --window 1h", "agent-streams advice --json")
WINDOW_MS_LEAST: Final = 10_000  # a pane


def advice(
    window: Annotated[
        str, typer.Option(metavar="DURATION", help="How far to look back, up to 24h: older windows are not kept.")
    ] = "24h",
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Say what would be worth doing, with the numbers it rests on; little data says nothing."""
    window_ms = _window(window)
    settings = load(bootstrap, prefix)
    kafka, found = connection(settings), Tables()

    def take(suffix: str, partition: int, records: Records) -> None:
        for key, value in rows_of(records):
            found.take(suffix, partition, key, value)

    asyncio.run(read_whole(kafka, settings.topic_prefix, [ROLLUPS_CHANGELOG.suffix], take))
    given = advise(figures(found, now_ms() - window_ms))
    if as_json:
        data = [{**each._asdict(), "labels": dict(each.labels)} for each in given]
        print_json({"window_ms": window_ms, "rows_looked_at": len(ADVICE), "advice": data})
    else:
        out.print(text(given, window_ms))


def _window(given: str) -> int:
    ms = duration_ms(given)
    if ms is None or not WINDOW_MS_LEAST <= ms <= DAY_MS:
        raise ConfigError(f"--window {given}: expected {DURATION_SHAPE}, from 10s to 24h. Next: write --window 24h")
    return ms


def figures(found: Tables, since_ms: int) -> dict[str, list[Figures]]:
    """Add up the panes of every key since a moment, by dimension."""
    dimensions = {row.dimension.name for row in ADVICE}
    return {
        name: [figures_of(entry.labels, entry.panes(since_ms)) for entry in found.rollups.entries(name)]
        for name in DIMENSIONS
        if name in dimensions
    }


def figures_of(labels: tuple[str, ...], panes: Iterable[PaneRow]) -> Figures:
    """Add up the panes of one key."""
    sums: dict[str, int] = {}
    seen: dict[str, tuple[int, int]] = {}
    for pane in panes:
        add_sums(sums, pane.sums)
        for name, binned in pane.histograms.items():
            count, total = seen.get(name, (0, 0))
            seen[name] = count + sum(binned.bins.values()), total + binned.sum_us
    return Figures(labels, sums, seen)


def text(given: list[Given], window_ms: int) -> Text:
    """Write advice for people."""
    shown = Text()
    for number, each in enumerate(given):
        shown.append(f"{each.says}\n", "bold")
        shown.append(f"  {each.todo}\n")
        more = "" if number + 1 < len(given) and given[number + 1].name == each.name else _more(each)
        shown.append(f"  {each.name}: {evidence(each, window_ms)}{more}\n\n", "dim")
    if not given:
        shown.append(f"Nothing to advise, by {len(ADVICE)} rows over the last {duration_text(window_ms)}.", "dim")
        return shown
    return shown.append(f"{len(given)} pieces of advice, by {len(ADVICE)} rows.", "dim")


def _more(each: Given) -> str:
    return f"; the same holds for {each.more} more" if each.more else ""
