"""The exporter on a real broker: its pages are the recount of what was published, and stay so through what happens."""

import asyncio
import csv
import io
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from exporting import (
    WAIT_S,
    Writer,
    asked_from_outside,
    config,
    create,
    doubled,
    ended,
    exporting,
    flushes,
    many_rows,
    published,
    rows_of,
    through,
)
from harness import ROOT
from line_protocol_parser import parse_line
from loop_watch import slowness, watched, what_others_left_set_aside
from pages import families, promtool, series, total, value
from through_stages import Stages
from truth import recount

from streams.errors import ConfigError, EdgeError, StateRefused
from streams.rule.parse import parse_rules
from streams.stage.rollup_rows import LIFETIME
from streams.topology import ALERTS, BREAKERS, ROLLUPS_CHANGELOG
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.exporter import FORMATS, Exporter, run
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

OPENMETRICS: Final = {"Accept": "application/openmetrics-text; version=1.0.0"}
RULES: Final = parse_rules(
    """
groups:
  - name: tests
    rules:
      - {alert: ToolFails, over: tool, value: {sum: tool_calls_error}, window: 5m, above: 3, severity: critical}
breakers:
  - {over: tool, failure_rate: 0.5, min_calls: 10}
"""
)


def assert_true_to(events: Iterable[dict[str, Any]], page: str) -> None:
    """Compare a page with a recount that shares no code with the product."""
    sessions, tools = recount(events)
    found = series(page)
    for tool, expected in tools.items():
        for status in ("success", "error", "timeout"):
            assert expected.get(f"calls_{status}", 0) == value(
                found, "agent_tool_calls_total", tool=tool, status=status
            )
        assert expected["calls"] == value(found, "agent_tool_call_duration_seconds_count", tool=tool)
        assert expected["duration_us"] / 1e6 == value(found, "agent_tool_call_duration_seconds_sum", tool=tool)
    shown = {key: number for key, number in found.items() if key[0] == "agent_tool_calls_total" and number}
    assert set(tools) == {dict(labels)["tool"] for _, labels in shown}

    def of_all(name: str) -> int:
        return sum(each.get(name, 0) for each in sessions.values())

    for metric, name, scale in (
        ("agent_events_total", "events", 1),
        ("agent_requests_total", "requests", 1),
        ("agent_errors_total", "errors", 1),
        ("agent_model_calls_total", "model_calls", 1),
        ("agent_tool_uses_total", "tool_calls", 1),
        ("agent_tenant_cost_usd_total", "cost_nano_usd", 1e9),
        ("agent_cost_usd_total", "cost_nano_usd", 1e9),
        ("agent_model_call_duration_seconds_sum", "model_us", 1e6),
    ):
        assert pytest.approx(of_all(name) / scale, rel=1e-12) == total(found, metric)
    for kind in ("input", "output"):
        assert of_all(f"{kind}_tokens") == total(found, "agent_model_tokens_total", type=kind)
    assert len(sessions) == total(found, "agent_sessions_active")
    assert {0.0} == {number for (name, _), number in found.items() if name == "agent_stream_events_unaccounted"}
    assert 0 == value(found, "agent_stream_events_unreconciled")


# ---- the truth -------------------------------------------------------------------------------------------------


async def test_pages_are_the_recount_of_what_was_published(kafka: str, prefix: str) -> None:
    """Through both stages, transactions and HTTP; duplicates were published, and aborted flushes lie in between."""
    events = published(6_000)
    stages = Stages(RULES)
    through(stages, [*events, *events[::7]])
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for count, sent in enumerate(flushes(stages)):
        if count % 3 == 0:
            await asyncio.to_thread(writer.abort, doubled(sent))
        await asyncio.to_thread(writer.commit, sent)
        if count % 5 == 0:
            await asyncio.to_thread(writer.abort, doubled(sent))

    async with exporting(config(kafka, prefix)) as scraper:
        await scraper.ready()
        text, openmetrics = await scraper.page(), await scraper.page(OPENMETRICS)
        answers = {name: await scraper.get(f"/metrics?format={name}", OPENMETRICS) for name in FORMATS}
        refused = await scraper.get("/metrics?format=xml")

    assert_true_to(events, text)
    assert_true_to(events, openmetrics)
    duplicates = total(series(text), "agent_stream_events_duplicate_total")
    assert len(events[::7]) == duplicates
    assert ("", "", 0) == promtool(text)
    assert families(openmetrics)
    assert {200} == {status for status, _ in answers.values()}
    pages = {name: page for name, (_, page) in answers.items()}
    assert_true_to(events, pages["prometheus"])
    assert "_created" not in pages["prometheus"], "what is asked for by name is not negotiated"
    assert pages["openmetrics"].endswith("# EOF\n")
    json_events = next(each for each in json.loads(pages["json"])["metrics"] if each["name"] == "agent_events_total")
    rows = [each for each in csv.DictReader(io.StringIO(pages["csv"], "")) if each["metric"] == "agent_events_total"]
    lines = [parse_line(line) for line in pages["influx"].splitlines() if line.startswith("agent_events_total,")]
    assert (
        total(series(text), "agent_events_total")
        == sum(each["value"] for each in json_events["series"])
        == sum(int(each["value"]) for each in rows)
        == sum(line["fields"]["value"] for line in lines)
    )
    assert (400, "format: 'xml' given, expected prometheus, openmetrics, json, csv or influx\n") == refused
    words = [json.loads(each)["state"] for each in dict(stages.sent(ALERTS.suffix)).values() if each is not None]
    assert words.count("firing") > 0
    for word in ("pending", "firing", "resolved"):
        shown = value(series(text), "agent_alerts", alert="ToolFails", severity="critical", state=word)
        assert words.count(word) == shown
    assert 1 == value(series(text), "agent_circuit_breaker_state", over="tool", name="tool-03")


