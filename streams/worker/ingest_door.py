"""Which requests may come in, and how much of them at once?  What receivers over HTTP have in common.

Never looks at what a body says, and never holds more of all bodies than its limits allow.
"""

import asyncio
import hmac
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from streams.worker.web import WebConfig

READ_S: Final = 10.0  # exporters give up after as long; a slower sender is let go
RETRY_AFTER_S: Final = 1
GZIP: Final = "gzip"
_ENCODINGS: Final = ("", "identity", GZIP)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver takes; `faults` names what cannot be."""

    token: str | None = field(default=None, repr=False)
    body_bytes: int = 16 * 1024 * 1024
    held_bytes: int = 64 * 1024 * 1024
    connections: int = 512

    def faults(self) -> Iterator[str]:
        """Yield what is out of bounds."""
        for name in ("body_bytes", "held_bytes", "connections"):
            if getattr(self, name) < 1:
                yield f"{name}: {getattr(self, name)} given, expected 1 or more"
        if self.body_bytes > self.held_bytes:
            yield f"body bytes: {self.body_bytes} given, expected at most held bytes ({self.held_bytes})"


def beside(web_config: WebConfig, limits: Limits) -> WebConfig:
    """Let probes and pages in beside the senders, of whom those beyond their limit are told to come again."""
    return replace(web_config, connections_max=limits.connections + web_config.connections_max)


class Refusal(Exception):
    """A request is not taken: the HTTP status and why; when to come again, where that helps."""

    def __init__(self, status: int, reason: str, *, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def again(self) -> bool:
        """May the same request be taken later?"""
        return self.status in {429, 503}

    def dress(self, response: web.Response) -> web.Response:
        """Add the headers that go with it."""
        if self.again:
            response.headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        else:  # what is left of the body is not worth reading
            response.force_close()
        return response


class Door:
    """Lets requests in, and counts the bytes of those that are inside."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    def admit(self, request: web.Request, kinds: Collection[str], *, connections: int, up: bool) -> None:
        """Refuse what can be refused before a byte of the body is read. Raises Refusal."""
        limits = self._limits
        if limits.token is not None:
            shown = request.headers.get("Authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(shown, f"Bearer {limits.token}".encode()):
                raise Refusal(401, "the header Authorization: Bearer … is missing or wrong")
        if connections > limits.connections:
            raise Refusal(503, f"{connections} connections: come again")
        if request.content_type not in kinds:
            raise Refusal(415, f"Content-Type: expected {' or '.join(kinds)}")
        if request.headers.get("Content-Encoding", "").lower() not in _ENCODINGS:
            raise Refusal(415, "Content-Encoding: expected gzip or none")
        if (request.content_length or 0) > limits.body_bytes:
            raise self.too_large()
        if not up:
            raise Refusal(503, "waiting for Kafka")

    async def read(self, request: web.Request, held: list[int]) -> bytes:
        """Read a body, and note in `held` how much of it has to be given back. Raises Refusal."""
        limits, body = self._limits, bytearray()
        try:
            async with asyncio.timeout(READ_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    held[0] += len(chunk)
                    self.held_bytes += len(chunk)
                    if len(body) > limits.body_bytes:
                        raise self.too_large()
                    if self.held_bytes > limits.held_bytes:
                        raise Refusal(429, "too much waits for Kafka: come again")
        except TimeoutError as error:
            raise Refusal(408, f"the body took longer than {READ_S:.0f} s") from error
        return bytes(body)

    def too_large(self) -> Refusal:
        """Return what is said to a body that is."""
        return Refusal(413, f"the body is larger than {self._limits.body_bytes} bytes: send smaller batches")


def packed(request: web.Request) -> bool:
    """Is the body packed?"""
    return request.headers.get("Content-Encoding", "").lower() == GZIP
