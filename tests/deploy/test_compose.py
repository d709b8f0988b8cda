"""docker-compose.yml is what Compose reads, opens no port to the network, and names nothing that does not exist."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from deployed import ROOT, check_command, settings

from streams import __version__
from streams.settings import PREFIX
from streams.worker.kafka_jars import KAFKA_VERSION
from streams.worker.notify_senders import load_targets

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = sorted(name for name, service in SERVICES.items() if "build" in service)
CONFIGS: Final = ROOT / "k8s" / "compose"


def environment(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in SERVICES[name].get("environment", {}).items()}


def readable(name: str) -> dict[str, str]:
    """Return the variables that name a mounted file, with the file that is mounted there."""
    mounted = dict(reversed(volume.split(":")[:2]) for volume in SERVICES[name].get("volumes", ()))
    return {key: str(ROOT / mounted[value]) for key, value in environment(name).items() if value in mounted}


def schema_faults(compose: dict[str, Any], folder: Path) -> str:
    """Return what the Compose specification finds wrong, nothing if nothing is."""
    file = folder / "compose.yml"
    file.write_text(yaml.safe_dump(compose), encoding="utf-8")
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout


def test_it_is_what_the_specification_says(tmp_path: Path) -> None:
    assert not schema_faults(COMPOSE, tmp_path)


def test_a_misspelt_key_would_be_found(tmp_path: Path) -> None:
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["kafka"]["healthchecks"] = wrong["services"]["kafka"].pop("healthcheck")

    assert "healthchecks" in schema_faults(wrong, tmp_path)


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_exists(name: str) -> None:
    check_command(SERVICES[name]["command"])


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(KeyError):
        check_command(["workers"])
    with pytest.raises(Exception, match="No such option"):
        check_command(["worker", "--helth-port", "8465"])


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_every_service_of_ours_can_be_used(name: str, tmp_path: Path) -> None:
    ours = environment(name)

    assert all(each.startswith(PREFIX) for each in ours)
    server = settings(ours | readable(name), tmp_path).kafka_bootstrap_servers
    assert f"INSIDE://{server}" in environment("kafka")["KAFKA_ADVERTISED_LISTENERS"].split(",")


def test_everybody_asks_a_port_that_is_open(tmp_path: Path) -> None:
    """The health checks and Prometheus ask where the settings say that something listens."""
    asked = yaml.safe_load((CONFIGS / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {target for job in asked for each in job["static_configs"] for target in each["targets"]}
    listening = set()
    for name in ("worker-0", "worker-1", "exporter", "ingest", "ingest-http", "notify"):
        own = settings(environment(name) | readable(name), tmp_path)
        role = "health" if name.startswith("worker") else name.replace("-", "_")
        host, port = getattr(own, f"{role}_host"), getattr(own, f"{role}_port")
        assert host == "0.0.0.0"  # noqa: S104  inside the container's own network
        assert f"http://127.0.0.1:{port}/-/ready" in SERVICES[name]["healthcheck"]["test"][-1]
        listening.add(f"{name}:{port}")

    assert targets == listening


def test_the_receivers_can_be_used() -> None:
    notices = load_targets(CONFIGS / "receivers.yml", "receivers")
    hosts = {urlsplit(each.url).hostname for each in notices.targets}

    assert hosts <= SERVICES.keys()
    assert all(notices.inhibitions)


def test_workers_are_members_by_name() -> None:
    names = [environment(name)["AGENT_STREAMS_INSTANCE_ID"] for name in OURS if name.startswith("worker")]

    assert len(names) == len(set(names)) == 2


def test_no_port_is_open_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_whoever_is_waited_for_exists_and_can_say_so() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            match how["condition"]:
                case "service_healthy":
                    assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
                case "service_completed_successfully":
                    assert SERVICES[other]["restart"] == "on-failure", f"{name} waits for {other}"
                case condition:
                    assert condition == "service_started"
                    assert other in SERVICES
            assert not SERVICES[other].get("profiles"), f"{name} waits for {other}, which may not be started"


def test_everything_is_limited_restarted_and_of_one_version() -> None:
    for name, service in SERVICES.items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert service["restart"] in {"unless-stopped", "on-failure"}, name
        _, _, tag = service["image"].partition(":")
        assert tag, f"{name}: an image without a tag is another one tomorrow"
        assert tag != "latest", name
    assert {SERVICES[name]["image"] for name in OURS} == {f"agent-streams:{__version__}"}
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_our_containers_can_write_nothing_but_tmp_and_gain_nothing() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108  the container's
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_what_is_mounted_exists() -> None:
    used = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _, _ = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
            else:
                used.add(source)

    assert used == COMPOSE["volumes"].keys()


def test_kafka_is_one_broker_that_asks_for_one_copy() -> None:
    kafka = environment("kafka")
    copies = {value for key, value in kafka.items() if key.endswith(("REPLICATION_FACTOR", "MIN_ISR"))}
    named = {entry.split(":")[0] for entry in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}

    assert copies == {"1"}
    assert named == {urlsplit(each).scheme.upper() for each in kafka["KAFKA_LISTENERS"].split(",")}
    assert "HOST://localhost:9092" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"{kafka['KAFKA_LOG_DIRS']}" in {volume.split(":")[1] for volume in SERVICES["kafka"]["volumes"]}


def test_promtool_finds_no_fault_in_the_configuration_and_its_rules(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    config = shutil.copy(CONFIGS / "prometheus.yml", tmp_path)
    rules = shutil.copytree(ROOT / "k8s" / "rules", tmp_path / "rules")

    done = subprocess.run(
        [program, "check", "config", config], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list(rules.glob('*.yaml')))} rule files found" in done.stdout


def test_alerts_go_to_the_alertmanager_that_is_there() -> None:
    """And its tree ends in receivers that exist; `amtool check-config` says the same where it is installed."""
    prometheus = yaml.safe_load((CONFIGS / "prometheus.yml").read_text(encoding="utf-8"))
    alertmanager = yaml.safe_load((CONFIGS / "alertmanager.yml").read_text(encoding="utf-8"))
    targets = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]

    assert targets == ["alertmanager:9093"]
    assert alertmanager["route"]["receiver"] in {each["name"] for each in alertmanager["receivers"]}
    if program := shutil.which("amtool"):
        command = (program, "check-config", str(CONFIGS / "alertmanager.yml"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_its_dashboards_and_its_data() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    (source,) = yaml.safe_load((CONFIGS / "grafana/datasources/prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    (provider,) = yaml.safe_load((CONFIGS / "grafana/dashboards/agent-streams.yaml").read_text(encoding="utf-8"))[
        "providers"
    ]
    home = environment("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] == mounts["./k8s/dashboards"]
    assert home.startswith(mounts["./k8s/dashboards"])
    assert (ROOT / "k8s/dashboards" / Path(home).name).is_file()
