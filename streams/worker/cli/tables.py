"""`agent-streams tables`: what the workers have committed, as tables; the changelogs are read, no worker is asked.

Never joins a group and never writes.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.fold.measure import DIMENSIONS
from streams.topology import ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG
from streams.worker.cli.options import PIPE_COLUMNS, Bootstrap, Json, Prefix, connection, load, out, print_json
from streams.worker.columns import DIMENSION_COLUMNS, PLURALS, SESSION_COLUMNS, Column, as_dict
from streams.worker.looking import following
from streams.worker.rows import entry_dict, flat, session_dict, text_of
from streams.worker.tables import Tables
from streams.worker.tail import Records, rows_of

Kind = Literal[
    "sessions", "tools", "agents", "models", "providers", "tenants", "users", "agent-tools", "partitions", "all"
]
SESSIONS: Final = "sessions"
REFRESH_S: Final = 1.0
NAME_COLUMNS: Final = 16  # what a narrow terminal leaves of a name
PARTS: Final = "|"  # between the labels of a key

EXAMPLES: Final = (
    "agent-streams tables sessions",
    "agent-streams tables tools --watch",
    "agent-streams tables sessions --id 4f2a --json",
    'agent-streams tables agent-tools --id "researcher|web_search"',
)


def tables(
    kind: Annotated[Kind, typer.Argument(metavar="TABLE", help="Which table.")],
    one: Annotated[
        str | None, typer.Option("--id", help="Show one row in full: a session, a tool, …; agent-tools: agent|tool.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it as it changes, until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = 30,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show sessions, tools, agents, models and more, as the workers have committed them."""
    settings = load(bootstrap, prefix)
    kafka, suffix = connection(settings), _suffix(kind)
    found = Tables()

    def take(_: str, partition: int, records: Records) -> None:
        for key, value in rows_of(records):
            found.take(suffix, partition, key, value)

    def look() -> "_Look":
        return _one(found, kind, one) if one is not None else _many(found, kind, limit)

    async def show() -> None:
        async with following(kafka, settings.topic_prefix, [suffix], take) as topics:
            await topics.catch_up()
            if not watch:
                _print(look(), as_json=as_json)
                return
            await _watch(look, topics.check, as_json=as_json)

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        raise typer.Exit(0 if watch else 130) from None


def _suffix(kind: Kind) -> str:
    return SESSIONS_CHANGELOG.suffix if kind == SESSIONS else ROLLUPS_CHANGELOG.suffix


class _Look:
    """One look at a table: for people and for programs."""

    def __init__(self, shown: RenderableType, data: dict[str, Any]) -> None:
        self.shown = shown
        self.data = data


def _print(look: _Look, *, as_json: bool) -> None:
    if as_json:
        print_json(look.data)
    else:
        out.print(look.shown)


async def _watch(look: Callable[[], _Look], check: Callable[[], None], *, as_json: bool) -> None:
    """Show it anew every second: on a terminal in place, else when it has changed."""
    if out.is_terminal and not as_json:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                check()
                live.update(look().shown, refresh=True)
                await asyncio.sleep(REFRESH_S)
    before: dict[str, Any] | None = None
    while True:
        check()
        now = look()
        if now.data != before:
            _print(now, as_json=as_json)
            before = now.data
        await asyncio.sleep(REFRESH_S)


# ---- many rows --------------------------------------------------------------------------------------------------


def _many(found: Tables, kind: Kind, limit: int) -> _Look:
    return _sessions(found, limit) if kind == SESSIONS else _entries(found, PLURALS[kind], limit)


def _sessions(found: Tables, limit: int) -> _Look:
    at_ms = now_ms()
    rows = list(islice(found.sessions.recent(), limit))
    data = [
        {"session_id": session_id, "partitions": partitions, **as_dict(SESSION_COLUMNS, row, at_ms)}
        for session_id, partitions, row in rows
    ]
    shown = _table(("session",), SESSION_COLUMNS, [((session_id,), row) for session_id, _, row in rows], at_ms)
    count, active = found.sessions.count, found.sessions.alive
    foot = Text(f"{len(rows)} of {count:,} sessions, {active:,} active; the last seen first", "dim")
    return _Look(Group(shown, foot), {"sessions": count, "active": active, "rows": data})


