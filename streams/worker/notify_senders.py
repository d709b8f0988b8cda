"""How does a notice get to its receiver?  One attempt over HTTP or to Redis, and what became of it.

Never repeats anything and never raises: an outage is an answer.  Addresses, secrets and bodies never reach a log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.rule.faults import Faults
from streams.rule.inhibition import Inhibition
from streams.rule.outbox import Verdict, verdict_of
from streams.rule.receivers import Receiver, read_notices, url_shape
from streams.rule.records import AlertRecord
from streams.sink.notices import (
    ALERTMANAGER_PATH,
    JSON,
    alertmanager_body,
    signing_key,
    slack_body,
    webhook_body,
    webhook_headers,
)

SECRET_BYTES_MAX: Final = 64 * 1024
KEY_PREFIX: Final = "agent-streams:alert:"
CHANNEL: Final = "agent-streams:alerts"
KEPT_MS: Final = 24 * 60 * 60 * 1000  # an alert that nobody writes again is gone a day later
ANSWER_BYTES_MAX: Final = 64 * 1024  # read, so that the connection can be used again; what it says is not used

# KEYS[1] alert; ARGV: id, incarnation, transition, ttl, channel, record, then field/value pairs. 1 when written.
# An older state never replaces a newer one, and the same one is published once while Redis keeps it.
_PUT: Final = """
local at = redis.call('HMGET', KEYS[1], 'id', 'incarnation', 'transition')
local held, given = tonumber(at[2]), tonumber(ARGV[2])
if at[1] and (at[1] == ARGV[1] or held > given or (held == given and tonumber(at[3]) > tonumber(ARGV[3]))) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
"""
_encode: Final = msgspec.json.Encoder().encode


class Outcome(NamedTuple):
    """What became of one attempt; `after_ms` is what the receiver asked for."""

    verdict: Verdict
    reason: str = ""
    after_ms: int | None = None


class Sender(Protocol):
    """Makes one attempt at a time."""

    async def send(self, records: Sequence[AlertRecord]) -> Outcome:
        """Try to tell the receiver all of these."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver with what its files hold."""

    receiver: Receiver
    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    key: bytes = field(default=b"", repr=False)

    def sender(self) -> Sender:
        """Make what sends to it."""
        return RedisSender(self) if self.receiver.kind == "redis" else HttpSender(self)


# ---- files -----------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """Who is told, and what is not told while something else fires."""

    targets: tuple[Target, ...]
    inhibitions: tuple[Inhibition, ...] = ()


def load_targets(path: Path, named: str) -> Told:
    """Read the receivers file and every file that it names. Raises ConfigError with every fault; `named` says whose."""
    faults = Faults()
    found: list[Target] = []
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named} = {path}: cannot be read ({error})") from error
    notices = read_notices(text, faults)
    for receiver in notices.receivers:
        place = f"receiver {receiver.name}"
        url = receiver.url or _url(receiver, faults, place)
        token = _secret(receiver.bearer_token_file, faults, f"{place}, bearer_token_file")
        found.append(Target(receiver, url, token, _key(receiver, faults, place)))
    faults.settle(f"{named} = {path}: the receivers cannot be used")
    return Told(tuple(found), notices.inhibitions)