async def test_a_page_follows_what_is_committed_and_only_that(kafka: str, prefix: str) -> None:
    """An open transaction shows nothing, not even to an exporter that starts meanwhile; its end shows everything."""
    events = published(3_000)
    stages = Stages()
    through(stages, events[:2_000])
    first = len(stages.plans)
    through(stages, events[2_000:], size=1_000)
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages, 0, first):
        await asyncio.to_thread(writer.commit, sent)

    async with exporting(config(kafka, prefix)) as early:
        await early.ready()
        later = [each for sent in flushes(stages, first) for each in sent]
        await asyncio.to_thread(writer.begin, later)
        async with exporting(config(kafka, prefix)) as late:
            await late.ready()
            for scraper in (early, late):
                assert_true_to(events[:2_000], await scraper.page())
            await asyncio.to_thread(writer.end)
            for scraper in (early, late):
                assert_true_to(events, await scraper.until("agent_events_total", 3_000))


async def test_a_restarted_exporter_shows_what_the_one_before_showed(kafka: str, prefix: str) -> None:
    """But for what it says of itself: no counter of the product moves."""
    stages = Stages(RULES)
    through(stages, published(3_000))
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages):
        await asyncio.to_thread(writer.commit, sent)
    pages = []
    for _ in range(2):
        async with exporting(config(kafka, prefix)) as scraper:
            await scraper.ready()
            pages.append(await scraper.page(OPENMETRICS))

    own = ("agent_exporter_", "agent_state_age_seconds", "agent_alert_transitions_created")
    before, after = ({key: each for key, each in series(page).items() if not key[0].startswith(own)} for page in pages)
    assert before == after


async def test_caps_fold_what_is_beyond_them(kafka: str, prefix: str) -> None:
    events = published(3_000)
    stages = Stages()
    through(stages, events)
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages):
        await asyncio.to_thread(writer.commit, sent)
    async with exporting(config(kafka, prefix, keys_max={"tool": 10})) as scraper:
        await scraper.ready()
        found = series(await scraper.page())

    tools = {dict(labels)["tool"] for name, labels in found if name == "agent_tool_retries_total"}
    assert len(tools) == 11
    assert "__other__" in tools
    _, truth = recount(events)
    assert sum(each["calls"] for each in truth.values()) == total(found, "agent_tool_calls_total")


# ---- what happens to it ----------------------------------------------------------------------------------------


async def test_nothing_is_shown_before_everything_is_read(kafka: str, prefix: str) -> None:
    """Half of a counter would look like a reset. Other rows fill the log, so that it takes many answers to read."""
    await create(kafka, prefix)
    stages = Stages()
    through(stages, published(2_000))
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages):
        await asyncio.to_thread(writer.commit, sent)
        await asyncio.to_thread(writer.commit, rows_of(0, [(b"p%d" % at, bytes(100)) for at in range(5_000)]))
    async with exporting(config(kafka, prefix)) as scraper:
        seen = set()
        deadline = time.monotonic() + WAIT_S
        while 200 not in seen:
            status, text = await scraper.get()
            seen.add(status)
            assert status == 503 or total(series(text), "agent_events_total") == 2_000
            assert time.monotonic() < deadline

    assert {200, 503} == seen


