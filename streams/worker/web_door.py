"""Who gets in over HTTP?  Connections up to a limit, requests that come in time, readers that show who they are.

Never tells a wrong name from a wrong password, and never takes longer for one than for the other.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from streams.errors import ConfigError

HEAD_S: Final = 10.0  # for the first request to have come whole; Prometheus takes milliseconds
HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 75.0  # longer than a scrape interval: connections are kept from one to the next
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n"
    b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
)


@dataclass(frozen=True, slots=True)
class Login:
    """What readers have to show: a name and a password, or a token; either is enough where both are set."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.username) != bool(self.password):
            raise ConfigError("login for readers: a name needs a password, and the other way round")

    @property
    def wanted(self) -> bool:
        """Is there anything to show?"""
        return bool(self.username or self.token)

    @property
    def challenge(self) -> str:
        """Say what to show, for the header WWW-Authenticate."""
        return 'Basic realm="agent-streams", charset="UTF-8"' if self.username else 'Bearer realm="agent-streams"'

    def admits(self, header: str) -> bool:
        """Does this Authorization header open the door?"""
        scheme, _, shown = header.strip().partition(" ")
        shown = shown.strip()
        if scheme.lower() == "bearer" and self.token is not None:
            return _same(shown.encode("utf-8", "replace"), self.token)
        if scheme.lower() == "basic" and self.username is not None:
            try:
                plain = base64.b64decode(shown.encode("ascii", "replace"), validate=True)
            except binascii.Error:
                return False
            return _same(plain, f"{self.username}:{self.password}")
        return False


def _same(shown: bytes, expected: str) -> bool:
    """Compare digests: their length and the time say nothing about what is expected."""
    return hmac.compare_digest(hashlib.sha256(shown).digest(), hashlib.sha256(expected.encode()).digest())


def server_context(certificate: Path, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a context that shows `certificate`, and asks for one that `clients` has signed. Raises ConfigError."""
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        given = ", ".join(str(file) for file in (certificate, key, clients) if file)
        raise ConfigError(
            f"TLS files {given}: {error}; expected readable PEM files, the key without a password"
        ) from error
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Door:
    """Counts connections and makes what serves each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[_Handler] = set()
        self.turned_away = 0

    def handler(self, server: web.Server) -> "_Handler":
        """Make what serves one connection."""
        return _Handler(self, server)

    def enter(self, handler: "_Handler") -> bool:
        """Let a connection in, unless there are too many."""
        if len(self._open) >= self._most:
            self.turned_away += 1
            return False
        self._open.add(handler)
        return True

    def leave(self, handler: "_Handler") -> None:
        """Forget a connection."""
        self._open.discard(handler)


class _Handler(web.RequestHandler):
    """Serves one connection; one that has not asked anything in time is ended, however busily it dribbles."""

    __slots__ = ("_door", "_inside", "_late")

    def __init__(self, door: Door, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        # Whoever takes bodies unpacks them himself, up to a limit.
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # as every server of aiohttp's hands it on: no log of requests
            keepalive_timeout=IDLE_S,
            auto_decompress=False,
        )
        self._door = door
        self._inside = False
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inside = self._door.enter(self)
        if self._inside:
            super().connection_made(transport)
            self._late = asyncio.get_running_loop().call_later(HEAD_S, self._end_unless_asked, transport)
        elif isinstance(transport, asyncio.Transport):
            transport.write(_FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._inside:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._inside:
            super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._inside:
            self._door.leave(self)
            super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_unless_asked(self, transport: Any) -> None:
        self._late = None
        if not self._request_count:
            transport.abort()
