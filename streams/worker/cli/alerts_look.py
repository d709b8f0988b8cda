"""`agent-streams alerts`: what is wrong now, what became of it, who has taken it on, and what is told to nobody.

Looks only; what changes something is in `streams.worker.cli.alerts`.  Topics are read, no worker is asked.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Final, NoReturn, TypeVar

import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.rule.amount import duration_text
from streams.rule.records import AlertRecord, rfc3339
from streams.sink.rulefiles.model import RUNBOOKS, anchor
from streams.topology import ALERTS
from streams.worker.board import alert_cells, clock
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json
from streams.worker.looking import following, read_whole
from streams.worker.past import Past, Turn
from streams.worker.situation import SUFFIXES, Ambiguous, Entry, NoSuch, Situation, shown
from streams.worker.tail import Records

FOLLOW_S: Final = 0.1
HISTORY_SHOWN: Final = 200

_T = TypeVar("_T")
HELP: Final = "Show what fires, take it on, silence it, and look back."

Every = Annotated[bool, typer.Option("--all", help="Show resolved ones too.")]
AlertId = Annotated[str, typer.Argument(metavar="ID", help="The alert's id, or as much of it as no other begins with.")]

app = typer.Typer(help=HELP, no_args_is_help=False)


@app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    every: Every = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on and write every transition as it comes, until Ctrl-C.")
    ] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show the alerts that fire or are about to; the commands below do more."""
    if context.invoked_subcommand is not None:
        if every or follow or as_json or bootstrap is not None or prefix is not None:
            raise ConfigError(f"alerts: write the options behind {context.invoked_subcommand}")
        return
    if follow:
        watch(every, bootstrap, prefix, as_json)
    else:
        list_(every, bootstrap, prefix, as_json)


