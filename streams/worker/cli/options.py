"""What do all commands have in common: the options, the settings and the connection they make, and where output goes?

Results go to standard output, everything else to standard error.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from streams.errors import ConfigError
from streams.settings import Settings, variable
from streams.topology import EVENTS, ROLLUPS
from streams.worker import detached
from streams.worker.connection import KafkaConnection, tls_context

Bootstrap = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,…",
        help="Kafka brokers; without it AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS, else the broker of "
        "`agent-streams kafka start`.",
        show_default=False,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        help="What every topic name begins with; without it AGENT_STREAMS_TOPIC_PREFIX.", show_default="agent."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]

PIPE_COLUMNS: Final = 250  # a pipe has no width: whatever reads it wants whole cells


def _console(*, stderr: bool) -> Console:
    console = Console(soft_wrap=True, highlight=False, stderr=stderr)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console


out: Final = _console(stderr=False)
err: Final = _console(stderr=True)


def load(bootstrap: str | None = None, prefix: str | None = None, **more: Any) -> Settings:
    """Return the settings of the environment, with what the command line says on top."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches us as an exception
    return Settings.load(kafka_bootstrap_servers=bootstrap, topic_prefix=prefix, **more)


def connection(settings: Settings) -> KafkaConnection:
    """Return the connection that the settings describe, or that of the broker of `agent-streams kafka start`."""
    bootstrap = settings.kafka_bootstrap_servers
    if bootstrap is not None:
        return _named(settings, bootstrap)
    broker = detached.status()
    if broker is None:
        raise ConfigError(
            "no Kafka is named and none of ours is running: name one with --bootstrap or "
            f"{variable('kafka_bootstrap_servers')}, or run: agent-streams kafka start"
        )
    return KafkaConnection(bootstrap=broker.bootstrap)


def _named(settings: Settings, bootstrap: str) -> KafkaConnection:
    files = (settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    password = settings.kafka_sasl_password
    return KafkaConnection(
        bootstrap=bootstrap,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password else None,
        ssl_context=tls_context(*files) if any(files) else None,
        allow_sasl_without_tls=settings.kafka_allow_sasl_without_tls,
        rack=settings.kafka_client_rack,
    )


def partition_counts(settings: Settings) -> dict[str, int]:
    """Return how many partitions the source topics are to be created with, by suffix, where that is set."""
    counts = {EVENTS.suffix: settings.events_partitions, ROLLUPS.suffix: settings.rollups_partitions}
    return {suffix: count for suffix, count in counts.items() if count is not None}


def print_json(value: Mapping[str, Any]) -> None:
    """Write a result for programs, on one line."""
    typer.echo(json.dumps(value, default=msgspec.to_builtins))


@contextmanager
def progress(begin: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: one line that changes on a terminal, lines elsewhere."""
    if err.is_terminal:
        with err.status(begin) as line:
            yield line.update
    else:
        yield lambda message: err.print(message, markup=False)
