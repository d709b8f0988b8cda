"""What the workers have judged, in Redis, for agent processes that ask there: a mirror of topics, never the truth.

Never holds anybody up: states wait in a map with one place per name, newest wins; Redis may be slow, away or wrong.

    HGETALL agent-streams:breaker:tool|search    → state, code, since_ms, open_until_ms, transition, record (JSON)
    SUBSCRIBE agent-streams:breakers             → the same JSON, one message per change

A state never replaces a newer one, however many mirrors write: the script compares transition numbers.
What stops calls (circuits that are not closed, alerts with `stop` that fire) is told to guards besides, in a hash that
`streams.feed.guard.redis` describes and reads.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import msgspec
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from streams.errors import ConfigError
from streams.feed.guard.redis import ALIVE_FOR_MS, ALIVE_MS
from streams.feed.guard.verdicts import BREAKER, STOP
from streams.feed.obstacle import redis_said
from streams.rule.records import BreakerRecord
from streams.worker.mirror_verdicts import Verdicts

_log = logging.getLogger(__name__)

KEY_PREFIX: Final = "agent-streams:breaker:"
CHANNEL: Final = "agent-streams:breakers"
TIMEOUT_S: Final = 1.0
BACKOFF_S: Final = 0.2
BACKOFF_LIMIT_S: Final = 5.0
KEPT_MS: Final = 24 * 60 * 60 * 1000  # what nobody writes again is forgotten after a day: its mirror is gone
REFRESH_S: Final = 6 * 60 * 60  # a circuit that is held open by hand stays so for longer than a day
# An idle mirror asks this often whether Redis still holds what it wrote, and tells guards that it is there.
CHECK_S: Final = ALIVE_MS / 1000

# KEYS[1] breaker; ARGV: transition, since_ms, ttl, channel, record, then field/value pairs. Returns 1 when written.
_PUT: Final = """
local at = redis.call('HMGET', KEYS[1], 'since_ms', 'transition')
if at[1] and (tonumber(at[1]) > tonumber(ARGV[2])
    or (tonumber(at[1]) == tonumber(ARGV[2]) and tonumber(at[2]) >= tonumber(ARGV[1]))) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""
# The witness tells whether Redis lost what was written: a flush, or a restart without a snapshot.
_WITNESS: Final = "agent-streams:mirror"

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(BreakerRecord).decode


class Mirror:
    """Writes the newest state of each breaker, and what stops calls, to Redis, in the background.

    `age_ms` says how long ago all that was committed was known to be read; guards are told nothing of a mirror that is
    behind, so that they can tell silence from ignorance.
    """

    def __init__(self, url: str, *, prefix: str = "agent.", age_ms: Callable[[], int] = lambda: 0) -> None:
        try:
            self._redis: Any = Redis.from_url(
                url,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
        except ValueError:  # its text may quote the password
            raise ConfigError(
                "AGENT_STREAMS_REDIS_URL cannot be used: expected redis://, rediss:// or unix://, "
                "such as rediss://user:password@redis.example:6380/0"
            ) from None
        self._verdicts = Verdicts(self._redis, prefix)
        self._age_ms = age_ms
        self._all: dict[str, BreakerRecord] = {}
        self._dirty: dict[str, BreakerRecord | None] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._written_s = 0.0  # when everything was last to be written, by the loop's clock
        self.up = False
        self.writes = 0
        self.failures = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # again, when a client took it for the end of a request of its own
            await asyncio.wait([self._task], timeout=TIMEOUT_S)
        await self._redis.aclose()

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Note what a record of the breaker topic says; one that cannot be read is passed over."""
        try:
            record = None if value is None else _decode(value)
        except msgspec.DecodeError:
            return
        if key is not None:
            self.put(key.decode("utf-8", "replace"), record)

    def take_alert(self, key: bytes | None, value: bytes | None) -> None:
        """Note what a record of the alert topic says: only what stops calls, or stopped them, goes to Redis."""
        if key is not None and self._verdicts.note(STOP + key.decode("utf-8", "replace"), value):
            self._changed.set()

    def put(self, breaker: str, record: BreakerRecord | None) -> None:
        """Note a state; None when the breaker is forgotten. Returns at once, whatever Redis does."""
        if record is None:
            self._all.pop(breaker, None)
        else:
            self._all[breaker] = record
        self._dirty[breaker] = record
        self._verdicts.note(BREAKER + breaker, None if record is None else _encode(record))
        self._changed.set()

    def settle(self) -> None:
        """Say that everything was taken once: from now on guards may rely on this mirror."""
        self._verdicts.whole = True
        self._changed.set()

    @property
    def waiting(self) -> int:
        """How many states Redis has not been told."""
        return len(self._dirty) + self._verdicts.waiting

    async def _run(self) -> None:
        delay_s = BACKOFF_S
        while True:
            try:
                await self._check()
                await self._verdicts.write()  # guards first: calls are stopped by these
                while self._dirty:
                    await self._write_one()
                    if self._verdicts.waiting:
                        await self._verdicts.write()
                if self._age_ms() < ALIVE_FOR_MS:
                    await self._verdicts.tell_alive()
                delay_s = BACKOFF_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._changed.wait()
                self._changed.clear()
            except (RedisError, OSError) as error:
                self.failures += 1
                if self.up or self.failures == 1:
                    _log.warning("redis_away error=%s", redis_said(error))
                self.up = False
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, BACKOFF_LIMIT_S)

    async def _check(self) -> None:
        """Write everything again when Redis has forgotten us, and before it forgets what has not changed for long."""
        known = await self._redis.set(_WITNESS, "1", nx=True)
        now_s = asyncio.get_running_loop().time()
        if known or not self.up or now_s - self._written_s >= REFRESH_S:
            self._dirty = {**self._all, **self._dirty}
            self._verdicts.tell_again()
            self._written_s = now_s
        self.up = True

    async def _write_one(self) -> None:
        breaker, record = next(iter(self._dirty.items()))
        if record is None:
            await self._redis.delete(KEY_PREFIX + breaker)
        else:
            body = _encode(record).decode()
            fields = _fields(record, body)
            flat = [text for pair in fields.items() for text in pair]
            arguments = [str(record.transition), str(record.since_ms), str(KEPT_MS), CHANNEL, body, *flat]
            await self._redis.eval(_PUT, 1, KEY_PREFIX + breaker, *arguments)
        self.writes += 1
        if self._dirty.get(breaker) is record:
            del self._dirty[breaker]


def _fields(record: BreakerRecord, body: str) -> Mapping[str, str]:
    return {
        "state": record.state,
        "code": str(record.code),
        "since_ms": str(record.since_ms),
        "open_until_ms": "" if record.open_until_ms is None else str(record.open_until_ms),
        "transition": str(record.transition),
        "record": body,
    }
