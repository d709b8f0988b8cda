"""Are the listed rights the least?  On a broker with an authorizer, each role works with its list and not without.

Who runs a role is a user of the broker with a password; the test itself is the super user.
"""

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from harness import ROOT, eventually
from pages import series, total
from typer.testing import CliRunner

from streams.__main__ import build
from streams.errors import ConfigError
from streams.settings import PREFIX
from streams.topology import TOPICS
from streams.worker import acl, topics
from streams.worker.acl import Right
from streams.worker.connection import KafkaConnection
from streams.worker.embedded import EmbeddedKafka
from streams.worker.loopback import HOST, free_ports

SECRET: Final = "only-for-this-test"  # noqa: S105  of a broker that lives as long as the test
USERS: Final = (*acl.ROLES, "nobody")
EVENT: Final = (
    b'{"kind":"tool_end","id":"e%d","time":%d,"agent":"a","session_id":"s%d","call_id":"c","tool":"t",'
    b'"status":"success","duration_ms":5}'
)
RECEIVERS: Final = """
receivers:
  - name: hook
    kind: alertmanager
    url: http://127.0.0.1:9
"""
OPERATIONS: Final = {"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}
TYPES: Final = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP,
                "transactional-id": ResourceType.TRANSACTIONAL_ID}  # fmt: skip


@pytest.mark.parametrize("role", acl.ROLES)
def test_no_role_has_more_than_its_prefix_and_no_role_may_delete(role: str) -> None:
    found = acl.rights(role, "p.")

    assert found
    assert all(each.name.startswith("p.") and each.operations and each.why for each in found)
    assert len({(each.type, each.name) for each in found}) == len(found)
    topics_named = {
        each.name.removeprefix("p.") for each in found if each.type == "topic" and each.pattern == "literal"
    }
    assert topics_named <= {topic.suffix for topic in TOPICS}


def test_only_those_who_change_what_others_see_may_write_commands() -> None:
    writers = {role for role in acl.ROLES for each in acl.rights(role, "p.")
               if each.name == "p.commands" and "Write" in each.operations}  # fmt: skip

    assert {"operator", "admin"} == writers, "a replay takes erasures along"


def test_an_unknown_role_is_named() -> None:
    with pytest.raises(ConfigError, match="'king' given, expected one of worker"):
        acl.rights("king", "p.")


def test_both_formats_hold_every_right() -> None:
    shown = CliRunner().invoke(build(["acls"]), ["acls", "--role", "worker", "--prefix", "p.", "--principal", "User:w"])
    yaml = CliRunner().invoke(build(["acls"]), ["acls", "--role", "worker", "--prefix", "p.", "--format", "strimzi"])

    found = acl.rights("worker", "p.")
    assert len(found) == len([line for line in shown.stdout.splitlines() if "--add --allow-principal 'User:w'" in line])
    for each in found:
        assert f"--{each.type} '{each.name}' --resource-pattern-type {each.pattern}" in shown.stdout
        assert f'name: "{each.name}"' in yaml.stdout
    assert len(found) == yaml.stdout.count("- resource:")


