"""A proxy between somebody and a server on loopback: it passes on, delays what is answered, or hangs up."""

import asyncio
import contextlib
import threading
from typing import Self

from streams.worker.loopback import HOST, free_ports


class Between:
    """Listens on a port of its own, in a loop and a thread of its own."""

    def __init__(self, target: int) -> None:
        (self.port,) = free_ports(1)
        self.delay_s, self.shut = 0.0, False
        self._target = target
        self._pipes: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, HOST, self.port)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hang_up(self) -> None:
        """End every connection, and take none until `shut` is False again."""
        self.shut = True
        self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for pipe in self._pipes:
            pipe.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        self._drop()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # transports tell of their end in the next round

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            if not self.shut:
                await self._both(reader, writer)
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asked = await asyncio.open_connection(HOST, self._target)
        except OSError:
            return
        self._pipes |= {writer, asked}
        try:
            await asyncio.gather(self._pass(reader, asked, late=False), self._pass(answers, writer, late=True))
        finally:
            self._pipes -= {writer, asked}
            asked.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        with contextlib.suppress(OSError):
            while some := await reader.read(65_536):
                if late and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(some)
                await writer.drain()
        writer.transport.abort()
