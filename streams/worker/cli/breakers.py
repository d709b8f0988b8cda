"""`agent-streams breakers`: which circuits are there, what have they done, and put one into a state by hand.

Never moves a circuit by itself: workers carry commands out, each once, at one place of their log.
"""

import asyncio
import uuid
from typing import Annotated, Any, Final

import msgspec
import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.errors import ConfigError
from streams.event.command import Breaker
from streams.rule.amount import duration_text
from streams.rule.circuit import live_rates
from streams.rule.records import BreakerRecord
from streams.topology import BREAKERS, COMMANDS
from streams.worker.asking import Outcome
from streams.worker.board import CIRCUIT_STYLES, clock
from streams.worker.circuits import Circuits, Moving, look, make
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.reset import EXIT_CODES, TIMEOUT_S, whoever
from streams.worker.looking import following
from streams.worker.reset import Done

EXAMPLES: Final = (
    "agent-streams breakers list",
    "agent-streams breakers show 'tool|search'",
    "agent-streams breakers force-open 'tool|search' --note 'the vendor is down'",
    "agent-streams breakers reset 'tool|*' --json",
    "agent-streams breakers watch --json | jq -c '{breaker, state, reason, by}'",
)
app: Final = typer.Typer(name="breakers", help="Look at circuit breakers and move them by hand.", no_args_is_help=True)
FOLLOW_S: Final = 0.1
NOTHING_CODE: Final = EXIT_CODES[Outcome.NOTHING]

Name = Annotated[
    str, typer.Argument(metavar="CIRCUIT", help="Name of a circuit, such as 'tool|search'.", show_default=False)
]
Pattern = Annotated[
    str,
    typer.Argument(
        metavar="CIRCUIT",
        help="Name of a circuit, such as 'tool|search'; * is any text.",
        show_default=False,
    ),
]
Note = Annotated[str | None, typer.Option(help="Why, for whoever reads the topic later.")]
By = Annotated[str | None, typer.Option(help="Who asks.", show_default="user@host")]
CommandId = Annotated[
    str | None, typer.Option("--id", help="The command's id: asked for again under the same id, it happens once.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for it.")]
StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", help=f"Only circuits in this state: {', '.join(CIRCUIT_STYLES)}. May be repeated."),
]


# ---- looking -----------------------------------------------------------------------------------------------------


@app.command("list")
def show_all(
    state: StateOption = None, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False
) -> None:
    """List the circuits that have moved or that have a window of calls; the others are closed."""
    unknown = [each for each in state or () if each not in CIRCUIT_STYLES]
    if unknown:
        raise ConfigError(f"--state: {unknown[0]!r} given, expected one of {', '.join(CIRCUIT_STYLES)}")
    circuits = _look(bootstrap, prefix)
    shown = [circuits.as_dict(name) for name in circuits.names()]
    shown = [each for each in shown if not state or each["state"] in state]
    if as_json:
        print_json({"breakers": shown})
    elif not shown:
        out.print("No circuit is in such a state." if state else "[green]No circuit has opened.[/green]")
    else:
        table = Table("breaker", "state", "since", "failing", "slow", "calls", "reason", "by", box=None, pad_edge=False)
        for each in shown:
            table.add_row(*_cells(circuits, each["breaker"]))
        out.print(table)


