"""What no broker takes waits on disk: in order, within a limit, and for whoever comes after."""

import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from feed_recording import Recording, until

from streams.errors import ConfigError
from streams.event.model import Event, ToolStart
from streams.feed import BatchPolicy, Emitter, EmitterConfig, SpoolPolicy
from streams.feed.batch import Origin, Record
from streams.feed.counters import Counters
from streams.feed.segment import content
from streams.feed.spool import LOCK, Spool

AWAY = 10**9  # attempts


def event(number: int, session_id: str = "s", **fields: Any) -> ToolStart:
    return ToolStart(id=str(number), time=1_000 + number, agent="a", session_id=session_id, tool="t", **fields)


def config(folder: Path, size_bytes: int = 10_000_000, **batch: int) -> EmitterConfig:
    return EmitterConfig(
        batch=BatchPolicy(age_ms=1, **batch),
        backoff_ms=1,
        backoff_max_ms=5,
        spool=SpoolPolicy(size_bytes=size_bytes, folder=str(folder), after_ms=0),
    )


def emitter(recording: Recording, folder: Path, size_bytes: int = 10_000_000, **batch: int) -> Emitter:
    return Emitter(config(folder, size_bytes, **batch), outlet=recording.outlet)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*/*.seg"))


def record(number: int, size_bytes: int = 100) -> Record:
    return Record(f"k{number}".encode(), b"x" * size_bytes, 1)


def spool(folder: Path, name: str, size_bytes: int = 1_000_000) -> Spool:
    return Spool(SpoolPolicy(size_bytes=size_bytes), folder, name, Counters())


def drained(from_: Spool) -> list[Record]:
    found: list[Record] = []
    while records := from_.next():
        found += records
        for _ in records:
            from_.settled()
    return found


def all_spooled(out: Emitter, events: int) -> bool:
    return out.stats().spooled == events


def taken(out: Emitter, events: int) -> bool:
    return out._life.sender.counters.taken == events


def ids_of_sessions(events: list[Event]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in events:
        found.setdefault(each.session_id or "", []).append(int(each.id))
    return found


# ---- the emitter -----------------------------------------------------------------------------------------------


def test_more_than_the_queue_holds_outlasts_an_outage_in_order(tmp_path: Path) -> None:
    recording = Recording(fail_opens=AWAY)
    out = emitter(recording, tmp_path, queue_events=100)
    for number in range(2_000):
        out.emit(event(number, f"s{number % 7}"))
        if number % 50 == 49:
            until(partial(all_spooled, out, number + 1))
    away = out.stats()

    assert (2_000, 2_000, 0, {}) == (away.waiting, away.spooled, away.acknowledged, away.dropped)
    assert away.spool_bytes == sum(file.stat().st_size for file in files(tmp_path))
    recording.fail_opens = 0
    for number in range(2_000, 2_100):
        out.emit(event(number, f"s{number % 7}"))
        until(lambda: out.stats().waiting < 5)
    assert out.close()
    stats = out.stats()
    assert (2_100, 0, {}, 0) == (stats.acknowledged, stats.waiting, stats.dropped, stats.spool_bytes)
    assert list(range(2_100)) == sorted(int(each) for each in recording.ids())
    for session, ids in ids_of_sessions(recording.events()).items():
        assert ids == list(range(int(session[1:]), 2_100, 7))
    assert [] == list(tmp_path.glob("*/*")), "nothing is left behind"


def test_what_waits_in_memory_goes_to_disk_before_what_comes_later(tmp_path: Path) -> None:
    recording = Recording()
    recording.let_through.clear()
    out = Emitter(
        EmitterConfig(
            batch=BatchPolicy(age_ms=1, queue_events=20),
            spool=SpoolPolicy(size_bytes=10_000_000, folder=str(tmp_path), after_ms=60_000),
        ),
        outlet=recording.outlet,
    )
    for number in range(60):
        out.emit(event(number))
        until(partial(taken, out, number + 1))
    held = out.stats()
    recording.let_through.set()

    assert out.close()
    assert held.spooled > 20, "a broker that is there but says nothing"
    assert [str(number) for number in range(60)] == recording.ids()