@app.command("list")
def list_(every: Every = False, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show the alerts that fire or are about to: since when, who is at it, and what keeps it from being told."""
    situation = look(bootstrap, prefix)
    entries = situation.entries(now_ms(), every=every)
    if as_json:
        print_json({"alerts": [entry.as_dict() for entry in entries]})
    else:
        _print_list(situation, entries, every=every)


def _print_list(situation: Situation, entries: Sequence[Entry], *, every: bool) -> None:
    if not entries:
        out.print("[green]No alert fires.[/green]" if not every else "There has been no alert.")
        return
    ids = shown(situation.alerts)
    table = Table("id", "since", "state", "alert", "severity", "value", "limit", "what", box=None, pad_edge=False)
    for entry in entries:
        record = entry.record
        since, state, name, what = alert_cells(record)
        if entry.kept_since_ms is not None:
            state = Text("kept", "yellow")
        said = Text("\n").join([what, *(Text(each, "dim") for each in remarks(situation, entry))])
        limit = record.limit_text or "–"
        table.add_row(ids[record.fingerprint], since, state, name, record.severity, record.value_text, limit, said)
    out.print(table)


def remarks(situation: Situation, entry: Entry) -> list[str]:
    """Return what else is to be said of an alert, a line each."""
    record, why, said = entry.record, entry.why, []
    if why.acknowledged is not None:
        who = why.acknowledged
        note = f": {who.note}" if who.note else ""
        said.append(f"taken on by {who.by} at {clock(who.time_ms)}{note}")
    if why.silenced_by:
        said.append(f"silenced by {', '.join(each[:8] for each in why.silenced_by)}")
    if why.inhibited_by:
        said.append(f"inhibited by {', '.join(_named(situation, each) for each in why.inhibited_by)}")
    if entry.kept_since_ms is not None:
        keep = duration_text(record.keep_firing_for_ms or 0)
        said.append(f"no longer over its limit since {clock(entry.kept_since_ms)}, kept for {keep}")
    if record.state == "resolved" and record.reason:
        said.append(f"ended: {record.reason}")
    whole = record.completeness
    if whole.late or whole.rejected:
        said.append(f"of that partition {whole.late:,} events were late, {whole.rejected:,} refused")
    return said


def _named(situation: Situation, fingerprint: str) -> str:
    found = situation.alerts.get(fingerprint)
    return fingerprint[:8] if found is None else f"{found.alert} ({fingerprint[:8]})"


@app.command()
def show(alert: AlertId, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Explain one alert: its value and limit, since when, who is at it, what keeps it from being told, what to do.

    It ends with 66 if there is no such alert, with 65 if the id is one of several.
    """
    situation = look(bootstrap, prefix)
    entry = situation.entry(found(lambda: situation.find(alert)), now_ms())
    if as_json:
        print_json({**entry.as_dict(), "runbook": _runbook(entry.record)})
    else:
        _print_one(situation, entry)


def _print_one(situation: Situation, entry: Entry) -> None:
    record, kept, whole = entry.record, entry.kept_since_ms, entry.record.completeness
    state = "kept: fires for everybody, is no longer over its limit" if kept is not None else record.state
    compared = f"{record.comparison} {record.limit_text}" if record.comparison else "the rule is gone"
    window = f" within {duration_text(record.window_ms)}" if record.window_ms else ""
    lines: dict[str, str | None] = {
        "id": record.fingerprint,
        "state": f"{state}, {record.severity}" + (", guards deny calls" if record.stop else ""),
        "key": ", ".join(f"{name}={value}" for name, value in record.labels.items()) or record.over,
        "value": f"{record.value_text} of {record.count:,}{window}; it fires {compared}",
        "since": rfc3339(record.active_since_ms),
        "fired": rfc3339(record.fired_ms) if record.fired_ms is not None else None,
        "ended": rfc3339(record.resolved_ms) + f" ({record.reason})" if record.resolved_ms is not None else None,
        "life": f"incarnation {record.incarnation}, transition {record.transition}",
        "numbers": f"late {whole.late:,}, duplicate {whole.duplicate:,}, refused {whole.rejected:,} events of the "
        "partition",
        "": "\n".join(remarks(situation, entry)) or None,
        "says": record.description or None,
        "do": f"{_runbook(record)}; {_next_step(entry)}",
    }
    out.print(Text(record.summary or record.alert, "bold"))
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in lines.items():
        if value is not None:
            table.add_row(Text(name, "dim"), Text(value))
    out.print(table)


def _runbook(record: AlertRecord) -> str:
    return f"{RUNBOOKS}#{anchor(record.alert)}"


def _next_step(entry: Entry) -> str:
    short = entry.record.fingerprint[:8]
    if entry.record.state == "resolved":
        return f"what became of it: agent-streams alerts history {short}"
    if entry.why.acknowledged is not None:
        return f"to give it back: agent-streams alerts unack {short}"
    return f"to take it on: agent-streams alerts ack {short}"


@app.command()
def history(
    alert: Annotated[
        str | None, typer.Argument(metavar="ID", help="One alert; without it all of them.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = HISTORY_SHOWN,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show the transitions of one alert, or of all, in their order, with who took it on and gave it back.

    As far as the alert topic still has them: it is compacted a month later at the earliest.
    """
    settings = load(bootstrap, prefix)
    past = Past()
    asyncio.run(read_whole(connection(settings), settings.topic_prefix, [ALERTS.suffix], past.take))
    turns = found(lambda: past.turns(alert))
    chosen = turns[-limit:]
    if as_json:
        for turn in chosen:
            typer.echo(orjson.dumps(turn.as_dict()).decode())
        return
    ids = shown({turn.fingerprint for turn in turns})
    table = Table("when", "id", "became", "alert", "value", "what", box=None, pad_edge=False)
    for turn in chosen:
        table.add_row(rfc3339(turn.time_ms), ids[turn.fingerprint], *turn.cells())
    out.print(table if chosen else "There has been no alert.")
    if len(chosen) < len(turns):
        err.print(f"the newest {len(chosen):,} of {len(turns):,}; more: --limit")


@app.command()
def watch(every: Every = False, bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show what fires, then every transition as it comes, until Ctrl-C; with --json a line each."""
    settings = load(bootstrap, prefix)
    kafka, situation, past = connection(settings), Situation(), Past()

    def take(suffix: str, partition: int, records: Records) -> None:
        situation.take(suffix, partition, records)
        if suffix == ALERTS.suffix:
            past.take(suffix, partition, records)

    async def go_on() -> None:
        async with following(kafka, settings.topic_prefix, SUFFIXES, take) as topic:
            await topic.catch_up()
            past.fresh()
            entries = situation.entries(now_ms(), every=every)
            if as_json:
                for entry in reversed(entries):
                    typer.echo(orjson.dumps(entry.as_dict()).decode())
            else:
                _print_list(situation, entries, every=every)
            while True:
                topic.check()
                for turn in past.fresh():
                    _print_turn(turn, as_json=as_json)
                await asyncio.sleep(FOLLOW_S)

    try:
        asyncio.run(go_on())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_turn(turn: Turn, *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(turn.as_dict()).decode())
    else:
        out.print(Text("  ").join([Text(clock(turn.time_ms)), *turn.cells()]))


def look(bootstrap: str | None, prefix: str | None) -> Situation:
    """Read what there is now."""
    settings = load(bootstrap, prefix)
    kafka, situation = connection(settings), Situation()

    async def read() -> None:
        await read_whole(kafka, settings.topic_prefix, SUFFIXES, situation.take)
        more = situation.kept_in(situation.alerts.values())
        if more:
            await read_whole(kafka, settings.topic_prefix, more, situation.take)

    try:
        asyncio.run(read())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    return situation


def found(find: Callable[[], _T]) -> _T:
    """Return what is looked for, or end and say why not."""
    try:
        return find()
    except NoSuch as error:
        end(os.EX_NOINPUT, str(error))
    except Ambiguous as error:
        end(os.EX_DATAERR, str(error))


def end(code: int, why: str) -> NoReturn:
    """Say why, and end with a code."""
    err.print(escape(why))
    raise typer.Exit(code)
