"""`agent-streams dashboards`: Grafana dashboards of everything that is exported.

Never asks a broker, a Prometheus or a Grafana: import the files, or provision the folder.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from streams.sink.dashboards.boards import BOARDS, files
from streams.sink.dashboards.grafana import text
from streams.worker.cli.folder import write
from streams.worker.cli.options import out

EXAMPLES: Final = (
    "agent-streams dashboards",
    "agent-streams dashboards tools > tools.json",
    "agent-streams dashboards --to /var/lib/grafana/dashboards",
)


def dashboards(
    board: Annotated[
        str | None, typer.Argument(metavar="BOARD", help=f"One of {', '.join(BOARDS)}.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Write every dashboard into this folder instead, one file each.", show_default=False),
    ] = None,
) -> None:
    """Print a Grafana dashboard as JSON, or write all of them; without either, name them."""
    if to is not None:
        write(to, files())
    elif board is None:
        for name, each in BOARDS.items():
            out.print(f"{name:<10} {each.description}", markup=False)
    elif board in BOARDS:
        typer.echo(text(BOARDS[board]), nl=False)
    else:
        raise typer.BadParameter(f"{board!r} is no dashboard: there are {', '.join(BOARDS)}")
