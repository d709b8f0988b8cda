"""Clusters as they are declared, and as they are not."""

from collections.abc import Mapping
from dataclasses import replace

from streams.topology import TOPICS, Topic
from streams.worker.topics import Cluster, Seen, wanted_config

COUNTS = {"events": 8, "rollups": 4, "commands": 1}


def as_declared(topic: Topic, replication: int = 3) -> Seen:
    return Seen(COUNTS[topic.like], replication, wanted_config(topic, replication))


def cluster(changes: Mapping[str, Seen | None] | None = None, *, brokers: int = 3) -> Cluster:
    """A cluster as declared, but for `changes` by suffix; None takes the topic away."""
    declared = {topic.suffix: as_declared(topic, min(3, brokers)) for topic in TOPICS}
    seen = {**declared, **(changes or {})}
    return Cluster(brokers, {f"a.{suffix}": value for suffix, value in seen.items() if value})


def changed(suffix: str, **config: str) -> dict[str, Seen | None]:
    """The topic with other settings; dots of their names are written as underscores."""
    topic = next(each for each in TOPICS if each.suffix == suffix)
    as_is = as_declared(topic)
    return {suffix: replace(as_is, config={**as_is.config, **{k.replace("_", "."): v for k, v in config.items()}})}
