"""A guard that reads Redis knows what the mirror knows, and knows when it does not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer, redis_server
from verdict_records import circuit, stopping

from streams.errors import ConfigError
from streams.feed import EmitterConfig, Guard, GuardPolicy
from streams.feed.guard import redis as layout
from streams.feed.guard.redis import RedisSource
from streams.worker.mirror import Mirror

SEARCH = b"tool|search"
HASH = layout.verdicts_key("agent.")


async def until(holds: Callable[[], Any], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    with redis_server() as running:
        yield running


def guard_of(server: RedisServer, prefix: str = "agent.", **policy: Any) -> Guard:
    return Guard(EmitterConfig(topic_prefix=prefix, guard=GuardPolicy(source="redis", redis_url=server.url, **policy)))


async def heard_all_along(guard: Guard) -> bool:
    """Is the mirror heard for longer than what counts as stale, with no pause as long as that?"""
    await until(lambda: not guard.stats().stale)
    began, longest_ms = time.monotonic(), 0

    def over() -> bool:
        nonlocal longest_ms
        ago_ms = guard.stats().heard_ms_ago
        assert ago_ms is not None
        longest_ms = max(longest_ms, ago_ms)
        return time.monotonic() - began > 4

    await until(over)
    return longest_ms <= 3_000 and not guard.stats().stale


async def test_what_the_mirror_is_told_stops_calls_and_what_is_lifted_does_not(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "READ_AGAIN_S", 3_600.0)  # every change has to be heard
    async with Mirror(server.url) as mirror:
        mirror.take(SEARCH, circuit())
        mirror.take_alert(b"f1", stopping())
        mirror.take_alert(b"f2", stopping(stop=False))
        mirror.take_alert(b"f3", b"{")
        mirror.settle()
        with guard_of(server) as guard, guard_of(server, "other.") as other:
            assert await guard.await_ready(60_000)
            assert not guard.allow("tool:search")
            assert not guard.allow("tool:weather", session_id="s1")
            assert guard.allow("tool:weather", session_id="s2")
            assert 2 == guard.stats().verdicts

            mirror.take(SEARCH, circuit("half_open", 2, since_ms=2_000))
            mirror.take_alert(b"f1", stopping(state="resolved", transition=2))
            await until(lambda: guard.allow("tool:weather", session_id="s1"))
            await until(lambda: guard.allow("tool:search"))
            mirror.take(SEARCH, circuit("closed", 3, since_ms=3_000))
            await until(lambda: not guard.stats().verdicts)
            mirror.take(SEARCH, circuit("open", 4, since_ms=4_000))
            await until(lambda: not guard.allow("tool:search"))
            mirror.take(SEARCH, None)
            await until(lambda: not guard.stats().verdicts)
            assert not other.ready()  # an installation of its own has a mirror of its own


async def test_a_mirror_that_does_not_know_everything_yet_is_not_believed(server: RedisServer) -> None:
    behind_ms = 0
    async with Mirror(server.url, age_ms=lambda: behind_ms) as mirror:
        mirror.take(SEARCH, circuit())
        await until(lambda: mirror.up and not mirror.waiting)
        with guard_of(server, stale_after_ms=3_000) as guard:
            await until(lambda: guard.stats().verdicts)
            assert not guard.ready()
            mirror.settle()
            assert await guard.await_ready(60_000)
            assert not guard.allow("tool:search")
            behind_ms = 60_000  # Kafka does not answer it any more
            await until(lambda: guard.stats().stale)
            assert guard.allow("tool:search")
            behind_ms = 0
            await until(lambda: not guard.stats().stale)
            assert not guard.allow("tool:search")


async def test_silence_is_not_stale_while_the_mirror_is_there(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "READ_AGAIN_S", 3_600.0)  # only what is published is left
    async with Mirror(server.url) as mirror:
        mirror.settle()
        with guard_of(server, stale_after_ms=3_000) as guard:
            assert await guard.await_ready(60_000)
            # A machine may stand still for seconds; a mirror that says nothing does so every time.
            for _ in range(3):
                if await heard_all_along(guard):
                    return
            pytest.fail("the mirror is there, but was not heard for longer than what counts as stale")


async def test_a_message_that_was_lost_is_found_by_reading_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "READ_AGAIN_S", 0.1)
    client: Any = Redis.from_url(server.url)
    async with Mirror(server.url) as mirror:
        mirror.settle()
        with guard_of(server) as guard:
            assert await guard.await_ready(60_000)
            await client.hset(HASH, "breaker/tool|search", circuit())
            await until(lambda: not guard.allow("tool:search"))
    await client.aclose()


async def test_redis_may_go_and_come_back_empty(server: RedisServer) -> None:
    async with Mirror(server.url) as mirror:
        mirror.take(SEARCH, circuit())
        mirror.settle()
        with guard_of(server, when_unknown="keep", stale_after_ms=3_000) as guard:
            assert await guard.await_ready(60_000)
            server.stop()
            await until(lambda: guard.stats().last_failure is not None)
            assert not guard.allow("tool:search")
            server.start()
            await until(lambda: guard.stats().last_failure is None and not guard.stats().stale)
            await until(lambda: not guard.allow("tool:search"))


async def test_what_was_forgotten_while_no_mirror_was_there_is_lifted_by_the_next(server: RedisServer) -> None:
    async with Mirror(server.url) as mirror:
        mirror.take(SEARCH, circuit())
        mirror.take(b"tool|gone", circuit(labels={"tool": "gone"}))
        mirror.settle()
        await until(lambda: mirror.up and not mirror.waiting)
    async with Mirror(server.url) as mirror:
        mirror.take(SEARCH, circuit())
        with guard_of(server) as guard:
            await until(lambda: 2 == guard.stats().verdicts)
            mirror.settle()
            await until(lambda: 1 == guard.stats().verdicts)
            assert not guard.allow("tool:search")


async def test_a_mirror_that_lags_never_brings_an_old_word_back(server: RedisServer) -> None:
    client: Any = Redis.from_url(server.url, decode_responses=True)
    async with Mirror(server.url) as ahead, Mirror(server.url) as behind:
        for mirror in (ahead, behind):
            mirror.take_alert(b"f1", stopping())
            mirror.take(SEARCH, circuit())
        await until(lambda: not ahead.waiting + behind.waiting)
        ahead.take_alert(b"f1", stopping(state="resolved", transition=2))
        ahead.take(SEARCH, circuit("half_open", 2, since_ms=2_000))
        await until(lambda: not ahead.waiting)
        behind._verdicts.tell_again()
        behind._changed.set()
        await until(lambda: not behind.waiting)
        said = await client.hgetall(HASH)
    await client.aclose()

    assert ["breaker/tool|search"] == list(said)
    assert '"state":"half_open"' in said["breaker/tool|search"]


def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="rediss://") as caught:
        RedisSource("ftp://user:hunter2@localhost", "agent.")

    assert "hunter2" not in str(caught.value)
