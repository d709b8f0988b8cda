"""`agent-streams`: which command was asked for, and how does the process end?

Decides nothing else: every command has a module of its own in `streams.worker.cli`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Final, NamedTuple

import typer

from streams import __version__
from streams.errors import AgentStreamsError

_EPILOG: Final = (
    "Settings are AGENT_STREAMS_* variables (docs/settings.md). To see it work without setting anything: "
    "agent-streams demo"
    "\n\n"
    "It ends with 2 for arguments it does not know, with 69 when Kafka fails, with 78 when a setting, a file or the "
    "topics cannot be used; what else there is, each command says."
)


class _Command(NamedTuple):
    """Where a command is: a function, or a group of commands called `app`."""

    module: str
    attribute: str
    panel: str


_RUN: Final = "Run"
_LOOK: Final = "Look"
_CHANGE: Final = "Change"
_PREPARE: Final = "Prepare"
COMMANDS: Final = {
    "demo": _Command("demo", "demo", _RUN),
    "worker": _Command("worker", "worker", _RUN),
    "exporter": _Command("exporter", "exporter", _RUN),
    "notify": _Command("notify", "notify", _RUN),
    "ingest-otlp": _Command("ingest_otlp", "ingest_otlp", _RUN),
    "ingest-http": _Command("ingest_http", "ingest_http", _RUN),
    "tables": _Command("tables", "tables", _LOOK),
    "alerts": _Command("alerts", "app", _LOOK),
    "budgets": _Command("budgets", "budgets", _LOOK),
    "advice": _Command("advice", "advice", _LOOK),
    "board": _Command("board", "board", _LOOK),
    "doctor": _Command("doctor", "doctor", _LOOK),
    "reset": _Command("reset", "reset", _CHANGE),
    "rules": _Command("rules", "app", _CHANGE),
    "breakers": _Command("breakers", "app", _CHANGE),
    "purge": _Command("purge", "purge", _CHANGE),
    "kafka": _Command("kafka", "app", _PREPARE),
    "topics": _Command("topics", "app", _PREPARE),
    "acls": _Command("acls", "acls", _PREPARE),
    "replay": _Command("replay", "replay", _PREPARE),
    "publish": _Command("publish", "publish", _PREPARE),
    "schema": _Command("schema", "schema", _PREPARE),
    "asyncapi": _Command("asyncapi", "asyncapi", _PREPARE),
    "dashboards": _Command("dashboards", "dashboards", _PREPARE),
    "prometheus-rules": _Command("prometheus_rules", "prometheus_rules", _PREPARE),
    "metrics": _Command("metrics", "metrics", _PREPARE),
    "settings": _Command("settings", "settings", _PREPARE),
}


def build(names: Sequence[str]) -> typer.Typer:
    """Return the program with these commands; importing a command's module takes most of the time of a short one."""
    app = typer.Typer(
        name="agent-streams",
        help="Exactly-once tables, alerts, circuit breakers and Prometheus metrics for LLM agents, on Kafka.",
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    for name in names:
        command = COMMANDS[name]
        module = import_module(f"streams.worker.cli.{command.module}")
        found, epilog = getattr(module, command.attribute), _examples(getattr(module, "EXAMPLES", ()))
        if isinstance(found, typer.Typer):
            for each in found.registered_commands:
                each.help = paragraphs((each.callback and each.callback.__doc__) or "")
            app.add_typer(found, name=name, rich_help_panel=command.panel, epilog=epilog)
        else:
            text = paragraphs(found.__doc__ or "")
            app.command(name, help=text, rich_help_panel=command.panel, epilog=epilog)(found)
    return app


def paragraphs(docstring: str) -> str:
    """Return a docstring as help: a line ends where the terminal does, not where the source's did; examples stay."""
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split())
        for paragraph in cleandoc(docstring).split("\n\n")
    )


def _examples(lines: Sequence[str]) -> str | None:
    return "\n\n".join(["For example:", *lines]) if lines else None


def main() -> None:
    """Run the command line of this process, and end it with the exit code that says what happened."""
    # Only the command that is named is imported; help and mistakes need them all.
    named = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in COMMANDS else list(COMMANDS)
    try:
        build(named)(prog_name="agent-streams")
    except AgentStreamsError as error:
        _explain(error)
        sys.exit(error.exit_code)


def _explain(error: AgentStreamsError) -> None:
    from rich.console import Console  # noqa: PLC0415  a process that ends well does not need it
    from rich.text import Text  # noqa: PLC0415  as above

    Console(stderr=True, soft_wrap=True, highlight=False).print(
        Text("error: ", "bold red") + Text(str(error), "default")
    )


def _version(wanted: bool) -> None:
    if wanted:
        print(f"agent-streams {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


if __name__ == "__main__":
    main()
