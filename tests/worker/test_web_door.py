"""Who gets in over HTTP, and that nobody who wants to can keep others out."""

import asyncio
import base64
import resource
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
from certificates import Authority
from loop_watch import watched, what_others_left_set_aside

from streams.errors import ConfigError
from streams.worker import web_door
from streams.worker.loopback import HOST
from streams.worker.web import PROBES, TEXT, Page, WebConfig, WebServer
from streams.worker.web_door import Login, server_context

SECRET = "canary-3c1d"  # noqa: S105  made up
CLIENTS = 1_000
HELD_S = 0.05  # of the loop's own processor time
BODY = b"agent_events_total 1\n" * 50_000  # 1 MB, as 10,000 series are


class Site:
    """A page of the usual size."""

    title = "a site"
    formats = ("prometheus",)

    def unready(self) -> str | None:
        return None

    async def page(self, accept: str, wanted: str | None) -> Page:  # noqa: ARG002  a protocol's
        await asyncio.sleep(0)
        return Page(BODY, TEXT)


@asynccontextmanager
async def opened(**config: object) -> AsyncIterator[WebServer]:
    server = WebServer(WebConfig(port=0, **config), Site())  # type: ignore[arg-type]  # what each test is about
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ---- logins ----------------------------------------------------------------------------------------------------

BOTH = Login("scraper", SECRET, "token-" + SECRET)
WRONG = [
    {},
    {"Authorization": ""},
    {"Authorization": "Basic"},
    {"Authorization": "Basic ???"},
    {"Authorization": "Basic " + "A" * 4_000},
    {"Authorization": "Bearer"},
    {"Authorization": f"Digest {SECRET}"},
    bearer(SECRET),
    bearer("tökén"),
    bearer(f"token-{SECRET}x"),
    bearer(f"token-{SECRET}"[:-1]),
    basic("scraper", ""),
    basic("scraper", SECRET.upper()),
    basic("Scraper", SECRET),
    basic("", SECRET),
    basic(f"scraper:{SECRET}", ""),
]


@pytest.mark.parametrize("headers", WRONG, ids=str)
async def test_without_the_login_there_is_no_page(headers: dict[str, str]) -> None:
    async with opened(login=BOTH) as server, aiohttp.ClientSession(f"http://{server.address}") as client:
        for path in ("/metrics", "/", "/nowhere"):
            async with client.get(path, headers=headers) as answer:
                assert 401 == answer.status
                assert answer.headers["WWW-Authenticate"].startswith("Basic ")
                assert SECRET not in await answer.text() + str(answer.headers)

    assert 3 == server.strangers


async def test_a_name_with_its_password_gets_in_and_so_does_the_token() -> None:
    async with opened(login=BOTH) as server, aiohttp.ClientSession(f"http://{server.address}") as client:
        for headers in (
            basic("scraper", SECRET),
            bearer(f"token-{SECRET}"),
            {"Authorization": f"bearer token-{SECRET}"},
        ):
            async with client.get("/metrics", headers=headers) as answer:
                assert (200, BODY) == (answer.status, await answer.read())


async def test_probes_are_not_asked_and_tell_nothing() -> None:
    async with opened(login=BOTH) as server, aiohttp.ClientSession(f"http://{server.address}") as client:
        for path in PROBES:
            async with client.get(path) as answer:
                assert 200 == answer.status
                assert await answer.text() in {"healthy\n", "ready\n"}


def test_a_login_shows_no_secret_and_is_whole_or_none() -> None:
    assert SECRET not in repr(BOTH) + repr(WebConfig(port=0, login=BOTH))
    for half in ({"username": "a"}, {"password": "b"}):
        with pytest.raises(ConfigError, match="a name needs a password"):
            Login(**half)


# ---- certificates ----------------------------------------------------------------------------------------------


async def test_pages_are_served_by_tls_to_those_who_show_a_certificate_of_ours(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    site, reader, other = authority.issue("site"), authority.issue("reader"), stranger.issue("other")
    trusting = ssl.create_default_context(cafile=authority.file)
    known, unknown = (ssl.create_default_context(cafile=authority.file) for _ in range(2))
    known.load_cert_chain(reader.certificate, reader.key)
    unknown.load_cert_chain(other.certificate, other.key)

    async def ask(address: str, context: ssl.SSLContext | bool) -> int:
        async with aiohttp.ClientSession() as client:
            try:
                async with client.get(f"https://{address}/metrics", ssl=context) as answer:
                    return answer.status
            except aiohttp.ClientError:
                return 0

    async with opened(tls=server_context(site.certificate, site.key)) as server:
        assert [200, 0] == [await ask(server.address, trusting), await ask(server.address, True)]
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"http://{server.address}/metrics")
    async with opened(tls=server_context(site.certificate, site.key, authority.file)) as server:
        assert [200, 0, 0] == [await ask(server.address, context) for context in (known, unknown, trusting)]


