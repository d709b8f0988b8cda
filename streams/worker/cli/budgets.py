"""`agent-streams budgets`: what has been spent of each budget, how fast, and how long it lasts.

Never joins a group and never writes: it reads what the workers have committed, and asks none of them.
"""

import asyncio
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from streams.clock import now_ms
from streams.fold.measure import DIMENSIONS
from streams.rule.amount import amount_text, duration_text
from streams.rule.budget import PPM
from streams.rule.records import rfc3339
from streams.sink.budgets import Standing, standings
from streams.topology import ROLLUPS_CHANGELOG
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, print_json
from streams.worker.looking import read_whole
from streams.worker.tables import Tables
from streams.worker.tail import Records, rows_of

EXAMPLES: Final = (
    "agent-streams budgets",
    "agent-streams budgets --budget tenant-day",
    "agent-streams budgets --json",
)
SHOWN: Final = 30
_NONE: Final = "no key has an account yet: name budgets in the workers' rules (docs/budgets.md), and let agents work"


def budgets(
    budget: Annotated[str | None, typer.Option(help="Show this budget only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = SHOWN,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show what each key has spent of its budgets, how fast, and when they run out."""
    settings = load(bootstrap, prefix)
    kafka, found = connection(settings), Tables()

    def take(suffix: str, partition: int, records: Records) -> None:
        for key, value in rows_of(records):
            found.take(suffix, partition, key, value)

    asyncio.run(read_whole(kafka, settings.topic_prefix, [ROLLUPS_CHANGELOG.suffix], take))
    at_ms = max([now_ms(), *(meta.clock_ms for meta in found.rollups.meta.values())])  # events may be ahead
    shown = of_tables(found, at_ms, budget)
    if as_json:
        print_json({"time_ms": at_ms, "count": len(shown), "budgets": [as_dict(each) for each in shown[:limit]]})
    elif not shown:
        out.print(Text(_NONE))
    else:
        foot = Text(f"{min(limit, len(shown))} of {len(shown):,} accounts; the most spent first", "dim")
        out.print(Group(table_of(shown[:limit], at_ms), foot))


def of_tables(found: Tables, at_ms: int, budget: str | None = None) -> list[Standing]:
    """Return how every account stands, the most spent first."""
    rows = (entry.row for dimension in DIMENSIONS for entry in found.rollups.entries(dimension))
    every = (each for each in standings(rows, at_ms) if budget in {None, each.budget})
    return sorted(every, key=lambda each: (-each.share, each.budget, each.labels))


def as_dict(each: Standing) -> dict[str, Any]:
    """Return an account for programs; amounts in the unit it is kept in, times in ms."""
    return {
        "budget": each.budget,
        "over": each.over,
        "labels": dict(zip(DIMENSIONS[each.over].columns, each.labels, strict=True)),
        "per": each.per,
        "unit": each.unit,
        "limit": each.limit,
        "spent": each.spent,
        "remaining": each.remaining,
        "share": each.share,
        "period_start_ms": each.start_ms,
        "period_end_ms": each.end_ms,
        "counted_since_ms": max(each.since_ms, each.start_ms),
        "burn": {duration_text(window_ms): burn / PPM for window_ms, burn in each.burns},
        "runs_out_ms": each.out_ms,
        "lasts": each.lasts,
    }


def table_of(shown: list[Standing], at_ms: int) -> Table:
    """Draw accounts for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("budget", "key"):
        table.add_column(name, no_wrap=True)
    for name in ("spent", "of", "share", "left", "burn", "runs out"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("period")
    for each in shown:
        style = "red" if each.share >= 1 else "yellow" if not each.lasts else ""
        burn = " ".join(f"{amount_text(burn / PPM, 'count')} ({duration_text(ms)})" for ms, burn in each.burns)
        table.add_row(
            each.budget,
            Text(each.key or each.over),
            *(amount_text(amount, each.unit) for amount in (each.spent, each.limit)),
            Text(amount_text(each.share, "ratio"), style),
            amount_text(each.remaining, each.unit),
            burn,
            Text(runs_out(each, at_ms), style),
            period(each),
        )
    return table


def runs_out(each: Standing, at_ms: int) -> str:
    """Say how long it lasts."""
    if not each.remaining:
        return "spent"
    if each.lasts or each.out_ms is None:
        return "lasts"
    return f"in {duration_text((each.out_ms - at_ms) // 1000 * 1000)}"


def period(each: Standing) -> str:
    """Name the period, and since when it was counted if not from its beginning."""
    counted = f", counted since {rfc3339(each.since_ms)}" if each.since_ms > each.start_ms else ""
    return f"{each.per.replace('_', ' ')} from {rfc3339(each.start_ms)[:16]}Z{counted}"
