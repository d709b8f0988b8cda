"""What every scripted run has: tools that work, fail once or never come back, and an emitter that takes nothing."""

import asyncio

from ledger_of import Collected

from streams.event.model import Envelope, ToolEnd

TRIES = [0]  # of `flaky`, since the script began


class OutOfOrderError(Exception):
    """What a model raises."""

    status_code = 500


class Broken:
    """An emitter that takes nothing."""

    def emit(self, event: Envelope) -> None:
        """Refuse an event."""
        raise OSError(event)


def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)


def flaky(x: str) -> str:
    """Fail once."""
    TRIES[0] += 1
    if TRIES[0] == 1:
        raise RuntimeError("not yet")
    return x


async def slow() -> str:
    """Never come back."""
    await asyncio.Event().wait()
    return ""


async def one_tool_is_back(out: Collected) -> None:
    """Wait for the first end of a tool: of two that were asked for together, the one that does come back."""
    while not out.of(ToolEnd):
        await asyncio.sleep(0.001)