def test_tls_before_1_2_is_not_spoken(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("site")

    assert server_context(issued.certificate, issued.key).minimum_version >= ssl.TLSVersion.TLSv1_2


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("one"), authority.issue("two")
    for certificate, key in ((one.certificate, two.key), (tmp_path / "none.crt", one.key), (one.key, one.certificate)):
        with pytest.raises(ConfigError, match=f"TLS files {certificate}.*expected readable PEM"):
            server_context(certificate, key)


# ---- abuse -----------------------------------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    """A thousand connections have two ends each, both of them here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * CLIENTS
    assert hard == resource.RLIM_INFINITY or hard >= wanted, "the limit of open files is too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def status_of(connection: socket.socket) -> int:
    """Read an answer to its end; 0 when the connection was ended without one."""
    try:
        with connection.makefile("rb") as stream:
            line = stream.readline().split()
            while stream.read(65_536):
                pass
    except OSError:
        return 0
    return int(line[1]) if len(line) > 1 else 0


def all_at_once(address: str, headers: str = "") -> Counter[int]:
    """Ask a thousand times at once, then read every answer."""
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode()
    connections: list[socket.socket] = []
    try:
        connections.extend(connect(address) for _ in range(CLIENTS))
        for each in connections:
            with_suppressed_send(each, request)
        return Counter(map(status_of, connections))
    finally:
        for each in connections:
            each.close()


def with_suppressed_send(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except OSError:  # turned away already
        return


async def held_by(attempt: Callable[[], Awaitable[float]]) -> float:
    """Return how long the loop was held, the best of some attempts: a busy machine takes processor time of ours too."""
    longest_s: list[float] = []
    with what_others_left_set_aside():
        while len(longest_s) < 4 and not any(each < HELD_S for each in longest_s):
            longest_s.append(await attempt())
    return min(longest_s)


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_scrapes_at_once_are_answered_or_turned_away_and_the_loop_goes_on() -> None:
    assert await held_by(a_thousand_scrapes) < HELD_S


async def a_thousand_scrapes() -> float:
    async with opened() as server, watched() as held:
        statuses = await asyncio.to_thread(all_at_once, server.address)
        async with aiohttp.ClientSession(f"http://{server.address}") as client, client.get("/metrics") as after:
            assert 200 == after.status

    assert CLIENTS == statuses.total()
    assert statuses[200] >= 1
    assert {200, 503, 0} >= statuses.keys()
    assert statuses[503] + statuses[0] > 0, "at most 128 at once"
    return held.longest_s


@pytest.mark.usefixtures("many_files")
async def test_a_flood_of_wrong_logins_is_answered_without_a_page_and_the_right_one_gets_in() -> None:
    assert await held_by(a_flood_of_wrong_logins) < HELD_S


async def a_flood_of_wrong_logins() -> float:
    async with opened(login=BOTH) as server, watched() as held:
        flood = asyncio.create_task(asyncio.to_thread(all_at_once, server.address, "Authorization: Bearer wrong\r\n"))
        async with aiohttp.ClientSession(f"http://{server.address}") as client:
            while not server.strangers:
                await asyncio.sleep(0.001)
            answered = await until_answered(client)
        statuses = await flood
        assert 200 == answered

    assert CLIENTS == statuses.total()
    assert {401, 503, 0} >= statuses.keys(), "nobody of them got a page"
    assert statuses[401] >= 1
    return held.longest_s


async def until_answered(client: aiohttp.ClientSession) -> int:
    """Ask with the right login until there is a place for us."""
    async with asyncio.timeout(60):
        while True:
            async with client.get("/metrics", headers=bearer(f"token-{SECRET}")) as answer:
                if answer.status != 503:
                    return answer.status
            await asyncio.sleep(0.01)


async def test_who_dribbles_or_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowloris: a byte of a header now and then, for ever."""
    monkeypatch.setattr(web_door, "HEAD_S", 0.3)
    async with opened(connections_max=40) as server:
        slow = [await asyncio.open_connection(*server.address.split(":")) for _ in range(40)]
        for number, (_, writer) in enumerate(slow):
            if number % 2:
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        async with asyncio.timeout(60), aiohttp.ClientSession(f"http://{server.address}") as client:
            while server.connections == 40:
                for number, (_, writer) in enumerate(slow):
                    if number % 2:
                        writer.write(b"x")
                await asyncio.sleep(0.02)
            while server.connections:
                await asyncio.sleep(0.01)
            async with client.get("/metrics") as answer:
                assert 200 == answer.status
        for _, writer in slow:
            writer.transport.abort()


async def test_a_reader_that_leaves_before_the_page_is_made_is_no_error_to_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def page(_: Site, __: str, ___: str | None) -> Page:
        asked.set()
        await gone.wait()
        return Page(BODY, TEXT)

    monkeypatch.setattr(Site, "page", page)
    async with opened() as server, asyncio.timeout(60):
        _, writer = await asyncio.open_connection(*server.address.split(":"))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        writer.transport.abort()
        while server._door._open:  # aiohttp counts a connection for as long as its request is answered
            await asyncio.sleep(0.001)
        gone.set()
        async with aiohttp.ClientSession(f"http://{server.address}") as client, client.get("/metrics") as answer:
            assert (200, BODY) == (answer.status, await answer.read())

    assert [] == caplog.messages


async def test_connections_beyond_the_limit_are_told_so_and_others_served() -> None:
    async with opened(connections_max=2) as server, aiohttp.ClientSession(f"http://{server.address}") as client:
        async with client.get("/metrics") as first:
            await first.read()
        _, held = await asyncio.open_connection(*server.address.split(":"))
        while server.connections < 2:
            await asyncio.sleep(0.001)
        with closing(connect(server.address)) as third:
            assert 503 == await asyncio.to_thread(status_of, third)
        async with client.get("/metrics") as again:
            assert 200 == again.status
        held.close()
        await held.wait_closed()


def test_a_header_without_an_end_is_refused() -> None:
    async def ask() -> int:
        async with opened() as server:
            with closing(connect(server.address)) as connection:

                def send() -> int:
                    with_suppressed_send(connection, b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
                    return status_of(connection)

                return await asyncio.to_thread(send)

    assert asyncio.run(ask()) in {400, 0}


def test_loopback_is_where_it_listens_unless_told_otherwise() -> None:
    assert HOST == WebConfig(port=0).host
