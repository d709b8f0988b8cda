"""What of k8s/ is made of the product's own declarations?  Run it to write the files anew.

python tests/k8s_generated.py
"""

from pathlib import Path
from typing import Any, Final

import yaml

from streams.topology import TOPICS, Topic
from streams.worker.topics import DEFAULT_PARTITIONS, REPLICATION_WANTED, wanted_config

K8S: Final = Path(__file__).parents[1] / "k8s"
TOPICS_FILE: Final = "components/strimzi-topics/topics.yaml"
RULES_FILE: Final = "components/prometheus-operator/rules.yaml"
HEAD: Final = "# Made by `python tests/k8s_generated.py` of {source}: change that, not this file.\n"
PREFIX: Final = "agent."
NUMERIC: Final = 2**31  # Strimzi takes numbers as numbers; above this one YAML readers differ


def strimzi_topic(topic: Topic) -> dict[str, Any]:
    """Return the KafkaTopic that a declared topic is on three brokers."""
    config = {
        key: int(value) if value.isdecimal() and int(value) < NUMERIC else value
        for key, value in sorted(wanted_config(topic, REPLICATION_WANTED).items())
    }
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": PREFIX + topic.suffix, "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": {"partitions": DEFAULT_PARTITIONS[topic.like], "replicas": REPLICATION_WANTED, "config": config},
    }


def prometheus_rule(file: Path) -> dict[str, Any]:
    """Return a rule file as an object of the Prometheus operator."""
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    name = file.name.removesuffix(".rules.yaml")
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name},
        "spec": {"groups": groups},
    }


def generated() -> dict[str, str]:
    """Return the text of every generated file by its path below k8s/."""
    topics = [strimzi_topic(topic) for topic in TOPICS]
    rules = [prometheus_rule(file) for file in sorted((K8S / "rules").glob("*.yaml"))]
    return {
        TOPICS_FILE: HEAD.format(source="streams/topology.py") + _documents(topics),
        RULES_FILE: HEAD.format(source="k8s/rules") + _documents(rules),
    }


def _documents(objects: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    for name, text in generated().items():
        (K8S / name).write_text(text, encoding="utf-8")
