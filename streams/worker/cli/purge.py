"""`agent-streams purge`: have a session or a user forgotten, and say honestly where something of it remains.

Never writes the id anywhere: workers are told its digest.
"""

import asyncio
import sys
import uuid
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.markup import escape

from streams.errors import ConfigError
from streams.worker.asking import Outcome
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.reset import EXIT_CODES, whoever
from streams.worker.purge import Done, make
from streams.worker.purge import purge as carry_out

EXAMPLES: Final = (
    "agent-streams purge session 7d1c2f",
    "agent-streams purge user someone@example.com --note 'asked for on 20 November' --yes --json",
)
TIMEOUT_S: Final = 60.0


class What(StrEnum):
    """What can be forgotten."""

    SESSION = "session"
    USER = "user"


def purge(
    what: Annotated[What, typer.Argument(metavar="session|user", help="What the id is of.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="The id, as events have it.")],
    note: Annotated[str | None, typer.Option(help="Why, for whoever reads the topic later; never the id.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks.", show_default="user@host")] = None,
    command_id: Annotated[
        str | None, typer.Option("--id", help="The command's id: asked for again under it, it happens once.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for it.")] = TIMEOUT_S,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Erase every row of a session or a user by tombstones, and refuse its events from before for good.

    It ends with 0 once the workers have committed it, with 65 if they refused it, with 75 if it was not seen in time.
    Sums without a name stay as they were. What the logs still hold, and until when, is said at the end.
    """
    settings = load(bootstrap, prefix)
    kafka = connection(settings)
    command = make(command_id or str(uuid.uuid4()), by or whoever(), what.value, name, note)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("purge: nobody can be asked here; say --yes")
        typer.confirm(f"Forget everything that is kept of this {what.value}? There is no way back.", abort=True)
    with progress("waiting for the workers to let go of it"):
        done = asyncio.run(carry_out(kafka, settings.topic_prefix, command, name, timeout_s))
    if as_json:
        print_json(done.as_dict())
    else:
        _show(done)
    raise typer.Exit(EXIT_CODES[done.outcome])


def _show(done: Done) -> None:
    if done.outcome is Outcome.APPLIED:
        out.print(f"[green]{done.rows} rows[/green] erased by {escape(done.id)}, seen after {done.took_ms} ms")
        if done.left:
            out.print(f"{done.left} rows hold what has come since: new events of it are taken again")
        out.print("What remains, where only age forgets:")
        for each in done.remains:
            out.print(f"  {escape(str(each))}")
        out.print("Notices, scrapes, backups and other consumers' copies are beyond the reach of this command.")
    elif done.outcome is Outcome.REFUSED:
        err.print(f"[red]refused[/red] by the workers: {escape(done.reason or '')}")
    else:
        err.print(
            f"published as {escape(done.id)}, but not carried out within {(done.took_ms or 0) / 1000:.0f} s. "
            "It happens once workers run: agent-streams doctor"
        )
