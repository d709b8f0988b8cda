"""What an agent may rely on when it emits, against an outlet that records; the same against Kafka is next door."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feed_recording import Recording, until

from streams.event.model import Envelope, Error, Payload, SessionEnd, ToolEnd, ToolStart
from streams.feed.batch import BatchPolicy
from streams.feed.config import EmitterConfig
from streams.feed.emitter import FLUSH_TIMEOUT_MS, Emitter, _open
from streams.feed.sender import _Loop

QUICK: dict[str, Any] = {"backoff_ms": 1, "backoff_max_ms": 5, "payloads": True, "payload_sample": 1.0}
REPOSITORY = Path(__file__).parents[2]


def event(number: int, session_id: str | None = "s", **fields: Any) -> ToolStart:
    return ToolStart(id=str(number), time=1_000 + number, agent="a", session_id=session_id, tool="t", **fields)


def emitter(recording: Recording, **limits: int) -> Emitter:
    return Emitter(EmitterConfig(batch=BatchPolicy(**limits), **QUICK), outlet=recording.outlet)


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for each in list(_open):  # of a test that failed in the middle
        each.close(timeout_ms=1)
    until(lambda: not [each for each in threading.enumerate() if each.name == "agent-streams-emitter"])


def test_events_arrive_in_order_and_numbered_from_zero(recording: Recording) -> None:
    with emitter(recording) as out:
        for number in range(1_200):
            out.emit(event(number))
        assert out.flush_sync()

    assert recording.ids() == [str(number) for number in range(1_200)]
    assert [each.seq for each in recording.events()] == list(range(1_200))
    assert {each.source for each in recording.events()} == {out.source}


def test_numbers_are_counted_over_all_sessions_of_the_process(recording: Recording) -> None:
    with emitter(recording) as out:
        for number in range(100):
            out.emit(event(number, session_id=f"s{number % 7}"))

    by_id = {each.id: each for each in recording.events()}
    assert [by_id[str(number)].seq for number in range(100)] == list(range(100))
    assert {(partition, record.key) for partition, record in recording.arrived} == {
        (sum(key) % 4, key) for key in (f"s{number}".encode() for number in range(7))
    }


def test_an_event_without_a_session_is_keyed_by_its_source(recording: Recording) -> None:
    with emitter(recording) as out:
        out.emit(event(1, session_id=None))
        out.emit(event(2, session_id=None, source="elsewhere"))

    assert {record.key for _, record in recording.arrived} == {out.source.encode(), b"elsewhere"}


def test_a_coroutine_uses_the_same_object(recording: Recording) -> None:
    async def agent() -> bool:
        async with emitter(recording) as out:
            out.emit(event(1))
            flushed = await out.flush()
            assert recording.ids() == ["1"]
            out.emit(event(2))
        return flushed

    assert asyncio.run(agent())
    assert recording.ids() == ["1", "2"]


def test_an_urgent_event_takes_its_session_along_before_its_time(recording: Recording) -> None:
    with emitter(recording, age_ms=30_000) as out:
        out.emit(event(1))
        out.emit(event(2, session_id="other"))
        out.emit(SessionEnd(id="3", time=0, agent="a", session_id="s"))
        until(lambda: recording.arrived)

        assert recording.ids() == ["1", "3"]
    assert recording.ids() == ["1", "3", "2"]


def test_an_event_leaves_within_its_age_without_company(recording: Recording) -> None:
    with emitter(recording, age_ms=20) as out:
        out.emit(event(1))
        until(lambda: recording.arrived, timeout_s=10)


def test_an_event_after_a_long_silence_wakes_the_sender(recording: Recording) -> None:
    with emitter(recording) as out:
        out.emit(event(1))
        until(lambda: out._life.sender.asleep)
        out.emit(event(2))
        until(lambda: len(recording.arrived) == 2)


# ---- trouble on the way ----------------------------------------------------------------------------------------


def test_events_wait_while_there_is_no_connection(recording: Recording) -> None:
    recording.fail_opens = 5
    with emitter(recording) as out:
        for number in range(50):
            out.emit(event(number))
        assert out.flush_sync()

        assert recording.ids() == [str(number) for number in range(50)]
        assert out.stats().failures == 5
        assert out.stats().last_failure is None


def test_records_whose_answer_was_lost_go_again_and_in_order(recording: Recording) -> None:
    """The far side sees some twice; what it sees first of each session is in order, so it can tell."""
    recording.fail_sends = 6
    with emitter(recording, record_events=3) as out:
        for number in range(300):
            out.emit(event(number, session_id=f"s{number % 5}"))
            if number % 50 == 0:
                out.flush_sync()

    assert recording.opened > 1
    for session in range(5):
        seqs = [each.seq or 0 for each in recording.events() if each.session_id == f"s{session}"]
        firsts = list(dict.fromkeys(seqs))
        assert firsts == sorted(firsts) == list(range(session, 300, 5))
    assert out.stats().acknowledged == 300


def test_a_batch_that_is_too_large_together_goes_one_by_one(recording: Recording) -> None:
    recording.let_through.clear()
    with emitter(recording, record_events=1) as out:
        out.emit(event(0))
        until(lambda: out.stats().connected)
        for number in range(1, 9):
            out.emit(event(number, attributes={"note": "x" * (400 if number == 4 else 1)}))
        until(lambda: out.stats().waiting == 9)
        recording.bytes_max = 400
        recording.let_through.set()
        assert out.flush_sync()

        assert recording.ids() == [str(number) for number in range(9) if number != 4]
        assert out.stats().dropped == {"too_large": 1}
        assert out.stats().acknowledged == 8


def test_a_bug_in_the_client_library_costs_no_event() -> None:
    class Surprising(Recording):
        def outlet(self, config: EmitterConfig) -> Any:
            if not self.opened:
                self.opened = 1
                raise ZeroDivisionError("a surprise")
            return super().outlet(config)

    surprising = Surprising()
    with emitter(surprising) as out:
        out.emit(event(1))

    assert surprising.ids() == ["1"]
    assert out.stats().failures == 1


# ---- limits ----------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_what_comes_and_counts_it(recording: Recording) -> None:
    recording.fail_opens = 10**9
    out = emitter(recording, queue_events=100)
    for number in range(250):
        out.emit(event(number))
        if number % 10 == 0:
            time.sleep(0)
    until(lambda: out.stats().dropped.get("queue_full", 0) + out._life.sender.held_events == 250)
    stats = out.stats()

    assert stats.waiting <= 100 + 1
    assert stats.emitted == 250
    assert stats.dropped["queue_full"] == 250 - stats.waiting

    recording.fail_opens = 0
    assert out.close()
    assert len(recording.ids()) == stats.waiting


def test_encoded_bytes_are_bounded_too(recording: Recording) -> None:
    recording.fail_opens = 10**9
    out = emitter(recording, queue_bytes=10_000)
    for number in range(500):
        out.emit(event(number, attributes={"note": "x" * 400}))
    until(lambda: out.stats().dropped.get("queue_full", 0) + out._life.sender.held_events == 500)

    assert 0 < out.stats().waiting_bytes <= 10_000
    out.close(timeout_ms=1)


def test_room_comes_back_when_events_are_acknowledged(recording: Recording) -> None:
    with emitter(recording, queue_events=10) as out:
        for number in range(40):
            out.emit(event(number))
            if number % 10 == 9:
                assert out.flush_sync()

        assert out.stats().dropped == {}
        assert out.stats().acknowledged == 40


def test_large_bodies_take_more_room_than_their_number(recording: Recording) -> None:
    recording.fail_opens = 10**9
    out = emitter(recording, queue_events=640)
    body = "x" * 300_000
    out._life.sender.asleep = False  # keep its thread from starting: this is about what is not encoded yet
    for number in range(50):
        out.emit(Payload(id=str(number), time=0, agent="a", direction="request", body=body))

    assert out.stats().waiting == 10
    assert {len(each.body) for each in out._life.sender.intake if isinstance(each, Payload)} == {65_536 + 1_024}
    out.close(timeout_ms=1)


def test_a_cut_body_says_how_much_is_missing(recording: Recording) -> None:
    with emitter(recording) as out:
        out.emit(Payload(id="1", time=0, agent="a", direction="request", body="ß" * 300_000, cut_bytes=1))
    [payload] = recording.events()

    assert isinstance(payload, Payload)
    assert len(payload.body) <= 65_536
    assert payload.cut_bytes == 1 + 2 * (300_000 - payload.body.count("ß"))
    assert payload.body.endswith(f"ß… [{payload.cut_bytes} bytes cut]")


@pytest.mark.parametrize("thing", [None, 3, "event", object(), {"kind": "tool_end"}, ToolEnd])
def test_emitting_nonsense_is_counted_and_never_raises(recording: Recording, thing: Any) -> None:
    with emitter(recording) as out:
        out.emit(event(1))
        out.emit(thing)
        out.emit(ToolEnd(id="2", time=0, agent="a", tool="t", duration_ms=-1))
        out.emit(event(3))

    assert recording.ids() == ["1", "3"]
    assert out.stats().dropped == {"invalid": 2}


def test_free_text_is_redacted_before_it_leaves(recording: Recording) -> None:
    with emitter(recording) as out:
        out.emit(Error(id="1", time=0, agent="a", message="mail a@example.com"))

    assert b"example.com" not in recording.arrived[0][1].value
    assert out.stats().redacted == {"email": 1}


# ---- the end ---------------------------------------------------------------------------------------------------


def test_closing_sends_what_waits_and_counts_what_comes_later(recording: Recording) -> None:
    out = emitter(recording, age_ms=30_000)
    out.emit(event(1))

    assert out.close()
    out.emit(event(2))
    assert recording.ids() == ["1"]
    assert out.stats().dropped == {"closed": 1}
    assert out.close()
    assert out.flush_sync()


def test_closing_takes_no_longer_than_asked_and_counts_what_is_lost(recording: Recording) -> None:
    recording.fail_opens = 10**9
    out = emitter(recording)
    for number in range(10):
        out.emit(event(number))
    started = time.monotonic()

    assert not out.close(timeout_ms=100)
    assert time.monotonic() - started < FLUSH_TIMEOUT_MS / 1000
    until(lambda: out.stats().waiting == 0)
    assert out.stats().dropped == {"send_failed": 10}
    assert out.stats().emitted == 10


def test_an_emitter_that_was_never_used_starts_no_thread(recording: Recording) -> None:
    out = emitter(recording)

    assert out.flush_sync()
    assert out.close()
    assert recording.opened == 0


def test_a_flush_in_vain_ends_in_time(recording: Recording) -> None:
    recording.let_through.clear()
    out = emitter(recording)
    out.emit(event(1))

    assert not out.flush_sync(timeout_ms=50)
    assert not asyncio.run(out.flush(timeout_ms=50))
    recording.let_through.set()
    assert out.close()


# ---- threads -----------------------------------------------------------------------------------------------------


def test_threads_share_an_emitter_and_each_keeps_its_order(recording: Recording) -> None:
    def work(name: str) -> None:
        for number in range(1_500):
            out.emit(event(number, session_id=name))

    with emitter(recording, queue_events=100_000) as out:
        threads = [threading.Thread(target=work, args=(f"s{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    events: list[Envelope] = list(recording.events())
    assert sorted(each.seq or 0 for each in events) == list(range(9_000))
    for number in range(6):
        own = [each for each in events if each.session_id == f"s{number}"]
        assert [each.id for each in own] == [str(number) for number in range(1_500)]
        assert [each.seq for each in own] == sorted(each.seq or 0 for each in own)


def test_emitting_takes_microseconds(recording: Recording) -> None:
    """The best of some rounds in the caller's processor time: other programs share the machine. The promise is 5 µs."""
    costs_ns = []
    with emitter(recording, queue_events=1_000_000) as out:
        out.emit(event(0))
        until(lambda: recording.arrived)
        for _ in range(20):
            events = [event(number) for number in range(250)]
            started_ns = time.thread_time_ns()
            for one in events:
                out.emit(one)
            costs_ns.append((time.thread_time_ns() - started_ns) / len(events))

    assert min(costs_ns) < 5_000, sorted(costs_ns)


def test_names_are_resolved_without_a_helper_thread() -> None:
    """One could not be started for the last flush, and the end of the process would wait for it."""

    async def resolve() -> Any:
        loop = asyncio.get_running_loop()
        before = threading.active_count()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        found = await loop.getaddrinfo("localhost", 80)
        return found, threading.active_count() - before

    with asyncio.Runner(loop_factory=_Loop) as runner:
        found, more_threads = runner.run(resolve())

    assert found
    assert more_threads == 0
