"""A network between some clients and the brokers: doors on loopback that pass every byte, but late, never, or not.

Nothing is rewritten: the brokers of `Behind` say themselves that they are found at the doors.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import HOST, free_ports

CHUNK_BYTES: Final = 64 * 1024
IN_FLIGHT: Final = 64  # chunks of one direction that are on their way; then the sender has to wait, as with TCP
_START_S: Final = 10.0
_Chunks = asyncio.Queue[tuple[float, bytes]]  # when it is due, and what


class Network:
    """Doors to nodes, all in one thread of their own; what happens to what passes may change at any time."""

    def __init__(self, seed: int = 0) -> None:
        self.delay_s = 0.0  # of every chunk, in each direction
        self.stalled = 0.0  # the share of chunks that wait `stall_s` longer, as after a packet that was lost
        self.stall_s = (0.2, 1.0)
        self.cut = 0.0  # the share of chunks at which the connection is reset instead
        self.cuts = self.stalls = self.passed_bytes = 0
        self._random = random.Random(seed)
        self._pairs: list[tuple[int, int]] = []
        self._pass = asyncio.Event()
        self._ended = asyncio.Event()
        self._pass.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="network")

    def door(self, port: int, target: int) -> None:
        """Have a door at `port` that leads to `target`; before the network is entered."""
        self._pairs.append((port, target))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._ended.set)
        self._thread.join()

    def hold(self) -> None:
        """Let nothing through. Connections stay, and TCP remembers what was sent: it arrives after `release`."""
        self._call(self._pass.clear)

    def release(self) -> None:
        """Let everything through, first what was held."""
        self._call(self._pass.set)

    def _call(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(what)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            for port, target in self._pairs:
                await stack.enter_async_context(await self._listen(port, target))
            self._ready.set()
            await self._ended.wait()
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, port: int, target: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer, target)

        return await asyncio.start_server(accept, HOST, port)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        with self._watched(writer):
            await self._pass.wait()
            there_reader, there = await asyncio.open_connection(HOST, target)
            with self._watched(there):
                ways = [asyncio.ensure_future(self._way(*way)) for way in ((reader, there), (there_reader, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    @contextlib.contextmanager
    def _watched(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction; returns when it has ended, also by a cut."""
        under_way: _Chunks = asyncio.Queue(IN_FLIGHT)
        taking = asyncio.ensure_future(self._take(reader, under_way))
        try:
            await self._carry(under_way, writer)
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, under_way: "_Chunks") -> None:
        chunk = b"?"
        while chunk:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            await under_way.put((asyncio.get_running_loop().time() + self._late_s(), chunk))

    async def _carry(self, under_way: "_Chunks", writer: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await self._pass.wait()
            if not chunk:
                return
            if self._random.random() < self.cut:
                self.cuts += 1
                return
            writer.write(chunk)
            self.passed_bytes += len(chunk)
            await writer.drain()

    def _late_s(self) -> float:
        if self._random.random() < self.stalled:
            self.stalls += 1
            return self.delay_s + self._random.uniform(*self.stall_s)
        return self.delay_s


class Behind(EmbeddedKafka):
    """A cluster with one listener per network beside its own: who comes through a network finds nodes at its doors."""

    def __init__(self, folder: Path, networks: Sequence[Network], *, nodes: int = 3) -> None:
        super().__init__(folder, nodes=nodes)
        ports = iter(free_ports(2 * nodes * len(networks)))
        # By network, by node: where clients find the node, and where it listens.
        self._doors = [[(next(ports), next(ports)) for _ in range(nodes)] for _ in networks]
        for network, pairs in zip(networks, self._doors, strict=True):
            for door, listener in pairs:
                network.door(door, listener)

    def through(self, network: int) -> str:
        """Return the addresses of all nodes for clients in a network."""
        return ",".join(f"{HOST}:{door}" for door, _ in self._doors[network])

    def prepare(self) -> None:
        """Write the settings, with our listeners."""
        super().prepare()
        names = [f"NET{number}" for number in range(len(self._doors))]
        for at, node in enumerate(self.nodes):
            doors = [pairs[at] for pairs in self._doors]
            ours = [f"{name}://{HOST}:{listener}" for name, (_, listener) in zip(names, doors, strict=True)]
            told = [f"{name}://{HOST}:{door}" for name, (door, _) in zip(names, doors, strict=True)]
            controller = f"CONTROLLER://{HOST}:{node.controller_port}"
            kinds = [f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names)]
            with node.config.open("a") as config:  # of two lines with a name the last counts
                config.write(f"listeners={','.join((f'PLAINTEXT://{node.address}', controller, *ours))}\n")
                config.write(f"advertised.listeners={','.join((f'PLAINTEXT://{node.address}', *told))}\n")
                config.write(f"listener.security.protocol.map={','.join(kinds)}\n")


@contextlib.contextmanager
def behind(folder: Path, networks: Sequence[Network]) -> Iterator[Behind]:
    """Start a cluster, and the doors to it."""
    cluster = Behind(folder / "kafka", networks)
    with contextlib.ExitStack() as stack:
        for network in networks:
            stack.enter_context(network)
        stack.callback(cluster.stop, 1)
        cluster.start(timeout_s=120)
        yield cluster
