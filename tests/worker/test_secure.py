"""TLS and logins on a real Kafka and a real Redis: every role gets in, nobody falls back, no secret is told."""

import asyncio
import logging
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from certificates import Authority
from confluent_kafka.admin import AdminClient
from fault_table import record
from harness import Fleet, WorkerProcess, eventually, when_there
from redis_server import RedisServer
from secure_kafka import USER, SecureKafka, secure_kafka

from streams.errors import EdgeError
from streams.event.model import ToolEnd
from streams.feed import Emitter, EmitterConfig, Guard, GuardPolicy, Session
from streams.settings import PREFIX
from streams.worker import topics
from streams.worker.connection import KafkaConnection, tls_context
from streams.worker.doctor import examine
from streams.worker.loopback import HOST, free_ports
from streams.worker.mirror import Mirror

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.fault("T23"),
    # A refused connection of the client library says goodbye by TLS a moment after the loop of its test has ended.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECRET: Final = "canary-5b1e9f70"  # noqa: S105  looked for in all output
WRONG: Final = "canary-wrong-77aa"
HUNG_UP_S: Final = 60.0  # asyncio itself gives up after 30 s
REFUSED_S: Final = 10.0
EVENTS: Final = 50
CALM: Final = {"worker": 0, "exporter": 0, "notify": 0}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    kafka = secure_kafka(tmp_path_factory.mktemp("secure"), SECRET)
    try:
        yield kafka
    finally:
        kafka.cluster.stop()


@pytest.fixture(autouse=True)
async def hung_up(secured: SecureKafka) -> AsyncIterator[None]:
    """TLS ends a connection with a last word; the loop, which is closed with its test, is to stay for it."""
    yield
    ports = {int(address.rpartition(":")[2]) for address in secured.addresses.values()}
    process = psutil.Process()
    async with asyncio.timeout(HUNG_UP_S):
        while any(each.raddr and each.raddr.port in ports for each in process.net_connections("tcp")):
            await asyncio.sleep(0.02)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = tls_redis(Authority(tmp_path, "redis-authority"), "redis")
    try:
        yield server
    finally:
        server.stop()


def tls_redis(authority: Authority, name: str, **wrong: Any) -> RedisServer:
    issued = authority.issue(name, **wrong)
    server = RedisServer(certificate=issued.certificate, key=issued.key, authority=authority.file, password=SECRET)
    server.start()
    return server


def login(kafka: SecureKafka, mechanism: str, password: str = SECRET) -> KafkaConnection:
    context = tls_context(kafka.authority, None, None)
    return KafkaConnection(kafka.addresses["LOGIN"], "SASL_SSL", mechanism, USER, password, context)


def tls(kafka: SecureKafka, listener: str, *, authority: Path | None = None, own: bool = False) -> KafkaConnection:
    files = (kafka.client.certificate, kafka.client.key) if own else (None, None)
    context = tls_context(authority or kafka.authority, *files)
    return KafkaConnection(kafka.addresses[listener], "SSL", ssl_context=context)


# ---- every role gets in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_logins_over_tls_get_in(secured: SecureKafka, mechanism: str) -> None:
    assert 1 == (await topics.look(login(secured, mechanism), "nobody.")).brokers


async def test_certificates_get_in_with_and_without_one_of_ours(secured: SecureKafka) -> None:
    for connection in (tls(secured, "TLS"), tls(secured, "MUTUAL", own=True)):
        assert 1 == (await topics.look(connection, "nobody.")).brokers