async def test_missing_topics_end_it_with_the_next_step(kafka: str, prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"rollups\.changelog.*agent-streams topics create"):
        await Exporter(config(kafka, prefix)).run()


def test_the_process_ends_with_the_code_of_what_ended_it(kafka: str) -> None:
    assert ConfigError.exit_code == run(config(kafka, "nothing-here."))


async def test_without_a_broker_it_waits_and_says_so(prefix: str) -> None:
    async with exporting(config(f"127.0.0.1:{free_ports(1)[0]}", prefix)) as scraper:
        assert (503, "waiting for Kafka\n") == await scraper.get("/-/ready")
        assert (503, "waiting for Kafka\n") == await scraper.get()
        assert (200, "healthy\n") == await scraper.get("/-/healthy")


async def test_a_signal_ends_the_process_with_success(kafka: str, prefix: str) -> None:
    await create(kafka, prefix)
    program = (
        "import sys\nfrom streams.worker.connection import KafkaConnection as K\n"
        "from streams.worker.web import WebConfig\n"
        "from streams.worker.exporter import ExporterConfig, run\n"
        f"settings = ExporterConfig(K(bootstrap='{kafka}'), '{prefix}', WebConfig(port=0))\n"
        "sys.exit(run(settings, started=lambda _: print('started', flush=True)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert b"started\n" == await process.stdout.readline()
        process.terminate()
        async with asyncio.timeout(WAIT_S):
            assert 0 == await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


def test_a_faulty_configuration_names_every_fault() -> None:
    with pytest.raises(ConfigError) as refused:
        config("localhost:9092", "agent.", keys_max={"planet": 3, "tool": 0}, check_ms=0)

    for said in ("no such dimension", "keys of tool: 0 given", "check_ms: 0 given"):
        assert said in str(refused.value)


async def test_added_partitions_end_it(kafka: str, prefix: str) -> None:
    """Keys would move to other partitions: the shares by which names are given would no longer be those."""
    await create(kafka, prefix)
    async with exporting(config(kafka, prefix, check_ms=200)) as scraper:
        await scraper.ready()
        admin = AdminClient({"bootstrap.servers": kafka})
        for future in admin.create_partitions([NewPartitions(prefix + ROLLUPS_CHANGELOG.suffix, 3)]).values():
            await asyncio.to_thread(future.result, WAIT_S)
        error = await ended(scraper)

    assert isinstance(error, StateRefused)
    assert "has 3 partitions, it had 2" in str(error)


async def test_topics_created_anew_end_it(kafka: str, prefix: str) -> None:
    stages = Stages()
    through(stages, published(1_000))
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages):
        await asyncio.to_thread(writer.commit, sent)
    async with exporting(config(kafka, prefix, check_ms=200)) as scraper:
        await scraper.ready()
        await topics.delete_prefix(KafkaConnection(bootstrap=kafka), prefix)
        deadline = time.monotonic() + WAIT_S
        while not scraper.task.done():
            try:
                await create(kafka, prefix)
                break
            except EdgeError:  # the old ones are still being deleted
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        error = await ended(scraper)

    assert isinstance(error, StateRefused)
    assert "created anew" in str(error)


async def test_a_state_that_was_started_over_ends_it(kafka: str, prefix: str) -> None:
    """The same topics, but offsets in the meta row that go back: found by the page that would have shown it."""
    stages = Stages()
    through(stages, published(1_000), size=100)
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    everything = list(flushes(stages))
    for sent in everything:
        await asyncio.to_thread(writer.commit, sent)
    async with exporting(config(kafka, prefix)) as scraper:
        await scraper.ready()
        await asyncio.to_thread(writer.commit, everything[0])
        deadline = time.monotonic() + WAIT_S
        while not scraper.task.done():
            status, said = await scraper.get()
            assert status in {200, 503}, said
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        error = await ended(scraper)

    assert isinstance(error, StateRefused)


