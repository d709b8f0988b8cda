"""A file system of a few megabytes that fills up: memory behind it, mounted where a test wants it.

Needs the right to mount, which root has, and everybody in a user namespace: unshare -rm tests/run long --fault T17.
"""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BLOCK: Final = bytes(64 * 1024)


@contextmanager
def small_disk(folder: Path, megabytes: int, *, read_only: bool = False) -> Iterator[Path]:
    """Mount one at `folder`, and take it away afterwards, whatever is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=0700{',ro' if read_only else ''}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.fail(f"{mounted.stderr.strip()}: mounting needs root; or run: unshare -rm tests/run long --fault T17")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Ballast:
    """A file that takes all the space there is."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._file.open("ab", buffering=0) as file:
            block = _BLOCK
            while block:
                try:
                    file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]

    def drop(self) -> None:
        """Give it all back."""
        self._file.unlink()
