"""`agent-streams replay`: read events anew into a prefix of their own, beside the one that works (blue and green).

Never changes the prefix it reads; publishers, exporters and notify are switched by whoever runs them.
"""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.markup import escape

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.codec import time_ms
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.topics import Partitions, counts_of
from streams.worker.replay import EARLIEST, Done, Route
from streams.worker.replay import replay as copy

EXAMPLES: Final = (
    "agent-streams replay --from earliest --to-prefix agent-green. --partitions events=16",
    "agent-streams replay --from 2025-11-20T00:00:00Z --to-prefix agent-green.",
)
SHOWN_EVERY: Final = 10_000  # records
# What is not the same in a replay, in the order in which people ask.
SAID: Final = (
    "counters begin with the first event that was copied (its time is their `_created`); never add the two prefixes up",
    "alerts are judged again, by today's rules and in the events' own time, and told to {prefix}alerts",
    "start notify with {prefix} only once doctor sees no lag there, or people are told of the past",
    "sessions end by event time: idle ones of the past end when the replay has caught up and a tick looks at them",
    "erasures hold there too; other commands (resets, rules, silences) are not copied: repeat those that are to hold",
    "then: pause the publishers, run this again for the rest, and point publishers and readers at {prefix}",
)


def replay(
    start: Annotated[
        str, typer.Option("--from", metavar="TIME|earliest", help="RFC 3339 or epoch ms of the records, or earliest.")
    ],
    to_prefix: Annotated[
        str | None, typer.Option(help="A prefix that nobody uses.", show_default="the prefix and the time")
    ] = None,
    partitions: Partitions = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Copy events into a fresh prefix, exactly once and with their times, for new workers to fold from nothing.

    Run again with the same --to-prefix it goes on where it ended. It ends with 78 when the log no longer has what was
    asked for, or the prefix has lived.
    """
    settings = load(bootstrap, prefix)
    source = settings.topic_prefix
    target = to_prefix or f"{source.rstrip('.')}-{datetime.fromtimestamp(now_ms() / 1000, UTC):%Y%m%d-%H%M%S}."
    route = Route(source, target, _time(start), counts_of(partitions or []))
    with progress(f"copying to {target}") as report:

        def show(copied: int) -> None:
            if err.is_terminal and copied % SHOWN_EVERY < SHOWN_EVERY // 10:
                report(f"copying to {target}: {copied:,} records")

        done = asyncio.run(copy(connection(settings), route, show))
    if as_json:
        print_json({**done.as_dict(), "notes": [line.format(prefix=target) for line in SAID]})
    else:
        _show(done, target)


def _time(start: str) -> int | None:
    if start == EARLIEST:
        return None
    found = int(start) if start.isdecimal() else time_ms(start)
    if found is None or found > now_ms():
        raise ConfigError(f"--from: {start!r} given, expected {EARLIEST}, or a past time such as 2025-11-20T00:00:00Z")
    return found


def _show(done: Done, target: str) -> None:
    again = "more " if done.resumed else ""
    out.print(f"[green]{done.copied:,}[/green] {again}records copied, {escape(done.source)} → {escape(done.target)}")
    if not done.same_partitions:
        out.print("→ other partitions: keys keep their order; which events are late may differ, totals do not")
    for line in SAID:
        out.print(f"→ {escape(line.format(prefix=target))}")
