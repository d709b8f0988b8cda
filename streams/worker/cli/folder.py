"""How does a command write a folder of files that it has made?

Never decides what is in them.
"""

from collections.abc import Mapping
from pathlib import Path

from streams.errors import ConfigError
from streams.worker.cli.options import out


def write(to: Path, files: Mapping[str, str]) -> None:
    """Write each file, making the folder; ConfigError names the file that cannot be written."""
    for name, content in files.items():
        file = to / name
        try:
            to.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--to: {file} cannot be written: {error.strerror}") from error
        out.print(f"wrote {file}", markup=False)
