"""How does a process answer over HTTP?  One page of metrics, probes, and a page that says where they are.

Only reads: GET and HEAD, no bodies, no data in probes; what takes more brings routes of its own.  Listens on loopback
unless told otherwise.
"""

import asyncio
import errno
import gzip
import logging
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, NamedTuple, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.exposition import choose_encoder, gzip_accepted

from streams import __version__
from streams.errors import ConfigError
from streams.worker.loopback import HOST
from streams.worker.web_door import HANDSHAKE_S, Door, Login

_log = logging.getLogger(__name__)

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1: Final = "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8; header=present"
INFLUX: Final = "text/plain; charset=utf-8"  # line protocol has no registered type; this is what InfluxDB itself sends

SEND_S: Final = 10.0  # Prometheus's own default for a whole scrape; a reader slower than that is let go
SHUTDOWN_S: Final = 1.0
BACKLOG: Final = 128  # asyncio accepts so many in one round of the loop; fewer let a burst wait for a second
GZIP_LEVEL: Final = 1  # 3 ms and a ninth of the size for 10,000 series; level 6 takes 12 ms for a twelfth
GZIP_BYTES_MIN: Final = 1024
PROBES: Final = ("/-/healthy", "/livez", "/-/ready", "/readyz")
_SAFE: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_LANDING_POLICY: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Where to listen, how many pages may be made at once, and who gets in; port 0 takes a free one.

    A login holds for everything but probes and what is not read: a role that takes bodies asks by itself.
    """

    port: int
    host: str = HOST
    pages_max: int = 4
    connections_max: int = 128  # what all of them ask at once holds the loop for 25 ms
    login: Login | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not 0 <= self.port < 65536:
            yield f"port: {self.port} given, expected 0 to 65535"
        if not self.host:
            yield f"host: empty, expected an address such as {HOST}"
        if self.pages_max < 1:
            yield f"pages at once: {self.pages_max} given, expected 1 or more"
        if self.connections_max < 1:
            yield f"connections at once: {self.connections_max} given, expected 1 or more"


class Page(NamedTuple):
    """One answer."""

    body: bytes
    content_type: str


class Unready(Exception):
    """There is nothing to show yet, or it is not whole; the message says why."""


class Site(Protocol):
    """What a process has to show."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    def formats(self) -> tuple[str, ...]:
        """What `?format=` may ask for."""

    def unready(self) -> str | None:
        """Say why it should not be asked yet; None when it is ready."""

    async def page(self, accept: str, wanted: str | None) -> Page:
        """Make the page of metrics, negotiated, or in the format wanted. Raises Unready."""


def negotiate(accept: str) -> str:
    """Choose between the content types we can write, as Prometheus's own client library does."""
    _, chosen = choose_encoder(accept)
    if chosen.startswith("application/openmetrics-text"):
        return OPENMETRICS  # also where a later version was asked for
    return TEXT_1 if "version=1." in chosen else TEXT