class Guarded:
    """A broker that asks who is there: the super user without a login, the others with one."""

    def __init__(self, folder: Path) -> None:
        (self.login_port, open_port) = free_ports(2)
        listeners = f"PLAINTEXT://{HOST}:{open_port},LOGIN://{HOST}:{self.login_port}"
        (controller,) = free_ports(1, avoid=[self.login_port, open_port])
        users = " ".join(f'user_{user}="{SECRET}"' for user in USERS)
        jaas = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        self.kafka = EmbeddedKafka(folder, ports=[open_port], settings={
            "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": jaas,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        })  # fmt: skip

    def login(self, user: str) -> KafkaConnection:
        return KafkaConnection(
            f"{HOST}:{self.login_port}", "SASL_PLAINTEXT", "PLAIN", user, SECRET, allow_sasl_without_tls=True
        )

    def environment(self, user: str) -> dict[str, str]:
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{self.login_port}", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": SECRET, "KAFKA_ALLOW_SASL_WITHOUT_TLS": "true",
            "TOPIC_PREFIX": "acl.",
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**kept, "PYTHONPATH": str(ROOT), **{PREFIX + name: value for name, value in given.items()}}

    def grant(self, user: str, some: Sequence[Right]) -> None:
        """Let a user do exactly this."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap})
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{user}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        admin.delete_acls([everything])[everything].result(30)
        bindings = [
            AclBinding(
                TYPES[each.type],
                each.name,
                ResourcePatternType[each.pattern.upper()],
                f"User:{user}",
                "*",
                AclOperation[OPERATIONS.get(operation, operation.upper())],
                AclPermissionType.ALLOW,
            )
            for each in some
            for operation in each.operations
        ]
        for future in (admin.create_acls(bindings) if bindings else {}).values():
            future.result(30)

    @contextmanager
    def running(self, folder: Path, user: str, *arguments: str) -> Iterator[None]:
        """Run the program as a user for as long as the block runs."""
        with (folder / f"{user}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streams", *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self.environment(user), cwd=ROOT,
            )  # fmt: skip
            try:
                yield
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def logs(self, folder: Path) -> str:
        """Return what everybody has written, for a failure."""
        return "\n".join(f"{file.name}: {file.read_text()[-3000:]}" for file in sorted(folder.glob("*.log")))

    def run(self, user: str, *arguments: str, code: int = 0) -> str:
        """Run the program as a user; it must end with this code."""
        done = subprocess.run(
            [sys.executable, "-m", "streams", *arguments], capture_output=True, text=True, timeout=120,
            env=self.environment(user), cwd=ROOT, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert code == done.returncode, said
        assert SECRET not in said
        return said


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    broker = Guarded(tmp_path_factory.mktemp("guarded"))
    with broker.kafka:
        asyncio.run(topics.create(KafkaConnection(broker.kafka.bootstrap), "acl.", {"events": 1, "rollups": 1}))
        yield broker


@pytest.mark.kafka
@pytest.mark.long
def test_each_role_works_with_exactly_its_list(guarded: Guarded, tmp_path: Path) -> None:
    """An event is published, folded, shown and reset, an alert topic is followed, topics are checked: all at once."""
    for role in acl.ROLES:
        guarded.grant(role, acl.rights(role, "acl."))
    now_ms = int(time.time() * 1000)
    asyncio.run(publish(guarded.login("publisher"), [EVENT % (n, now_ms, n) for n in range(20)]))
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(EVENT % (n, now_ms, n) for n in range(20, 30)) + b"\n")
    guarded.run("ingest", "publish", str(file))
    (tmp_path / "receivers.yaml").write_text(RECEIVERS)
    port, notices = free_ports(2)
    with ExitStack() as stack:
        for user, *arguments in (
            ("worker", "worker"),
            ("exporter", "exporter", "--port", str(port)),
            ("notify", "notify", "--receivers", str(tmp_path / "receivers.yaml"), "--port", str(notices)),
        ):
            stack.enter_context(guarded.running(tmp_path, user, *arguments))

        def events_shown() -> bool:
            return total(series(page(port)), "agent_events_total") == 30

        eventually(events_shown, timeout_s=90, what=lambda: guarded.logs(tmp_path))
        eventually(lambda: page(notices), timeout_s=60, what=lambda: guarded.logs(tmp_path))
        tool = ("--dimension", "tool", "--label", "tool=t")
        assert '"applied"' in guarded.run("operator", "reset", *tool, "--yes", "--json", "--timeout", "60")
        assert '"ok": true' in guarded.run("operator", "doctor", "--json")
        assert "t" in guarded.run("operator", "tables", "tools", "--json")
        asyncio.run(read_as_guards_do(guarded.login("guard"), ["acl.breakers", "acl.alerts"]))
    guarded.run("admin", "topics", "check")
    guarded.run("admin", "topics", "create")


@pytest.mark.kafka
@pytest.mark.long
@pytest.mark.parametrize(
    ("role", "missing", "arguments", "code"),
    [
        ("worker", "acl.events", ("worker",), 78),
        ("worker", "acl.rollups.changelog", ("worker",), 78),
        ("worker", "acl.workers", ("worker",), 69),
        ("worker", "acl.workers-", ("worker",), 69),
        ("exporter", "acl.alerts", ("exporter", "--port", "0"), 78),
        ("operator", "acl.commands", ("reset", "--all", "--yes", "--timeout", "20"), 69),
        ("ingest", "acl.events", ("publish", "EVENTS"), 78),
        ("admin", "acl.", ("topics", "create"), 69),
    ],
)
def test_without_one_entry_a_role_is_refused_and_says_where(
    guarded: Guarded, tmp_path: Path, role: str, missing: str, arguments: tuple[str, ...], code: int
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(EVENT % (99, 0, 99))
    every = acl.rights(role, "acl.")
    left = [each for each in every if each.name != missing]
    assert len(left) == len(every) - 1
    guarded.grant(role, left)
    try:
        said = guarded.run(role, *(str(file) if each == "EVENTS" else each for each in arguments), code=code)
    finally:
        guarded.grant(role, every)

    assert "ACL" in said or missing in said, said


async def publish(connection: KafkaConnection, values: Sequence[bytes]) -> None:
    """Publish as the emitter does: idempotent, acknowledged by all."""
    async with AIOKafkaProducer(**connection.client_arguments(), enable_idempotence=True, acks="all") as producer:
        for value in values:
            await producer.send_and_wait("acl.events", value)


async def read_as_guards_do(connection: KafkaConnection, names: Sequence[str]) -> None:
    """Read topics to their ends, as an agent process does before its first call."""
    for name in names:
        consumer = AIOKafkaConsumer(**connection.consumer_arguments(), isolation_level="read_committed")
        async with consumer:
            tp = TopicPartition(name, 0)
            consumer.assign([tp])
            begin = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, begin)
            await consumer.getmany(timeout_ms=100)
            assert begin == 0


def page(port: int) -> str:
    """Return what a port of ours shows; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
    except OSError:
        return ""
    return text
