"""A reset on a real broker: commanded by the installed program, through crashes, the same at every exporter."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from exporting import WAIT_S, Scraper, config, create, exporting, published
from harness import ROOT, Broker, Fleet, eventually
from pages import Series, series, total, value
from truth import recount

from streams.errors import ConfigError
from streams.settings import PREFIX

TOOL: Final = "tool-03"
OPENMETRICS: Final = {"Accept": "application/openmetrics-text; version=1.0.0"}
STATUSES: Final = ("success", "error", "timeout", "validation_error", "cancelled")


async def command(*arguments: str, code: int = 0) -> str:
    """Run the program; it must end with this code. Returns what it wrote, errors last."""
    kept = {name: each for name, each in os.environ.items() if not name.startswith(PREFIX)}
    environment = {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "streams", *arguments], capture_output=True, text=True, timeout=90,
        env=environment, cwd=ROOT, check=False,
    )  # fmt: skip
    assert code == done.returncode, done.stderr
    return done.stdout + done.stderr


def of_now(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move events to the present, so that no session is idle."""
    later_ms = int(time.time() * 1000) - events[-1]["time"]
    return [{**event, "time": event["time"] + later_ms} for event in events]


def publish(broker: Broker, prefix: str, events: Iterable[dict[str, Any]]) -> None:
    broker.publish(f"{prefix}events", [(each["session_id"].encode(), json.dumps(each).encode()) for each in events])


def assert_tools(found: Series, counted: dict[str, list[dict[str, Any]]]) -> None:
    """Compare every tool with a recount of the events that count for it: those since its reset."""
    for tool, events in counted.items():
        expected = recount(events)[1].get(tool, {})
        for status in STATUSES:
            labels = {"tool": tool, "status": status}
            assert expected.get(f"calls_{status}", 0) == value(found, "agent_tool_calls_total", **labels), labels
        assert expected.get("calls", 0) == value(found, "agent_tool_call_duration_seconds_count", tool=tool)
        shown_s = value(found, "agent_tool_call_duration_seconds_sum", tool=tool)
        assert expected.get("duration_us", 0) / 1e6 == shown_s


def gauges(found: Series) -> Series:
    return {key: each for key, each in found.items() if key[0].endswith(("_in_flight", "_active"))}


