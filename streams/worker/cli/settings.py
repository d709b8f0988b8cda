"""`agent-streams settings`: what can be set, what is set, and is it right?

Never shows a secret.
"""

from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from streams import settings as known
from streams.worker.cli.options import Json, load, out, print_json

EXAMPLES: Final = ("agent-streams settings", "agent-streams settings --reference > settings.md")


def settings(
    reference: Annotated[
        bool, typer.Option("--reference", help="Print the table of all settings as Markdown.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the AGENT_STREAMS_* variables and show what holds; every fault is named at once, with exit status 78."""
    if reference:
        typer.echo(known.reference(), nl=False)
        return
    found = load()
    values = {known.variable(name): _shown(getattr(found, name)) for name in known.Settings.model_fields}
    if as_json:
        print_json(values)
        return
    table = Table("variable", "value", "", box=None, pad_edge=False, header_style="bold")
    for name, value in values.items():
        field = name.removeprefix(known.PREFIX).lower()
        changed = getattr(found, field) != known.Settings.model_fields[field].default
        table.add_row(
            name, Text("–" if value is None else str(value), "bold" if changed else ""), "set" if changed else ""
        )
    out.print(table)


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    return known.HIDDEN if isinstance(value, SecretStr) else str(value)
