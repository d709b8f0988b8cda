"""What would the product make of a container's command and environment?  Asked of the product, starting nothing."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from streams.__main__ import COMMANDS, build
from streams.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[1]
SECRETS: Final = "/etc/agent-streams/secret"


def check_command(arguments: Sequence[str]) -> None:
    """Parse a command line as the program would; raises KeyError for an unknown command, UsageError for an option."""
    command: Any = get_command(build(list(COMMANDS)))
    rest = list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def settings(environment: Mapping[str, str], secrets: Path) -> Settings:
    """Load the settings that a container has; what would be mounted as a secret lies in `secrets`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value.replace(SECRETS, str(secrets)))
        return Settings.load()
