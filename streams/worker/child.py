"""One program of ours as a child process: it ends when we do, however we end, and says why when it ends before.

Never restarts anything.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import streams
from streams.errors import EdgeError
from streams.worker import leash

STOP_TIMEOUT_S: Final = 20.0  # longer than a worker's own limit for its last flush
TAIL_LINES: Final = 20
# The code that we are ourselves, whatever folder we stand in and whether it is installed or not.
_MAIN: Final = (
    f"import sys; sys.path.insert(0, {str(Path(streams.__file__).parents[1])!r}); "
    "from streams.__main__ import main; main()"
)


class Child:
    """`agent-streams` with some arguments, in a session of its own; inside the asynchronous context it runs."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = leash.command([sys.executable, "-P", "-c", _MAIN, *arguments])
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  our own command line; it takes a millisecond
                self._command,
                env=dict(self._environment),
                stdin=subprocess.PIPE,  # the leash: closed when we are gone
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is for us; we end it in its turn
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:
            process.communicate()  # closes the leash

    def check(self) -> None:
        """Raise EdgeError when it has ended by itself."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise EdgeError(
                f"the {self.name} ended with status {code}; the end of its log:\n{self.tail()}", retryable=False
            )

    def tail(self) -> str:
        """Return the newest lines it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
