"""A real Kafka that is reached in many ways: with and without TLS and logins, and with certificates that are wrong."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from certificates import Authority, Issued
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from harness import eventually

from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import HOST, free_ports

USER: Final = "agent"
ITERATIONS: Final = 4096  # the fewest that Kafka takes

# Listener → protocol. Each one has a certificate of its own.
LISTENERS: Final = {"TLS": "SSL", "MUTUAL": "SSL", "LOGIN": "SASL_SSL", "EXPIRED": "SSL", "ELSEWHERE": "SSL"}


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """Where it is, and what its clients need."""

    cluster: EmbeddedKafka
    addresses: dict[str, str]  # by listener; PLAINTEXT is the one without anything
    authority: Path
    stranger: Path  # an authority that has signed nothing here
    client: Issued
    password: str


def secure_kafka(folder: Path, password: str) -> SecureKafka:
    """Start it; the caller stops its cluster."""
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    good, client = authority.issue("broker"), authority.issue("client")
    stores = {
        "TLS": good,
        "MUTUAL": good,
        "LOGIN": good,
        "EXPIRED": authority.issue("expired", expired=True),
        "ELSEWHERE": authority.issue("elsewhere", host="kafka.example.com"),
    }
    plain, controller, *others = free_ports(2 + len(LISTENERS))
    ports = dict(zip(LISTENERS, others, strict=True))
    data = folder / "kafka"
    data.mkdir()
    (data / "cluster.json").write_text(json.dumps({"ports": [plain], "controller_ports": [controller]}))
    named = {"PLAINTEXT": plain, **ports}
    settings = {
        "listeners": ",".join(
            [*(f"{name}://{HOST}:{port}" for name, port in named.items()), f"CONTROLLER://{HOST}:{controller}"]
        ),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in named.items()),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}"
            for name, protocol in {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **LISTENERS}.items()
        ),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
        f'required user_{USER}="{password}";',
        **{
            f"listener.name.login.scram-sha-{bits}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            for bits in (256, 512)
        },
    }
    for name, issued in stores.items():
        at = f"listener.name.{name.lower()}.ssl"
        settings |= {
            f"{at}.keystore.type": "PEM",
            f"{at}.keystore.location": str(issued.both),
            f"{at}.truststore.type": "PEM",
            f"{at}.truststore.location": str(authority.file),
            f"{at}.client.auth": "required" if name == "MUTUAL" else "none",
        }
    cluster = EmbeddedKafka(data, ports=[plain], settings=settings)
    cluster.start(180)
    _add_users(f"{HOST}:{plain}", password)
    for bits in (256, 512):  # the broker learns of its users a moment after it was told of them
        there = (f"{HOST}:{ports['LOGIN']}", authority.file, f"SCRAM-SHA-{bits}", password)
        eventually(partial(_gets_in, *there), timeout_s=60, what="the users")
    addresses = {name: f"{HOST}:{port}" for name, port in named.items()}
    return SecureKafka(cluster, addresses, authority.file, stranger.file, client, password)


def _gets_in(address: str, authority: Path, mechanism: str, password: str) -> bool:
    login = {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": USER}
    trust = {"ssl.ca.location": str(authority), "ssl.endpoint.identification.algorithm": "none"}
    admin = AdminClient({"bootstrap.servers": address, **login, "sasl.password": password, **trust, "log_level": 2})
    try:
        admin.list_topics(timeout=5)
    except KafkaException:
        return False
    return True


def _add_users(bootstrap: str, password: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    kinds = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    for kind in kinds:  # one after the other: Kafka alters a user once per request
        wanted = UserScramCredentialUpsertion(USER, ScramCredentialInfo(kind, ITERATIONS), password.encode())
        for answer in admin.alter_user_scram_credentials([wanted]).values():
            answer.result(30)
