"""What does a file of the spool hold?  Records in the order they were put there, each with a checksum.

Never trusts a file: what was torn by a crash ends it, and all before that is good.
"""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from streams.feed.batch import Origin, Record

MAGIC: Final = b"ASPOOL1\n"
SUFFIX: Final = ".seg"
_HEAD: Final = struct.Struct(">IIII")  # CRC-32 of all that follows, bytes of the key, bytes of the value, events
_BODY: Final = struct.Struct(">III")
_CRC_BYTES: Final = 4


class Content(NamedTuple):
    """The records of a file that are whole, and how many bytes behind them are not."""

    records: list[Record]
    torn_bytes: int


def frame(record: Record) -> bytes:
    """Return a record as it stands in a file."""
    body = _BODY.pack(len(record.key), len(record.value), record.events) + record.key + record.value
    return zlib.crc32(body).to_bytes(_CRC_BYTES) + body


def content(data: bytes, origin: Origin) -> Content:
    """Read the bytes of a file up to the first that is not as it was written."""
    if not data.startswith(MAGIC):
        return Content([], len(data))
    records: list[Record] = []
    at, view = len(MAGIC), memoryview(data)
    while at + _HEAD.size <= len(data):
        crc, key_bytes, value_bytes, events = _HEAD.unpack_from(data, at)
        key_at = at + _HEAD.size
        value_at = key_at + key_bytes
        end = value_at + value_bytes
        if end > len(data) or not events or zlib.crc32(view[at + _CRC_BYTES : end]) != crc:
            break
        records.append(Record(data[key_at:value_at], data[value_at:end], events, origin))
        at = end
    return Content(records, len(data) - at)


class Segment:
    """One file: written by `append`, closed by `seal`, read as a whole. The file is there from the beginning."""

    __slots__ = ("_descriptor", "events", "origin", "path", "size_bytes")

    def __init__(self, path: Path, origin: Origin, *, size_bytes: int = 0) -> None:
        self.path = path
        self.origin = origin
        self.size_bytes = size_bytes
        self.events: int | None = None  # not known of a file that somebody else wrote, until it is read
        self._descriptor: int | None = None

    @classmethod
    def begin(cls, path: Path) -> "Segment":
        """Make a file of our own. Raises OSError."""
        segment = cls(path, Origin.SPOOL)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write(descriptor, MAGIC)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        segment._descriptor, segment.size_bytes, segment.events = descriptor, len(MAGIC), 0
        return segment

    @property
    def open(self) -> bool:
        """Can it be appended to?"""
        return self._descriptor is not None

    def append(self, data: bytes, events: int) -> None:
        """Write at the end, all of it or nothing. Raises OSError."""
        assert self._descriptor is not None
        assert self.events is not None
        try:
            _write(self._descriptor, data)
        except OSError:
            # What was written of it stays behind a good end; what follows must not stand behind a torn frame.
            os.ftruncate(self._descriptor, self.size_bytes)
            os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
            raise
        self.size_bytes += len(data)
        self.events += events

    def sync(self) -> None:
        """Have the disk hold it. Raises OSError."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def seal(self) -> None:
        """Write no more; never raises."""
        if self._descriptor is not None:
            with suppress(OSError):  # what the disk did not take is found by its checksum
                os.fsync(self._descriptor)
            self.forget()

    def forget(self) -> None:
        """Close it as it is."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def read(self) -> Content:
        """Read it all. Raises OSError."""
        found = content(self.path.read_bytes(), self.origin)
        self.events = sum(record.events for record in found.records)
        return found

    def remove(self) -> None:
        """Delete the file; never raises."""
        self.forget()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
