"""What a worker says of itself."""

import asyncio
import dataclasses

import aiohttp
from pages import promtool, series, value
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.rule.defaults import default_rules, defaults_text
from streams.sink.processes import OF_WORKER
from streams.stage.ruling import RULES_KEY, RulesRow, Ruling, digest_of, encode_rules
from streams.worker.counters import Counters
from streams.worker.health import Health
from streams.worker.web import WebConfig

PRICE_LISTS = ("overrides 1f2e", "genai-prices 0.2.3")


class Worker:
    """A worker as its health sees it."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.failure: BaseException | None = None
        self.ready_to_serve = True

    def lags(self) -> dict[str, int]:
        return {"sessions-0": 7, "rollups-12": 0}


def busy() -> Worker:
    worker = Worker()
    for place, each in enumerate(dataclasses.fields(Counters), 1):
        if each.name != "recent_ms":
            setattr(worker.counters, each.name, place * 1000)
    worker.counters.recent_ms.extend(float(number) for number in range(1, 101))
    return worker


async def page(worker: Worker, accept: str = "") -> str:
    return (await Health(WebConfig(port=0), worker, PRICE_LISTS).page(accept, None)).body.decode()


async def test_every_counter_is_shown() -> None:
    """Each counter holds another number; all of them stand on the page, times in seconds."""
    worker = busy()
    shown = set(series(await page(worker)).values())

    counted = dataclasses.asdict(worker.counters)
    del counted["recent_ms"]
    expected = {number / 1000 if name.endswith("_ms") else number for name, number in counted.items()}
    assert expected <= shown


async def test_lags_and_flush_times_are_shown() -> None:
    found = series(await page(busy()))

    assert 7 == value(found, "agent_worker_lag_offsets", stage="sessions", partition="0")
    assert 0 == value(found, "agent_worker_lag_offsets", stage="rollups", partition="12")
    assert 0.051 == value(found, "agent_worker_flush_duration_seconds", quantile="0.5")
    assert 1 == value(found, "agent_worker_ready")


async def test_price_lists_are_named_in_the_order_they_are_asked() -> None:
    found = series(await page(busy()))

    for order, name in enumerate(PRICE_LISTS, 1):
        assert 1 == value(found, "agent_worker_price_list_info", list=name, order=str(order))


async def test_every_row_of_the_catalogue_is_on_the_page_in_both_formats() -> None:
    text = await page(busy())
    openmetrics = await page(busy(), "application/openmetrics-text; version=1.0.0")
    kinds = {each.name: each.type for each in text_string_to_metric_families(openmetrics)}  # type: ignore[no-untyped-call]  # the library leaves it untyped

    for row in OF_WORKER:
        assert f"# HELP {row.name} {row.help}\n" in text
        assert row.kind == kinds[row.family]


async def test_the_process_itself_is_on_the_page() -> None:
    found = series(await page(Worker()))

    assert value(found, "process_resident_memory_bytes") > 1_000_000


def test_promtool_has_nothing_to_say() -> None:
    assert ("", "", 0) == promtool(asyncio.run(page(busy())))


async def test_ready_follows_the_worker_and_numbers_are_shown_either_way() -> None:
    worker = Worker()
    health = Health(WebConfig(port=0), worker)
    await health.server.start()
    try:
        async with aiohttp.ClientSession(f"http://{health.server.address}") as client:

            async def ask(path: str) -> tuple[int, str]:
                async with client.get(path) as answer:
                    return answer.status, await answer.text()

            assert (200, "ready\n") == await ask("/-/ready")
            worker.ready_to_serve = False
            assert (503, "partitions are being assigned or loaded\n") == await ask("/readyz")
            worker.failure = RuntimeError("secret")
            assert (503, "ending after a failure\n") == await ask("/-/ready")
            status, text = await ask("/metrics")
            assert 200 == status
            assert 0 == value(series(text), "agent_worker_ready")
            assert (200, "healthy\n") == await ask("/livez")
            assert 400 == (await ask("/metrics?format=json"))[0]
    finally:
        await health.server.stop()


async def test_the_rules_that_hold_are_named() -> None:
    ruling = Ruling(default_rules(), digest_of(defaults_text()))
    ruling.take([(RULES_KEY, encode_rules(RulesRow(3, "", 0, "ops", None, None, "c")))])
    health = Health(WebConfig(port=0), busy(), ruling=ruling)
    found = series((await health.page("text/plain", None)).body.decode())

    assert 3 == value(found, "agent_worker_rules_version")
    assert 1 == value(found, "agent_worker_rules_info", origin="settings", digest=digest_of(defaults_text()))
