"""`agent-streams demo`: everything at once, on this machine, with nothing set.

Never touches what was there before: topics have a prefix of their own, and the embedded broker is temporary.
"""

import asyncio
import shlex
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, Self

import orjson
import typer
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.rule.amount import DURATION_SHAPE, duration_ms
from streams.settings import Settings
from streams.topology import EVENTS
from streams.worker import board
from streams.worker.cli.options import Bootstrap, Json, connection, err, load, out, print_json, progress
from streams.worker.connection import KafkaConnection
from streams.worker.crew import BAD_TOOL, RUNAWAY, Script
from streams.worker.demo import DemoConfig, Place, Run, Traffic
from streams.worker.demo_summary import Summary
from streams.worker.embedded import EmbeddedKafka

EXAMPLES: Final = (
    "agent-streams demo",
    "agent-streams demo --for 20s --json",
    "agent-streams demo --bootstrap broker-1:9092 --rate 1000",
    "agent-streams demo --bootstrap broker-1:9092 --publish-only",
)
DEFAULT_PREFIX: Final = "agent."
LINE_EVERY_S: Final = 2.0
_INTERRUPTED: Final = 130  # what a shell says of Ctrl-C


def demo(
    bootstrap: Bootstrap = None,
    length: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help="End by itself after this long, such as 20s or 2m; else at Ctrl-C."
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Events per second.")] = 200.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same events.")] = 1,
    publish_only: Annotated[
        bool,
        typer.Option(
            "--publish-only",
            help="Only let the agents publish, for workers that run already: to the topics that are set.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """See it work: a broker, a worker, an exporter, and simulated agents, of which some go wrong.

    Nothing has to be set. With a broker set it uses that one, with topics of its own that it deletes again. The exit
    status is 0 only when every total is what was published and everything that went wrong was alerted.
    """
    began_s = time.monotonic()
    config = DemoConfig(seed=seed, rate=rate, seconds=_seconds(length))
    settings = load(bootstrap)
    if publish_only:
        published = asyncio.run(_publish_only(config, settings))
        if as_json:
            print_json({"published": published})
        else:
            out.print(f"published {published:,} events", markup=False)
        return
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: everything is put away
    try:
        with _place(settings) as place:
            run = Run(config, place, began_s=began_s)
            with _Screen(run) if out.is_terminal and not as_json else _Lines(run) as display:
                summary = asyncio.run(_run(run, display))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        print_json(summary.as_dict())
    else:
        _show(summary)
        _show_next(settings)
    if not summary.passed:
        raise typer.Exit(1)


def _seconds(length: str | None) -> float | None:
    if length is None:
        return None
    ms = duration_ms(length)
    if not ms:
        raise ConfigError(f"--for: {length!r} given, expected {DURATION_SHAPE}")
    return ms / 1000


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _place(settings: Settings) -> Iterator[Place]:
    """Use the broker that is set, with a prefix of our own, else a broker of our own."""
    with tempfile.TemporaryDirectory(prefix="agent-streams-demo-") as name:
        folder = Path(name)
        if settings.kafka_bootstrap_servers is not None:
            prefix = f"demo-{uuid.uuid4().hex[:8]}."
            yield Place(connection(settings), prefix, folder, temporary=False)
            return
        with ExitStack() as stack:
            with progress("starting Kafka") as report:  # gone before the board is drawn: both use the last line
                broker = stack.enter_context(EmbeddedKafka(folder / "kafka", progress=report))
            yield Place(KafkaConnection(bootstrap=broker.bootstrap), DEFAULT_PREFIX, folder, temporary=True)


async def _run(run: Run, display: "_Lines | _Screen") -> Summary:
    """Run; the first Ctrl-C ends the agents and compares, the second one ends at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.current_task()

    def end() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        return await run.run(stop=stop, progress=display.note, show=display.show)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _publish_only(config: DemoConfig, settings: Settings) -> int:
    """Publish until the end of the story or a signal, and return how much; nothing else is started or deleted."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    place = Place(connection(settings), settings.topic_prefix, Path(tempfile.gettempdir()), temporary=False)
    async with Traffic(config, place, now_ms()) as traffic:
        err.print(f"publishing to {place.prefix}{EVENTS.suffix} on {place.kafka.bootstrap}", markup=False)
        await traffic.publish(stop)
        await traffic.flush()
    return traffic.ledger.published


# ---- meanwhile --------------------------------------------------------------------------------------------------


class _Lines:
    """Progress for pipes and logs: a line every few seconds, on standard error."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Say what is being done."""
        err.print(text, style="dim", markup=False)

    def show(self) -> None:
        """Write a line, if it is time for one."""
        self._run.picture.sample(now_ms())
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LINE_EVERY_S
            err.print(f"published {self._run.published:,}  {board.line(self._run.picture)}", markup=False)


class _Screen:
    """Progress for people: the live board."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._live = Live(console=out, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Say what is being done."""
        self._live.update(Text(f"{text} …", "dim"), refresh=True)

    def show(self) -> None:
        """Draw the board anew."""
        picture = self._run.picture
        picture.sample(now_ms())
        self._live.update(board.screen(picture, now_ms(), out.size, _footer(self._run)), refresh=True)


def _footer(run: Run) -> Text:
    script = Script.of(run.config.seconds)
    kafka, prefix = run.place.kafka.bootstrap, run.place.prefix
    tables = f"agent-streams tables tools --bootstrap {kafka}" + (
        f" --prefix {prefix}" if prefix != DEFAULT_PREFIX else ""
    )
    return Text.assemble(
        ("published ", "dim"), f"{run.published:,}",
        (f"   at {script.bad_s:g}s {BAD_TOOL} turns bad, at {script.runaway_s:g}s {RUNAWAY} runs away", "dim"),
        ("\nPrometheus  ", "dim"), run.metrics_url, ("   Ctrl-C ends it", "dim"),
        ("\ntables      ", "dim"), tables,
    )  # fmt: skip


# ---- afterwards -------------------------------------------------------------------------------------------------


def _show(summary: Summary) -> None:
    events = f"{summary.published:,} events in {summary.seconds:.0f} s"
    if summary.exact:
        places = f"{len(summary.tools)} tools, {summary.sessions} sessions"
        odd = f"{summary.late} late, {summary.duplicate} duplicate, {summary.rejected} rejected"
        out.print("[green]exact[/green]     every total is what was published")
        out.print(f"          {events}, {places}\n          {odd}")
    else:
        out.print(f"[bold red]not exact[/bold red] {events}:")
        for fault in summary.faults:
            out.print(f"  {escape(fault)}")
    for what, seen in summary.planted.items():
        out.print(
            f"[green]noticed[/green]   {escape(what)}" if seen else f"[bold red]missed[/bold red]    {escape(what)}"
        )
    if summary.alerts:
        out.print(f"alerts    {', '.join(summary.alerts)}", markup=False, soft_wrap=False)


def _show_next(settings: Settings) -> None:
    """Name the next three commands, with values that work as they stand."""
    kafka = settings.kafka_bootstrap_servers
    there = f" --bootstrap {kafka}" if kafka else ""
    event = {
        "kind": "tool_end",
        "id": uuid.uuid4().hex[:12],
        "time": now_ms(),
        "agent": "mine",
        "session_id": "first",
        "tool": "search",
        "duration_ms": 120,
    }
    begin = f"agent-streams topics create{there}"
    steps = (
        begin if kafka else f"agent-streams kafka start && {begin}",
        f"agent-streams worker{there}",
        f"echo {shlex.quote(orjson.dumps(event).decode())} | agent-streams publish -{there}",
    )
    out.print("\nNext, with events of your own:")
    for step in steps:
        out.print(f"  {step}", markup=False)
