"""The mirror in Redis shows the newest state of every breaker, whatever Redis does meanwhile."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis_server import RedisServer, redis_server

from streams.errors import ConfigError
from streams.rule.records import BreakerRecord
from streams.worker import mirror as mirror_module
from streams.worker.mirror import CHANNEL, KEY_PREFIX, Mirror


def test_a_worker_cannot_wait_for_redis_because_it_has_no_client_of_it() -> None:
    look = "import sys, streams.worker.run, streams.worker.cli.worker; print([m for m in sys.modules if 'redis' in m])"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()


def record(state: Any, transition: int, *, since_ms: int = 1_000) -> BreakerRecord:
    return BreakerRecord(
        id=f"id-{transition}",
        breaker="tool|search",
        over="tool",
        labels={"tool": "search"},
        state=state,
        code={"closed": 0, "open": 1, "half_open": 2}[state],
        previous="closed",
        reason="failure_rate_exceeded",
        since_ms=since_ms,
        open_until_ms=since_ms + 30_000 if state == "open" else None,
        failure_rate=0.8,
        failure_rate_limit=0.5,
        calls=20,
        failures=16,
        window_ms=60_000,
        half_open_calls=10,
        transition=transition,
    )


async def until(holds: Callable[[], Any], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.02)


async def told(heard: Any) -> Any:
    async with asyncio.timeout(60):
        while (message := await heard.get_message(timeout=1)) is None:
            pass
        return message


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Any]:
    client: Any = Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


async def test_a_state_is_there_to_read_and_to_hear(server: RedisServer, client: Any) -> None:
    heard = client.pubsub()
    await heard.subscribe(CHANNEL)
    await told(heard)  # that it hears
    async with Mirror(server.url) as mirror:
        mirror.put("tool|search", record("open", 1))

        async def written() -> bool:
            return bool(await client.exists(KEY_PREFIX + "tool|search"))

        await until(written)
        fields = await client.hgetall(KEY_PREFIX + "tool|search")
        message = await told(heard)

    assert ("open", "1", "31000") == (fields["state"], fields["code"], fields["open_until_ms"])
    assert json.loads(message["data"])["breaker"] == "tool|search"
    await heard.aclose()


async def test_an_old_state_never_replaces_a_newer_one(server: RedisServer, client: Any) -> None:
    async with Mirror(server.url) as ahead, Mirror(server.url) as behind:
        ahead.take(b"tool|search", msgspec.json.encode(record("half_open", 2, since_ms=2_000)))
        ahead.take(b"tool|broken", b"{")
        await until(lambda: _written(ahead))
        behind.put("tool|search", record("open", 1))
        await until(lambda: _written(behind))

    assert "half_open" == await client.hget(KEY_PREFIX + "tool|search", "state")


async def test_a_state_that_lasts_is_kept_for_longer_than_a_day(
    server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not changed for long is written again before Redis forgets it."""
    monkeypatch.setattr(mirror_module, "REFRESH_S", 0.0)
    monkeypatch.setattr(mirror_module, "CHECK_S", 0.05)
    key = KEY_PREFIX + "tool|search"
    async with Mirror(server.url) as mirror:
        mirror.put("tool|search", record("open", 1))
        await until(lambda: _written(mirror))
        await client.pexpire(key, 5_000)

        async def kept() -> bool:
            return int(await client.pttl(key)) > mirror_module.KEPT_MS // 2

        await until(kept)


async def test_redis_away_holds_nobody_up_and_gets_everything_when_it_is_back(server: RedisServer) -> None:
    async with Mirror(server.url) as mirror:
        mirror.put("tool|search", record("open", 1))
        await until(lambda: _written(mirror))
        server.stop()
        for number in range(100):
            mirror.put(f"tool|t{number}", record("open", 1))

        async def down() -> bool:
            return not mirror.up

        await until(down)
        server.start()  # empty
        await until(lambda: _written(mirror))
        client: Any = Redis.from_url(server.url)
        assert 101 == len(await client.keys(KEY_PREFIX + "*"))
        await client.aclose()


async def test_a_forgotten_breaker_is_deleted(server: RedisServer, client: Any) -> None:
    async with Mirror(server.url) as mirror:
        mirror.put("tool|search", record("open", 1))
        await until(lambda: _written(mirror))
        mirror.put("tool|search", None)
        await until(lambda: _written(mirror))

    assert [] == await client.keys(KEY_PREFIX + "*")


def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="rediss://") as caught:
        Mirror("ftp://user:hunter2@localhost")

    assert "hunter2" not in str(caught.value)


async def _written(mirror: Mirror) -> bool:
    return mirror.up and not mirror.waiting
