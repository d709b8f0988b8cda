"""A worker whose wall clock steps: the first argument names a file that holds by how many ms it is wrong now."""

import sys
import time
from pathlib import Path

_right_ns = time.time_ns
_wrong = Path(sys.argv.pop(1))


def _now_ns() -> int:
    return _right_ns() + int(_wrong.read_text() or 0) * 1_000_000


def _now_s() -> float:
    return _now_ns() / 1e9


# Before anything else is imported, so that every library in the process is told the same.
time.time_ns, time.time = _now_ns, _now_s

from streams.__main__ import main  # noqa: E402  see above

main()