async def test_every_role_works_with_tls_and_logins_and_tells_no_secret(
    secured: SecureKafka,
    redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    kafka = login(secured, "SCRAM-SHA-512")
    await topics.create(kafka, "safe.", {"events": 2, "rollups": 2})
    (metrics,) = free_ports(1)
    receivers, secret_file = tmp_path / "receivers.yaml", tmp_path / "url"
    secret_file.write_text(redis.url)
    receivers.write_text(f"receivers:\n  - {{name: cache, kind: redis, url_file: {secret_file}}}\n")
    set_ = {
        "KAFKA_BOOTSTRAP_SERVERS": secured.addresses["LOGIN"],
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": SECRET,
        "KAFKA_SSL_CAFILE": str(secured.authority),
        "TOPIC_PREFIX": "safe.",
        "REDIS_URL": redis.url,
        "LOG_LEVEL": "debug",
    }
    for name, value in set_.items():
        monkeypatch.setenv(PREFIX + name, value)
    with Fleet(tmp_path) as fleet:
        fleet.add("worker", ["-m", "streams", "worker"])
        fleet.add("exporter", ["-m", "streams", "exporter", "--port", str(metrics)])
        fleet.add("notify", ["-m", "streams", "notify", "--receivers", str(receivers), "--port", "0"])
        config = EmitterConfig.from_env(environ={**os.environ, PREFIX + "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"})
        with Emitter(config) as emitter:
            session = Session(emitter, agent="planner", session_id="s1")
            for _ in range(EVENTS):
                session.emit(ToolEnd, tool="search", status="success", duration_ms=5)
            assert emitter.flush_sync(60_000), fleet.logs()
            assert SECRET not in repr((config, emitter.stats()))
        page = f"http://{HOST}:{metrics}/metrics"
        eventually(lambda: f'agent_tool_calls_total{{status="success",tool="search"}} {EVENTS}' in _get(page) or
                   f'agent_tool_calls_total{{tool="search",status="success"}} {EVENTS}' in _get(page),
                   timeout_s=120, what=fleet.logs)  # fmt: skip
        for source in ("redis", "kafka"):
            policy = GuardPolicy(source=source, redis_url=redis.url)
            with Guard(EmitterConfig.from_env(guard=policy)) as guard:
                assert guard.wait_ready(60_000), (guard.stats(), fleet.logs())
                assert SECRET not in repr((guard, guard.stats()))
        findings = await examine(kafka, "safe.", "safe.workers", redis.url)
        clients = _clients(secured, "safe.workers")
        codes = {worker.name: worker.stop() for worker in fleet.workers}
        said = "\n".join(map(_written, fleet.workers))

    assert CALM == codes, said
    assert not [str(each) for each in findings if each.level == "fault"]
    assert {"safe.workers"} == clients, "who is connected can be told apart by name"
    assert "worker_started" in said
    for output in (said, caplog.text, repr(kafka), "".join(map(str, findings)), _get(page)):
        assert SECRET not in output


def _written(process: WorkerProcess) -> str:
    return "".join(file.read_text() for file in (process.log, process.log.with_suffix(".out")))


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


def _clients(secured: SecureKafka, group: str) -> set[str]:
    """Ask the broker how the members of a group call themselves."""
    admin = AdminClient({"bootstrap.servers": secured.addresses["PLAINTEXT"]})
    described = when_there(lambda: admin.describe_consumer_groups([group])[group].result(60), "the group")
    members = described.members
    return {str(member.client_id).partition("-aiokafka")[0] for member in members}


# ---- nobody else does ------------------------------------------------------------------------------------------

# What is wrong → how the connection is made, what is said, and the next step.
WRONG_WAYS: Final[Mapping[str, tuple[str, str, str]]] = {
    "authority": ("TLS", "signed by nobody we trust", "KAFKA_SSL_CAFILE"),
    "expired": ("EXPIRED", "certificate has expired", "renew it"),
    "name": ("ELSEWHERE", "for another name", "connect by a name that stands in it"),
    "no certificate": ("MUTUAL", "does not take our certificate", "KAFKA_SSL_CERTFILE"),
    "tls to plaintext": ("PLAINTEXT", "speaks no TLS and SSL is set", "TLS listener"),
    "no login": ("LOGIN", "wants a login and SSL is set", "KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
    "plaintext to tls": ("TLS", "speaks TLS and PLAINTEXT is set", "KAFKA_SECURITY_PROTOCOL=SSL"),
    "login in the clear to tls": ("LOGIN", "speaks TLS and SASL_PLAINTEXT is set", "KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
    "login where there is none": ("TLS", "takes no login and SASL_SSL is set", "KAFKA_SECURITY_PROTOCOL"),
    "password by PLAIN": ("LOGIN", "refused the user or the password", "KAFKA_SASL_PASSWORD"),
    "password by SCRAM-SHA-256": ("LOGIN", "refused the user or the password", "KAFKA_SASL_PASSWORD"),
    "password by SCRAM-SHA-512": ("LOGIN", "refused the user or the password", "KAFKA_SASL_PASSWORD"),
}


REFUSED_AFTER_S: Final[dict[str, float]] = {}


def wrong_way(kafka: SecureKafka, name: str) -> KafkaConnection:
    address = kafka.addresses[WRONG_WAYS[name][0]]
    if name == "plaintext to tls":
        return KafkaConnection(address)
    if name == "login in the clear to tls":
        return KafkaConnection(address, "SASL_PLAINTEXT", "PLAIN", USER, WRONG, allow_sasl_without_tls=True)
    if name == "login where there is none":
        return KafkaConnection(address, "SASL_SSL", "PLAIN", USER, WRONG, tls_context(kafka.authority, None, None))
    if name.startswith("password by "):
        return login(kafka, name.removeprefix("password by "), WRONG)
    return tls(kafka, WRONG_WAYS[name][0], authority=kafka.stranger if name == "authority" else None)


@pytest.mark.parametrize("name", WRONG_WAYS)
async def test_what_is_wrong_is_refused_at_once_and_the_next_step_named(
    secured: SecureKafka, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, said, step = WRONG_WAYS[name]
    caplog.set_level(logging.DEBUG)
    took_s: list[float] = []
    while len(took_s) < 3 and not any(each < REFUSED_S for each in took_s):
        began_s = time.monotonic()
        with pytest.raises(EdgeError) as refused:
            await topics.check(wrong_way(secured, name), "safe.")
        took_s.append(time.monotonic() - began_s)

    REFUSED_AFTER_S[name] = min(took_s)
    record("T23", "wrong", ways=len(REFUSED_AFTER_S), refused_within_s=round(max(REFUSED_AFTER_S.values()), 1))
    assert min(took_s) < REFUSED_S
    message = str(refused.value)
    assert said in message
    assert step in message
    assert not refused.value.retryable, "trying again cannot help: who supervises us has to see it"
    for output in (message, repr(refused.value.__cause__), caplog.text):
        assert SECRET not in output
        assert WRONG not in output


async def test_doctor_finds_the_same(secured: SecureKafka) -> None:
    (finding,) = await examine(wrong_way(secured, "expired"), "safe.", "g", None)

    assert ("broker", "fault") == (finding.check, finding.level)
    assert "certificate has expired" in finding.value


@pytest.mark.long
def test_processes_end_with_the_reason_and_without_a_secret(
    secured: SecureKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever supervises them sees 69; the time includes the start of two programs on a busy machine."""
    set_ = {
        "KAFKA_BOOTSTRAP_SERVERS": secured.addresses["LOGIN"],
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": WRONG,
        "KAFKA_SSL_CAFILE": str(secured.authority),
    }
    for name, value in set_.items():
        monkeypatch.setenv(PREFIX + name, value)
    with Fleet(tmp_path) as fleet:
        fleet.add("worker", ["-m", "streams", "worker"])
        fleet.add("exporter", ["-m", "streams", "exporter", "--port", "0"])
        codes = [each.wait(60) for each in fleet.workers]
        said = [each.log.read_text() for each in fleet.workers]

    assert [69, 69] == codes
    for output in said:
        assert "refused the user or the password: correct AGENT_STREAMS_KAFKA_SASL_USERNAME" in output
        assert WRONG not in output


async def test_an_emitter_that_is_refused_says_why_and_slows_nobody(
    secured: SecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    config = EmitterConfig(
        bootstrap_servers=secured.addresses["LOGIN"],
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=USER,
        sasl_password=WRONG,
        ssl_cafile=str(secured.authority),
        exit_flush_ms=0,
    )
    emitter = Emitter(config)
    Session(emitter, agent="planner", session_id="s1").emit(ToolEnd, tool="search", status="success", duration_ms=5)
    eventually(
        lambda: "refused the user or the password" in caplog.text, timeout_s=60, what=lambda: repr(emitter.stats())
    )
    emitter.close(0)

    assert WRONG not in caplog.text + repr(emitter.stats()) + repr(config)


# ---- Redis -----------------------------------------------------------------------------------------------------


async def test_redis_that_cannot_be_trusted_gets_nothing_and_the_reason_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    good = tls_redis(authority, "redis")
    expired = tls_redis(authority, "expired", expired=True)
    elsewhere = tls_redis(authority, "elsewhere", host="redis.example.com")
    ways = {
        good.url.replace(str(authority.file), str(stranger.file)): "signed by nobody we trust",
        expired.url: "certificate has expired",
        elsewhere.url: "for another name",
        good.url.replace(SECRET, WRONG): "refused the user or the password",
        good.url.replace("rediss", "redis").partition("?")[0]: "does it want TLS",
        good.url.replace("authority.pem", "missing.pem"): "a file that AGENT_STREAMS_REDIS_URL names is missing",
    }
    said: dict[str, str] = {}
    try:
        for url in ways:
            caplog.clear()
            (finding,) = [each for each in await examine(_nowhere(), "x.", "g", url) if each.check == "redis"]
            async with Mirror(url) as mirror:
                async with asyncio.timeout(60):
                    while not mirror.failures:
                        await asyncio.sleep(0.01)
            said[url] = finding.value + caplog.text
            assert finding.value in caplog.text, "the mirror and doctor say the same"
    finally:
        for server in (good, expired, elsewhere):
            server.stop()

    for url, expected in ways.items():
        assert expected in said[url]
        assert SECRET not in said[url]
        assert WRONG not in said[url]


def _nowhere() -> KafkaConnection:
    return KafkaConnection(f"{HOST}:{free_ports(1)[0]}")
