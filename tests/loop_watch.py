"""How long one step holds the event loop, in processor time: what other programs take is not the step's doing."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from bench.micro import cpu_ns, reference

REFERENCE_NS: Final = 1_000_000  # of the benchmarks' reference loop, on a machine that limits in ms are meant for


class Held:
    """The longest the loop was held between two looks at its sockets."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    def reset(self) -> float:
        """Return the longest so far and begin anew."""
        longest_s, self.longest_s = self.longest_s, 0.0
        return longest_s


@asynccontextmanager
async def watched() -> AsyncIterator[Held]:
    """Time every round of the running loop, from the end of its wait to the beginning of the next."""
    held = Held()
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # nothing public tells rounds apart
    select = selector.select
    woke_s = time.thread_time()

    def timed(timeout: float | None = None) -> object:
        nonlocal woke_s
        held.longest_s = max(held.longest_s, time.thread_time() - woke_s)
        found = select(timeout)
        woke_s = time.thread_time()
        return found

    selector.select = timed
    try:
        yield held
    finally:
        selector.select = select


@contextmanager
def what_others_left_set_aside() -> Iterator[None]:
    """Keep the garbage collector from walking what the tests before have left in this process: no exporter has it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def slowness() -> float:
    """Return how many times slower than what limits in ms are given for this machine computes now; never below 1."""
    return max(1.0, min(cpu_ns(reference) for _ in range(10)) / REFERENCE_NS)


def longest_step_s(steps: Iterable[object]) -> float:
    """Run all steps; return the longest."""
    longest_s, last_s = 0.0, time.thread_time()
    for _ in steps:
        now_s = time.thread_time()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s
