"""Whatever a client was about when it is given up, nothing of it stays open."""

import asyncio
import contextlib
import gc
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from streams.event.model import ToolStart
from streams.feed.config import EmitterConfig
from streams.feed.emitter import Emitter
from streams.feed.ending import ended
from streams.feed.guard.client import Guard
from streams.feed.guard.policy import GuardPolicy
from streams.feed.guard.source import THREAD_NAME as GUARD
from streams.feed.outlet import THREAD_NAME as EMITTER
from streams.worker.connection import KafkaConnection
from streams.worker.topics import create

TIMEOUT_S: Final = 60


@contextlib.asynccontextmanager
async def silent_after(answers: int, kafka: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serve a broker that falls silent on every connection after so many answers; the event says that one waits."""
    waits = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = kafka.rpartition(":")
        theirs, ours = await asyncio.open_connection(host, int(port))
        try:
            for _ in range(answers):
                ours.write(await frame(reader))
                writer.write(await frame(theirs))
            await frame(reader)
            waits.set()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # whoever asked has gone
        finally:
            ours.close()
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        serving.add(task)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", waits
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size))


@contextlib.asynccontextmanager
async def all_closed() -> AsyncIterator[None]:
    """Wait for the threads begun within, and see that their clients have closed what they opened."""
    before = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        for thread in set(threading.enumerate()) - before:
            if thread.name in {EMITTER, GUARD}:
                await asyncio.to_thread(thread.join, TIMEOUT_S)
        gc.collect()
    assert not [str(each.message) for each in caught]


@pytest.mark.kafka
@pytest.mark.parametrize("answers", [0, 1])
async def test_what_is_closed_while_it_connects_leaves_nothing_open(kafka: str, prefix: str, answers: int) -> None:
    await create(KafkaConnection(bootstrap=kafka), prefix)
    async with silent_after(answers, kafka) as (address, waits):
        config: dict[str, Any] = {"bootstrap_servers": address, "topic_prefix": prefix}
        async with all_closed():
            emitter = Emitter(EmitterConfig(**config))
            emitter.emit(ToolStart(id="1", time=1_000, agent="a", tool="t"))
            await asyncio.wait_for(waits.wait(), TIMEOUT_S)
            await emitter.aclose(0)
        waits.clear()
        async with all_closed():
            guard = Guard(EmitterConfig(**config, guard=GuardPolicy(source="kafka")))
            await asyncio.wait_for(waits.wait(), TIMEOUT_S)
            await asyncio.to_thread(guard.close)


async def test_an_end_that_is_cancelled_again_and_again_is_done_before_it_is_told() -> None:
    done: list[str] = []
    going_on = asyncio.Event()

    async def slow() -> None:
        await going_on.wait()
        done.append("slow")

    async def fails() -> None:
        done.append("fails")
        raise OSError

    async def never() -> None:
        done.append("never")
        await asyncio.Event().wait()

    task = asyncio.create_task(ended(slow, fails, never, each_s=2))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ["slow", "fails", "never"] == done
