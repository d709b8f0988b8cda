"""Circuits on a real broker: a tool fails, its circuit opens, people move it, a worker dies, and nothing is twice."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final

import pytest
from exporting import WAIT_S, config, create, exporting
from harness import Broker, Fleet, eventually
from pages import series, value
from typer.testing import CliRunner
from worker.test_reset import command

from streams.__main__ import build
from streams.errors import ConfigError

CIRCUIT: Final = "tool|sea\\|rch"
TOOL: Final = "sea|rch"
RULES: Final = """
breakers:
  - {over: tool, window: 5 calls, min_calls: 5, open_for: 1h, half_open_calls: 2, slow_call: 5s}
"""


def ends(numbers: range, status: str) -> list[dict[str, Any]]:
    now_ms = int(time.time() * 1000)
    call = {"kind": "tool_end", "agent": "planner", "session_id": "s", "tool": TOOL, "status": status}
    return [{**call, "id": f"e{number}", "time": now_ms, "duration_ms": 5} for number in numbers]


def publish(broker: Broker, prefix: str, events: list[dict[str, Any]]) -> None:
    broker.publish(f"{prefix}events", [(b"s", json.dumps(each).encode()) for each in events])


@pytest.mark.kafka
async def test_a_circuit_opens_is_moved_by_hand_and_begins_anew_through_a_crash(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tool failing → open → forced open → (kill -9) → reset: each told once, and the same on the exporter's page."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    monkeypatch.setenv("AGENT_STREAMS_RULES_FILE", str(rules))
    there = ("--bootstrap", kafka, "--prefix", prefix)
    broker = Broker(kafka)
    await create(kafka, prefix)

    def told() -> list[dict[str, Any]]:
        return [json.loads(each.value() or b"") for each in broker.read(f"{prefix}breakers") if each.value()]

    async def until(count: int) -> list[dict[str, Any]]:
        def enough() -> list[dict[str, Any]]:
            found = told()
            return found if len(found) >= count else []

        return await asyncio.to_thread(eventually, enough, timeout_s=WAIT_S, what=f"{count} transitions")

    with Fleet(tmp_path) as fleet:
        arguments = ["-m", "streams", "worker", *there, "--instance", "one"]
        worker = fleet.add("worker", arguments)
        async with exporting(config(kafka, prefix)) as scraper:
            await scraper.ready()
            denied = {
                "kind": "guard", "id": "g", "agent": "planner", "session_id": "s", "time": int(time.time() * 1000),
                "target": CIRCUIT, "denied_by": "breaker",
            }  # fmt: skip
            await asyncio.to_thread(publish, broker, prefix, [*ends(range(4), "error"), denied])
            tool = {"over": "tool", "name": TOOL}
            await scraper.until("agent_circuit_breaker_not_permitted_calls_total", 1, **tool)  # in another partition
            listed = await scraper.until("agent_circuit_breaker_buffered_calls", 4, kind="failed", **tool)
            assert -1 == value(series(listed), "agent_circuit_breaker_failure_ratio", **tool)
            assert 1 == value(series(listed), "agent_circuit_breaker_not_permitted_calls_total", **tool)
            await asyncio.to_thread(publish, broker, prefix, ends(range(4, 6), "error"))
            (opened,) = await until(1)
            assert (CIRCUIT, "open", 1, "failure_rate_exceeded", 5, 1.0) == tuple(
                opened[name] for name in ("breaker", "state", "code", "reason", "calls", "failure_rate")
            )
            await scraper.until("agent_circuit_breaker_state", 1, **tool)

            move = ("--json", "--note", "the vendor is down", "--by", "ops")
            forced = json.loads(await command("breakers", "force-open", CIRCUIT, *there, *move, "--id", "f"))
            assert ("applied", [CIRCUIT], False) == (forced["outcome"], forced["rows"], forced["repeated"])
            await scraper.until("agent_circuit_breaker_state", 4, **tool)
            worker.kill()
            waiting = await command("breakers", "reset", CIRCUIT, *there, *move, "--id", "r", "--timeout", "1", code=75)
            assert "waiting" == json.loads(waiting)["outcome"]
            worker.start()
            done = json.loads(await command("breakers", "reset", CIRCUIT, *there, *move, "--id", "r"))
            assert ("applied", [CIRCUIT]) == (done["outcome"], done["rows"])
            await scraper.until("agent_circuit_breaker_state", 0, **tool)
            await asyncio.to_thread(publish, broker, prefix, ends(range(6, 11), "error"))
            records = await until(4)

        assert [
            ("closed", "open", None), ("open", "forced_open", "f"), ("forced_open", "closed", "r"),
            ("closed", "open", None),
        ] == [(each["previous"], each["state"], each["command"]) for each in records]  # fmt: skip
        assert [1, 2, 3, 4] == [each["transition"] for each in records]
        await looking(there)
        await refusals(broker, prefix, there)
        assert 0 == worker.stop()


async def looking(there: tuple[str, ...]) -> None:
    """What people and programs are shown."""
    (shown,) = json.loads(await command("breakers", "list", *there, "--json"))["breakers"]
    assert (CIRCUIT, "open", 5) == (shown["breaker"], shown["state"], shown["calls"])
    assert "open" in await command("breakers", "list", *there, "--state", "open")
    assert "No circuit" in await command("breakers", "list", *there, "--state", "disabled")
    assert "failure_rate_exceeded" in await command("breakers", "show", CIRCUIT, *there)
    history = json.loads(await command("breakers", "history", CIRCUIT, *there, "--json"))["history"]
    assert ["open", "forced_open", "closed", "open"] == [each["state"] for each in history]
    lines = await command("breakers", "history", CIRCUIT, *there)
    assert "by ops: the vendor is down" in lines
    assert "nothing is known" in await command("breakers", "show", "tool|other", *there, code=66)
    assert "never moved" in await command("breakers", "history", "tool|other", *there, code=66)


async def refusals(broker: Broker, prefix: str, there: tuple[str, ...]) -> None:
    """What makes no sense is refused before it is published, by the workers else, or moves nothing."""
    written = broker.ends(f"{prefix}commands")
    assert "no circuit can have that name" in await command("breakers", "disable", "search", *there, code=78)
    assert written == broker.ends(f"{prefix}commands")
    assert "no circuit has moved" in await command("breakers", "disable", "model|m", *there, code=66)
    disabled = json.loads(await command("breakers", "disable", "tool|*", *there, "--json"))
    assert [CIRCUIT] == disabled["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--state", "ajar"), "expected one of closed, open"),
        (("force-open", "search"), "no circuit can have that name"),
        (("reset", "session|*"), "circuits are of tool, model"),
        (("reset", "tool|__other__"), "stands for many keys"),
        (("disable", "tool|a", "--by", ""), "length >= 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(build(["breakers"]), ["breakers", *arguments])

    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
