"""Which values does a file or pipe hold: JSON lines, or the elements of one JSON array, and where did each stand?

Never parses a value and never holds more than one line, or one array, in memory.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from streams.errors import ConfigError

READ_BYTES: Final = 64 * 1024
CHUNKS_AHEAD: Final = 16  # 1 MB is read ahead of what is sent
LINE_BYTES_MAX: Final = 2 * 1024 * 1024  # what the topic takes as one record
ARRAY_BYTES_MAX: Final = 256 * 1024 * 1024  # an array is held whole; longer input belongs into lines

_array: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Item(NamedTuple):
    """One value and where it stood, for messages; `fault` says why it could not be read."""

    where: str
    value: bytes
    fault: str | None = None


async def events(descriptor: int) -> AsyncIterator[Item]:
    """Yield the lines, or the elements of the one array that the input is."""
    splitter = _Splitter()
    array: bytearray | None = None
    async for chunk in _chunks(descriptor):
        if array is None and not splitter.begun and chunk.lstrip().startswith(b"["):
            array = bytearray()
        if array is None:
            for item in splitter.feed(chunk):
                yield item
        elif len(array) + len(chunk) > ARRAY_BYTES_MAX:
            raise ConfigError(
                f"the input is a JSON array of more than {ARRAY_BYTES_MAX} bytes: give one event per line"
            )
        else:
            array += chunk
    for item in splitter.end() if array is None else _elements(bytes(array)):
        yield item


async def lines(descriptor: int) -> AsyncIterator[Item]:
    """Yield every line that is not blank, whatever it holds."""
    splitter = _Splitter()
    async for chunk in _chunks(descriptor):
        for item in splitter.feed(chunk):
            yield item
    for item in splitter.end():
        yield item


def _elements(array: bytes) -> Iterator[Item]:
    try:
        values = _array.decode(array)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"the input begins with '[' but is not one JSON array ({error}): give one array, or one event per line"
        ) from error
    for number, value in enumerate(values, start=1):
        yield Item(f"element {number}", bytes(value))


@dataclass(slots=True)
class _Splitter:
    """Cuts chunks into lines; a line longer than LINE_BYTES_MAX is dropped up to its end and reported."""

    begun: bool = False
    number: int = 0
    rest: bytearray = field(default_factory=bytearray)
    too_long: bool = False

    def feed(self, chunk: bytes) -> Iterator[Item]:
        *ended, rest = chunk.split(b"\n")
        self.begun = self.begun or bool(chunk.strip())
        for part in ended:
            self._add(part)
            yield from self.end()
        self._add(rest)

    def end(self) -> Iterator[Item]:
        """Yield the line gathered so far, unless it is blank."""
        self.number += 1
        line = bytes(self.rest).strip()
        if self.too_long:
            yield Item(f"line {self.number}", b"", f"longer than {LINE_BYTES_MAX} bytes")
        elif line:
            yield Item(f"line {self.number}", line)
        self.rest.clear()
        self.too_long = False

    def _add(self, part: bytes) -> None:
        if len(self.rest) + len(part) > LINE_BYTES_MAX:
            self.too_long = True
            self.rest.clear()
        if not self.too_long:
            self.rest += part


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    """Read in a thread of our own: a pipe may be silent for hours, and an executor's thread cannot be left behind."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(CHUNKS_AHEAD)

    def read() -> None:
        chunk: bytes | OSError = b"-"
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody wants the rest
            while chunk and isinstance(chunk, bytes):
                room.acquire()
                try:
                    # The plain system call: a buffered reader's lock, held at exit, would abort the interpreter.
                    chunk = os.read(descriptor, READ_BYTES)
                except OSError as error:
                    chunk = error
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)

    threading.Thread(target=read, name="intake", daemon=True).start()
    while chunk := await arrived.get():
        if isinstance(chunk, OSError):
            raise ConfigError(f"the input cannot be read: {chunk.strerror or chunk}") from chunk
        room.release()
        yield chunk
