"""`agent-streams schema`: what a topic or a kind of event holds, as JSON Schema, for clients in any language.

Never asks a broker.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final

import typer

from streams.errors import ConfigError
from streams.event.model import KINDS
from streams.stage import asyncapi
from streams.stage.schemas import PAGE_NAMES, RECORD_NAMES, TOPICS, files, text
from streams.topology import EVENTS
from streams.worker.cli.options import out

EXAMPLES: Final = (
    "agent-streams schema",
    "agent-streams schema tool_end",
    "agent-streams schema alerts",
    "agent-streams schema metrics",
    "agent-streams schema --to schemas",
)


def schema(
    of: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC|KIND",
            help=f"A topic ({', '.join(TOPICS)}), a kind of event, such as tool_end, a record, such as "
            "command.silence, or metrics: the exporter's JSON.",
        ),
    ] = EVENTS.suffix,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Write every schema into this folder instead, one file each, and asyncapi.yaml.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the JSON Schema (2020-12) of what a topic holds, or of one kind of event."""
    whole = (*PAGE_NAMES, *RECORD_NAMES)
    if of not in TOPICS and of not in KINDS and of not in whole:
        near = get_close_matches(of, [*TOPICS, *KINDS, *whole])
        known = f"did you mean {near[0]}?" if near else f"topics are {', '.join(TOPICS)}, kinds {', '.join(KINDS)}"
        raise typer.BadParameter(f"{of!r} is neither a topic nor a kind of event: {known}")
    if to is None:
        typer.echo(text(TOPICS.get(of) or (of if of in whole else f"event.{of}")), nl=False)
        return
    for name, content in {**files(), asyncapi.FILE: asyncapi.text()}.items():
        file = to / name
        try:
            to.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--to: {file} cannot be written: {error.strerror}") from error
        out.print(f"wrote {file}", markup=False)
