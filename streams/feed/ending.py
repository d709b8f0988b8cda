"""How clients of aiokafka let go of their connections, also when they are cancelled while they connect or close.

Never waits for a broker that does not answer longer than it is told to, and never swallows a cancellation.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection


async def started(start: Awaitable[Any]) -> None:
    """Await the start of a client; when it fails or is cancelled, nothing that it has opened by itself stays open.

    The first connection of all is known to nobody but the frame that asks it for the brokers.
    """
    try:
        await start
    except BaseException as error:
        at = error.__traceback__
        while at is not None:
            for held in at.tb_frame.f_locals.values():
                if isinstance(held, AIOKafkaConnection):
                    held.close()
            at = at.tb_next
        raise


async def ended(*ends: Callable[[], Awaitable[Any]], each_s: float) -> None:
    """Do these one after the other, each for so long at the most, whatever becomes of any.

    A cancellation, however often it is repeated, waits until the last is done: half an end leaves sockets open.
    """

    async def run() -> None:
        for end in ends:
            await asyncio.wait([asyncio.gather(end(), return_exceptions=True)], timeout=each_s)

    running = asyncio.create_task(run())
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
