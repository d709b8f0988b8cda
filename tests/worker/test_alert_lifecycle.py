"""An alert's whole life among people: fired, silenced, taken on, inhibited, kept; through a kill of who sends."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml
from alertmanager import Alertmanager, alertmanager
from exporting import create
from harness import ROOT, Broker, Fleet, WorkerProcess
from hooks import SECRET, Hooks, hooks

from streams.settings import PREFIX
from streams.worker.loopback import HOST, free_ports

WAIT_S: Final = 60.0
RULES: Final = """
groups:
  - name: g
    rules:
      - {alert: ToolFailing, over: tool, value: {sum: tool_calls_error}, window: 10s, above: 3, severity: warning,
         keep_firing_for: 1h, summary: "{tool} fails"}
      - {alert: AgentDown, over: agent, value: {sum: tool_calls_error}, window: 1h, above: 50, severity: critical}
"""


async def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something is true, which may have to be awaited."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = holds()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        await asyncio.sleep(0.1)


class Site:
    """Everything that runs, and who publishes and asks."""

    def __init__(self, kafka: str, prefix: str, fleet: Fleet, am: Alertmanager, taken: Hooks) -> None:
        self.there = ("--bootstrap", kafka, "--prefix", prefix)
        self.prefix = prefix
        self.broker = Broker(kafka)
        self.am = am
        self.hooks = taken
        self.ports = free_ports(2)
        self.worker = fleet.add("worker", ["-m", "streams", "worker", *self.there])
        file = self._receivers(fleet.folder, am, taken)
        self.notifiers = [
            fleet.add(
                f"notify-{port}",
                ["-m", "streams", "notify", *self.there, "--receivers", str(file), "--port", str(port)],
            )
            for port in self.ports
        ]

    @staticmethod
    def _receivers(folder: Path, am: Alertmanager, taken: Hooks) -> Path:
        (folder / "secret").write_bytes(SECRET)
        (folder / "token").write_text("token-1\n")
        entries = [
            {
                "name": "am", "kind": "alertmanager", "url": am.url, "resend": "1s", "retry_limit": "1s",
                "equals": {"alertname": "ToolFailing"},
            },
            {
                "name": "oncall", "kind": "webhook", "url": f"{taken.url}/hook", "equals": {"alertname": "ToolFailing"},
                "secret_file": str(folder / "secret"), "bearer_token_file": str(folder / "token"),
            },
        ]  # fmt: skip
        mutes = {"source_matchers": ["alertname=AgentDown"], "target_matchers": ["severity=~warning|info"]}
        path = folder / "receivers.yaml"
        path.write_text(yaml.safe_dump({"receivers": entries, "inhibit_rules": [mutes]}))
        return path

    def fail(self, tool: str, calls: int = 5, agent: str = "planner") -> None:
        """Publish calls of a tool that fail."""
        now_ms = time.time_ns() // 1_000_000
        events = [
            {
                "kind": "tool_end", "id": f"{tool}-{agent}-{number}-{now_ms}", "time": now_ms, "agent": agent,
                "session_id": "s", "call_id": f"{tool}-{number}-{now_ms}", "tool": tool, "status": "error",
                "duration_ms": 1,
            }
            for number in range(calls)
        ]  # fmt: skip
        self.broker.publish(f"{self.prefix}events", [(b"s", json.dumps(each).encode()) for each in events])

    async def run(self, *arguments: str, code: int = 0) -> str:
        """Run the program; it must end with this code. Returns what it wrote, errors last."""
        kept = {name: each for name, each in os.environ.items() if not name.startswith(PREFIX)}
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "streams", "alerts", *arguments, *self.there], capture_output=True,
            text=True, timeout=90, env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}, cwd=ROOT, check=False,
        )  # fmt: skip
        assert code == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    async def alerts(self) -> dict[str, dict[str, Any]]:
        """Return what the list shows of failing tools, by tool."""
        listed = json.loads(await self.run("list", "--json"))["alerts"]
        return {each["labels"]["tool"]: each for each in listed if each["alert"] == "ToolFailing"}

    def silences_stored(self) -> list[bytes]:
        """Return the rows of silences that the workers hold."""
        tables = self.broker.rows(f"{self.prefix}commands.changelog")
        return [key for table in tables.values() for key in table if key[:1] == b"s"]

    def told(self, tool: str) -> list[str]:
        """Return what the webhook was told of a tool."""
        return [each["data"]["state"] for each in self.hooks.hooked if each["data"]["labels"].get("tool") == tool]


async def numbers(port: int) -> dict[str, float]:
    """Return what one replica says of itself and of the webhook; nothing while it does not answer."""
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://{HOST}:{port}/metrics") as answer:
            lines = [line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if not line.startswith("#")]
    except aiohttp.ClientError:
        return {}
    return {
        name.replace('{receiver="oncall"}', ""): float(value) for name, value in lines if '{receiver="am' not in name
    }


async def leading(site: Site) -> list[float | None]:
    """Return which replica sends: 1, 0, or None for one that does not answer."""
    return [(await numbers(port)).get("agent_notify_leading") for port in site.ports]


async def one_leads(site: Site) -> bool:
    return (await leading(site)).count(1.0) == 1


@asynccontextmanager
async def started(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Site]:
    await create(kafka, prefix)
    with alertmanager(folder) as am, Fleet(folder) as fleet:
        async with hooks() as taken:
            site = Site(kafka, prefix, fleet, am, taken)
            try:
                yield site
            except AssertionError as error:
                raise AssertionError(f"{error}\n{fleet.logs()}") from error


@pytest.mark.kafka
@pytest.mark.long
async def test_an_alert_lives_among_people(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas of notify, a worker, Alertmanager, a webhook, and the commands that people use."""
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setenv(f"{PREFIX}RULES_FILE", str(tmp_path / "rules.yaml"))
    async with started(kafka, prefix, tmp_path) as site:
        await until(lambda: one_leads(site), "one replica to lead")
        at_first = (await leading(site)).index(1.0)
        await _fires_and_is_taken_on(site)
        await _silenced_alerts_are_told_to_nobody(site)
        dead: WorkerProcess = site.notifiers[at_first]
        dead.kill()
        await until(lambda: one_leads(site), "the other replica to lead")
        await _goes_on_where_the_dead_stopped(site)
        dead.start()
        await _a_leader_that_was_paused_tells_nobody_again(site, 1 - at_first)
        await _inhibited_alerts_are_told_to_nobody(site)
        await _is_kept_and_remembered(site)
        await _says_what_is_wrong(site)
        assert [] == site.hooks.faults
        assert len(site.hooks.ids) == len(set(site.hooks.ids)), "somebody was told twice"
        assert [0, 0] == [each.stop() for each in site.notifiers]


