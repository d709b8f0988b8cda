"""What time is it?  For the edges alone: everything else is told."""

import time


def now_ms() -> int:
    """Return the wall clock, epoch ms."""
    return time.time_ns() // 1_000_000
