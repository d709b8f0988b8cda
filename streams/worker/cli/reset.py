"""`agent-streams reset`: let exported counters begin anew, and say when they have.

Never deletes a number: lifetimes, windows and alerts stay; `agent-streams tables` goes on showing lifetimes.
"""

import asyncio
import getpass
import os
import socket
import sys
import uuid
from typing import Annotated, Final

import typer
from rich.markup import escape

from streams.errors import ConfigError
from streams.event.command import Scope
from streams.topology import COMMANDS
from streams.worker.asking import Outcome
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.reset import Done, Resetting, make, names_of

EXAMPLES: Final = (
    "agent-streams reset --dimension tool --label tool=search",
    "agent-streams reset --dimension agent --metric 'agent_tokens_*' --note 'after the load test' --yes",
    "agent-streams reset --all --yes --json",
)
TIMEOUT_S: Final = 30.0
SHOWN: Final = 20  # rows that people see; programs get them all
# What a script can tell apart; Kafka that fails ends with 69, a wrong option with 78, as everywhere.
EXIT_CODES: Final = {
    Outcome.APPLIED: 0,
    Outcome.REFUSED: os.EX_DATAERR,  # 65
    Outcome.NOTHING: os.EX_NOINPUT,  # 66
    Outcome.WAITING: os.EX_TEMPFAIL,  # 75
}


def reset(
    dimension: Annotated[
        str | None, typer.Option(help="Reset keys of this dimension: tool, agent, model, agent_tool …")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only keys with this label. May be repeated.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Reset every counter of every dimension.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only these metrics; * is any text. May be repeated.", show_default=False),
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why, for whoever reads the topic later.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks.", show_default="user@host")] = None,
    command_id: Annotated[
        str | None,
        typer.Option("--id", help="The command's id: asked for again under the same id, it happens once."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for it.")] = TIMEOUT_S,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Let exported counters begin anew: every exporter then shows what was added since, and when that began.

    It ends with 0 once the workers have committed it, with 66 if no series is meant (nothing is published), with 65 if
    the workers refused it, with 75 if none was seen to carry it out in time: it happens once one runs.
    """
    settings = load(bootstrap, prefix)
    scope = _scope(dimension, label or [], everything=everything)
    command = make(command_id or str(uuid.uuid4()), whoever() if by is None else by, scope, metric, note)
    resetting = Resetting(connection(settings), settings.topic_prefix, command)
    with progress("reading the tables"):
        rows = names_of(asyncio.run(resetting.look()))
    if not rows:
        _end(Done(command.id, Outcome.NOTHING, reason=_why_nothing(dimension)), as_json=as_json)
    if not yes:
        _ask(rows)
    with progress(f"waiting for {settings.topic_prefix}{COMMANDS.suffix} to be carried out"):
        done = asyncio.run(resetting.act(timeout_s))
    _end(done, as_json=as_json)


def _scope(dimension: str | None, labels: list[str], *, everything: bool) -> Scope | None:
    """Read what is meant; None is everything. ConfigError names what contradicts itself."""
    if everything == (dimension is not None):
        raise ConfigError("reset: say either --all or --dimension, such as: --dimension tool --label tool=search")
    if dimension is None:
        if labels:
            raise ConfigError("--label: with --all there is nothing to choose; say --dimension too")
        return None
    found: dict[str, str] = {}
    for pair in labels:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in found:
            raise ConfigError(f"--label: {pair!r} given, expected NAME=VALUE, each name once, such as tool=search")
        found[name] = value
    return Scope(dimension, found)


def whoever() -> str:
    """Name who asks: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:128]


def _ask(rows: list[str]) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("reset: nobody can be asked here; say --yes")
    for name in rows[:SHOWN]:
        err.print(escape(name))
    if len(rows) > SHOWN:
        err.print(f"… {len(rows)} in all")
    typer.confirm(f"Reset what is exported of {_keys(len(rows))}?", abort=True, err=True)


def _keys(count: int) -> str:
    return f"{count:,} key{'' if count == 1 else 's'}"


def _why_nothing(dimension: str | None) -> str:
    what = "no key" if dimension is None else f"no key of {dimension}"
    return f"{what} with these labels has a row of its own; those beyond a dimension's cap share the row __other__"


def _end(done: Done, *, as_json: bool) -> None:
    """Say what happened, and end with the code that says it to scripts."""
    if as_json:
        print_json(done.as_dict())
    elif done.outcome is Outcome.APPLIED:
        before = "had been reset before by" if done.repeated else "reset by"
        out.print(f"[green]{_keys(len(done.rows))}[/green] {before} {escape(done.id)}, seen after {done.took_ms} ms")
    elif done.outcome is Outcome.NOTHING:
        err.print(f"nothing to reset: {escape(done.reason or '')}")
    elif done.outcome is Outcome.REFUSED:
        err.print(f"[red]refused[/red] by the workers: {escape(done.reason or '')}")
    else:
        err.print(
            f"published as {escape(done.id)}, but no worker carried it out within {(done.took_ms or 0) / 1000:.0f} s. "
            "It happens once one runs: agent-streams doctor"
        )
    raise typer.Exit(EXIT_CODES[done.outcome])
