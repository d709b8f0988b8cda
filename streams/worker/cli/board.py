"""`agent-streams board`: the live view of everything, on a terminal; plain lines elsewhere.

Never joins a group and never writes: any number of them may run.
"""

import asyncio
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from streams.clock import now_ms
from streams.worker import board as view
from streams.worker import code_board
from streams.worker.cli.options import Bootstrap, Prefix, connection, err, load, out
from streams.worker.looking import Following, following
from streams.worker.picture import SUFFIXES, Picture

EXAMPLES: Final = (
    "agent-streams board",
    "agent-streams board --code   # discovery, execution, filtering, skills",
    "agent-streams board --bootstrap broker-1:9092 --every 0.5",
)


def board(
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 0.5,
    code: Annotated[bool, typer.Option("--code", help="Show how well code execution and skills go instead.")] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Watch events per second, tools, sessions, circuits and alerts, until Ctrl-C."""
    settings = load(bootstrap, prefix)
    kafka, picture = connection(settings), Picture()

    async def show() -> None:
        async with following(kafka, settings.topic_prefix, SUFFIXES, picture.take) as topics:
            if out.is_terminal:
                await _draw(picture, topics, every, code=code)
            else:
                await _write(picture, topics, every, code=code)

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _draw(picture: Picture, topics: Following, every_s: float, *, code: bool) -> None:
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            topics.check()
            picture.sample(now_ms())
            foot = Text("Ctrl-C ends it" if topics.caught_up else "reading what there is …", "dim")
            if code:
                live.update(code_board.screen(picture, now_ms(), foot), refresh=True)
            else:
                live.update(view.screen(picture, now_ms(), out.size, foot), refresh=True)
            await asyncio.sleep(every_s)


async def _write(picture: Picture, topics: Following, every_s: float, *, code: bool) -> None:
    with err.status("reading what there is"):
        await topics.catch_up()
    while True:
        topics.check()
        picture.sample(now_ms())
        typer.echo(code_board.line(picture) if code else view.line(picture))
        await asyncio.sleep(every_s)
