"""What stops calls, in Redis, for guards in agent processes: one hash to read whole and one channel to hear changes on.

Never lets an older word replace a newer one, however many mirrors write, and never says that it is alive before it
knows everything.  The layout is that of `streams.feed.guard.redis`.
"""

from typing import Any, Final

import msgspec

from streams.feed.guard.redis import ALIVE_FOR_MS, Message, alive_key, verdicts_key
from streams.feed.guard.verdicts import order_of, read

ORDER_KEPT_MS: Final = 24 * 60 * 60 * 1000  # a mirror that is further behind than this is wrong in other ways too

# KEYS: the hash, what orders the name. ARGV: name, major, minor, ttl, record or nothing, message.
# A word that is not newer than what is known is written again, but told to nobody: the hash may have lost it.
_PUT: Final = """
local at = redis.call('HMGET', KEYS[2], 'major', 'minor')
local major, minor = tonumber(ARGV[2]), tonumber(ARGV[3])
if at[1] and (tonumber(at[1]) > major or (tonumber(at[1]) == major and tonumber(at[2]) > minor)) then
  return 0
end
redis.call('HSET', KEYS[2], 'major', ARGV[2], 'minor', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local changed
if ARGV[5] == '' then
  changed = redis.call('HDEL', KEYS[1], ARGV[1]) == 1
else
  changed = redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[5]
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
end
if changed then redis.call('PUBLISH', KEYS[1], ARGV[6]) end
return 1
"""
# KEYS: the hash, what orders the name. ARGV: name, message.
_FORGET: Final = """
redis.call('DEL', KEYS[2])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call('PUBLISH', KEYS[1], ARGV[2]) end
return 1
"""
_encode: Final = msgspec.json.Encoder().encode
_ALIVE: Final = _encode(Message()).decode()


class Verdicts:
    """The words that stop calls, and what of them Redis has not been told."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = verdicts_key(prefix)
        self._alive = alive_key(prefix)
        self._said: dict[str, bytes] = {}  # what stops something
        self._untold: dict[str, bytes | None] = {}
        self._strays_gone = False
        self.whole = False  # has everything been taken once?

    @property
    def waiting(self) -> int:
        """How many words Redis has not been told."""
        return len(self._untold)

    def note(self, name: str, body: bytes | None) -> bool:
        """Note a record; False when it stops nothing and stopped nothing, or cannot be read."""
        try:
            verdict = None if body is None else read(name, body)
        except msgspec.DecodeError:
            return False
        if verdict is None and name not in self._said:
            return False
        if verdict is None or body is None:
            del self._said[name]
        else:
            self._said[name] = body
        self._untold[name] = body
        return True

    def tell_again(self) -> None:
        """Tell everything anew: Redis may have lost it."""
        self._untold = {**self._said, **self._untold}
        self._strays_gone = False

    async def write(self) -> None:
        """Tell what waits. Raises RedisError, OSError; what was not told still waits."""
        while self._untold:
            name, body = next(iter(self._untold.items()))
            await self._tell(name, body)
            if self._untold.get(name) is body:
                del self._untold[name]
        if self.whole and not self._strays_gone:
            await self._clear_strays()

    async def tell_alive(self) -> None:
        """Say that all that is known is told, and hold to it for a while; nothing before everything is known."""
        if self.whole and not self._untold:
            await self._redis.set(self._alive, "1", px=ALIVE_FOR_MS)
            await self._redis.publish(self._key, _ALIVE)

    async def _tell(self, name: str, body: bytes | None) -> None:
        keys = (self._key, f"{self._key}:{name}")
        lifted = _encode(Message(name)).decode()
        if body is None:
            await self._redis.eval(_FORGET, 2, *keys, name, lifted)
            return
        major, minor = order_of(name, body)
        stops = read(name, body) is not None
        record = body.decode() if stops else ""
        message = _encode(Message(name, msgspec.Raw(body))).decode() if stops else lifted
        await self._redis.eval(_PUT, 2, *keys, name, str(major), str(minor), str(ORDER_KEPT_MS), record, message)

    async def _clear_strays(self) -> None:
        """Lift what no record says any more: it was forgotten while no mirror was there to hear of it."""
        for name in await self._redis.hkeys(self._key):
            if name not in self._said:
                await self._tell(name, None)
        self._strays_gone = True
