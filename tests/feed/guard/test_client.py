"""A guard denies what the workers have stopped, says why, counts it, and never holds an agent up."""

import asyncio
import os
import pickle
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from feed_recording import Recording, until
from verdict_records import Told, circuit, stopping

from streams.errors import ConfigError
from streams.event.model import Guard as GuardEvent
from streams.feed import CallDenied, Emitter, EmitterConfig, Guard, GuardPolicy, Session
from streams.feed.guard import probes
from streams.feed.guard.reports import KEYS_MAX

SEARCH = "breaker/tool|search"
AHEAD_MS = 60_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def guard_of(told: Told, emitter: Any = None, **policy: Any) -> Guard:
    config = EmitterConfig(guard=GuardPolicy(source="kafka", **policy))
    return Guard(config, emitter=emitter, source=told.source)


def open_until(until_ms: int) -> bytes:
    return circuit("open", open_until_ms=until_ms, since_ms=1_700_000_000_000)


def test_a_guard_that_is_off_lets_everything_through_and_starts_nothing() -> None:
    threads = threading.active_count()
    with Guard(EmitterConfig()) as guard:
        guard.check("tool:search", session_id="s1")

        assert guard.ready()
        assert threads == threading.active_count()
        assert (1, {}) == (guard.stats().allowed, guard.stats().denied)


def test_an_open_circuit_denies_its_tool_alone_and_says_what_why_when_and_what_to_do() -> None:
    told = Told([(SEARCH, open_until(now_ms() + AHEAD_MS))])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        with pytest.raises(CallDenied) as caught:
            guard.check("tool:search", session_id="s1")

        assert guard.allow("tool:weather", session_id="s1")
        assert guard.allow("model:search")
    message = str(caught.value)
    for part in ("tool:search", "circuit is open", "16 of 20 calls failed", "since 2023-11-14", "until 20", "later"):
        assert part in message
    denial = caught.value.denial
    assert ("breaker", "open", "circuit-1") == (denial.denied_by, denial.reason, denial.verdict_id)
    assert message == str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301  our own bytes


def test_a_stopped_session_user_tenant_or_agent_is_denied_whatever_it_calls() -> None:
    told = Told(
        [
            ("stop/f1", stopping()),
            ("stop/f2", stopping("user", {"user_id": "u1"}, alert="UserBudget", unit="nano_usd")),
        ]
    )
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        with pytest.raises(CallDenied, match="SessionLoops stops session_id s1: the same call 9 times"):
            guard.check("tool:anything", session_id="s1")
        with pytest.raises(CallDenied, match="larger budget"):
            guard.check("model:gpt", session_id="s2", user="u1")

        assert guard.allow("tool:anything", session_id="s2", user="u2")
        assert {"rule": 1, "budget": 1} == guard.stats().denied


def test_a_half_open_circuit_lets_as_many_try_as_it_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told([(SEARCH, circuit("half_open"))])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        answers = [guard.allow("tool:search") for _ in range(5)]
        monkeypatch.setattr(probes, "AGAIN_MS", 0)  # the ends of the probes were lost
        again = guard.allow("tool:search")
        monkeypatch.undo()
        told.tell((SEARCH, circuit("half_open", 3, since_ms=3_000)))
        told.heard(guard, until)

        assert [True, True, True, False, False] == answers
        assert again
        assert guard.allow("tool:search")
        assert (5, 2) == (guard.stats().allowed_probes, guard.stats().denied["breaker"])


def test_a_call_that_something_else_denies_takes_no_permit() -> None:
    told = Told([(SEARCH, circuit("half_open")), ("stop/f1", stopping())])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        for _ in range(5):
            assert not guard.allow("tool:search", session_id="s1")

        assert [True, True, True, False] == [guard.allow("tool:search", session_id="s2") for _ in range(4)]


def test_permits_are_given_once_however_many_threads_ask() -> None:
    told = Told([(SEARCH, circuit("half_open", half_open_calls=50))])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        answers: list[bool] = []

        def ask() -> None:
            answers.extend([guard.allow("tool:search") for _ in range(100)])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert 50 == sum(answers)


def test_an_open_circuit_whose_owner_is_gone_is_tried_after_its_time() -> None:
    told = Told([(SEARCH, open_until(now_ms() - probes.OVERDUE_MS))])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)

        assert [True, True, True, False] == [guard.allow("tool:search") for _ in range(4)]


def test_forced_open_denies_for_good_and_disabled_and_metrics_only_allow() -> None:
    told = Told(
        [
            (SEARCH, circuit("forced_open")),
            ("breaker/tool|a", circuit("disabled", labels={"tool": "a"})),
            ("breaker/tool|b", circuit("metrics_only", labels={"tool": "b"})),
        ]
    )
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)

        assert [False, True, True] == [guard.allow(f"tool:{tool}") for tool in ("search", "a", "b")]
        with pytest.raises(CallDenied, match="forced open"):
            guard.check("tool:search")


