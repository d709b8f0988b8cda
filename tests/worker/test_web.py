"""What every server of ours answers: negotiated pages, probes, refusals, and nothing else."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from prometheus_client.exposition import choose_encoder

from streams.errors import ConfigError
from streams.worker import web
from streams.worker.web import GZIP_BYTES_MIN, OPENMETRICS, TEXT, TEXT_1, Page, Unready, WebConfig, WebServer, negotiate

# What Prometheus 3 and Prometheus 2 send, and some others.
ACCEPTS = {
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": OPENMETRICS,
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;"
    "version=0.0.4;q=0.5,*/*;q=0.1": OPENMETRICS,
    "application/openmetrics-text": OPENMETRICS,
    "application/openmetrics-text; version=2.0.0": OPENMETRICS,
    "application/openmetrics-text; version=1.0.0; escaping=dots": OPENMETRICS,
    "application/openmetrics-text; version=0.0.1": TEXT,
    "text/plain;version=1.0.0;escaping=underscores": TEXT_1,
    "text/plain;version=0.0.4": TEXT,
    "text/html,application/xhtml+xml,*/*;q=0.8": TEXT,
    "application/json": TEXT,
    "": TEXT,
    ";;;,,,": TEXT,
}


class Shop:
    """A site that shows what a test puts into it."""

    title = "a <test> shop"
    formats = ("prometheus", "json")

    def __init__(self) -> None:
        self.reason: str | None = None
        self.body = b"x 1\n"
        self.asked: list[tuple[str, str | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def unready(self) -> str | None:
        return self.reason

    async def page(self, accept: str, wanted: str | None) -> Page:
        if self.reason:
            raise Unready(self.reason)
        self.asked.append((accept, wanted))
        await self.gate.wait()
        return Page(self.body, negotiate(accept))


@asynccontextmanager
async def opened(shop: Shop, *, pages_max: int = 4) -> AsyncIterator[tuple[WebServer, aiohttp.ClientSession]]:
    server = WebServer(WebConfig(port=0, pages_max=pages_max), shop)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://{server.address}", auto_decompress=False) as client:
            yield server, client
    finally:
        await server.stop()


@pytest.mark.parametrize(("accept", "expected"), ACCEPTS.items())
def test_the_format_is_the_one_prometheus_s_own_library_would_choose(accept: str, expected: str) -> None:
    """But for what we do not write: versions after 1.0 of OpenMetrics, and escaped names, of which we have none."""
    theirs = choose_encoder(accept)[1]

    assert expected == negotiate(accept)
    assert expected.partition(";")[0] == theirs.partition(";")[0]
    if "version=2" not in accept:
        assert expected.split(";")[1] == theirs.split(";")[1]


async def test_a_page_says_what_it_is_and_is_not_kept() -> None:
    async with opened(Shop()) as (_, client), client.get("/metrics") as answer:
        body = await answer.read()

    assert (200, b"x 1\n") == (answer.status, body)
    assert TEXT == answer.headers["Content-Type"]
    assert "no-store" == answer.headers["Cache-Control"]
    assert "nosniff" == answer.headers["X-Content-Type-Options"]


async def test_a_large_page_is_compressed_for_who_can_read_it() -> None:
    shop = Shop()
    shop.body = b"y 1\n" * GZIP_BYTES_MIN
    async with opened(shop) as (_, client):
        async with client.get("/metrics", headers={"Accept-Encoding": "gzip;q=1.0"}) as packed:
            small = await packed.read()
        async with client.get("/metrics", headers={"Accept-Encoding": "identity"}) as plain:
            large = await plain.read()

    assert "gzip" == packed.headers["Content-Encoding"]
    assert shop.body == gzip.decompress(small) == large
    assert "Content-Encoding" not in plain.headers
    assert "Accept, Accept-Encoding" == plain.headers["Vary"]


async def test_an_unknown_format_is_refused_with_what_is_known() -> None:
    async with opened(Shop()) as (_, client), client.get("/metrics?format=xml") as answer:
        said = await answer.text()

    assert (400, "format: 'xml' given, expected prometheus or json\n") == (answer.status, said)


async def test_what_is_not_ready_says_why_and_is_healthy_all_the_same() -> None:
    shop = Shop()
    shop.reason = "reading the tables: 7 records so far"
    answers = {}
    async with opened(shop) as (_, client):
        for path in ("/metrics", "/-/ready", "/readyz", "/-/healthy", "/livez"):
            async with client.get(path) as answer:
                answers[path] = answer.status, await answer.text()

    assert {(503, "reading the tables: 7 records so far\n")} == {
        answers[p] for p in ("/metrics", "/-/ready", "/readyz")
    }
    assert {(200, "healthy\n")} == {answers[path] for path in ("/-/healthy", "/livez")}


async def test_pages_beyond_the_limit_are_refused_until_others_are_done() -> None:
    shop = Shop()
    shop.gate.clear()
    async with opened(shop, pages_max=2) as (server, client):
        waiting = [asyncio.ensure_future(client.get("/metrics")) for _ in range(2)]
        while len(shop.asked) < 2:
            await asyncio.sleep(0.001)
        async with client.get("/metrics") as refused:
            assert (503, "1") == (refused.status, refused.headers["Retry-After"])
        shop.gate.set()
        assert [200, 200] == [answer.status for answer in await asyncio.gather(*waiting)]
        async with client.get("/metrics") as again:
            assert 200 == again.status

    assert (3, 1) == (server.served, server.refused)


async def test_a_reader_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a few of them would hold every page there is."""
    monkeypatch.setattr(web, "SEND_S", 1.0)
    shop = Shop()
    shop.body = bytes(64 * 1024 * 1024)
    async with opened(shop, pages_max=1) as (server, client):
        host, port = server.address.split(":")
        _, stuck = await asyncio.open_connection(host, int(port), limit=1)
        stuck.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.served:
            await asyncio.sleep(0.001)
        assert server._making == 1
        while server._making:
            await asyncio.sleep(0.01)
        shop.body = b"x 1\n"
        async with client.get("/metrics") as answer:
            assert 200 == answer.status
        stuck.close()
        with suppress(ConnectionError):
            await stuck.wait_closed()


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
async def test_there_is_nothing_to_write_to(method: str) -> None:
    async with opened(Shop()) as (_, client), client.request(method, "/metrics", data=b"x") as answer:
        assert 405 == answer.status


async def test_head_is_get_without_a_body() -> None:
    async with opened(Shop()) as (_, client), client.head("/metrics") as answer:
        assert (200, "4", b"") == (answer.status, answer.headers["Content-Length"], await answer.read())


async def test_the_landing_page_links_to_everything_and_escapes_its_title() -> None:
    async with opened(Shop()) as (_, client), client.get("/") as answer:
        page = await answer.text()

    for link in ("/metrics", "/metrics?format=json", "/-/healthy", "/-/ready"):
        assert f'href="{link}"' in page
    assert "a &lt;test&gt; shop" in page
    assert "default-src 'none'; style-src 'unsafe-inline'" == answer.headers["Content-Security-Policy"]


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is taken by another process"):
            await WebServer(WebConfig(port=port), Shop()).start()


def test_a_faulty_configuration_names_every_fault() -> None:
    with pytest.raises(ConfigError) as refused:
        WebConfig(port=70_000, host="", pages_max=0)

    assert 3 == str(refused.value).count("given") + str(refused.value).count("empty")
