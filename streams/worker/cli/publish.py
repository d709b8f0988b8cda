"""`agent-streams publish`: send a file of events, or what a pipe says, to Kafka and wait until it is acknowledged.

Never judges the events themselves: what is invalid ends in the dead letter topic, where it is counted.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from rich.markup import escape

from streams.errors import ConfigError
from streams.topology import EVENTS
from streams.worker.cli.options import (
    Bootstrap,
    Json,
    Prefix,
    connection,
    err,
    load,
    out,
    print_json,
    progress,
)
from streams.worker.publish import Published
from streams.worker.publish import publish as publish_events

EXAMPLES: Final = (
    "agent-streams publish events.jsonl",
    "tail -f agent.log | agent-streams publish -",
    "agent-streams publish --raw broken.txt",
)
SHOWN_EVERY: Final = 1000  # acknowledged records
SHOWN: Final = 10  # refused lines that people see; programs get REFUSED_KEPT


def publish(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines or one JSON array; - is standard input.")],
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    raw: Annotated[bool, typer.Option("--raw", help="Send every line as it is, JSON or not.")] = False,
    as_json: Json = False,
) -> None:
    """Publish events from a file or a pipe; the exit status is 65 if some were no JSON objects."""
    settings = load(bootstrap, prefix)
    kafka, topic = connection(settings), settings.topic_prefix + EVENTS.suffix
    with _opened(file) as descriptor, progress("publishing") as report:

        def show(count: int) -> None:
            if count % SHOWN_EVERY == 0 and err.is_terminal:
                report(f"publishing: {count} acknowledged")

        done = asyncio.run(publish_events(kafka, topic, descriptor, raw=raw, progress=show))
    if as_json:
        print_json(done.as_dict())
    else:
        _show(done, topic)
    if done.refused:
        raise typer.Exit(os.EX_DATAERR)


@contextmanager
def _opened(file: str) -> Iterator[int]:
    if file == "-":
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _show(done: Published, topic: str) -> None:
    out.print(f"{done.records} records ({done.bytes} bytes) published to {escape(topic)}")
    for where, reason in done.first_refused[:SHOWN]:
        err.print(f"[red]refused[/red] {where}: {escape(reason)}")
    if done.refused > SHOWN:
        err.print(f"… {done.refused} refused in all")
    if done.refused:
        err.print("To send them all the same, to be counted in the dead letter topic: --raw")
