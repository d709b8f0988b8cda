"""What Faust does that we work around: when one of these fails, upstream has changed.

Each names the workaround, which can be judged anew then; none needs a broker.
"""

import asyncio
import gc
from collections import defaultdict
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust._cython.windows import HoppingWindow
from faust.events import Event
from faust.transport.consumer import Consumer
from faust.transport.producer import ProducerBuffer
from faust.types import TP, Message
from intervaltree import IntervalTree  # type: ignore[import-untyped]  # it carries no types

pytestmark = pytest.mark.fault("T26")

PLACE = TP("events", 0)


class Stalled:
    """A channel whose broker takes nothing."""

    async def publish_message(self, _message: object, *, wait: bool) -> None:
        assert not wait
        await asyncio.Event().wait()


async def test_flush_returns_while_messages_are_unsent(app: Any) -> None:
    """A1.2: hence our own producer, whose every future is awaited before a commit (worker.flush)."""
    buffer = ProducerBuffer()
    buffer.app = app
    await buffer.start()
    for _ in range(5):
        buffer.put(SimpleNamespace(message=SimpleNamespace(channel=Stalled())))
    while buffer.size == 5:
        await asyncio.sleep(0)

    await asyncio.wait_for(buffer.flush(), timeout=60)

    assert buffer.size == 4
    buffer.pending._queue.clear()
    await buffer.stop()


def committed_next(committed: int | None, acked: list[int]) -> int | None:
    """Ask Faust which offset it would commit."""
    book = SimpleNamespace(
        _acked={PLACE: acked},
        _acked_index={PLACE: set(acked)},
        _gap=defaultdict(IntervalTree),
        _committed_offset={PLACE: committed},
    )
    found: int | None = Consumer._new_offset(book, PLACE)
    return found


@pytest.mark.parametrize(
    ("committed", "acked", "commits"), [(2585, [2586, 2587, 2588, 2589], 2590), (None, [50, 51], 52)]
)
def test_a_commit_jumps_over_events_that_are_in_flight(committed: int | None, acked: list[int], commits: int) -> None:
    """A1.5: 2585, and 0 to 49, are not acknowledged. Hence `acks=False` and offsets of our own transactions."""
    assert commits == committed_next(committed, acked)


@pytest.fixture
async def app() -> AsyncIterator[Any]:
    made = faust.App("traps", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
    made.flow_control.resume()
    yield made
    if made._consumer is not None:  # made when an event is acknowledged; its thread has never started
        made._consumer._thread.thread_loop.close()


async def test_every_write_to_a_windowed_table_grows_its_heap(app: Any) -> None:
    """A3.1: hence panes of our own, and no Faust window anywhere."""
    table = app.Table("counts", default=int).tumbling(10.0, expires=3600.0).table

    for _ in range(1_000):
        table._maybe_set_key_ttl(("key", (0.0, 9.9)), 0)

    assert 1_000 == len(table._partition_timestamps[0])


def test_a_window_of_a_time_in_milliseconds_begins_in_another_age() -> None:
    """A3.8: 32 bits; `ranges` would go on from there for ever. Hence integer windows of our own (fold.streamtime)."""
    window = HoppingWindow(10.0, 10.0)
    good_s, milliseconds = 1_763_724_000.0, 1_763_724_000_000.0

    assert good_s == window.earliest(good_s)[0]
    assert abs(milliseconds - window.earliest(milliseconds)[0]) > 10**12


def stream_of(app: Any, count: int) -> tuple[Any, list[Message]]:
    """Make a stream of events whose messages know whether they were acknowledged; nothing connects."""
    stream, messages = app.stream(app.channel(value_type=int)), []
    for number in range(count):
        message = Message("events", 0, number, 0.0, 0, [], b"", b"1", None)
        message.generation_id = app.consumer_generation_id
        message.incref()
        messages.append(message)
        stream.channel.queue.put_nowait(Event(app, None, number, {}, message))
    return stream, messages


def acknowledged(messages: list[Message]) -> list[bool]:
    return [message.acked for message in messages]


async def test_take_cannot_write_tables(app: Any) -> None:
    """A4.2: hence rows and changelogs of our own (worker.partition)."""
    table = app.Table("counts", default=int)
    stream, _ = stream_of(app, 3)
    batches = stream.take(3, within=60)

    assert [0, 1, 2] == await asyncio.wait_for(anext(batches), timeout=60)
    with pytest.raises(TypeError, match="outside of stream iteration"):
        table["key"] += 1

    await batches.aclose()
    await stream.stop()


async def test_take_acknowledges_a_batch_whose_agent_has_raised(app: Any) -> None:
    """A4.3: hence chunks, whose offset is committed in the transaction of what they changed."""
    stream, messages = stream_of(app, 3)
    batches = stream.take(3, within=60)
    await asyncio.wait_for(anext(batches), timeout=60)
    assert [False] * 3 == acknowledged(messages)

    with pytest.raises(ValueError, match="the agent's"):
        await batches.athrow(ValueError("the agent's"))

    assert [True] * 3 == acknowledged(messages)
    await stream.stop()


async def raising(stream: Any) -> None:
    """Raise at the first event, as a fault in an agent does, and let go of the stream."""
    try:
        async for _ in stream:
            raise ValueError("the agent's")
    except ValueError:
        return


async def test_an_event_whose_agent_has_raised_is_acknowledged(app: Any) -> None:
    """A5.1: hence an agent that never raises, and a worker that ends instead (worker.runner)."""
    stream, messages = stream_of(app, 2)

    await raising(stream)
    await stream.stop()
    async with asyncio.timeout(60):  # it happens when the stream's iterator is taken away
        while not messages[0].acked:
            gc.collect()
            await asyncio.sleep(0)

    assert [True, False] == acknowledged(messages)