class WebServer:
    """A site, listening."""

    def __init__(self, config: WebConfig, site: Site, routes: Sequence[web.RouteDef] = ()) -> None:
        self._config = config
        self._routes = routes
        self._site = site
        self._making = 0
        self._runner: web.AppRunner | None = None
        self.address = ""  # where it listens, host:port
        self._door = Door(config.connections_max)
        self._server: asyncio.Server | None = None
        self.served = 0
        self.refused = 0
        self.strangers = 0  # requests without the login, or with a wrong one

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be had."""
        config = self._config
        app = web.Application(middlewares=[] if config.login is None else [self._ask(config.login)])
        app.router.add_get("/", self._landing)
        app.router.add_get("/metrics", self._metrics)
        for path, answer in zip(PROBES, (self._healthy, self._healthy, self._ready, self._ready), strict=True):
            app.router.add_get(path, answer)
        app.add_routes(self._routes)
        runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        served = runner.server
        assert served is not None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: self._door.handler(served),
                config.host,
                config.port,
                ssl=config.tls,
                ssl_handshake_timeout=HANDSHAKE_S if config.tls is not None else None,
                backlog=BACKLOG,
            )
        except OSError as error:
            await runner.cleanup()
            where = f"{config.host}:{config.port}"
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"{where} is taken by another process: stop it, or choose another port") from error
            raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
        self._runner = runner
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if config.login is not None and config.tls is None and config.host not in {HOST, "localhost", "::1"}:
            _log.warning(
                "web_login_unencrypted address=%s next_step=set a certificate, or let a proxy do it", self.address
            )
        _log.info(
            "web_started address=%s tls=%s login=%s", self.address, config.tls is not None, config.login is not None
        )

    @property
    def connections(self) -> int:
        """How many are connected."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    async def stop(self) -> None:
        """Listen no more."""
        runner, self._runner = self._runner, None
        if self._server is not None:
            self._server.close()
        if runner is not None:
            await runner.cleanup()

    def _ask(self, login: Login) -> Middleware:
        """Return what lets readers pass who show the login; everybody may ask whether we live."""

        @web.middleware
        async def asked(request: web.Request, handler: Handler) -> web.StreamResponse:
            reads = request.method in {"GET", "HEAD"} and request.path not in PROBES
            if not reads or login.admits(request.headers.get("Authorization", "")):
                return await handler(request)
            self.strangers += 1
            headers = {**_SAFE, "WWW-Authenticate": login.challenge}
            response = web.Response(status=401, text="show a login: see docs/security.md\n", headers=headers)
            response.force_close()
            return response

        return asked

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="healthy\n", headers=_SAFE)

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._site.unready()
        return _refusal(reason) if reason else web.Response(text="ready\n", headers=_SAFE)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("format")
        if wanted is not None and wanted not in self._site.formats:
            *most, last = self._site.formats
            expected = f"{', '.join(most)} or {last}" if most else last
            return web.Response(status=400, text=f"format: {wanted!r} given, expected {expected}\n", headers=_SAFE)
        if self._making >= self._config.pages_max:
            self.refused += 1
            return _refusal(f"{self._making} pages are being made already: ask again in a second")
        self._making += 1
        try:
            return await self._answer(request, wanted)
        finally:
            self._making -= 1

    async def _answer(self, request: web.Request, wanted: str | None) -> web.StreamResponse:
        try:
            body, content_type = await self._site.page(request.headers.get("Accept", ""), wanted)
        except Unready as reason:
            return _refusal(str(reason))
        headers = {**_SAFE, "Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if len(body) >= GZIP_BYTES_MIN and gzip_accepted(request.headers.get("Accept-Encoding", "")):
            body = await asyncio.to_thread(gzip.compress, body, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        response = web.Response(body=body, headers=headers)
        self.served += 1
        try:
            async with asyncio.timeout(SEND_S):  # here and not in aiohttp, so that a slow reader counts as a page
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionResetError):  # whoever asks and leaves is no error of ours to log
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _landing(self, _: web.Request) -> web.Response:
        links = ["/metrics", *(f"/metrics?format={name}" for name in self._site.formats), "/-/healthy", "/-/ready"]
        items = "".join(f'<li><a href="{escape(link)}">{escape(link)}</a></li>' for link in links)
        title = escape(self._site.title)
        text = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            '<body style="font-family:sans-serif;margin:0">'
            f'<h1 style="background:#e6522c;color:#fff;padding:.5em;margin:0;font-size:1.2em">{title}</h1>'
            f'<div style="padding:1em"><p>agent-streams {escape(__version__)}</p><ul>{items}</ul></div></body></html>\n'
        )
        return web.Response(text=text, content_type="text/html", headers={**_SAFE, **_LANDING_POLICY})


def _refusal(reason: str) -> web.Response:
    return web.Response(status=503, text=f"{reason}\n", headers={**_SAFE, "Retry-After": "1"})
