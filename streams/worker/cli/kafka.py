"""`agent-streams kafka`: a real broker on this machine for trying things out; it stays until it is stopped.

Never touches another broker, and never deletes data.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from streams.errors import EdgeError
from streams.worker import detached
from streams.worker.cli.options import Json, out, print_json, progress
from streams.worker.kafka_jars import KAFKA_VERSION

EXAMPLES: Final = (
    "agent-streams kafka start",
    "agent-streams kafka status --json",
    "agent-streams kafka stop",
)
app: Final = typer.Typer(
    name="kafka",
    help="Run an Apache Kafka on this machine: one node, loopback only, no Docker needed.",
    no_args_is_help=True,
)

Data = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where its records are kept.", show_default="in the user's state directory"),
]


@app.command()
def start(
    data_dir: Data = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Clients' port.", show_default="9092, or a free one")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the broker and return when it answers; it goes on in the background."""
    with progress("starting Kafka") as report:
        broker = detached.start_detached(data_dir, port=port, progress=report)
    if as_json:
        print_json(broker.as_dict())
        return
    out.print(f"Apache Kafka {KAFKA_VERSION} answers at [bold]{broker.bootstrap}[/bold] (process {broker.pid})")
    out.print(f"Its records are in {broker.data_dir}")
    # Only the broker in the usual place is found by itself.
    here = f" --data-dir {data_dir}" if data_dir else ""
    there = f" --bootstrap {broker.bootstrap}" if data_dir else ""
    out.print(f"Next: agent-streams topics create{there}", markup=False)
    out.print(f"To end it: agent-streams kafka stop{here}", markup=False)


@app.command()
def stop(data_dir: Data = None, as_json: Json = False) -> None:
    """Stop the broker cleanly; its records stay."""
    with progress("stopping Kafka"):
        broker = detached.stop_detached(data_dir)
    if as_json:
        print_json({"stopped": broker is not None, "bootstrap": broker and broker.bootstrap})
    elif broker:
        out.print(f"Kafka at {broker.bootstrap} has stopped; its records stay in {broker.data_dir}")
    else:
        out.print("No Kafka of ours was running")


@app.command()
def status(data_dir: Data = None, as_json: Json = False) -> None:
    """Tell whether the broker runs and answers; the exit status is 0 if so, else 69."""
    broker = detached.status(data_dir)
    answering = broker is not None and broker.answering
    if as_json:
        print_json(broker.as_dict() if broker else {"running": False, "answering": False})
    elif broker is None:
        out.print("No Kafka of ours is running. To start it: agent-streams kafka start")
    else:
        said = "answers" if answering else "runs, but does not answer,"
        out.print(f"Kafka {said} at [bold]{broker.bootstrap}[/bold] (process {broker.pid}, {broker.data_dir})")
    if not answering:
        raise typer.Exit(EdgeError.exit_code)
