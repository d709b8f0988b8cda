"""`agent-streams alerts`: what is wrong now, and what becomes so; the alert topic is read, no worker is asked.

Never silences or acknowledges anything.
"""

import asyncio
from collections import deque
from typing import Annotated, Any, Final

import msgspec
import orjson
import typer
from rich.table import Table
from rich.text import Text

from streams.rule.records import AlertRecord
from streams.topology import ALERTS
from streams.worker.board import alert_cells, clock
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, print_json
from streams.worker.looking import Following, following
from streams.worker.picture import Picture
from streams.worker.tail import Records

FOLLOW_S: Final = 0.1

EXAMPLES: Final = (
    "agent-streams alerts",
    "agent-streams alerts --all --json",
    "agent-streams alerts --follow --json | jq -c '{state, alert, labels}'",
)


def alerts(
    every: Annotated[bool, typer.Option("--all", help="Show resolved ones too.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on and write every transition as it comes, until Ctrl-C.")
    ] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show the alerts that fire or are about to, or follow what changes."""
    settings = load(bootstrap, prefix)
    kafka, picture = connection(settings), Picture()
    fresh: deque[AlertRecord] = deque()

    def take(suffix: str, partition: int, records: Records) -> None:
        picture.take(suffix, partition, records)
        fresh.extend(picture.alert_changes)
        picture.alert_changes.clear()

    async def show() -> None:
        async with following(kafka, settings.topic_prefix, [ALERTS.suffix], take) as topic:
            await topic.catch_up()
            fresh.clear()
            _print(picture, every=every, as_json=as_json, lines=follow)
            if follow:
                await _follow(topic, fresh, as_json=as_json)

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        raise typer.Exit(0 if follow else 130) from None


def _print(picture: Picture, *, every: bool, as_json: bool, lines: bool) -> None:
    records = picture.firing()
    if every:
        ended = [record for record in picture.alerts.values() if record.state == "resolved"]
        records += sorted(ended, key=lambda record: record.time_ms, reverse=True)
    if as_json and lines:
        for record in reversed(records):
            _print_line(record, as_json=True)
    elif as_json:
        print_json({"alerts": [_as_dict(record) for record in records]})
    elif records:
        out.print(_table(records))
    else:
        out.print("[green]No alert fires.[/green]" if not every else "There has been no alert.")


def _table(records: list[AlertRecord]) -> Table:
    table = Table("since", "state", "alert", "severity", "value", "limit", "what", box=None, pad_edge=False)
    for record in records:
        since, state, name, what = alert_cells(record)
        table.add_row(since, state, name, record.severity, record.value_text, record.limit_text or "–", what)
    return table


async def _follow(topic: Following, fresh: "deque[AlertRecord]", *, as_json: bool) -> None:
    while True:
        topic.check()
        while fresh:
            _print_line(fresh.popleft(), as_json=as_json)
        await asyncio.sleep(FOLLOW_S)


def _print_line(record: AlertRecord, *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(_as_dict(record)).decode())
    else:
        cells = (clock(record.time_ms), record.state, record.severity, record.alert, record.summary)
        out.print(Text("  ").join(map(Text, cells)))


def _as_dict(record: AlertRecord) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(record)
    return built
