"""Everything below k8s/ is what a cluster takes, is held to least privilege, and names nothing that does not exist."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployed import ROOT, SECRETS, check_command, settings
from k8s_generated import generated
from kustomize import Object, containers, objects, pods, render

from streams import __version__
from streams.rule.receivers import parse_receivers
from streams.settings import PREFIX, Settings, secret_fields
from streams.topology import EVENTS, ROLLUPS
from streams.worker.topics import DEFAULT_PARTITIONS

K8S: Final = ROOT / "k8s"
CRDS: Final = {file.stem: file for file in (Path(__file__).parent / "crds").glob("*.json")}
KUBERNETES: Final = "1.34"
RECEIVERS: Final = "/etc/agent-streams/receivers"  # where the receivers file is mounted
COMPONENTS: Final = (K8S / "components" / "keda", K8S / "components" / "prometheus-operator")
BUILDS: Final[dict[str, Callable[[], list[Object]]]] = {
    "dev": lambda: render(K8S / "overlays" / "dev"),
    "prod": lambda: render(K8S / "overlays" / "prod"),
    "prod with operators": lambda: render(K8S / "overlays" / "prod", COMPONENTS),
    "prod with receivers": lambda: render(
        K8S / "overlays" / "prod", (K8S / "components" / "otlp", K8S / "components" / "http")
    ),
    "strimzi-topics": lambda: render(K8S / "components" / "strimzi-topics"),
}
RUNNING: Final = [name for name in BUILDS if name != "strimzi-topics"]


@cache
def built(name: str) -> list[Object]:
    return BUILDS[name]()


def check(each: Object) -> None:
    """Raise when a cluster, with the operators installed, would refuse this object or ignore a part of it."""
    if each["kind"] in CRDS:
        jsonschema.validate(each, json.loads(CRDS[each["kind"]].read_text(encoding="utf-8")))
    else:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def named(found: list[Object], kind: str, name: str) -> Object:
    (each,) = (each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return each


def environment(found: list[Object], container: Object) -> dict[str, str]:
    """Return the variables of a container; a field of the pod becomes a name."""
    values: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        values |= named(found, "ConfigMap", each["configMapRef"]["name"])["data"]
    values |= {each["name"]: each.get("value", "worker-0") for each in container.get("env", ())}
    return {name: value.replace(RECEIVERS, str(K8S / "components" / "notify")) for name, value in values.items()}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The files that the template of the secret becomes, filled in."""
    (secret,) = objects(K8S / "secret.example.yaml")
    check(secret)
    for name in secret["stringData"]:
        (tmp_path / name).write_text("filled in", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("build", BUILDS)
def test_every_object_is_one_that_a_cluster_takes(build: str) -> None:
    for each in built(build):
        check(each)


def _misspell(each: Object) -> None:
    spec = each["spec"]["template"]["spec"]["containers"][0]
    spec["readynessProbe"] = spec.pop("readinessProbe")


def _word_for_number(each: Object) -> None:
    each["spec"]["replicas"] = "two"


def _no_trigger(each: Object) -> None:
    each["spec"]["maxReplicas"] = each["spec"].pop("maxReplicaCount")


def _misspell_for(each: Object) -> None:
    rule = next(rule for group in each["spec"]["groups"] for rule in group["rules"] if "for" in rule)
    rule["foor"] = rule.pop("for")


def _no_copies(each: Object) -> None:
    each["spec"]["replicas"] = 0


@pytest.mark.parametrize(
    ("build", "kind", "spoil"),
    [
        ("prod", "StatefulSet", _misspell),
        ("prod", "Deployment", _word_for_number),
        ("prod with operators", "ScaledObject", _no_trigger),
        ("prod with operators", "PrometheusRule", _misspell_for),
        ("strimzi-topics", "KafkaTopic", _no_copies),
    ],
)
def test_a_wrong_object_would_be_found(build: str, kind: str, spoil: Callable[[Object], None]) -> None:
    each = copy.deepcopy(next(each for each in built(build) if each["kind"] == kind))
    spoil(each)

    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(each)


@pytest.mark.parametrize("build", RUNNING)
def test_every_container_runs_a_command_that_exists_with_settings_that_can_be_used(build: str, secrets: Path) -> None:
    found = built(build)
    for container in containers(found):
        check_command(container["args"])
        values = environment(found, container)
        assert all(name.startswith(PREFIX) for name in values)
        settings(values, secrets)
        assert container["image"] == f"agent-streams:{__version__}"


def test_a_setting_that_does_not_exist_would_be_found(secrets: Path) -> None:
    with pytest.raises(Exception, match="AGENT_STREAMS_HEALTH_PORTS"):
        settings({"AGENT_STREAMS_HEALTH_PORTS": "8465"}, secrets)


def test_the_secret_is_mounted_where_the_settings_look_and_is_never_a_variable() -> None:
    found = built("prod")
    data = named(found, "ConfigMap", "agent-streams")["data"]
    (secret,) = objects(K8S / "secret.example.yaml")
    hidden = {PREFIX + name.upper() for name in secret_fields()}

    assert hidden
    assert not hidden & data.keys()
    named_files = {value.removeprefix(SECRETS + "/") for value in data.values() if value.startswith(SECRETS)}
    assert named_files
    assert named_files <= secret["stringData"].keys()
    for pod in pods(found):
        volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            places = {volumes[mount["name"]]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert places[secret["metadata"]["name"]] == SECRETS


@pytest.mark.parametrize("build", RUNNING)
def test_pods_are_restricted(build: str) -> None:
    """As Pod Security's level `restricted` asks, which the namespace enforces, and further."""
    found = built(build)
    (namespace,) = (each for each in found if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pods(found)
    for pod in pods(found):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(volume.keys() & {"emptyDir", "secret", "configMap"} for volume in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("build", RUNNING)
def test_memory_is_requested_as_it_is_limited(build: str) -> None:
    for container in containers(built(build)):
        resources = container["resources"]

        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert resources["requests"]["cpu"]


def _servers(found: list[Object], secrets: Path) -> Iterator[tuple[Object, int]]:
    """Yield each workload that listens, and the port that its settings say."""
    roles = {"agent-streams-worker": "health"} | {
        f"agent-streams-{each}": each.replace("-", "_") for each in ("exporter", "ingest", "ingest-http", "notify")
    }
    workloads = [each for each in found if each["kind"] in {"StatefulSet", "Deployment"}]
    assert {each["metadata"]["name"] for each in workloads} >= {"agent-streams-worker", "agent-streams-exporter"}
    for workload in workloads:
        own = settings(environment(found, workload["spec"]["template"]["spec"]["containers"][0]), secrets)
        role = roles[workload["metadata"]["name"]]
        assert getattr(own, f"{role}_host") == "0.0.0.0"  # noqa: S104  the pod's
        yield workload, getattr(own, f"{role}_port")


@pytest.mark.parametrize("build", RUNNING)
def test_probes_services_policies_and_monitors_meet_the_port_that_listens(build: str, secrets: Path) -> None:
    found = built(build)
    pages = (ROOT / "streams/worker/web.py").read_text(encoding="utf-8")
    for workload, port in _servers(found, secrets):
        name, labels = workload["metadata"]["name"], workload["spec"]["template"]["metadata"]["labels"]
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        (declared,) = container["ports"]
        assert declared["containerPort"] == port
        paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
        assert paths == {"startupProbe": "/-/healthy", "readinessProbe": "/-/ready", "livenessProbe": "/-/healthy"}
        for probe, path in paths.items():
            assert container[probe]["httpGet"]["port"] == declared["name"]
            assert f'"{path}"' in pages
        service = named(found, "Service", name)["spec"]
        assert service["selector"].items() <= labels.items()
        reached = 4318 if declared["name"] == "otlp" else port  # what exporters of OTLP send to
        assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(reached, declared["name"])]
        policy = named(found, "NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == [port]
        assert named(found, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
        for monitor in (
            each for each in found if each["kind"].endswith("Monitor") and each["metadata"]["name"] == name
        ):
            (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
            assert (endpoint["port"], endpoint["path"]) == (declared["name"], "/metrics")
            assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("build", RUNNING)
def test_kafka_is_let_through(build: str, secrets: Path) -> None:
    found = built(build)
    for workload, _ in _servers(found, secrets):
        data = environment(found, workload["spec"]["template"]["spec"]["containers"][0])
        server = settings(data, secrets).kafka_bootstrap_servers
        assert server
        port = int(server.rpartition(":")[2])
        rules = named(found, "NetworkPolicy", workload["metadata"]["name"])["spec"]["egress"]
        ranges = [(each["port"], each.get("endPort", each["port"])) for rule in rules for each in rule["ports"]]
        assert any(low <= port <= high for low, high in ranges)


def test_workers_are_members_by_their_pods_name_and_have_time_to_end() -> None:
    worker = named(built("prod"), "StatefulSet", "agent-streams-worker")["spec"]
    spec = worker["template"]["spec"]
    variable, _ = spec["containers"][0]["env"]

    assert variable == {
        "name": "AGENT_STREAMS_INSTANCE_ID",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    }
    assert worker["serviceName"] == "agent-streams-worker"
    assert spec["terminationGracePeriodSeconds"] * 1000 > Settings.model_fields["request_timeout_ms"].default


@pytest.mark.parametrize("name", ["worker", "exporter"])
def test_pods_are_spread_over_zones_and_read_in_their_own(name: str, secrets: Path) -> None:
    """A pod of an older cluster has no label of its zone: the variable is empty then, and so is the rack."""
    found = built("prod")
    kind = "StatefulSet" if name == "worker" else "Deployment"
    spec = named(found, kind, f"agent-streams-{name}")["spec"]["template"]["spec"]
    zone = "topology.kubernetes.io/zone"
    (container,) = spec["containers"]
    (rack,) = (each for each in container["env"] if each["name"] == f"{PREFIX}KAFKA_CLIENT_RACK")

    assert zone in {each["topologyKey"] for each in spec["topologySpreadConstraints"]}
    assert rack["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.labels['{zone}']"}}
    values = environment(found, container)
    assert settings({**values, rack["name"]: "eu-1a"}, secrets).kafka_client_rack == "eu-1a"
    assert settings({**values, rack["name"]: ""}, secrets).kafka_client_rack is None


def test_a_sender_of_spans_keeps_its_receiver() -> None:
    """Each remembers the traces it has seen: tests/worker/test_ingest_receivers.py shows what that is for."""
    service = named(built("prod with receivers"), "Service", "agent-streams-ingest")["spec"]

    assert service["sessionAffinity"] == "ClientIP"


def test_notify_reads_receivers_that_can_be_used_and_stands_by_for_itself() -> None:
    found = built("prod")
    spec = named(found, "Deployment", "agent-streams-notify")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    text = named(found, "ConfigMap", "agent-streams-receivers")["data"]["receivers.yaml"]

    assert mounts["receivers"] == RECEIVERS
    assert {"name": "AGENT_STREAMS_RECEIVERS_FILE", "value": f"{RECEIVERS}/receivers.yaml"} in container["env"]
    assert parse_receivers(text)
    assert spec["replicas"] == 2


def test_keda_reads_the_lag_of_the_group_that_workers_are() -> None:
    found = built("prod with operators")
    spec = named(found, "ScaledObject", "agent-streams-worker")["spec"]
    prefix, app_id = (Settings.model_fields[name].default for name in ("topic_prefix", "app_id"))
    read = [(each["metadata"]["topic"], each["metadata"]["consumerGroup"]) for each in spec["triggers"]]

    assert read == [(prefix + topic.suffix, prefix + app_id) for topic in (EVENTS, ROLLUPS)]
    assert spec["maxReplicaCount"] == DEFAULT_PARTITIONS["events"]
    assert "replicas" not in named(found, "StatefulSet", spec["scaleTargetRef"]["name"])["spec"]


@pytest.mark.parametrize(("name", "text"), generated().items())
def test_generated_files_are_what_the_declarations_make(name: str, text: str) -> None:
    assert (K8S / name).read_text(encoding="utf-8") == text, "run: python tests/k8s_generated.py"


def test_every_dashboard_and_every_rule_reaches_the_cluster() -> None:
    found = built("prod with operators")
    maps = [each for each in found if each["metadata"]["name"].startswith("agent-streams-dashboard-")]
    dashboards = {name: text for each in maps for name, text in each["data"].items()}
    published = {file.name: file.read_text(encoding="utf-8") for file in (K8S / "dashboards").glob("*.json")}
    rules = [each["spec"]["groups"] for each in found if each["kind"] == "PrometheusRule"]
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted((K8S / "rules").glob("*.yaml"))]

    assert dashboards.keys() == published.keys(), "name them in k8s/dashboards/kustomization.yaml"
    assert dashboards == published
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    assert max(map(len, published.values())) < 1024 * 1024  # what a ConfigMap can hold
    assert rules == [each["groups"] for each in files]