def _secret(path: str, faults: Faults, place: str) -> str:
    """Return what a file holds; nothing when none is named."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as stream:
            text = stream.read(SECRET_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or "\n" in text or "\r" in text:
        faults.note(place, path, "a text file that we may read, with one line", "correct the path or the file")
        return ""
    return text


def _url(receiver: Receiver, faults: Faults, place: str) -> str:
    url = _secret(receiver.url_file, faults, f"{place}, url_file")
    shape, words = url_shape(receiver.kind)
    if url and not shape.fullmatch(url):
        expected = f"a file with an address that begins with {words}"
        faults.note(f"{place}, url_file", receiver.url_file, expected, "correct the file")
    return url


def _key(receiver: Receiver, faults: Faults, place: str) -> bytes:
    secret = _secret(receiver.secret_file, faults, f"{place}, secret_file")
    try:
        return signing_key(secret) if secret else b""
    except ValueError as error:
        expected = "a file with a secret of 16 bytes or more, as it is or as whsec_ and base64"
        faults.note(f"{place}, secret_file", receiver.secret_file, expected, f"write a new secret ({error})")
        return b""


# ---- HTTP ------------------------------------------------------------------------------------------------------


class HttpSender:
    """Posts to Alertmanager, a webhook or a chat."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._receiver = target.receiver
        self._url = target.url.rstrip("/") + ALERTMANAGER_PATH if self._receiver.kind == "alertmanager" else target.url
        self._session: aiohttp.ClientSession | None = None

    async def send(self, records: Sequence[AlertRecord]) -> Outcome:
        """Post all of these to Alertmanager; one to anybody else."""
        session = self._session
        if session is None:
            timeout = aiohttp.ClientTimeout(total=self._receiver.timeout_ms / 1000)
            session = self._session = aiohttp.ClientSession(timeout=timeout)
        body, headers = self._make(records)
        if self._target.token:
            headers["Authorization"] = f"Bearer {self._target.token}"
        try:
            # Not redirected: what is signed or secret goes where it was meant to go, or nowhere.
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                await response.content.read(ANSWER_BYTES_MAX)
                verdict = verdict_of(response.status)
                after_ms = None if verdict is Verdict.TAKEN else _milliseconds(response.headers.get("Retry-After"))
                return Outcome(verdict, f"status {response.status}", after_ms)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # Its text may hold the address, and that a login; the kind of error is enough.
            return Outcome(Verdict.AGAIN, type(error).__name__)

    async def close(self) -> None:
        """Close connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _make(self, records: Sequence[AlertRecord]) -> tuple[bytes, dict[str, str]]:
        receiver, moment_ms = self._receiver, now_ms()
        if receiver.kind == "alertmanager":
            link, resend_ms = receiver.generator_url, receiver.resend_ms
            body = alertmanager_body(records, now_ms=moment_ms, resend_ms=resend_ms, generator_url=link)
            return body, {"Content-Type": JSON}
        (record,) = records
        if receiver.kind == "slack":
            return slack_body(record), {"Content-Type": JSON}
        body = webhook_body(record)
        return body, webhook_headers(record, body, self._target.key, now_ms=moment_ms)


def _milliseconds(header: str | None) -> int | None:
    """Read `Retry-After` when it is a number; a date is treated as if nothing was said."""
    return int(header) * 1000 if header is not None and header.strip().isdecimal() and len(header) < 10 else None


# ---- Redis -----------------------------------------------------------------------------------------------------


class RedisSender:
    """Writes a hash per alert and publishes each state once."""

    def __init__(self, target: Target) -> None:
        timeout_s = target.receiver.timeout_ms / 1000
        try:
            self._redis: Any = Redis.from_url(
                target.url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
        except ValueError:  # its text may quote the password
            raise ConfigError(
                f"receiver {target.receiver.name}: its address cannot be used: expected one such as "
                "rediss://user:password@redis.example:6380/0"
            ) from None

    async def send(self, records: Sequence[AlertRecord]) -> Outcome:
        """Write these, in order."""
        try:
            for record in records:
                await self._put(record)
        except (RedisError, OSError) as error:
            return Outcome(Verdict.AGAIN, type(error).__name__)
        return Outcome(Verdict.TAKEN)

    async def close(self) -> None:
        """Close connections."""
        await self._redis.aclose()

    async def _put(self, record: AlertRecord) -> None:
        body = _encode(record).decode()
        flat = [text for pair in _fields(record, body).items() for text in pair]
        order = (record.id, str(record.incarnation), str(record.transition))
        await self._redis.eval(_PUT, 1, KEY_PREFIX + record.fingerprint, *order, str(KEPT_MS), CHANNEL, body, *flat)


def _fields(record: AlertRecord, body: str) -> Mapping[str, str]:
    return {
        "id": record.id,
        "incarnation": str(record.incarnation),
        "transition": str(record.transition),
        "alert": record.alert,
        "state": record.state,
        "severity": record.severity,
        "time_ms": str(record.time_ms),
        "summary": record.summary,
        "record": body,
    }