async def _fires_and_is_taken_on(site: Site) -> None:
    site.fail("search")
    await until(lambda: site.told("search") and "search" in site.am.alerts(), "the first alert")
    found = (await site.alerts())["search"]
    assert ("firing", None) == (found["state"], found["acknowledged"])
    short = found["fingerprint"][:8]

    assert "taken on ToolFailing{tool=search}" in await site.run("ack", short, "--note", "ticket 1", "--by", "ada")
    found = (await site.alerts())["search"]
    assert ("ada", "ticket 1", found["incarnation"]) == tuple(
        found["acknowledged"][name] for name in ("by", "note", "incarnation")
    )
    text = await site.run("show", short)
    for said in ("search fails", "tool=search", "taken on by ada", "docs/runbooks.md#toolfailing", "unack"):
        assert said in text
    turns = [json.loads(line) for line in (await site.run("history", short, "--json")).splitlines()]
    assert ["firing", "acknowledged"] == [turn["state"] for turn in turns]


async def _silenced_alerts_are_told_to_nobody(site: Site) -> None:
    made = await site.run("silence", "tool=~mute.*", "severity!=critical", "--for", "1h", "--note", "a rebuild")
    assert "0 alerts of now" in made

    async def known() -> bool:
        return [1.0, 1.0] == [(await numbers(port)).get("agent_notify_silences") for port in site.ports]

    await until(known, "notify to know of the silence")
    site.fail("muted")

    async def held() -> bool:
        return [0.0, 1.0] == sorted([(await numbers(port))["agent_notify_muted"] for port in site.ports])

    await until(held, "notify to hold it back")
    (silence,) = json.loads(await site.run("silences", "--json"))["silences"]
    found = (await site.alerts())["muted"]
    assert [silence["id"]] == found["suppressed"]["silenced_by"]
    assert [found["fingerprint"]] == silence["mutes"]
    assert f"silenced by {silence['id'][:8]}" in await site.run()
    assert [] == site.told("muted")
    assert "muted" not in site.am.alerts()