async def test_it_shows_what_it_has_while_the_broker_is_away_and_goes_on_afterwards(tmp_path: Path) -> None:
    """The age grows, the numbers stay; what was written after the outage is there without a restart."""
    events = published(2_000)
    stages = Stages()
    through(stages, events[:1_000])
    first = len(stages.plans)
    through(stages, events[1_000:])
    with EmbeddedKafka(tmp_path) as broker:
        await create(broker.bootstrap, "agent.")
        writer = await asyncio.to_thread(Writer, broker.bootstrap, "agent.")
        for sent in flushes(stages, 0, first):
            await asyncio.to_thread(writer.commit, sent)
        async with exporting(config(broker.bootstrap, "agent.", stall_ms=2_000)) as scraper:
            await scraper.ready()
            deadline = time.monotonic() + WAIT_S
            while value(series(await scraper.page()), "agent_state_age_seconds") >= 2:
                assert time.monotonic() < deadline, "it is up to date, and yet old"
            await asyncio.to_thread(broker.kill)
            killed = time.monotonic()
            deadline = time.monotonic() + WAIT_S
            age = 0.0
            while age < 3:  # long enough for the connection to be given up and made anew in vain
                away = time.monotonic() - killed
                page = await scraper.page()
                assert_true_to(events[:1_000], page)
                age = value(series(page), "agent_state_age_seconds")
                assert age > away - 1
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert (200, "ready\n") == await scraper.get("/-/ready")
            await asyncio.to_thread(broker.restart)
            writer = await asyncio.to_thread(Writer, broker.bootstrap, "agent.")
            for sent in flushes(stages, first):
                await asyncio.to_thread(writer.commit, sent)
            page = await scraper.until("agent_events_total", 2_000)
            assert_true_to(events, page)


async def test_it_connects_anew_as_often_as_it_takes(kafka: str, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Given so little patience that it hangs up on every idle request, it still follows what is committed."""
    events = published(2_000)
    stages = Stages()
    through(stages, events[:1_000])
    first = len(stages.plans)
    through(stages, events[1_000:])
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    for sent in flushes(stages, 0, first):
        await asyncio.to_thread(writer.commit, sent)
    async with exporting(config(kafka, prefix, stall_ms=20)) as scraper:
        await scraper.ready()
        while caplog.text.count("connecting anew") < 2:
            await asyncio.sleep(0.02)
        for sent in flushes(stages, first):
            await asyncio.to_thread(writer.commit, sent)
        assert_true_to(events, await scraper.until("agent_events_total", 2_000))


async def test_a_verdict_that_cannot_be_read_is_counted(kafka: str, prefix: str) -> None:
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    await asyncio.to_thread(writer.commit, [(ALERTS.suffix, 0, b"x", b"{"), (BREAKERS.suffix, 0, b"x", b"[]")])
    async with exporting(config(kafka, prefix)) as scraper:
        await scraper.ready()

        assert 2 == value(series(await scraper.page()), "agent_exporter_unreadable_records_total")


async def test_a_row_of_another_release_ends_it(kafka: str, prefix: str) -> None:
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    await asyncio.to_thread(writer.commit, [(ROLLUPS_CHANGELOG.suffix, 0, LIFETIME + b"all", b"\xc1")])

    with pytest.raises(StateRefused, match="written by another release"):
        async with asyncio.timeout(WAIT_S):
            await Exporter(config(kafka, prefix)).run()


# ---- the loop --------------------------------------------------------------------------------------------------


async def longest_rounds_ms(kafka: str, prefix: str) -> tuple[list[float], list[float], int]:
    """Ask a new exporter for eight pages of which every series has changed: holds of the loop, times, lines."""
    held_ms, took_ms, lines = [], [], 0
    await create(kafka, prefix)
    writer = await asyncio.to_thread(Writer, kafka, prefix)
    async with exporting(config(kafka, prefix, keys_max={"tool": 1_000})) as scraper, watched() as held:
        await scraper.ready()
        for round_number in range(1, 9):
            await asyncio.to_thread(writer.commit, rows_of(0, many_rows(round_number)))
            view = scraper.exporter._view
            assert view is not None
            while len(view._fed) < 350:
                await asyncio.sleep(0.01)
            held.reset()
            lines = await asked_from_outside(scraper.exporter.server.address)
            held_ms.append(held.reset() * 1000)
            took_ms.append(scraper.exporter._page_s * 1000)
    return held_ms, took_ms, lines


async def test_a_scrape_of_ten_thousand_series_never_holds_the_loop_for_5_ms(kafka: str, prefix: str) -> None:
    """In processor time, and the best of some exporters: what other programs take is not the scrape's doing."""
    held_ms, took_ms = [float("inf")] * 8, float("inf")
    with what_others_left_set_aside():
        for attempt in range(5):
            held, took, lines = await longest_rounds_ms(kafka, f"{prefix}{attempt}.")
            held_ms = list(map(min, held_ms, held))  # each round does the same work in every attempt
            took_ms = min(took_ms, *took)
            if max(held_ms) < 5 and took_ms < 50:
                break
        slow = slowness()

    assert lines > 10_000
    assert took_ms < 50 * slow
    assert max(held_ms) < 5 * slow, held_ms
