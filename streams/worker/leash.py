"""Run one program that may not outlive us: it ends when we do, however we end.

Run as a script, by path, with the standard library alone: it never imports this package.

A signal on the parent's death (PR_SET_PDEATHSIG) follows the *thread* that started the child, so a broker started from
a worker thread would die with that thread. Here the parent holds the write end of our standard input: when it is gone,
we end the program. We start it from our only lasting thread, so that same signal covers kill -9 on ourselves.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from typing import Final

GRACE_S: Final = 10.0  # a broker closes its logs in 1-3 s
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def command(program: list[str]) -> list[str]:
    """Return the argument list that runs `program` on a leash; give it a pipe as standard input and keep it open."""
    return [sys.executable, "-I", "-S", __file__, *program]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_when_parent_is_gone(child: "subprocess.Popen[bytes]") -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    child.kill()


def main(program: list[str]) -> int:
    """Run `program` to its end and return its exit status as a shell would (128 + signal)."""
    child = subprocess.Popen(  # noqa: S603  the program is ours
        program,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  we are a single thread here
    )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_end_when_parent_is_gone, args=(child,), daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
