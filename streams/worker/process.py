"""How does a role of its own process run: until it is told to stop, or fails, and with which exit code does it end?

Never knows what the role does.
"""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, Final

from aiokafka.errors import KafkaError

from streams.errors import AgentStreamsError, EdgeError

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def until_signal(work: Coroutine[Any, Any, None], *, log: logging.Logger, ended: str) -> int:
    """Run until a signal or a failure, and return the exit code; a failure is logged as `ended`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    stopping.cancel()
    (error, _) = await asyncio.gather(working, stopping, return_exceptions=True)
    for number in SIGNALS:
        loop.remove_signal_handler(number)
    return _code(error, log, ended) if isinstance(error, Exception) else 0


def _code(error: Exception, log: logging.Logger, ended: str) -> int:
    if isinstance(error, AgentStreamsError):
        code = error.exit_code
    else:
        code = EdgeError.exit_code if isinstance(error, (KafkaError, OSError)) else AgentStreamsError.exit_code
    bug = error if code == AgentStreamsError.exit_code else None
    log.error("%s exit_code=%d error=%s: %s", ended, code, type(error).__name__, error, exc_info=bug)
    return code
