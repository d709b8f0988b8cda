"""`agent-streams asyncapi`: every topic, key, header and message, as one AsyncAPI 3 document.

Never asks a broker.
"""

from typing import Final

import typer

from streams.stage import asyncapi as made

EXAMPLES: Final = ("agent-streams asyncapi > asyncapi.yaml", "agent-streams schema --to schemas  # with its schemas")


def asyncapi() -> None:
    """Print the AsyncAPI 3 document (YAML); the schemas it points at are those of `agent-streams schema --to`."""
    typer.echo(made.text(), nl=False)