def test_flush_waits_for_what_is_on_disk(tmp_path: Path) -> None:
    recording = Recording(fail_opens=AWAY)
    out = emitter(recording, tmp_path)
    out.emit(event(1))
    until(lambda: out.stats().spooled == 1)
    refused = out.flush_sync(50)
    recording.fail_opens = 0

    assert (False, True) == (refused, out.flush_sync())
    assert ["1"] == recording.ids()
    out.close()


def test_what_is_left_at_the_end_is_sent_by_the_next_process_and_counted_apart(tmp_path: Path) -> None:
    first = Recording(fail_opens=AWAY)
    with Emitter(config(tmp_path), outlet=first.outlet) as gone:
        for number in range(10):
            gone.emit(event(number))
        assert not gone.close(timeout_ms=50)
    left = gone.stats()
    second = Recording()
    with emitter(second, tmp_path) as out:
        out.emit(event(10))
        until(lambda: len(second.ids()) == 11)
        until(lambda: out.stats().left_acknowledged == 10)
    stats = out.stats()

    assert (10, 10, 0, {}) == (left.waiting, left.spooled, left.acknowledged, left.dropped)
    assert (1, 1, 0) == (stats.emitted, stats.acknowledged, stats.spool_bytes)
    sources = {each.source for each in second.events() if each.id != "10"}
    assert {gone.source} == sources, "source and number stay: what was sent twice counts once"
    assert [] == list(tmp_path.glob("*/*"))


