"""`agent-streams worker`: one process that shares the work of all partitions with every other one.

Never restarts itself: whoever supervises it does, by the exit code.
"""

import asyncio
import logging
from typing import Annotated, Final

import typer

from streams.errors import AgentStreamsError
from streams.stage.ruling import Ruling
from streams.worker import logs, wiring
from streams.worker.app import App
from streams.worker.cli.options import Bootstrap, Prefix, connection, load
from streams.worker.health import Health
from streams.worker.run import run
from streams.worker.web import WebConfig

_log = logging.getLogger(__name__)

EXAMPLES: Final = (
    "agent-streams worker",
    'agent-streams worker --bootstrap broker-1:9092,broker-2:9092 --instance "$HOSTNAME"',
    "AGENT_STREAMS_RULES_FILE=rules.yaml agent-streams worker --health-port 8465",
)


def worker(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    instance: Annotated[
        str | None,
        typer.Option(help="A name that no other live worker has: after a restart it gets its own partitions back."),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Show health, readiness and the worker's own metrics on this port; 0: a free one. Without it "
            "AGENT_STREAMS_HEALTH_PORT, else nowhere.",
        ),
    ] = None,
) -> None:
    """Fold events into tables, alerts and breaker states until a signal. Start more of them to share the work.

    It ends with 0 after SIGTERM or Ctrl-C, with 75 or 76 to be started again, with 78 when a person must look, with 69
    when Kafka refused it for good.
    """
    settings = load(bootstrap, prefix, instance_id=instance, health_port=health_port)
    logs.configure(settings.log_level, settings.log_format)
    config = wiring.worker_config(settings, connection(settings))
    book = wiring.price_book(settings)
    _log.info("prices lists=%s", ",".join(book.names) if book else "none")
    ruling = wiring.ruling(settings)
    web = wiring.web(settings, host=settings.health_host, port=settings.health_port or 0)
    health: list[asyncio.Task[None]] = []

    def started(app: App) -> None:
        if settings.health_port is not None:
            health.append(asyncio.ensure_future(_show_health(web, app, book.names if book else (), ruling)))

    policy, log_bins = wiring.payloads(settings), settings.exponential_histograms
    customs, bounds = wiring.customs(settings), wiring.bounds(settings)
    stages = wiring.stages(ruling, book, policy, customs, log_bins=log_bins, bounds=bounds)
    code = run(config, stages, ruling=ruling, started=started)
    if code:
        raise typer.Exit(code)


async def _show_health(config: WebConfig, app: App, price_lists: tuple[str, ...], ruling: Ruling) -> None:
    """Listen for as long as the worker runs; a port that cannot be had ends it."""
    health = Health(config, app.runner, price_lists, ruling)
    try:
        await health.server.start()
        await asyncio.Event().wait()
    except AgentStreamsError as error:
        app.runner.fail(error)
    finally:
        await health.server.stop()