def _entries(found: Tables, dimension: str, limit: int) -> _Look:
    at_ms, names, columns = now_ms(), DIMENSIONS[dimension].columns, DIMENSION_COLUMNS[dimension]
    first, entries = columns[0], found.rollups.entries(dimension)
    entries.sort(key=lambda entry: _number(first.value(entry, at_ms)), reverse=True)
    chosen = entries[:limit]
    data = [{**dict(zip(names, entry.labels, strict=True)), **as_dict(columns, entry, at_ms)} for entry in chosen]
    shown = _table(names, columns, [(entry.labels, entry) for entry in chosen], at_ms)
    foot = Text(f"{len(chosen)} of {len(entries):,} rows; most {first.header} first", "dim")
    return _Look(Group(shown, foot), {"dimension": dimension, "count": len(entries), "rows": data})


def _table(
    names: tuple[str, ...], columns: tuple[Column[Any], ...], rows: list[tuple[tuple[str, ...], Any]], at_ms: int
) -> Table:
    """Draw as many of the columns as the terminal has room for; programs get them all."""
    unbounded = out.options.update(max_width=PIPE_COLUMNS)
    for count in range(len(columns), 0, -1):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(name, no_wrap=True, min_width=NAME_COLUMNS)
        for column in columns[:count]:
            table.add_column(column.header, justify="right" if column.right else "left", no_wrap=True)
        for labels, row in rows:
            table.add_row(*map(Text, labels), *(Text(column.text(row, at_ms)) for column in columns[:count]))
        if out.measure(table, options=unbounded).maximum <= out.width:
            break
    return table


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


# ---- one row ----------------------------------------------------------------------------------------------------


def _one(found: Tables, kind: Kind, one: str) -> _Look:
    return _session(found, one) if kind == SESSIONS else _entry(found, kind, PLURALS[kind], one)


def _session(found: Tables, session_id: str) -> _Look:
    row = found.sessions.get(session_id)
    if row is None:
        raise ConfigError(
            f"session {session_id}: no row. It has published nothing, or ended more than an hour ago. "
            "See which there are: agent-streams tables sessions"
        )
    data = session_dict(session_id, row)
    closed = [session_dict(session_id, earlier) for earlier in found.sessions.closed(session_id)]
    parts = [_fields(data), *_nested("tools", data["tools"]), *_nested("in flight", data["open"])]
    parts += [
        part
        for earlier in closed
        for part in (Text(f"\nincarnation {earlier['incarnation']}", "bold"), _fields(earlier))
    ]
    return _Look(Group(*parts), {**data, "earlier": closed})


def _entry(found: Tables, kind: Kind, dimension: str, one: str) -> _Look:
    names = DIMENSIONS[dimension].columns
    labels = tuple(one.split(PARTS)) if len(names) > 1 else (one,) * len(names)
    entry = found.rollups.get(dimension, *labels)
    if entry is None:
        raise ConfigError(f"{dimension} {one}: no row. See which there are: agent-streams tables {kind}")
    data = entry_dict(dimension, names, entry, now_ms())
    shown = {**data["labels"], **{name: value for name, value in data.items() if name != "dimension"}}
    sums = {name: {"sum": value} for name, value in data["sums"].items()}
    return _Look(Group(_fields(shown), *_sums(sums)), data)


def _fields(row: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, text in flat(row):
        table.add_row(Text(name, "dim"), Text(text))
    return table


def _sums(sums: dict[str, dict[str, int]]) -> Iterator[RenderableType]:
    yield Text("\nsums", "bold")
    yield _fields({name: each["sum"] for name, each in sums.items()})


def _nested(title: str, rows: dict[str, dict[str, Any]]) -> Iterator[RenderableType]:
    if not rows:
        return
    yield Text(f"\n{title}", "bold")
    names = list(next(iter(rows.values())))
    table = Table("", *names, box=None, pad_edge=False, header_style="dim")
    for key, row in rows.items():
        table.add_row(Text(key), *(Text(text_of(name, row[name])) for name in names))
    yield table
