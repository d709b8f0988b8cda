"""The group of commands `agent-streams rules …`, which two modules add to: what changes workers, and what replays."""

from typing import Final

import typer

app: Final = typer.Typer(name="rules", help="Check, test, try and load alert rules and breakers.", no_args_is_help=True)
