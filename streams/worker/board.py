"""What does a person see of a picture?  One screen for a terminal, one line for everything else.

Never asks Kafka and never reads a clock: a picture and `now_ms` come in, what rich can print goes out.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import nlargest
from io import StringIO
from itertools import islice
from typing import Final

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.records import AlertRecord
from streams.worker.columns import DIMENSION_COLUMNS, SESSION_COLUMNS
from streams.worker.picture import Picture

TOOLS_SHOWN: Final = 8
SESSIONS_SHOWN: Final = 6
ALERTS_SHOWN: Final = 6
SHOWN_LEAST: Final = 2  # of each, however low the terminal is
_SESSION_SHOWN: Final = {"state", "idle_ms", "events", "tool_errors", "cost_nano_usd"}  # fits 80 columns
_NAME_COLUMNS: Final = 20  # what a narrow terminal leaves of a name
CIRCUIT_STYLES: Final = {
    "closed": "green",
    "open": "bold red",
    "half_open": "yellow",
    "disabled": "magenta",
    "forced_open": "bold red",
    "metrics_only": "blue",
}
_STYLES: Final = {
    **CIRCUIT_STYLES,
    "critical": "bold red",
    "warning": "yellow",
    "info": "cyan",
    "firing": "red",
    "pending": "yellow",
    "resolved": "green",
}
_RULER: Final = Console(file=StringIO())  # measures only
_NOTHING_YET: Final = Text("nothing yet", "dim")


def screen(picture: Picture, now_ms: int, size: ConsoleDimensions, footer: Text) -> RenderableType:
    """Return the whole board, with as many rows as the terminal has room for; the last lines are the caller's."""
    tables, rows = picture.tables, (TOOLS_SHOWN, SESSIONS_SHOWN, ALERTS_SHOWN)
    board = _board(picture, now_ms, rows, footer)
    lines = _RULER.render_lines(board, _RULER.options.update_width(size.width), pad=False)
    excess = len(lines) + 1 - size.height  # the cursor has a line of its own
    if excess <= 0:
        return board
    there = (len(tables.rollups.entries("tool")), tables.sessions.count, len(picture.alerts))
    return _board(picture, now_ms, shortened(tuple(map(min, there, rows)), excess), footer)


def shortened(rows: Sequence[int], by: int) -> Sequence[int]:
    """Return the rows of each part without so many, the longest part first; `SHOWN_LEAST` stay."""
    left = list(rows)
    for _ in range(by):
        longest = max(range(len(left)), key=left.__getitem__)
        if left[longest] > SHOWN_LEAST:
            left[longest] -= 1
    return left


def _board(picture: Picture, now_ms: int, rows: Sequence[int], footer: Text) -> RenderableType:
    tools, sessions, alerts = rows
    head = _head(picture)
    for text in (head, footer):  # the commands' console would leave their lines whole, and cut them off
        text.no_wrap, text.overflow = False, "fold"
    return Group(
        head,
        Panel(_tools(picture, now_ms, tools), title="tools", title_align="left", border_style="dim"),
        Panel(_sessions(picture, now_ms, sessions), title="sessions", title_align="left", border_style="dim"),
        Panel(_alerts(picture, now_ms, alerts), title="alerts", title_align="left", border_style="dim"),
        footer,
    )


def line(picture: Picture) -> str:
    """Return the board as one line of text, for logs and pipes."""
    outcomes = picture.tables.sessions.outcomes()
    parts = [f"{picture.rate:,.0f} events/s", *(f"{name} {count:,}" for name, count in outcomes.items())]
    parts.append(f"sessions {picture.tables.sessions.alive:,}")
    parts += [f"{record.breaker} {record.state}" for record in picture.breakers.values() if record.state != "closed"]
    firing = [record for record in picture.firing() if record.state == "firing"]
    names = ", ".join(dict.fromkeys(record.alert for record in firing))
    return "  ".join([*parts, f"alerts {len(firing)}" + (f" ({names})" if names else "")])


def _head(picture: Picture) -> Text:
    outcomes = picture.tables.sessions.outcomes()
    text = Text.assemble((f"{picture.rate:,.0f}", "bold"), " events/s   ")
    for name, count in outcomes.items():
        wrong = count and name in {"late", "duplicate", "rejected"}
        text.append(f"{name} ", "dim").append(f"{count:,}   ", "yellow" if wrong else "bold")
    table = picture.tables.sessions
    return text.append("sessions ", "dim").append(f"{table.alive:,} active of {table.count:,}", "bold")


def _tools(picture: Picture, now_ms: int, shown: int) -> RenderableType:
    columns = DIMENSION_COLUMNS["tool"]
    entries = picture.tables.rollups.entries("tool")
    if not entries:
        return _NOTHING_YET
    guarded = [record for record in picture.breakers.values() if record.over == "tool"]
    circuits = {record.labels["tool"]: record.state for record in guarded}
    table = _table("tool", [column.header for column in columns])
    table.add_column("circuit")
    for entry in nlargest(shown, entries, key=lambda each: each.sum("tool_calls_started", "tool_calls_unmatched")):
        state = circuits.get(entry.labels[0], "closed")
        table.add_row(
            Text(entry.labels[0]),
            *(_marked(column.name, column.value(entry, now_ms), column.text(entry, now_ms)) for column in columns),
            Text(state.replace("_", "-"), _STYLES[state]),
        )
    return table


def _sessions(picture: Picture, now_ms: int, shown: int) -> RenderableType:
    columns = [column for column in SESSION_COLUMNS if column.name in _SESSION_SHOWN]
    table = _table("session", [column.header for column in columns])
    for session_id, _, row in islice(picture.tables.sessions.recent(), shown):
        table.add_row(Text(session_id), *(Text(column.text(row, now_ms)) for column in columns))
    return table if table.row_count else _NOTHING_YET


def _alerts(picture: Picture, now_ms: int, shown: int) -> RenderableType:
    live = picture.firing()
    ended = [record for record in picture.alerts.values() if record.state == "resolved"]
    ended.sort(key=lambda record: record.time_ms, reverse=True)
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    for record in [*live, *ended][:shown]:
        table.add_row(*alert_cells(record, picture.acknowledgement(record, now_ms)))
    return table if table.row_count else _NOTHING_YET


def alert_cells(
    record: AlertRecord, acknowledgement: AcknowledgementRecord | None = None
) -> tuple[Text, Text, Text, Text]:
    """Return an alert as the cells of a row: when it changed, its state, its name, what it says and who is at it."""
    said = Text(record.summary)
    if acknowledgement is not None:
        said = Text(f"[{acknowledgement.by}] ", "green").append_text(said)
    return (
        Text(clock(record.time_ms), "dim"),
        Text(record.state, _STYLES[record.state]),
        Text(record.alert, _STYLES[record.severity] if record.state == "firing" else ""),
        said,
    )


def clock(ms: int) -> str:
    """Write a moment as the time of day, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%SZ")


def _marked(name: str, value: object, text: str) -> Text:
    bad = name == "error_ratio" and isinstance(value, float) and value > 0.1
    return Text(text, "red" if bad else "")


def _table(first: str, headers: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column(first, no_wrap=True, ratio=2, min_width=_NAME_COLUMNS)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table
