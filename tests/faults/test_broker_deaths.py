"""Brokers end, by request and by kill -9, and those who led, controlled or coordinated: nothing is lost or doubled.

Three brokers, every topic in three copies of which two must be in sync; two workers, an exporter, and alerts.
"""

import asyncio
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import fault_table
import pytest
from broker_life import Alerts, BrokerLife, Weather, weather, write_rules
from cluster_roles import Roles
from harness import eventually
from life import PARTITIONS, drawn_seed

from streams.topology import SESSIONS_STAGE
from streams.worker import topics
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1_200), pytest.mark.long]

RATE: Final = 1_000  # three brokers share the machine with all else
BACK_S: Final = 60.0
BOUNCES: Final = 5
IN_SYNC_S: Final = 90.0


class Site:
    """The cluster, the run on it, and what breaks it."""

    def __init__(self, cluster: EmbeddedKafka, prefix: str, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.load: Weather = weather(seed, RATE)
        self.life = BrokerLife(
            cluster.bootstrap, prefix, folder, load=self.load, seed=seed,
            settings={"AGENT_STREAMS_RULES_FILE": str(write_rules(folder))},
        )  # fmt: skip
        self.roles = Roles(cluster)
        self.alerts = Alerts(self.life.broker, prefix)
        self.random = random.Random(seed)
        self.back_s: dict[str, float] = {}
        self._topics = [f"{prefix}{name}" for name in ("events", "rollups", "sessions.changelog", "rollups.changelog")]

    def whom(self) -> dict[str, Callable[[], int]]:
        """Name the nodes that matter; who that is changes with every fault."""
        config = WorkerConfig(KafkaConnection(bootstrap=self.cluster.bootstrap), prefix=self.life.prefix)
        number = self.random.randrange(PARTITIONS["events"])
        return {
            "leader": lambda: self.roles.leader(f"{self.life.prefix}events", number),
            "changelog-leader": lambda: self.roles.leader(f"{self.life.prefix}sessions.changelog", number),
            "controller": self.roles.controller,
            "group-coordinator": lambda: self.roles.group_coordinator(self.life.group),
            "transaction-coordinator": lambda: self.roles.transaction_coordinator(
                config.transactional_id(SESSIONS_STAGE.name, number)
            ),
        }

    def lose(self, name: str, node: int, end: Callable[[int], None]) -> None:
        """End a node while the weather changes; everything has to go on without it, and then with it."""
        failing = self.load.turn()
        end(node)
        self.back_s[name] = self.life.wait_for_progress(BACK_S)
        self.life.check_durable()
        self.cluster.restart(node)
        self.life.wait_for_progress(BACK_S)
        self.alerts.wait_for_storm(failing)
        self.wait_in_sync()

    def bounce(self, node: int) -> None:
        """End and start a node again and again, at once."""
        failing = self.load.turn()
        for _ in range(BOUNCES):
            self.random.choice((self.cluster.end, self.cluster.kill))(node)
            self.cluster.restart(node)
        self.back_s["bounces"] = self.life.wait_for_progress(BACK_S)
        self.alerts.wait_for_storm(failing)
        self.wait_in_sync()

    def wait_in_sync(self) -> None:
        eventually(lambda: self.roles.in_sync(*self._topics), timeout_s=IN_SYNC_S, what="all copies to be in sync")


@pytest.mark.fault("T7", "T22")
async def test_totals_and_alerts_are_exact_whichever_broker_ends(kafka_cluster: EmbeddedKafka, tmp_path: Path) -> None:
    prefix = f"deaths-{uuid.uuid4().hex[:8]}."
    await topics.create(KafkaConnection(bootstrap=kafka_cluster.bootstrap), prefix, PARTITIONS, replication=3)
    await asyncio.to_thread(_deaths, Site(kafka_cluster, prefix, tmp_path, drawn_seed()))


def _deaths(site: Site) -> None:
    life, cluster = site.life, site.cluster
    with life:
        faults = [(name, end) for name in site.whom() for end in (cluster.kill,)]
        faults.append(("leader", cluster.end))
        site.random.shuffle(faults)
        for name, end in faults:
            site.lose(f"{name}-{end.__name__}", site.whom()[name](), end)
        site.bounce(site.random.choice(cluster.nodes).number)
        if len(site.load.turns) % 2:
            site.alerts.wait_for_storm(site.load.turn())

        life.finish()

        transitions = site.alerts.check(site.load, {tool: totals["calls"] for tool, totals in life.truth[1].items()})
        exits = [code for codes in life.exits().values() for code in codes]
        assert set(exits) <= {75}, life.logs()
        fault_table.record(
            "T7", "deaths", faults=len(site.back_s) - 1 + BOUNCES, events=life.published,
            longest_standstill_s=round(max(site.back_s.values()), 1), exits=len(exits),
        )  # fmt: skip
        fault_table.record("T22", "broker-deaths", transitions=transitions, storms=(len(site.load.turns) + 1) // 2)
