"""Notify, a process of its own, between a real broker and real receivers: each of them is told everything once."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from alertmanager import Alertmanager, alertmanager
from exporting import Sent, Writer, create
from harness import Broker, Fleet, WorkerProcess
from hooks import SECRET, Hooks, hooks
from noticed import record
from redis.asyncio import Redis
from redis_server import RedisServer, redis_server

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.rule.records import AlertRecord
from streams.topology import ALERTS, NOTIFY_CHANGELOG
from streams.worker.loopback import HOST, free_ports
from streams.worker.notify_senders import CHANNEL, KEY_PREFIX, load_targets

WAIT_S = 90.0


def said(*records: AlertRecord) -> list[Sent]:
    return [(ALERTS.suffix, None, each.fingerprint.encode(), msgspec.json.encode(each)) for each in records]


def alert(name: str, state: Any = "firing", transition: int = 1, **changes: Any) -> AlertRecord:
    """Return a state as of now: Alertmanager believes no ends in the past of what began later."""
    at_ms = now_ms() - 10_000 + transition * 1_000
    times = {"time_ms": at_ms, "active_since_ms": at_ms - 500, "fired_ms": at_ms}
    return record(
        name, state, transition, **{**times, "resolved_ms": at_ms if state == "resolved" else None, **changes}
    )


async def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something is true, which may have to be awaited."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = holds()
                found = await found if isinstance(found, Awaitable) else found
                if found:
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {WAIT_S} s for {what}") from None


class Notify:
    """The process, and what it says of itself."""

    def __init__(self, process: WorkerProcess, port: int, client: aiohttp.ClientSession) -> None:
        self.process = process
        self._address = f"http://{HOST}:{port}"
        self._client = client

    async def ready(self) -> bool:
        assert self.process.running, self.process.tail()
        try:
            async with self._client.get(f"{self._address}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def numbers(self, receiver: str) -> dict[str, float]:
        """Return its numbers of one receiver, and those of no receiver."""
        async with self._client.get(f"{self._address}/metrics") as answer:
            lines = [line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if not line.startswith("#")]
        mine = {name.replace(f'{{receiver="{receiver}"}}', ""): float(value) for name, value in lines}
        return {name.removeprefix("agent_notify_"): value for name, value in mine.items() if "{" not in name}

    async def settled(self) -> bool:
        """Say whether Kafka knows of everything that was delivered."""
        return (await self.numbers("oncall"))["unwritten"] == 0


class World:
    """Everything a test needs."""

    def __init__(self, writer: Writer, am: Alertmanager, server: RedisServer, taken: Hooks, notify: Notify) -> None:
        self.writer = writer
        self.am = am
        self.server = server
        self.hooks = taken
        self.notify = notify


def receivers(folder: Path, am: Alertmanager, server: RedisServer, taken: Hooks) -> Path:
    for name, text in {"secret": SECRET.decode(), "token": "token-1\n", "chat": f"{taken.url}/chat"}.items():
        (folder / name).write_text(text)
    entries = [
        # Alertmanager forgets what it has not heard of for four resends, which a busy machine must not take.
        {"name": "am", "kind": "alertmanager", "url": am.url, "resend": "4s", "retry_limit": "1s"},
        {
            "name": "oncall", "kind": "webhook", "url": f"{taken.url}/hook", "equals": {"severity": "critical"},
            "secret_file": str(folder / "secret"), "bearer_token_file": str(folder / "token"), "retry_limit": "1s",
        },
        {
            "name": "chat", "kind": "slack", "url_file": str(folder / "chat"), "matches": {"tool": "wa.*|old"},
            "retry_limit": "1s",
        },
        {"name": "agents", "kind": "redis", "url": server.url, "resend": "1s"},
    ]  # fmt: skip
    path = folder / "receivers.yaml"
    path.write_text(yaml.safe_dump({"receivers": entries, "generator_url": "https://grafana.example/d/1"}))
    return path


@asynccontextmanager
async def world(kafka: str, prefix: str, folder: Path) -> AsyncIterator[World]:
    await create(kafka, prefix)
    with alertmanager(folder) as am, redis_server() as server, Fleet(folder) as fleet:
        async with hooks() as taken, aiohttp.ClientSession() as client:
            writer, (port,) = Writer(kafka, prefix), free_ports(1)
            # Over before anybody was there to be told.
            writer.commit(said(alert("old"), alert("old", "resolved", 2), alert("search")))
            file = receivers(folder, am, server, taken)
            options = ["--receivers", str(file), "--bootstrap", kafka, "--prefix", prefix, "--port", str(port)]
            process = fleet.add("notify", ["-m", "streams", "notify", *options])
            notify = Notify(process, port, client)
            try:
                await until(notify.ready, "notify to be ready")
                yield World(writer, am, server, taken, notify)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{process.tail()}") from error


@pytest.mark.kafka
async def test_every_receiver_is_told_everything_once_through_outages_and_a_kill(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    async with world(kafka, prefix, tmp_path) as all_:
        client: Any = Redis.from_url(all_.server.url, decode_responses=True)
        heard = client.pubsub()
        await heard.subscribe(CHANNEL)
        await _fires_and_is_routed(all_, client)
        await _outages_and_a_kill(all_)
        await _is_sent_again_until_it_ends(all_, client)
        await _redis_that_lost_everything_is_told_again(all_)
        await heard.aclose()
        await client.aclose()
        assert all_.notify.process.stop() == 0
        assert all_.hooks.faults == []
    assert Broker(kafka).rows(prefix + NOTIFY_CHANGELOG.suffix)


async def _fires_and_is_routed(all_: World, client: Any) -> None:
    """What fires arrives everywhere, what is over nowhere, what was aborted nowhere, and matchers hold."""
    am, taken = all_.am, all_.hooks
    await until(lambda: "search" in am.alerts() and taken.ids, "the first alert")
    all_.writer.abort(said(alert("aborted")))
    all_.writer.commit(said(alert("warn", severity="warning"), alert("soon", "pending")))
    await until(lambda: "warn" in am.alerts() and taken.said, "the second alert")
    found = am.alerts()["search"]

    assert {"search", "warn"} == am.alerts().keys()
    assert ["search-1"] == taken.ids
    assert ["Warning: ToolFailing"] == [each["text"] for each in taken.said]
    assert "https://grafana.example/d/1" == found["generatorURL"]
    assert ("ToolFailing", "critical") == (found["labels"]["alertname"], found["labels"]["severity"])
    stored = await until(lambda: client.hgetall(KEY_PREFIX + "search"), "Redis")
    assert ("firing", "search-1") == (stored["state"], json.loads(stored["record"])["id"])


async def _outages_and_a_kill(all_: World) -> None:
    """Alertmanager is killed and the webhook says 503; meanwhile alerts come and go, and notify is killed too."""
    am, taken, notify = all_.am, all_.hooks, all_.notify
    await until(notify.settled, "the deliveries to be stored")
    am.kill()
    taken.status = 503
    for transition in range(2, 8):  # search resolves and fires again, three times
        all_.writer.commit(said(alert("search", "firing" if transition % 2 else "resolved", transition)))
    all_.writer.commit(
        said(alert("brief"), alert("brief", "resolved", 2), alert("warn", "resolved", 2, severity="warning"))
    )

    async def waits() -> bool:
        numbers = [await notify.numbers(name) for name in ("am", "oncall")]
        # The counts of resends tell that the receiver was tried; what is pending, that the topic was read.
        return [3, 2] == [each["pending"] for each in numbers] and all(
            each["retries_total"] >= 2 and each["up"] == 0 for each in numbers
        )

    await until(waits, "notify to hold what cannot be delivered")
    notify.process.kill()
    notify.process.start()
    await until(notify.ready, "notify to be ready again")
    await until(waits, "notify to hold the same again")
    tried = taken.attempts
    taken.status = 200
    am.start()
    await until(lambda: len(taken.ids) == 3 and "search" in am.alerts(), "the receivers to be told")

    assert tried >= 2
    assert ["search-1", "search-7", "brief-2"] == [taken.ids[0], *sorted(taken.ids[1:], reverse=True)]
    assert {"search"} == am.alerts().keys()
    await until(lambda: len(taken.said) == 2, "the chat to be told")
    assert "Resolved: ToolFailing" == taken.said[1]["text"]


async def _is_sent_again_until_it_ends(all_: World, client: Any) -> None:
    """Alertmanager hears again of what fires; one bad alert in a batch harms no other; an end ends it everywhere."""
    am, taken, notify = all_.am, all_.hooks, all_.notify
    before = am.alerts()["search"]["endsAt"]
    await until(lambda: am.alerts()["search"]["endsAt"] > before, "a resend")
    # A label that Alertmanager refuses: it answers 400 for the whole batch.
    taken.refused_tool = "bad"
    all_.writer.commit(said(alert("bad", labels={"tool": "bad", "": "x"}), alert("good")))
    await until(lambda: "good" in am.alerts() and "good-1" in taken.ids, "the good one")

    async def refused() -> bool:
        return [1, 1] == [(await notify.numbers(name))["failed_total"] for name in ("am", "oncall")]

    await until(refused, "the bad one to be given up")
    all_.writer.commit(said(alert("search", "resolved", 8), alert("good", "resolved", 2), alert("bad", "resolved", 2)))
    await until(lambda: not am.alerts(), "Alertmanager to see the end")
    await until(lambda: {"search-8", "good-2"} <= set(taken.ids), "the webhook to see the end")

    async def over() -> bool:
        return bool(await client.hget(KEY_PREFIX + "search", "state") == "resolved")

    await until(over, "Redis to see the end")
    assert len(taken.ids) == len(set(taken.ids))
    numbers = await notify.numbers("am")
    assert numbers["resent_total"] >= 1
    assert 0 == numbers["pending"]


async def _redis_that_lost_everything_is_told_again(all_: World) -> None:
    all_.writer.commit(said(alert("late")))
    all_.server.stop()
    all_.server.start()
    client: Any = Redis.from_url(all_.server.url, decode_responses=True)
    stored = await until(lambda: client.hgetall(KEY_PREFIX + "late"), "Redis to hold what fires")
    assert "firing" == stored["state"]
    await client.aclose()


def test_faults_of_the_file_and_of_the_files_it_names_are_all_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("hunter2")
    (tmp_path / "url").write_text("ftp://me:hunter3@x")
    path = tmp_path / "receivers.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "receivers": [
                    {"name": "a", "kind": "webhook", "url": "http://x", "secret_file": str(tmp_path / "short")},
                    {"name": "b", "kind": "slack", "url_file": str(tmp_path / "url")},
                    {"name": "c", "kind": "slack", "url_file": str(tmp_path / "none")},
                    {"name": "d", "kind": "pager", "url": "http://x"},
                ]
            }
        )
    )
    with pytest.raises(ConfigError) as raised:
        load_targets(path, "AGENT_STREAMS_RECEIVERS_FILE")
    text = str(raised.value)

    for place in ("receiver a, secret_file", "receiver b, url_file", "receiver c, url_file", "receiver d, kind"):
        assert place in text
    assert "hunter" not in text