@app.command()
def show(name: Name, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show all that is known of one circuit; it ends with 66 if nothing is."""
    circuits = _look(bootstrap, prefix, name)
    if name not in circuits.names():
        err.print(f"nothing is known of {escape(name)}: it never moved, or no policy guards such a key")
        raise typer.Exit(NOTHING_CODE)
    known = circuits.as_dict(name)
    if as_json:
        print_json(known)
        return
    window = known.pop("window", {})
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in (*known.items(), *((f"{key} now", value) for key, value in window.items())):
        if value is not None and value != [] and key not in {"schema", "id"}:
            table.add_row(key.replace("_", " "), Text(_worded(key, value), CIRCUIT_STYLES.get(str(value), "")))
    out.print(table)


@app.command()
def history(name: Name, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show every transition of one circuit that its topic still holds, at least those of 30 days, oldest first.

    It ends with 66 if there is none.
    """
    circuits = _look(bootstrap, prefix, name)
    if not circuits.changes:
        err.print(f"{escape(name)} has never moved, as far as the topic goes back")
        raise typer.Exit(NOTHING_CODE)
    if as_json:
        print_json({"breaker": name, "history": [msgspec.to_builtins(each) for each in circuits.changes]})
        return
    for each in circuits.changes:
        _print_line(each, as_json=False)


@app.command()
def watch(bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Write every transition of every circuit as it comes, until Ctrl-C."""
    settings = load(bootstrap, prefix)
    kafka, circuits = connection(settings), Circuits()

    async def follow() -> None:
        async with following(kafka, settings.topic_prefix, [BREAKERS.suffix], circuits.take) as topic:
            await topic.catch_up()
            circuits.changes.clear()
            while True:
                topic.check()
                while circuits.changes:
                    _print_line(circuits.changes.popleft(), as_json=as_json)
                await asyncio.sleep(FOLLOW_S)

    try:
        asyncio.run(follow())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _look(bootstrap: str | None, prefix: str | None, only: str | None = None) -> Circuits:
    settings = load(bootstrap, prefix)
    with progress("reading the topics"):
        return asyncio.run(look(connection(settings), settings.topic_prefix, only))


def _cells(circuits: Circuits, name: str) -> tuple[Text, ...]:
    told, row = circuits.records.get(name), circuits.rows.get(name)
    state = "closed" if told is None else told.state
    failing, slow = (-1.0, -1.0) if row is None else live_rates(row)
    return (
        Text(name),
        Text(state.replace("_", "-"), CIRCUIT_STYLES[state]),
        Text("–" if told is None else clock(told.since_ms), "dim"),
        Text(_share(failing)),
        Text(_share(slow)),
        Text("–" if row is None else str(row.live_calls)),
        Text("–" if told is None else told.reason),
        Text((told and told.by) or "–"),
    )


def _share(rate: float) -> str:
    return "–" if rate < 0 else f"{rate:.1%}"


def _worded(key: str, value: Any) -> str:
    if key.endswith(("since_ms", "until_ms", "time_ms")):
        return clock(value)
    if key.endswith("_ms") and isinstance(value, int):
        return duration_text(value)
    if "rate" in key and isinstance(value, float):
        return _share(value)
    return (
        ", ".join(map(str, value.values() if isinstance(value, dict) else value))
        if isinstance(value, dict | list | tuple)
        else str(value)
    )


def _print_line(told: BreakerRecord, *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(msgspec.to_builtins(told)).decode())
        return
    why = f"by {told.by}" + (f": {told.note}" if told.note else "") if told.by else ""
    few = f"{told.calls} calls, {_share(told.failure_rate)} failed, {_share(told.slow_call_rate)} slow"
    cells = (clock(told.time_ms), told.breaker, f"{told.previous} → {told.state}", told.reason, few, why)
    out.print(Text("  ").join(map(Text, cells)))


# ---- moving ------------------------------------------------------------------------------------------------------


@app.command("force-open")
def force_open(
    breaker: Pattern, note: Note = None, by: By = None, command_id: CommandId = None, timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Let no call through until somebody says otherwise.

    It ends with 0 once the workers have committed it, with 66 if no circuit is meant, with 65 if the workers refused
    it, with 75 if none was seen to carry it out in time: it happens once one runs.
    """
    _move("force-open", breaker, note, by, command_id, timeout_s, bootstrap, prefix, as_json=as_json)


@app.command("force-close")
def force_close(
    breaker: Pattern, note: Note = None, by: By = None, command_id: CommandId = None, timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Close a circuit now, with an empty window; from there on it lives by itself.

    It ends as `force-open` does.
    """
    _move("force-close", breaker, note, by, command_id, timeout_s, bootstrap, prefix, as_json=as_json)


@app.command()
def disable(
    breaker: Pattern, note: Note = None, by: By = None, command_id: CommandId = None, timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Let every call through and count none, until somebody says otherwise.

    It ends as `force-open` does.
    """
    _move("disable", breaker, note, by, command_id, timeout_s, bootstrap, prefix, as_json=as_json)


@app.command("metrics-only")
def metrics_only(
    breaker: Pattern, note: Note = None, by: By = None, command_id: CommandId = None, timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Let every call through, go on measuring, and say once that a rate is exceeded.

    It ends as `force-open` does.
    """
    _move("metrics-only", breaker, note, by, command_id, timeout_s, bootstrap, prefix, as_json=as_json)


@app.command()
def reset(
    breaker: Pattern, note: Note = None, by: By = None, command_id: CommandId = None, timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Begin anew: closed, with an empty window, whatever state it was in.

    It ends as `force-open` does.
    """
    _move("reset", breaker, note, by, command_id, timeout_s, bootstrap, prefix, as_json=as_json)


def _move(
    action: str, breaker: str, note: str | None, by: str | None, command_id: str | None, timeout_s: float,
    bootstrap: str | None, prefix: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Publish a command, wait until the workers have committed it, and end with the code that says what happened."""
    settings = load(bootstrap, prefix)
    command: Breaker = make(command_id or str(uuid.uuid4()), whoever() if by is None else by, action, breaker, note)
    with progress(f"waiting for {settings.topic_prefix}{COMMANDS.suffix} to be carried out"):
        done = asyncio.run(Moving(connection(settings), settings.topic_prefix, command).act(timeout_s))
    _end(done, action, as_json=as_json)


def _end(done: Done, action: str, *, as_json: bool) -> None:
    if as_json:
        print_json(done.as_dict())
    elif done.outcome is Outcome.APPLIED:
        before = "had been done before by" if done.repeated else "done by"
        out.print(f"[green]{action}[/green] {before} {escape(done.id)}, seen after {done.took_ms} ms:")
        for name in done.rows:
            out.print(escape(name))
    elif done.outcome is Outcome.NOTHING:
        err.print(f"no circuit has moved: {escape(done.reason or '')}")
    elif done.outcome is Outcome.REFUSED:
        err.print(f"[red]refused[/red] by the workers: {escape(done.reason or '')}")
    else:
        err.print(
            f"published as {escape(done.id)}, but no worker carried it out within {(done.took_ms or 0) / 1000:.0f} s. "
            "It happens once one runs: agent-streams doctor"
        )
    raise typer.Exit(EXIT_CODES[done.outcome])