def test_without_a_spool_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    recording = Recording(fail_opens=AWAY)
    with Emitter(EmitterConfig.from_env({"AGENT_STREAMS_PROFILE": "development"}), outlet=recording.outlet) as out:
        out.emit(event(1))
        until(lambda: out.stats().failures)
        out.close(timeout_ms=1)

    assert {"send_failed": 1} == out.stats().dropped
    assert [] == list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_costs_events_that_are_counted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recording = Recording(fail_opens=AWAY)
    with emitter(recording, tmp_path / "file") as out:
        for number in range(10):
            out.emit(event(number))
        until(lambda: out.stats().dropped.get("spool_failed", 0) == 10)
        recording.fail_opens = 0
        until(lambda: out.stats().connected)
        out.emit(event(10))
        assert out.flush_sync()

    assert ["10"] == recording.ids()
    assert out.stats().spool_failures > 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_keeps_nobody_from_what_its_parent_left(tmp_path: Path) -> None:
    """The child has a copy of the parent's lock, and may live much longer."""
    script = f"""
import os, sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]!r}
from feed.test_spool import AWAY, Recording, emitter, event, until
out = emitter(Recording(fail_opens=AWAY), Path({str(tmp_path)!r}))
out.emit(event(1))
until(lambda: out.stats().spooled == 1)
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"child\n"
            assert process.wait(60) == -signal.SIGKILL
            recording = Recording()
            with emitter(recording, tmp_path) as out:
                out.emit(event(2))
                until(lambda: {"1", "2"} == set(recording.ids()))
        finally:
            process.stdin.close()


# ---- the files -------------------------------------------------------------------------------------------------


def test_the_oldest_files_are_dropped_whole_and_counted(tmp_path: Path) -> None:
    own = spool(tmp_path, "a", size_bytes=80_000)
    own.append([record(number) for number in range(2_000)], now_ms=0)
    kept = drained(own)
    counters = own._counters

    numbers = [int(each.key[1:]) for each in kept]
    assert numbers == list(range(2_000 - len(kept), 2_000)), "the newest, without a gap"
    assert {"spool_full": 2_000 - len(kept)} == counters.dropped
    assert 400 < len(kept) < 80_000 / 116
    assert 0 == counters.spool_bytes


def test_the_limit_holds_for_all_processes_together(tmp_path: Path) -> None:
    first, second = spool(tmp_path, "a", 100_000), spool(tmp_path, "b", 100_000)
    first.append([record(number, 1_000) for number in range(60)], now_ms=0)
    second.append([record(number, 1_000) for number in range(200)], now_ms=0)

    on_disk = sum(file.stat().st_size for file in tmp_path.glob("*/*.seg"))
    assert on_disk <= 100_000 + second._policy.segment_bytes
    assert 60 == len(drained(first)), "what others hold is theirs"


def test_a_torn_tail_costs_what_was_torn_and_is_counted(tmp_path: Path) -> None:
    own = spool(tmp_path, "a")
    own.append([record(number) for number in range(5)], now_ms=0)
    own.close()
    (file,) = tmp_path.glob("a/*.seg")
    whole = file.read_bytes()
    for cut in range(len(whole)):
        found = content(whole[:cut], Origin.LEFT)
        assert [record(number)[:3] for number in range(len(found.records))] == [each[:3] for each in found.records]
        assert found.torn_bytes < 120
    file.write_bytes(whole[:-7])
    other = spool(tmp_path, "b")
    other.adopt()

    assert [b"k0", b"k1", b"k2", b"k3"] == [each.key for each in drained(other)]
    assert len(whole) // 5 - 7 < other._counters.spool_torn_bytes + 20
    assert [] == list(tmp_path.glob("a"))


@pytest.mark.parametrize("at", [0, 9, 40, 150])
def test_a_byte_that_changed_ends_a_file_there(tmp_path: Path, at: int) -> None:
    own = spool(tmp_path, "a")
    own.append([record(number) for number in range(3)], now_ms=0)
    own.close()
    (file,) = tmp_path.glob("a/*.seg")
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF

    found = content(bytes(data), Origin.LEFT)
    assert len(found.records) == (0 if at < 120 else 1)
    assert found.torn_bytes > 200


def test_a_disk_that_is_full_for_a_while_leaves_whole_records_and_no_hole_between(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]!r}
from feed.test_spool import drained, record, spool
own = spool(Path({str(tmp_path)!r}), "a")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
own.append([record(number) for number in range(100)], now_ms=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
own.append([record(number) for number in range(100, 110)], now_ms=0)
kept = [int(each.key[1:]) for each in drained(own)]
own.close()
print(own._counters.dropped["spool_failed"], own._counters.spool_torn_bytes, *kept)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    dropped, torn_bytes, *kept = (int(each) for each in done.stdout.split())

    assert 0 == torn_bytes
    assert 40 < 100 - dropped < 50, "of 5,000 bytes, 118 each"
    assert [*range(100 - dropped), *range(100, 110)] == kept
    assert 1 == done.stderr.count("spool.failed"), "one line per trouble"


def test_what_the_dead_have_left_is_taken_over_once(tmp_path: Path) -> None:
    """Sixteen threads, each as a process would: a lock belongs to an open file, not to a process."""
    for name in ("a", "b", "c"):
        left = spool(tmp_path, name)
        left.append([Record(f"{name}{number}".encode(), b"x", 1) for number in range(50)], now_ms=0)
        left.close()
    start = threading.Barrier(16)
    found: list[list[bytes]] = []

    def take(number: int) -> None:
        other = spool(tmp_path, f"new{number}")
        start.wait(60)
        other.adopt()
        found.append([each.key for each in drained(other)])
        other.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    keys = [key for each in found for key in each]
    assert sorted(keys) == sorted(f"{name}{number}".encode() for name in "abc" for number in range(50))
    assert [] == list(tmp_path.iterdir())


def test_nothing_is_taken_from_the_living(tmp_path: Path) -> None:
    living = spool(tmp_path, "a")
    living.append([record(1)], now_ms=0)
    other = spool(tmp_path, "b")
    other.adopt()

    assert [] == other.next()
    assert [b"k1"] == [each.key for each in drained(living)]


def test_files_are_for_the_user_alone(tmp_path: Path) -> None:
    own = spool(tmp_path / "root", "a")
    own.append([record(1)], now_ms=0)

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "root" / "a").iterdir()}
    assert {LOCK: 0o600, "0000000001.seg": 0o600} == modes
    assert 0o700 == (tmp_path / "root" / "a").stat().st_mode & 0o777
    own.close()


def test_a_read_file_goes_when_its_last_record_is_settled(tmp_path: Path) -> None:
    own = spool(tmp_path, "a")
    own.append([record(number) for number in range(3)], now_ms=0)
    records = own.next()

    assert (3, []) == (len(records), own.next())
    assert (False, True) == (own.unread, own.pending), "newer ones may follow; a crash sends these again"
    own.settled()
    own.settled()
    assert 1 == len(list(tmp_path.glob("a/*.seg")))
    own.settled()
    assert ([], False) == (list(tmp_path.glob("a/*.seg")), own.pending)
    own.close()


def test_limits_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match=r"spool size_bytes: -1 given.*spool after_ms: 3600001 given"):
        SpoolPolicy(size_bytes=-1, after_ms=3_600_001)
