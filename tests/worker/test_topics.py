"""The declared topics: created once, compared exactly, deleted by prefix alone."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from declared_topics import COUNTS, as_declared, changed, cluster

from streams.errors import ConfigError, EdgeError
from streams.topology import TOPICS, Topic
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import HOST, free_ports
from streams.worker.topics import Finding, Seen, judge


def findings(changes: Mapping[str, Seen | None], partitions: Mapping[str, int] | None = None) -> list[Finding]:
    return judge(cluster(changes), "a.", partitions or {})


def test_a_cluster_as_declared_has_no_findings() -> None:
    assert judge(cluster(), "a.", COUNTS) == []
    assert judge(cluster(brokers=1), "a.", COUNTS) == []


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.suffix)
def test_each_missing_topic_is_a_fault_with_its_next_step(topic: Topic) -> None:
    (finding,) = (each for each in findings({topic.suffix: None}) if each.found == "missing")

    assert finding.fault
    assert finding.topic == f"a.{topic.suffix}"
    assert "agent-streams topics create --prefix a." in finding.next_step


def test_changelog_must_have_as_many_partitions_as_its_source() -> None:
    (finding,) = findings({"sessions.changelog": replace(as_declared(TOPICS[5]), partitions=6)})

    assert finding.fault
    assert (finding.topic, finding.what, finding.found, finding.expected) == (
        "a.sessions.changelog",
        "partition count",
        "6",
        "8 as a.events has",
    )


def test_source_is_compared_with_the_count_that_was_set() -> None:
    (finding,) = judge(cluster(), "a.", {"events": 12})

    assert (finding.topic, finding.found, finding.expected) == ("a.events", "8", "12 as set")


def test_changelog_that_is_not_compacted_is_a_fault() -> None:
    """A delete policy would take rows of quiet keys, and with them their counts."""
    (finding,) = findings(changed("rollups.changelog", cleanup_policy="compact,delete"))

    assert finding.fault
    assert (finding.what, finding.found, finding.expected) == ("cleanup.policy", "compact,delete", "compact")
    assert "kafka-configs --alter --topic a.rollups.changelog --add-config cleanup.policy=compact" in str(finding)


def test_events_that_are_compacted_are_a_fault() -> None:
    """The key is the session: compaction would keep the last event of each."""
    (finding,) = findings(changed("events", cleanup_policy="compact"))

    assert finding.fault


@pytest.mark.parametrize(
    ("suffix", "setting", "value", "fault"),
    [
        ("rollups", "max_message_bytes", "1048588", True),
        ("events", "retention_ms", "3600000", False),
        ("sessions.changelog", "segment_bytes", "1073741824", False),
        ("sessions.changelog", "min_cleanable_dirty_ratio", "0.5", False),
        ("alerts", "min_compaction_lag_ms", "0", False),
        ("events", "min_insync_replicas", "1", False),
    ],
)
def test_weaker_settings_are_found(suffix: str, setting: str, value: str, fault: bool) -> None:
    (finding,) = findings(changed(suffix, **{setting: value}))

    assert (finding.what, finding.found, finding.fault) == (setting.replace("_", "."), value, fault)


@pytest.mark.parametrize(
    ("suffix", "setting", "value"),
    [
        ("rollups", "max_message_bytes", "99999999"),
        ("events", "retention_ms", "-1"),
        ("events", "retention_ms", "9999999999999"),
        ("sessions.changelog", "segment_bytes", "1048576"),
    ],
)
def test_stronger_settings_are_the_operators_choice(suffix: str, setting: str, value: str) -> None:
    assert findings(changed(suffix, **{setting: value})) == []


def test_few_replicas_are_advice_where_there_are_brokers_for_more() -> None:
    (finding,) = findings({"events": as_declared(TOPICS[0], replication=1)})

    assert not finding.fault
    assert (finding.what, finding.found) == ("replication", "1")


@pytest.mark.kafka
async def test_created_topics_are_as_declared_and_creating_again_changes_nothing(kafka: str, prefix: str) -> None:
    connection = KafkaConnection(bootstrap=kafka)
    first = await topics.create(connection, prefix, COUNTS)
    again = await topics.create(connection, prefix)

    names = tuple(prefix + topic.suffix for topic in TOPICS)
    assert (first.created, first.existing) == (names, ())
    assert (again.created, again.existing) == ((), names)
    assert await topics.check(connection, prefix, COUNTS) == []


@pytest.mark.kafka
async def test_two_processes_that_create_at_once_both_succeed(kafka: str, prefix: str) -> None:
    connection = KafkaConnection(bootstrap=kafka)
    both = await asyncio.gather(*(topics.create(connection, prefix, COUNTS) for _ in range(2)))

    assert sorted(name for done in both for name in done.created) == sorted(prefix + topic.suffix for topic in TOPICS)
    assert await topics.check(connection, prefix, COUNTS) == []


@pytest.mark.kafka
async def test_source_that_exists_decides_the_count_of_what_follows_it(kafka: str, prefix: str) -> None:
    connection = KafkaConnection(bootstrap=kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(prefix + "events", 3, 1)])
    while prefix + "events" not in await admin.list_topics():
        await asyncio.sleep(0.01)
    await admin.close()

    with pytest.raises(ConfigError, match=rf"{prefix}events exists with 3 partitions, 8 asked for"):
        await topics.create(connection, prefix, {"events": 8})
    assert (await topics.look(connection, prefix)).topics.keys() == {prefix + "events"}, "nothing was created"
    await topics.create(connection, prefix)
    seen = (await topics.look(connection, prefix)).topics
    assert seen[prefix + "sessions.changelog"].partitions == 3
    assert [each for each in await topics.check(connection, prefix) if each.what == "partition count"] == []


@pytest.mark.kafka
@pytest.mark.parametrize("counts", [{"events": 0}, {"sessions.changelog": 4}])
async def test_impossible_counts_are_refused(kafka: str, prefix: str, counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"expected (1 or more|one of commands, events, rollups)"):
        await topics.create(KafkaConnection(bootstrap=kafka), prefix, counts)


@pytest.mark.kafka
async def test_deleting_a_prefix_leaves_the_others(kafka: str, prefix: str) -> None:
    connection = KafkaConnection(bootstrap=kafka)
    await topics.create(connection, prefix + "one.", {"events": 1, "rollups": 1})
    await topics.create(connection, prefix + "two.", {"events": 1, "rollups": 1})
    deleted = await topics.delete_prefix(connection, prefix + "one.")

    assert deleted == sorted(f"{prefix}one.{topic.suffix}" for topic in TOPICS)
    assert await topics.delete_prefix(connection, prefix + "one.") == []
    assert len((await topics.look(connection, prefix + "two.")).topics) == len(TOPICS)


async def test_empty_prefix_deletes_nothing() -> None:
    with pytest.raises(ConfigError, match="every topic of the cluster"):
        await topics.delete_prefix(KafkaConnection(bootstrap="127.0.0.1:1"), "")


async def described(connection: KafkaConnection, prefix: str, topic: str) -> Seen:
    """Return what the brokers say of a topic once whoever is asked knows it: they learn of it one after the other."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(EdgeError):
                if (seen := (await topics.look(connection, prefix)).topics.get(topic)) is not None:
                    return seen
            await asyncio.sleep(0.05)


@pytest.mark.kafka
async def test_three_brokers_keep_three_copies_of_which_two_must_be_in_sync(kafka_cluster: EmbeddedKafka) -> None:
    connection = KafkaConnection(bootstrap=kafka_cluster.bootstrap)
    await topics.create(connection, "three.", COUNTS)
    seen = await described(connection, "three.", "three.events")

    assert (seen.replication, seen.config["min.insync.replicas"]) == (3, "2")
    with pytest.raises(ConfigError, match="replication: 4 asked for, but Kafka has 3"):
        await topics.create(connection, "four.", COUNTS, replication=4)


async def test_absent_broker_is_an_edge_error_that_names_it() -> None:
    address = f"{HOST}:{free_ports(1)[0]}"

    with pytest.raises(EdgeError, match=f"Kafka at {address}"):
        await topics.check(KafkaConnection(bootstrap=address), "a.")