@pytest.mark.parametrize(("way", "allowed"), [("allow", True), ("keep", True), ("deny", False)])
def test_before_anything_is_read_the_configured_way_holds(way: str, allowed: bool) -> None:
    with guard_of(Told(whole=False), when_unknown=way) as guard:
        assert allowed == guard.allow("tool:search")
        assert not guard.ready()
        assert not guard.wait_ready(5)
        assert guard.stats().stale
        if way == "deny":
            with pytest.raises(CallDenied, match="not been read yet"):
                guard.check("tool:search")


@pytest.mark.parametrize(
    ("way", "search", "other"), [("allow", True, True), ("keep", False, True), ("deny", False, False)]
)
def test_once_the_source_is_silent_for_too_long_the_configured_way_holds(way: str, search: bool, other: bool) -> None:
    told = Told([(SEARCH, open_until(now_ms() + AHEAD_MS))])
    with guard_of(told, when_unknown=way, stale_after_ms=3_000) as guard:
        assert guard.wait_ready(60_000)
        assert not guard.allow("tool:search")
        told.alive = False
        until(lambda: guard.stats().stale)

        assert (search, other) == (guard.allow("tool:search"), guard.allow("tool:other"))
        told.alive = True
        until(lambda: not guard.stats().stale)
        assert (False, True) == (guard.allow("tool:search"), guard.allow("tool:other"))


def test_a_source_that_fails_is_tried_again() -> None:
    told = Told([(SEARCH, circuit())], failures=2)
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)

        assert (3, 2, None) == (told.follows, guard.stats().failures, guard.stats().last_failure)


async def test_coroutines_wait_and_ask_without_a_thread_of_theirs() -> None:
    told = Told([(SEARCH, circuit())])
    guard = guard_of(told)

    assert await guard.await_ready(60_000)
    assert not guard.allow("tool:search")
    await asyncio.to_thread(guard.close)


async def test_functions_and_blocks_are_guarded_whatever_kind_they_are() -> None:
    told = Told([(SEARCH, circuit())])
    ran: list[str] = []
    with guard_of(told) as guard:
        assert await guard.await_ready(60_000)
        for target, denied in (("tool:search", True), ("tool:other", False)):

            @guard.guarding(target)
            def plain(value: str) -> str:
                ran.append(value)
                return value

            @guard.guarding(target)
            async def awaited(value: str) -> str:
                ran.append(value)
                return value

            @guard.guarding(target)
            def items(value: str) -> Iterator[str]:
                ran.append(value)
                yield value

            @guard.guarding(target)
            async def stream(value: str) -> AsyncIterator[str]:
                ran.append(value)
                yield value

            if denied:
                with pytest.raises(CallDenied):
                    plain("x")
                with pytest.raises(CallDenied):
                    await awaited("x")
                with pytest.raises(CallDenied):
                    list(items("x"))
                with pytest.raises(CallDenied):
                    [each async for each in stream("x")]
                with pytest.raises(CallDenied), guard.guarding(target):
                    ran.append("block")
                with pytest.raises(CallDenied):
                    async with guard.guarding(target):
                        ran.append("block")
                assert not ran
            else:
                assert ("a", "b") == (plain("a"), await awaited("b"))
                assert (["c"], ["d"]) == (list(items("c")), [each async for each in stream("d")])
                with guard.guarding(target):
                    ran.append("e")
                async with guard.guarding(target):
                    ran.append("f")
                assert ["a", "b", "c", "d", "e", "f"] == ran


def test_a_session_asks_the_emitters_guard_for_itself() -> None:
    recording, told = Recording(), Told([("stop/f1", stopping())])
    with Emitter(EmitterConfig(), outlet=recording.outlet) as emitter, guard_of(told, emitter) as guard:
        emitter._guard = guard
        assert guard.wait_ready(60_000)
        Session(emitter, agent="planner", session_id="s2").check("tool:search")
        with pytest.raises(CallDenied):
            Session(emitter, agent="planner", session_id="s1").check("tool:search")