async def until_true(scraper: Scraper, check: Callable[[Series], None]) -> Series:
    """Return the page that a check agrees with: what different partitions say of one event comes at two moments."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = series(await scraper.page())
        try:
            check(found)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return found


@pytest.mark.kafka
async def test_a_reset_survives_crashes_and_is_the_same_at_every_exporter(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """One key while no worker lives, then everything; the worker is killed around each."""
    there = ("--bootstrap", kafka, "--prefix", prefix)
    reset = ("reset", *there, "--yes", "--json", "--dimension", "tool", "--label", f"tool={TOOL}")
    events = of_now(published(4_000))
    before, after = events[:2_000], events[2_000:]
    tools = recount(events)[1]
    broker = Broker(kafka)
    await create(kafka, prefix)
    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", *there, "--instance", "one"])
        async with exporting(config(kafka, prefix)) as one, exporting(config(kafka, prefix)) as two:
            for scraper in (one, two):
                await scraper.ready()
            await asyncio.to_thread(publish, broker, prefix, before)

            def all_there(found: Series) -> None:
                assert len(before) == total(found, "agent_events_total")
                assert 0 == value(found, "agent_stream_events_unreconciled")
                for metric, name in (("agent_model_calls_total", "model_calls"), ("agent_requests_total", "requests")):
                    assert sum(each.get(name, 0) for each in recount(before)[0].values()) == total(found, metric)
                assert_tools(found, dict.fromkeys(tools, before))

            standing = [await until_true(each, all_there) for each in (one, two)]
            worker.kill()

            # Nobody to carry it out; the same id again, once somebody is there.
            asked_ms = int(time.time() * 1000)
            waiting = json.loads(await command(*reset, "--id", "first", "--timeout", "1", code=75))
            assert ("waiting", "first") == (waiting["outcome"], waiting["id"])
            worker.start()
            for scraper, stood in zip((one, two), standing, strict=True):

                def one_anew(found: Series, stood: Series = stood) -> None:
                    assert 0 == value(found, "agent_tool_call_duration_seconds_count", tool=TOOL)
                    assert_tools(found, {tool: [] if tool == TOOL else before for tool in tools})
                    assert gauges(stood) == gauges(found)

                await until_true(scraper, one_anew)
            again = json.loads(await command(*reset, "--id", "first"))
            assert ("applied", [f"tool|{TOOL}"], True) == (again["outcome"], again["rows"], again["repeated"])
            await asyncio.to_thread(publish, broker, prefix, after)
            for scraper in (one, two):
                await scraper.until("agent_events_total", len(events))
                counting = {tool: after if tool == TOOL else events for tool in tools}
                await until_true(scraper, lambda found, counting=counting: assert_tools(found, counting))  # type: ignore[misc]  # bound at once
                begun = value(series(await scraper.page(OPENMETRICS)), "agent_tool_retries_created", tool=TOOL)
                assert asked_ms / 1000 <= begun <= time.time()
                document = json.loads((await scraper.get("/metrics?format=json"))[1])
                (calls,) = (each for each in document["metrics"] if each["name"] == "agent_tool_call_duration_seconds")
                (shown,) = (each for each in calls["series"] if each["labels"] == {"tool": TOOL})
                counts = [recount(some)[1][TOOL]["calls"] for some in (after, events)]
                assert counts == [shown["count"], shown["lifetime"]["count"]]

            # Everything, and a kill as soon as it is seen: what is committed stays.
            stood = gauges(series(await one.page()))
            done = json.loads(await command("reset", *there, "--all", "--yes", "--json"))
            worker.kill()
            assert ("applied", False) == (done["outcome"], done["repeated"])
            assert {f"tool|{tool}" for tool in tools} | {"all"} <= set(done["rows"])
            async with exporting(config(kafka, prefix)) as late:
                await late.ready()

                def anew(found: Series) -> None:
                    assert 0 == total(found, "agent_events_total")
                    assert_tools(found, {tool: [] for tool in tools})
                    assert stood == gauges(found)
                    assert 0 == value(found, "agent_stream_events_unreconciled")

                for scraper in (one, two, late):
                    await until_true(scraper, anew)
                pages = [counters(await scraper.page(OPENMETRICS)) for scraper in (one, two, late)]
                assert pages[0] == pages[1] == pages[2]

        worker.start()
        await refusals(broker, prefix, there)
        assert 0 == worker.stop()


def counters(page: str) -> Series:
    """Return what a page says of the product, and not of the exporter itself."""
    own = ("agent_exporter_", "agent_state_age_seconds", "agent_alert_transitions")
    return {key: each for key, each in series(page).items() if not key[0].startswith(own)}


async def refusals(broker: Broker, prefix: str, there: tuple[str, ...]) -> None:
    """What makes no sense changes nothing: neither the program nor the worker lets it through."""
    ends = broker.ends(f"{prefix}commands")
    nothing = await command("reset", *there, "--yes", "--dimension", "tool", "--label", "tool=never-used", code=66)
    assert "nothing to reset" in nothing
    assert "no metric is by that dimension" in await command("reset", *there, "--dimension", "planet", code=78)
    assert "say --yes" in await command("reset", *there, "--all", code=ConfigError.exit_code)
    assert ends == broker.ends(f"{prefix}commands")
    broker.publish(f"{prefix}commands", [(b"x", b'{"kind": "explode", "id": "x"}')])

    def letters() -> list[dict[str, Any]]:
        return [json.loads(each.value()) for each in broker.read(f"{prefix}dead-letter")]

    (letter,) = await asyncio.to_thread(eventually, letters, timeout_s=WAIT_S, what="a dead letter")
    assert ("commands", "unknown_kind") == (letter["topic"], letter["reason"])
    assert "All topics are as declared" in await command("topics", "check", *there)
    findings = json.loads(await command("doctor", *there, "--json"))
    assert [] == [each for each in findings["findings"] if each["level"] == "fault"]
    assert "lag of commands" in {each["what"] for each in findings["findings"]}
