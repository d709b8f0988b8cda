"""Where do events wait while no broker takes them?  In files of the user's, oldest first, up to a number of bytes.

Never called from an agent's thread, never raises, and never read by two processes at once: a folder belongs to whoever
holds the lock in it, and the lock of a process that died is free for the next one.
"""

import fcntl
import logging
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from streams.feed.batch import Origin, Record
from streams.feed.counters import Counters, Drop
from streams.feed.segment import SUFFIX, Segment, frame
from streams.feed.spool_policy import SpoolPolicy

SYNC_MS: Final = 1_000  # power that fails costs so much at the most; a process that is killed costs nothing
LOCK: Final = "lock"
_HOME_ATTEMPTS: Final = 5  # somebody who looks for what the dead have left may hold a new folder for a moment
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]")
_log: Final = logging.getLogger("streams.feed")


def folder_of(policy: SpoolPolicy, bootstrap: str, topic: str) -> Path:
    """Name the folder of all who send to this topic. Raises RuntimeError where the user has no home."""
    brokers = ",".join(sorted(each.strip() for each in bootstrap.split(",")))
    digest = blake2b(f"{brokers} {topic}".encode(), digest_size=8).hexdigest()
    return policy.root() / digest


class _Claim:
    """A folder that is ours as long as its lock is held: our own, or one that a dead process has left."""

    __slots__ = ("_descriptor", "folder", "segments")

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.segments = 0  # files that are still there
        self._descriptor = descriptor

    @classmethod
    def of(cls, folder: Path) -> "_Claim | None":
        """Take the lock; None when a living process has it. Raises OSError."""
        path = folder / LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the folder between our two steps: then this is a lock of nothing.
            if os.fstat(descriptor).st_ino != path.stat().st_ino:
                raise FileNotFoundError(path)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    def release(self) -> None:
        """Remove the folder when nothing is left in it, and let go of it; never raises."""
        try:
            if not any(self.folder.glob(f"*{SUFFIX}")):
                (self.folder / LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
        except OSError:
            _log.debug("spool.not_removed folder=%s", self.folder, exc_info=True)
        self.forget()

    def forget(self) -> None:
        """Close the lock as it is: a forked child has a copy that would keep it for its own lifetime."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Spool:
    """The files of one process, and those it has taken over. All of it in the sender's thread."""

    def __init__(self, policy: SpoolPolicy, folder: Path, source: str, counters: Counters) -> None:
        self._policy = policy
        self._folder = folder
        self._name = _STRANGE.sub("_", source)
        self._counters = counters
        self._own: _Claim | None = None
        self._claims: dict[Path, _Claim] = {}  # all of them, by folder
        self._left: deque[Segment] = deque()  # by others, oldest first
        self._waiting: deque[Segment] = deque()  # ours, oldest first; the last may be open
        self._reading: Segment | None = None
        self._outstanding = 0  # records of it that are not settled
        self._number = 0
        self._dirty = False
        self._synced_ms = 0
        self._failed = False

    # ---- what waits --------------------------------------------------------------------------------------------

    @property
    def unread(self) -> bool:
        """Is there anything of ours that newer records must not overtake?"""
        return bool(self._waiting)

    @property
    def pending(self) -> bool:
        """Is there anything of ours that is not safe in Kafka?"""
        return bool(self._waiting) or (self._reading is not None and self._reading.origin is Origin.SPOOL)

    @property
    def dirty(self) -> bool:
        """Is there anything that the disk may not hold yet?"""
        return self._dirty

    def append(self, records: Iterable[Record], now_ms: int) -> None:
        """Put records behind all others; those that the disk does not take are dropped and counted."""
        for record in records:
            data = frame(record)
            try:
                self._room_for(len(data)).append(data, record.events)
            except (OSError, RuntimeError) as error:
                self._note_failure(error)
                self._counters.drop(Drop.SPOOL_FAILED, record.events)
                continue
            self._failed = False
            self._counters.spooled += record.events
            self._counters.spool_bytes += len(data)
            self._dirty = True
        self.sync(now_ms)

    def sync(self, now_ms: int) -> None:
        """Have the disk hold what was appended, once a second."""
        if not self._dirty or now_ms - self._synced_ms < SYNC_MS:
            return
        self._synced_ms, self._dirty = now_ms, False
        try:
            if self._waiting:
                self._waiting[-1].sync()
        except OSError as error:
            self._note_failure(error)

    # ---- what goes out again -----------------------------------------------------------------------------------

    def next(self) -> list[Record]:
        """Read the oldest file, once all of the one before is settled."""
        while self._reading is None and (self._left or self._waiting):
            segment = (self._left or self._waiting).popleft()
            segment.seal()
            self._reading = segment
            try:
                records, torn_bytes = segment.read()
            except OSError as error:
                self._note_failure(error)
                self._counters.lose(segment.origin, Drop.SPOOL_FAILED, segment.events or 0)
                records, torn_bytes = [], 0
            self._counters.spool_torn_bytes += torn_bytes
            self._outstanding = len(records)
            if records:
                return records
            self._done()
        return []

    def settled(self) -> None:
        """Take note that one record that was read is acknowledged or given up."""
        self._outstanding -= 1
        if not self._outstanding:
            self._done()

    def adopt(self) -> None:
        """Take over what processes have left that are no more."""
        try:
            folders = sorted(self._folder.iterdir(), key=lambda each: each.stat().st_mtime)
        except OSError:
            return  # nobody has left anything, or we may not look
        for folder in folders:
            if folder in self._claims or not folder.is_dir():
                continue
            try:
                claim = _Claim.of(folder)
            except OSError as error:
                self._note_failure(error)
                continue
            if claim is not None:
                self._take_over(claim)

    def close(self) -> None:
        """Leave what is there to the next process; never raises."""
        for segment in self._waiting:
            segment.seal()
        for claim in self._claims.values():
            claim.release()
        self._claims.clear()

    def forget(self) -> None:
        """Let go of everything without touching a file: for a forked child, whose parent goes on with them."""
        for segment in self._waiting:
            segment.forget()
        for claim in self._claims.values():
            claim.forget()

    # ---- within ------------------------------------------------------------------------------------------------

    def _room_for(self, size_bytes: int) -> Segment:
        """Return the file to write to, a new one when the last is full. Raises OSError."""
        last = self._waiting[-1] if self._waiting else None
        if last is not None and last.open and last.size_bytes + size_bytes <= self._policy.segment_bytes:
            return last
        if last is not None:
            last.seal()
        if self._own is None:
            self._own = self._home()
        self._keep_within(size_bytes)
        self._number += 1
        segment = Segment.begin(self._own.folder / f"{self._number:010d}{SUFFIX}")
        self._own.segments += 1
        self._counters.spool_bytes += segment.size_bytes
        self._waiting.append(segment)
        _sync_folder(self._own.folder)
        return segment

    def _home(self) -> _Claim:
        """Make our own folder, for nobody but the user. Raises OSError."""
        folder = self._folder / self._name
        for _ in range(_HOME_ATTEMPTS):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            claim = _Claim.of(folder)
            if claim is not None:
                self._claims[folder] = claim
                return claim
        raise FileExistsError(f"{folder} belongs to another process")

    def _take_over(self, claim: _Claim) -> None:
        try:
            found = [(path, path.stat().st_size) for path in sorted(claim.folder.glob(f"*{SUFFIX}"))]
        except OSError as error:
            self._note_failure(error)
            found = []
        if not found:
            claim.release()
            return
        claim.segments = len(found)
        self._claims[claim.folder] = claim
        for path, size_bytes in found:
            self._left.append(Segment(path, Origin.LEFT, size_bytes=size_bytes))
            self._counters.spool_bytes += size_bytes
        _log.info("spool.taken_over folder=%s files=%d", claim.folder, len(found))

    def _keep_within(self, size_bytes: int) -> None:
        """Drop the oldest files until all spools of this topic, and what comes, are within the limit."""
        excess = self._counters.spool_bytes + self._others_bytes() + size_bytes - self._policy.size_bytes
        while excess > 0 and (self._left or self._waiting):
            segment = (self._left or self._waiting).popleft()
            if segment.events is None:
                try:
                    segment.read()
                except OSError as error:
                    self._note_failure(error)
            self._counters.lose(segment.origin, Drop.SPOOL_FULL, segment.events or 0)
            excess -= segment.size_bytes
            self._remove(segment)

    def _others_bytes(self) -> int:
        return sum(_size_bytes(path) for path in self._files() if path.parent not in self._claims)

    def _files(self) -> Iterator[Path]:
        try:
            yield from self._folder.glob(f"*/*{SUFFIX}")
        except OSError:
            return

    def _done(self) -> None:
        segment, self._reading = self._reading, None
        assert segment is not None
        self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        segment.remove()
        self._counters.spool_bytes -= segment.size_bytes
        claim = self._claims.get(segment.path.parent)
        if claim is None:
            return
        claim.segments -= 1
        if not claim.segments and claim is not self._own:
            del self._claims[claim.folder]
            claim.release()

    def _note_failure(self, error: Exception) -> None:
        self._counters.spool_failures += 1
        if not self._failed:  # one line per trouble, not one per event
            _log.warning("spool.failed folder=%s: %s %s", self._folder, type(error).__name__, error)
        self._failed = True


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its owner has just sent it
        return 0


def _sync_folder(folder: Path) -> None:
    """Have the disk know the file's name. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
