"""A plan says what to create, alter or refuse; what cannot be altered has a way that is named, and weights are sums."""

import time

import pytest
from aiokafka import AIOKafkaProducer
from declared_topics import COUNTS, as_declared, changed, cluster

from streams.topology import DAY_MS, EVENTS, SESSIONS_CHANGELOG, TOPICS
from streams.worker import topic_rates, topics
from streams.worker.connection import KafkaConnection
from streams.worker.topic_plan import Rate, alterations, plan, volumes
from streams.worker.topics import Cluster


def test_nothing_is_planned_for_a_cluster_as_declared() -> None:
    assert [] == plan(cluster(), "a.", COUNTS)


def test_every_topic_of_an_empty_cluster_is_created_with_its_count_copies_and_settings() -> None:
    changes = plan(Cluster(3, {}), "a.", {"events": 12}, retention_ms={"payloads": 60_000})

    assert [f"a.{topic.suffix}" for topic in TOPICS] == [each.topic for each in changes]
    assert {"+"} == {each.sign for each in changes}
    made = {each.topic: each.expected for each in changes}
    assert made["a.events"].startswith("12 partitions, 3 copies, cleanup.policy=delete, ")
    assert made["a.sessions.changelog"].startswith("12 partitions, 3 copies, cleanup.policy=compact, ")
    assert made["a.rollups"].startswith("4 partitions")
    assert "retention.ms=60000" in made["a.payloads"]


def test_a_setting_that_differs_is_altered_to_what_is_declared() -> None:
    seen = cluster(changed("events", retention_ms="1000"))
    (change,) = changes = plan(seen, "a.")

    assert ("~", "retention.ms", "1000") == (change.sign, change.what, change.found)
    assert {"a.events": {"retention.ms": str(7 * DAY_MS)}} == alterations(changes, seen, "a.")


@pytest.mark.parametrize("asked", [4, 16])
def test_another_partition_count_is_refused_both_ways_with_the_way_over_a_new_prefix(asked: int) -> None:
    seen = cluster()
    (change,) = changes = plan(seen, "a.", {"events": asked})

    assert ("!", "8", f"{asked} as set") == (change.sign, change.found, change.expected)
    assert f"agent-streams replay --prefix a. --from earliest --to-prefix a-events{asked}. " in change.steps[1]
    assert f"--partitions events={asked}" in change.steps[1]
    assert {} == alterations(changes, seen, "a.")


def test_few_copies_are_for_a_person_to_think_about() -> None:
    (change,) = plan(cluster({"events": as_declared(EVENTS, replication=1)}), "a.")

    assert ("?", "replication") == (change.sign, change.what)


def test_weights_are_rates_times_sizes_times_copies_for_as_long_as_records_are_kept() -> None:
    """1,000 records of 400 bytes a second are 34.56 GB a day, three copies of which are kept for seven days."""
    rates = {EVENTS.suffix: Rate(1_000, 400), SESSIONS_CHANGELOG.suffix: Rate(10, 100)}
    events, changelog = volumes(cluster(), "a.", rates)

    assert (3 * 34_560_000_000, 7 * 3 * 34_560_000_000) == (events.bytes_per_day, events.kept_bytes)
    assert (3 * 86_400_000, None) == (changelog.bytes_per_day, changelog.kept_bytes)


def test_what_is_kept_for_ever_has_no_weight() -> None:
    (events,) = volumes(cluster(changed("events", retention_ms="-1")), "a.", {EVENTS.suffix: Rate(1, 1)})

    assert events.kept_bytes is None


@pytest.mark.kafka
async def test_what_a_plan_alters_is_altered_and_nothing_else_and_rates_are_those_of_the_log(
    kafka: str, prefix: str
) -> None:
    connection = KafkaConnection(bootstrap=kafka, rack="somewhere")
    await topics.create(connection, prefix, {"events": 2, "rollups": 1})
    name = prefix + "events"
    await topics.alter(connection, {name: {"retention.ms": "1000", "segment.ms": "777000"}})
    seen = await topics.look(connection, prefix)
    changes = plan(seen, prefix)
    assert ["retention.ms"] == [each.what for each in changes]

    await topics.alter(connection, alterations(changes, seen, prefix))

    after = await topics.look(connection, prefix)
    assert [] == plan(after, prefix)
    assert "777000" == after.topics[name].config["segment.ms"], "what somebody else has set stays"
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for number in range(90):
            await producer.send(name, b"x" * 90, key=b"0123456789", partition=number % 2)
        await producer.flush()
    rates = await topic_rates.measure(connection, {name: 2, prefix + "rollups": 1}, int(time.time() * 1000))
    assert {name: Rate(90 / 3600, 100)} == rates