def test_denials_become_few_events_that_count_every_call() -> None:
    recording, told = Recording(), Told([(SEARCH, circuit())])
    with Emitter(EmitterConfig(), outlet=recording.outlet) as emitter:
        with guard_of(told, emitter) as guard:
            assert guard.wait_ready(60_000)
            for _ in range(1_000):
                assert not guard.allow("tool:search", session_id="s1", user="u1", tenant="acme", agent="planner")
            assert not guard.allow("tool:search", session_id="s2")
            stats = guard.stats()
        assert emitter.flush_sync()
    events = [event for event in recording.events() if isinstance(event, GuardEvent)]
    mine = [event for event in events if event.session_id == "s1"]

    assert ({"breaker": 1_001}, 0) == (stats.denied, stats.unreported)
    assert 1_001 == sum(event.count for event in events)
    assert 1 == mine[0].count
    assert len(mine) <= 10
    assert {("tool:search", "breaker", "open", "circuit-1", "u1", "acme", "planner")} == {
        (each.target, each.denied_by, each.reason, each.verdict_id, each.user_id, each.tenant, each.agent)
        for each in mine
    }


def test_beyond_so_many_different_denials_at_a_time_they_are_only_counted() -> None:
    recording, told = Recording(), Told([(SEARCH, circuit())])
    with Emitter(EmitterConfig(), outlet=recording.outlet) as emitter, guard_of(told, emitter) as guard:
        assert guard.wait_ready(60_000)
        for number in range(KEYS_MAX * 3):
            guard.allow("tool:search", session_id=f"s{number}")
        stats = guard.stats()

        assert KEYS_MAX * 3 == stats.denied["breaker"] == stats.events + stats.unreported
        assert stats.unreported


def test_a_forked_child_has_a_guard_of_its_own() -> None:
    told = Told([(SEARCH, circuit())])
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        assert not guard.allow("tool:search")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            told.taken = 0
            guard.allow("tool:other")
            ready = guard.wait_ready(60_000)
            stats = guard.stats()
            os.write(writer, f"{ready} {guard.allow('tool:search')} {stats.denied}".encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as answer:
            assert "True False {}" == answer.read()


def test_an_answer_costs_no_more_than_a_few_look_ups() -> None:
    """Held against a loop of ten plain dict look-ups beside it: an absolute time would be noise here."""
    told = Told(
        [(f"breaker/tool|t{number}", circuit(labels={"tool": f"t{number}"})) for number in range(5_000)]
        + [(f"stop/f{number}", stopping("session", {"session_id": f"s{number}"})) for number in range(5_000)]
    )
    with guard_of(told) as guard:
        assert guard.wait_ready(60_000)
        until(lambda: guard.stats().verdicts == 10_000)
        told.alive = True
        table = {f"t{number}": number for number in range(10_000)}
        names = [f"t{number}" for number in range(10)]
        ratios = []
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(500):
                for name in names:
                    table.get(name)
            reference = time.perf_counter() - began
            began = time.perf_counter()
            for _ in range(500):
                guard.allow("tool:free", session_id="free", user="u", tenant="t", agent="a")
            ratios.append((time.perf_counter() - began) / reference)

    assert min(ratios) < 20, sorted(ratios)  # ten look-ups take 0.3 to 0.5 µs: 20 times that is below 10 µs


def test_every_fault_of_the_configuration_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        EmitterConfig.from_env(
            {
                "AGENT_STREAMS_EMITTER_GUARD": "radis",
                "AGENT_STREAMS_EMITTER_GUARD_WHEN_UNKNOWN": "perhaps",
                "AGENT_STREAMS_EMITTER_GUARD_STALE_AFTER_MS": "5",
                "AGENT_STREAMS_REDIS_URL": "http://user:hunter2@localhost",
                "AGENT_STREAMS_EMITTER_AGE_MS": "-1",
            }
        )

    for part in ("radis", "perhaps", "3000 to 3600000", "rediss://", "age_ms"):
        assert part in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_environment_configures_the_emitters_guard(tmp_path: Any) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:hunter2@localhost:1/0\n")
    config = EmitterConfig.from_env(
        {
            "AGENT_STREAMS_EMITTER_GUARD": "redis",
            "AGENT_STREAMS_EMITTER_GUARD_WHEN_UNKNOWN": "keep",
            "AGENT_STREAMS_EMITTER_GUARD_STALE_AFTER_MS": "4000",
            "AGENT_STREAMS_REDIS_URL_FILE": str(secret),
        }
    )

    expected = GuardPolicy("redis", "keep", 4_000, "redis://:hunter2@localhost:1/0")
    assert expected == config.guard
    assert "hunter2" not in repr(config)
    with pytest.raises(ConfigError, match="AGENT_STREAMS_REDIS_URL"):
        EmitterConfig.from_env({"AGENT_STREAMS_EMITTER_GUARD": "redis"})


def test_an_emitter_that_was_told_nothing_has_a_guard_that_is_off() -> None:
    with Emitter(EmitterConfig(), outlet=Recording().outlet) as emitter:
        assert emitter.guard is emitter.guard
        assert emitter.guard.allow("tool:search")
        assert "off" == emitter.guard.stats().source
