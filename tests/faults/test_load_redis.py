"""Redis down, slow, or refusing the password: stages do not notice, alerts go on, the mirror is whole soon after.

One run: a worker, an exporter that mirrors through a proxy of ours, and a notify whose receiver is away.  By turns
Redis is well and broken; what the worker takes per event is compared side by side.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from between import Between
from fault_table import record
from fleet import Fleet as Agents
from harness import Broker, eventually
from pressed import SOME, STEADY, Loss, Pressed, what_is_lost
from redis import Redis
from redis_server import RedisServer, redis_server

from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import HOST, free_ports
from streams.worker.mirror import KEY_PREFIX

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("T10"), pytest.mark.timeout(3_000)]

LEAST: Final = 10_000  # records of a turn
PAIRS: Final = (12, 100)  # as many as it takes to tell
TURN_S: Final = 4.0  # what else a machine does changes little from one turn to the next
LASTS_S: Final = 60.0  # of each fault at the end, without a break
DELAY_S: Final = 2.0
LOSS: Final = 0.05
CONVERGED_S: Final = 10.0
WAIT_S: Final = 300.0  # for what follows within a flush or two
STANDSTILL_S: Final = 300.0  # a machine that does other things is slow; a worker that commits nothing is at fault
PASSWORD: Final = "canary-9a71"  # noqa: S105  made up


class Faults:
    """How Redis is broken and mended."""

    def __init__(self, server: RedisServer, proxy: Between) -> None:
        self._proxy = proxy
        self.client: Any = Redis(port=server.port, decode_responses=True)

    def down(self) -> None:
        self._proxy.hang_up()

    def slow(self) -> None:
        self._proxy.delay_s = DELAY_S

    def refusing(self) -> None:
        self.client.config_set("requirepass", PASSWORD)  # whoever is connected stays
        self.client.client_kill_filter(_type="normal", skipme=True)

    def mended(self) -> None:
        self._proxy.shut, self._proxy.delay_s = False, 0.0
        self.client.config_set("requirepass", "")


def failing(tool: str) -> list[dict[str, Any]]:
    """Return calls of a tool, all of which fail: enough for its circuit and its alert."""
    call = {"kind": "tool_end", "agent": "agent-0", "session_id": f"s-{tool}", "tool": tool, "status": "error"}
    return [{**call, "id": f"{tool}-{at}", "call_id": f"{tool}-{at}", "duration_ms": 5} for at in range(40)]


def circuits(broker: Broker, prefix: str) -> dict[str, str]:
    """Return the newest state of each circuit on Kafka."""
    found = {}
    for message in broker.read(f"{prefix}breakers"):
        key, value = message.key(), message.value()
        if key is not None and value is not None:
            found[key.decode()] = json.loads(value)["state"]
    return found


def alerted(broker: Broker, prefix: str, tool: str) -> bool:
    """Is there an alert on Kafka that names this tool?"""
    return any(tool.encode() in (message.value() or b"") for message in broker.read(f"{prefix}alerts"))


@pytest.fixture
def redis() -> Iterator[tuple[RedisServer, Between]]:
    with redis_server() as server, Between(server.port) as proxy:
        yield server, proxy


@pytest.fixture
def faults(redis: tuple[RedisServer, Between]) -> Iterator[Faults]:
    faults = Faults(*redis)
    yield faults
    faults.client.close()


async def test_whatever_redis_does_the_stages_go_on_and_it_is_whole_again_soon(
    kafka: str, prefix: str, tmp_path: Path, redis: tuple[RedisServer, Between], faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 4, "rollups": 2}, replication=1)
    nobody, page, health = free_ports(3)
    receivers = tmp_path / "receivers.yaml"
    receivers.write_text(f"receivers:\n  - name: away\n    kind: alertmanager\n    url: http://{HOST}:{nobody}\n")
    for name, value in STEADY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENT_STREAMS_REDIS_URL", f"redis://{HOST}:{redis[1].port}/0")
    agents = Agents(13, sessions=400, tools=20)
    with Pressed(kafka, prefix, tmp_path, least=LEAST, agents=agents).working() as pressed:
        exporter = pressed.add("exporter", "--port", str(page))
        notify = pressed.add("notify", "--receivers", str(receivers), "--port", str(health))
        pressed.extra = failing("tool-well")
        whole(pressed, faults)
        for name in ("down", "slow", "refusing"):
            found, converged_s = broken(pressed, faults, name)
            record(
                "T10", name, loss_percent=round(100 * found.share, 2), uncertain_by=round(200 * found.error, 2),
                pairs=found.pairs, converged_s=round(converged_s, 1),
            )  # fmt: skip
            assert found.most < LOSS, (name, found)
            assert converged_s <= CONVERGED_S, (name, converged_s)
        assert not pressed.connected_to(redis[1].port), "a worker has nothing to do with Redis"
        assert pressed.worker.running
        assert exporter.running, exporter.tail()
        assert notify.running, notify.tail()
        pressed.settle()


def whole(pressed: Pressed, faults: Faults) -> None:
    """Wait until Redis shows what Kafka does."""

    def mirrored() -> bool:
        expected = {KEY_PREFIX + name: state for name, state in circuits(pressed.broker, pressed.prefix).items()}
        keys = faults.client.keys(KEY_PREFIX + "*")
        return bool(expected) and expected == {key: faults.client.hget(key, "state") for key in keys}

    eventually(mirrored, timeout_s=WAIT_S, what=lambda: f"the mirror\n{pressed.fleet.logs()}")


def broken(pressed: Pressed, faults: Faults, name: str) -> tuple[Loss, float]:
    """Break and mend Redis by turns; then, while it is broken, a circuit opens.

    Returns what it cost, and how long after its return Redis showed everything.
    """
    begin: Callable[[], None] = getattr(faults, name)
    found = what_is_lost(pressed, LOSS, TURN_S, PAIRS, begin, faults.mended)
    begin()
    pressed.turn(LASTS_S)
    tool = f"tool-{name}"
    judged(pressed, tool)
    if name != "slow":  # then it hears, and only its answers are late
        assert not faults.client.exists(f"{KEY_PREFIX}tool|{tool}"), "Redis was not broken"
    faults.mended()
    begun_s = time.monotonic()
    whole(pressed, faults)
    return found, time.monotonic() - begun_s


def judged(pressed: Pressed, tool: str) -> None:
    """Have all calls of a tool fail; wait until both stages are past them, then for their alert and their circuit."""
    broker, prefix = pressed.broker, pressed.prefix
    pressed.extra = failing(tool)
    getting_on(pressed, lambda: not pressed.extra, "the calls to be published")
    told = pressed.published + SOME  # they go before so many others
    getting_on(pressed, lambda: pressed.done() >= told, "the first stage to be past the calls")
    ends = broker.ends(f"{prefix}rollups")

    def passed() -> bool:
        return all(at >= ends[number] for number, at in second(pressed).items())

    getting_on(pressed, passed, "the second stage to be past the calls")
    eventually(lambda: alerted(broker, prefix, tool), timeout_s=WAIT_S, what=pressed.fleet.logs)
    eventually(lambda: f"tool|{tool}" in circuits(broker, prefix), timeout_s=WAIT_S, what=pressed.fleet.logs)


def second(pressed: Pressed) -> dict[int, int]:
    """Return how far the second stage has committed, by partition."""
    return pressed.broker.committed(f"{pressed.prefix}workers", f"{pressed.prefix}rollups")


def getting_on(pressed: Pressed, holds: Callable[[], bool], what: str) -> None:
    """Wait for something for as long as both stages commit, however slowly."""
    at: list[tuple[int, int]] = []
    since_s = [time.monotonic()] * 2

    def over() -> bool:
        if holds():
            return True
        at.append((pressed.done(), sum(second(pressed).values())))
        now_s = time.monotonic()
        for stage in range(2):
            if len(at) < 2 or at[-1][stage] > at[-2][stage]:
                since_s[stage] = now_s
            assert now_s - since_s[stage] < STANDSTILL_S, f"stage {stage} stands still at {at[-1]}, waiting for {what}"
        del at[:-1]
        return False

    eventually(over, timeout_s=4 * STANDSTILL_S, what=lambda: f"{what}\n{pressed.fleet.logs()}")
