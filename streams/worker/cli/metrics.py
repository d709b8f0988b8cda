"""`agent-streams metrics`: which metrics are exported, with which labels and buckets, and what they mean.

Never asks a broker: this is the catalogue, not its numbers.
"""

from typing import Annotated, Final

import typer
from rich.table import Table

from streams.sink.custom import custom_metrics
from streams.sink.reference import as_markdown, as_rows
from streams.worker import wiring
from streams.worker.cli.options import Json, load, out, print_json

EXAMPLES: Final = (
    "agent-streams metrics",
    "agent-streams metrics a2a",
    "agent-streams metrics --markdown > metrics.md",
)


def metrics(
    part: Annotated[
        str, typer.Argument(metavar="PART", help="Only metrics with this in their name.", show_default=False)
    ] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all of ours as Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Show every metric of the catalogue, and those that the settings declare."""
    if markdown:
        typer.echo(as_markdown(), nl=False)
        return
    rows = [row for row in as_rows(custom_metrics(wiring.customs(load()))) if part in str(row["name"])]
    if not rows:
        raise typer.BadParameter(f"no metric has {part!r} in its name")
    if as_json:
        print_json({"metrics": rows})
        return
    table = Table("metric", "kind", "labels", "meaning", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        columns = row["labels"]
        table.add_row(*(str(row[name]) for name in ("name", "kind")), ", ".join(columns), str(row["help"]))  # type: ignore[arg-type]  # a list of names
    out.print(table)