async def _goes_on_where_the_dead_stopped(site: Site) -> None:
    """Nothing is told again; what fires now is told once; what was silenced is told when that ends."""
    site.fail("web")
    await until(lambda: site.told("web"), "the standby to send")
    assert (["firing"], []) == (site.told("search"), site.told("muted"))
    (silence,) = json.loads(await site.run("silences", "--json"))["silences"]
    await site.run("unsilence", silence["id"][:6])
    await until(lambda: site.told("muted") and "muted" in site.am.alerts(), "what is no longer silenced")
    assert "No alert is silenced" in await site.run("silences")
    await site.run("silence", "tool=nobody", "--for", "3s")
    await until(lambda: not site.silences_stored(), "the worker to end it by itself")


async def _a_leader_that_was_paused_tells_nobody_again(site: Site, at: int) -> None:
    """It sleeps with a notice in its hands, wakes up when another has told it, and does not know of that yet."""
    await until(lambda: numbers(site.ports[1 - at]), "the one that died to be back")
    site.hooks.status = 503
    tried = site.hooks.attempts
    site.fail("paused")
    await until(lambda: site.hooks.attempts > tried, "an attempt")
    site.notifiers[at].pause()
    site.hooks.status = 200
    await until(lambda: site.told("paused"), "the other replica to send")
    site.notifiers[at].resume()

    async def stands_by() -> bool:
        return (await leading(site))[at] == 0.0

    await until(stands_by, "the one that was paused to stand by")
    assert ["firing"] == site.told("paused")


async def _inhibited_alerts_are_told_to_nobody(site: Site) -> None:
    site.fail("many", 60, agent="broken")

    async def fires() -> bool:
        listed = json.loads(await site.run("list", "--json"))["alerts"]
        return any(each["alert"] == "AgentDown" and each["state"] == "firing" for each in listed)

    await until(fires, "the inhibitor")
    site.fail("late")

    async def inhibited() -> bool:
        found = (await site.alerts()).get("late")
        return found is not None and len(found["suppressed"]["inhibited_by"]) == 1

    await until(inhibited, "it to be inhibited")
    assert "inhibited by AgentDown" in await site.run("list")
    assert [] == site.told("late")
    assert "late" not in site.am.alerts()


async def _is_kept_and_remembered(site: Site) -> None:
    """Its window is over, so it fires only because it is kept; giving it back is a turn of its own."""

    async def kept() -> bool:
        found = (await site.alerts())["search"]
        return found["state"] == "firing" and found["kept_since_ms"] is not None

    await until(kept, "the alert to be kept only")
    found = (await site.alerts())["search"]
    assert " kept " in await site.run("list")
    await site.run("unack", found["fingerprint"])
    turns = [json.loads(line)["state"] for line in (await site.run("history", "--json")).splitlines()]
    assert "unacknowledged" == turns[-1]
    assert "nobody has taken" in await site.run("unack", found["fingerprint"], code=66)


async def _says_what_is_wrong(site: Site) -> None:
    found = (await site.alerts())["search"]
    assert "agent-streams alerts --all" in await site.run("ack", "nothing", code=66)
    assert "more than a year" in await site.run("silence", "tool=a", "--until", "2099-01-01T00:00:00Z", code=65)
    assert "every alert" in await site.run("silence", "tool=~.*", "--for", "1h", code=78)
    site.worker.stop()
    waits = await site.run("ack", found["fingerprint"], "--timeout", "1", code=75)
    assert "agent-streams doctor" in waits
