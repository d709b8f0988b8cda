"""What is stopped, as Redis has it: a mirror that an exporter keeps, read whole and then heard.

    HGETALL agent-streams:agent.verdicts      every circuit that is not closed, every alert that stops calls: JSON
    SUBSCRIBE agent-streams:agent.verdicts    {"name": "breaker/tool|search", "record": {…} or null}; no name: alive
    EXISTS agent-streams:agent.alive          is there a mirror that knows everything?  It expires unless renewed

Never trusts the subscription alone: what a message lost is found again by reading everything every few seconds.
"""

import asyncio
import contextlib
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.errors import ConfigError
from streams.feed.guard.source import Heard

TIMEOUT_S: Final = 2.0
READ_AGAIN_S: Final = 5.0  # one HGETALL of what is stopped, not of everything
MESSAGES_PER_STEP: Final = 1_000  # what is shown is made anew after so many at the latest
ALIVE_MS: Final = 1_000  # how often a mirror says that it is there
ALIVE_FOR_MS: Final = 3_500  # how long its word holds
_NAMESPACE: Final = "agent-streams:"
_NULL: Final = Raw(b"null")


class Message(Struct):
    """What is published: a verdict, with its record or null where it is lifted; without a name: the mirror is alive."""

    name: str | None = None
    record: Raw = _NULL


_decode: Final = msgspec.json.Decoder(Message).decode


def verdicts_key(prefix: str) -> str:
    """Name the hash, and the channel, of the verdicts of one installation; `prefix` is that of its topics."""
    return f"{_NAMESPACE}{prefix}verdicts"


def alive_key(prefix: str) -> str:
    """Name the key that is there while a mirror is."""
    return f"{_NAMESPACE}{prefix}alive"


class RedisSource:
    """Follows one mirror."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._verdicts = verdicts_key(prefix)
        self._alive = alive_key(prefix)
        try:
            Redis.from_url(url)  # connects to nothing
        except ValueError:  # its text may quote the password
            raise ConfigError(
                "AGENT_STREAMS_REDIS_URL cannot be used: expected redis://, rediss:// or unix://, "
                "such as rediss://user:password@redis.example:6380/0"
            ) from None

    async def follow(self, heard: Heard) -> None:
        """Subscribe, read everything, and go on with what is published. Raises RedisError, OSError."""
        client: Any = Redis.from_url(
            self._url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        subscription = client.pubsub(ignore_subscribe_messages=True)
        loop = asyncio.get_running_loop()
        try:
            await subscription.subscribe(self._verdicts)
            read_s = 0.0
            while True:
                if loop.time() - read_s >= READ_AGAIN_S:
                    await self._read(client, heard)
                    read_s = loop.time()
                # A connection without a word for so long may be gone without having been closed: the reading tells.
                message = await subscription.get_message(timeout=ALIVE_MS / 1000)
                if message is not None:
                    await self._hear(message, subscription, heard)
                elif not heard.ready.is_set():
                    read_s = 0.0  # nobody is sure yet that everything is there
        finally:
            for part in (subscription, client):
                with contextlib.suppress(Exception):
                    await part.aclose()

    async def _read(self, client: Any, heard: Heard) -> None:
        """Take in everything at once; only a mirror that is there makes it the truth."""
        async with client.pipeline(transaction=True) as both:
            both.hgetall(self._verdicts)
            both.exists(self._alive)
            verdicts, alive = await both.execute()
        heard.standing.clear()
        for name, body in verdicts.items():
            heard.standing.take(name, body)
        heard.show()
        if alive:
            heard.alive()

    @staticmethod
    async def _hear(first: Any, subscription: Any, heard: Heard) -> None:
        """Take in a message and those that lie behind it, and show them together."""
        heard_of, changed, alive = first, False, False
        for left in reversed(range(MESSAGES_PER_STEP)):
            try:
                message = _decode(heard_of["data"])
            except msgspec.DecodeError:
                heard.standing.unreadable += 1
            else:
                if message.name is None:
                    alive = True
                else:
                    body = bytes(message.record)
                    heard.standing.take(message.name, None if body == b"null" else body)
                    changed = True
            heard_of = await subscription.get_message(timeout=0.0) if left else None
            if heard_of is None:
                break
        if changed:
            heard.show()
        if alive and heard.ready.is_set():  # else everything is read first
            heard.alive()
