"""What a person sets, what is made of it, and what the messages say when it is wrong."""

import os
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import settings as module
from streams.errors import ConfigError
from streams.feed.config import EmitterConfig
from streams.profiles import EMITTER_DEFAULTS, WORKER_DEFAULTS
from streams.settings import HIDDEN, PREFIX, Settings, environment, known_variables, reference, secret_fields, variable
from streams.variables import (
    COMPRESSIONS,
    EMITTER,
    FOLDER,
    GUARD_SOURCES,
    SHARE,
    SWITCH,
    UNKNOWN_WAYS,
    EmitterVariable,
)
from streams.worker.cli.options import connection
from streams.worker.exporter import PORT
from streams.worker.wiring import payloads, price_book, redactor, rules, worker_config

DOCS = Path(__file__).parent.parent / "docs" / "settings.md"
SECRET = "hunter2-and-more"  # noqa: S105  looked for in messages


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nobody has set anything of ours."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def faults(**values: str) -> list[str]:
    """Load with these variables set; return one line per fault."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(PREFIX + name, value)
        with pytest.raises(ConfigError) as caught:
            Settings.load()
    return str(caught.value).splitlines()[1:]


def loaded(**values: str) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(PREFIX + name, value)
        return Settings.load()


def test_nothing_has_to_be_set() -> None:
    found = Settings.load()

    assert found.topic_prefix == "agent."
    assert found.exporter_host == found.health_host == "127.0.0.1"
    assert found.health_port is None
    assert rules(found).rules


def test_every_fault_is_named_at_once_with_variable_value_expectation_and_next_step() -> None:
    lines = faults(
        HEARTBEAT_MS="often",
        EXPORTER_PORT="70000",
        LOG_LEVEL="loud",
        TOPIC_PREFIX="a b",
        KAFKA_BOOTSTRAP_SERVERS="nowhere",
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_BOOTSTRAP="kafka:9092",
    )

    for name, value in (
        ("HEARTBEAT_MS", "'often'"),
        ("EXPORTER_PORT", "'70000'"),
        ("LOG_LEVEL", "'loud'"),
        ("TOPIC_PREFIX", "'a b'"),
        ("KAFKA_BOOTSTRAP_SERVERS", "'nowhere'"),
        ("KAFKA_SASL_USERNAME", "nothing"),
        ("KAFKA_SASL_PASSWORD", "nothing"),
        ("KAFKA_BOOTSTRAP", repr(HIDDEN)),
    ):
        (line,) = [line for line in lines if f" {PREFIX}{name} = {value}: expected " in line]
        assert "Next: " in line
    assert len(lines) == 8


def test_misspelt_variable_is_refused_with_the_name_that_was_meant() -> None:
    (line,) = faults(KAFKA_BOOTSTRAP_SERVER="kafka:9092")

    assert "rename it to AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS" in line


def test_variables_of_the_emitter_are_not_ours_to_refuse() -> None:
    assert loaded(EMITTER_AGE_MS="5").topic_prefix == "agent."


def test_misspelt_variable_of_the_emitter_is_refused_too() -> None:
    (line,) = faults(EMITTER_AGE="5")

    assert "rename it to AGENT_STREAMS_EMITTER_AGE_MS" in line


def test_emitter_and_worker_read_the_same_variables_for_the_same_broker() -> None:
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SASL_USERNAME": "worker",
        "KAFKA_SASL_PASSWORD": SECRET,
        "KAFKA_ALLOW_SASL_WITHOUT_TLS": "true",
        "TOPIC_PREFIX": "mine.",
    }

    ours = loaded(**values)
    theirs = EmitterConfig.from_env({PREFIX + name: value for name, value in values.items()})
    assert connection(ours).client_arguments() == theirs.client_arguments()
    assert theirs.topic == f"{ours.topic_prefix}events"


def test_what_kubernetes_sets_for_a_service_is_overlooked_or_explained() -> None:
    """A Service called agent-streams-exporter gives every pod variables that look like ours."""
    found = loaded(
        EXPORTER_SERVICE_HOST="10.0.0.7", EXPORTER_SERVICE_PORT="8464", EXPORTER_PORT_8464_TCP_ADDR="10.0.0.7"
    )
    (line,) = faults(EXPORTER_PORT="tcp://10.0.0.7:8464")

    assert found.exporter_port == PORT
    assert "enableServiceLinks: false" in line


# ---- secrets ----------------------------------------------------------------------------------------------------


def sasl(**more: str) -> dict[str, str]:
    return {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "worker", **more}


def test_every_secret_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    for field in secret_fields():
        assert variable(field) + "_FILE" in known_variables()

    found = loaded(**sasl(KAFKA_SASL_PASSWORD_FILE=str(file)))
    assert found.kafka_sasl_password is not None
    assert found.kafka_sasl_password.get_secret_value() == SECRET


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_secret_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    name = "secret"
    monkeypatch.chdir(tmp_path)  # long paths are cut in messages
    if content is not None:
        Path(name).write_bytes(content)

    assert any(f"KAFKA_SASL_PASSWORD_FILE = '{name}'" in line for line in faults(**sasl(KAFKA_SASL_PASSWORD_FILE=name)))


def test_secret_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)

    lines = faults(**sasl(KAFKA_SASL_PASSWORD=SECRET, KAFKA_SASL_PASSWORD_FILE=str(file)))
    assert any("leave one of the two out" in line for line in lines)


def test_secrets_are_in_no_message_and_in_no_repr() -> None:
    lines = faults(KAFKA_SASL_PASSWORD=SECRET, REDIS_URL=SECRET, KAFKA_SASL_PASSWROD=SECRET)
    found = loaded(**sasl(KAFKA_SASL_PASSWORD=SECRET, REDIS_URL=f"redis://:{SECRET}@localhost:6379"))

    assert len(lines) == 3
    assert not any(SECRET in line for line in lines)
    assert SECRET not in repr(found)
    assert SECRET not in str(found)


# ---- combinations -----------------------------------------------------------------------------------------------


@pytest.mark.fault("T23")
@pytest.mark.parametrize(
    ("values", "named", "step"),
    [
        ({"HEARTBEAT_MS": "5000"}, "HEARTBEAT_MS = 5000", "3333"),
        ({"REQUEST_TIMEOUT_MS": "9000"}, "REQUEST_TIMEOUT_MS = 9000", "15000"),
        ({"FLUSH_IDLE_MS": "600"}, "FLUSH_IDLE_MS = 600", "500"),
        ({"FLUSH_BUSY_MS": "3000"}, "FLUSH_BUSY_MS = 3000", "2000"),
        ({"HEALTH_PORT": "8464"}, "HEALTH_PORT = 8464", "8465"),
        ({"RULES_FILE": "/nonexistent/rules.yaml"}, "RULES_FILE", "correct the path"),
        ({"KAFKA_SASL_USERNAME": "me"}, "KAFKA_SASL_USERNAME = 'me'", "SASL_SSL"),
        ({"KAFKA_SSL_CAFILE": __file__}, "KAFKA_SSL_CAFILE", "SSL or SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEYFILE": __file__}, "KAFKA_SSL_CERTFILE", "set AGENT_STREAMS"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL", "redis://"),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_USERNAME": "me",
                "KAFKA_SASL_PASSWORD": SECRET,
            },
            "KAFKA_SECURITY_PROTOCOL = 'SASL_PLAINTEXT'",
            "ALLOW_SASL_WITHOUT_TLS",
        ),
    ],
)
def test_combination_that_cannot_be_is_refused_with_the_way_out(values: dict[str, str], named: str, step: str) -> None:
    (line,) = faults(**values)

    assert PREFIX + named in line
    assert step in line.partition("Next: ")[2]


@given(
    session=st.integers(1_000, 300_000),
    heartbeat=st.integers(100, 100_000),
    request=st.integers(1_001, 600_000),
    rebalance=st.integers(1_000, 600_000),
)
def test_whatever_the_settings_accept_a_worker_accepts(
    session: int, heartbeat: int, request: int, rebalance: int
) -> None:
    """The settings name the variables; the configuration's own bounds must be no narrower."""
    try:
        found = Settings.load(
            kafka_bootstrap_servers="kafka:9092",
            session_timeout_ms=session,
            heartbeat_ms=heartbeat,
            request_timeout_ms=request,
            rebalance_timeout_ms=rebalance,
        )
    except ConfigError:
        return

    config = worker_config(found, connection(found))
    assert config.session_timeout_ms == session
    assert config.heartbeat_ms == heartbeat


def test_command_line_wins_over_the_environment_and_nothing_given_changes_nothing() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable("topic_prefix"), "mine.")
        patch.setenv(variable("heartbeat_ms"), "500")
        found = Settings.load(topic_prefix="yours.", heartbeat_ms=None)

    assert found.topic_prefix == "yours."
    assert found.heartbeat_ms == 500


def test_wrong_value_of_the_command_line_is_named_as_the_setting_it_is() -> None:
    with pytest.raises(ConfigError, match="AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS = 'nowhere'"):
        Settings.load(kafka_bootstrap_servers="nowhere")


def test_rules_that_are_wrong_are_told_with_the_file_they_are_in(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("groups: 5\n")

    with pytest.raises(ConfigError, match=str(file)):
        rules(loaded(RULES_FILE=str(file)))


def test_prices_are_those_of_the_file_and_then_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text('prices: [{model: house-*, input: "2"}]\n')
    shipped, both = price_book(loaded()), price_book(loaded(PRICES_FILE=str(file)))

    assert shipped is not None
    assert both is not None
    assert shipped.names == both.names[1:]
    assert both.names[0].startswith("overrides ")
    assert shipped.names[0].startswith("genai-prices ")
    assert both.price(None, "house-1", 0, 3, 0, 0, 0, 0) == 6_000
    assert price_book(loaded(PRICING="false")) is None


def test_prices_that_are_wrong_are_told_with_the_file_they_are_in(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("prices: [{model: m, input: 2.5}, {input: '1'}]\n")

    with pytest.raises(ConfigError, match=str(file)) as caught:
        price_book(loaded(PRICES_FILE=str(file)))
    assert "price 1, input = 2.5" in str(caught.value)
    assert "price 2, model" in str(caught.value)


def test_a_price_file_that_is_not_there_or_is_for_nothing_is_a_fault(tmp_path: Path) -> None:
    (line,) = faults(PRICES_FILE=str(tmp_path / "none.yaml"))
    assert "AGENT_STREAMS_PRICES_FILE" in line

    (line,) = faults(PRICES_FILE=str(tmp_path), PRICING="no")
    assert "AGENT_STREAMS_PRICING is false" in line


def test_child_gets_our_environment_with_some_settings_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("kafka_sasl_password") + "_FILE", "/secret")
    monkeypatch.setenv(variable("app_id"), "mine")

    child = environment(topic_prefix="demo.", kafka_sasl_password=None)
    assert child[variable("topic_prefix")] == "demo."
    assert child[variable("app_id")] == "mine"
    assert child["PATH"] == os.environ["PATH"]
    assert variable("kafka_sasl_password") + "_FILE" not in child


# ---- documentation ----------------------------------------------------------------------------------------------


def test_documentation_says_what_the_program_reads() -> None:
    """To write it anew: agent-streams settings --reference, between the two comments."""
    _, _, rest = DOCS.read_text("utf-8").partition("<!-- settings -->\n")
    table, end, _ = rest.partition("<!-- end -->")

    assert end, "docs/settings.md has lost its comments"
    assert table == reference()


@pytest.mark.parametrize("each", [each for each in EMITTER if each.words is None], ids=lambda each: each.name)
def test_what_is_said_of_the_emitters_variables_is_so(each: EmitterVariable) -> None:
    """Its default is the configuration's, its bounds are taken, and what is behind them is refused."""

    def read(value: object) -> str:
        return str(attrgetter(each.field)(EmitterConfig.from_env({each.name: str(value)})))

    least, most = each.bounds or (0, 0)
    taken = (least, most or 10**9) if each.bounds else COMPRESSIONS
    refused = (least - 1, *([most + 1] if most else ())) if each.bounds else ("rar",)

    assert each.default == str(attrgetter(each.field)(EmitterConfig.from_env({})))
    for value in taken:
        assert str(value) == read(value)
    for value in refused:
        with pytest.raises(ConfigError):
            read(value)


@pytest.mark.parametrize("each", [each for each in EMITTER if each.words is not None], ids=lambda each: each.name)
def test_what_is_said_of_the_emitters_shares_and_switches_is_so(each: EmitterVariable) -> None:
    def read(value: str) -> str:
        environ = {each.name: value, "AGENT_STREAMS_REDIS_URL": "redis://localhost:6379/0"}
        return str(attrgetter(each.field)(EmitterConfig.from_env(environ))).lower()

    taken, refused = {
        SHARE: (("0.0", "0.5", "1.0"), ("-0.1", "1.1", "half")),
        SWITCH: (("true", "false"), ("maybe",)),
        f"one of {', '.join(GUARD_SOURCES)}": (GUARD_SOURCES, ("radis",)),
        f"one of {', '.join(UNKNOWN_WAYS)}": (UNKNOWN_WAYS, ("perhaps",)),
        FOLDER: (("/var/spool/agents",), ()),
    }[each.words or ""]
    assert each.default == str(attrgetter(each.field)(EmitterConfig.from_env({}))).lower()
    assert list(taken) == [read(value) for value in taken]
    for value in refused:
        with pytest.raises(ConfigError):
            read(value)


def test_every_setting_says_what_it_means_and_takes() -> None:
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert module.expected(name), name
        assert "None" not in module.expected(name), name


def test_default_port_of_the_exporter_is_the_exporters() -> None:
    assert Settings.model_fields["exporter_port"].default == PORT


def test_numbers_at_their_bounds_are_taken_and_behind_them_refused() -> None:
    bounded: dict[str, tuple[Any, Any]] = {"EVENTS_PARTITIONS": (1, 10_000), "EXPORTER_PORT": (0, 65_535)}
    for name, (least, most) in bounded.items():
        field = name.lower()
        assert getattr(loaded(**{name: str(least)}), field) == least
        assert getattr(loaded(**{name: str(most)}), field) == most
        assert faults(**{name: str(least - 1)})
        assert faults(**{name: str(most + 1)})


# ---- profiles, bodies and OTLP -----------------------------------------------------------------------------------


def test_a_profile_sets_defaults_and_nothing_that_is_set() -> None:
    production, development = loaded(), loaded(PROFILE="development")
    mixed = loaded(PROFILE="development", LOG_LEVEL="warning", PAYLOADS="false")

    assert ("info", False, 50) == (production.log_level, production.payloads, production.flush_idle_ms)
    assert ("debug", True, 10) == (development.log_level, development.payloads, development.flush_idle_ms)
    assert ("warning", False, 10) == (mixed.log_level, mixed.payloads, mixed.flush_idle_ms)
    assert all(
        "PROFILE = 'staging': expected one of production, development" in line for line in faults(PROFILE="staging")
    )


def test_every_profile_names_settings_that_exist() -> None:
    for defaults in WORKER_DEFAULTS.values():
        assert defaults.keys() <= Settings.model_fields.keys()
    for name in EMITTER_DEFAULTS:
        EmitterConfig.from_env({PREFIX + "PROFILE": name})


def test_bodies_are_written_only_where_it_is_set_and_with_its_patterns(tmp_path: Path) -> None:
    file = tmp_path / "redaction.txt"
    file.write_text("customer CUST-\\d{6}\n")
    policy = payloads(loaded(PAYLOADS="true", PAYLOAD_CHARS="500", REDACTION_FILE=str(file)))

    assert (False, True) == (payloads(loaded()).on, policy.on)
    assert 500 == policy.chars_max
    assert "[customer]" == policy.redactor.text("CUST-123456").text
    file.write_text("customer (a+)+\n")
    with pytest.raises(ConfigError, match=f"REDACTION_FILE = {file}: line 1: redaction pattern customer"):
        redactor(loaded(REDACTION_FILE=str(file)))


def test_faults_of_otlp_name_the_variable_and_show_no_secret() -> None:
    lines = faults(OTLP_ENDPOINT=f"http://me:{SECRET}@collector", OTLP_HEADERS=SECRET, OTLP_TIMEOUT_MS="70000")

    assert ["OTLP_ENDPOINT", "OTLP_HEADERS", "OTLP_TIMEOUT_MS"] == [
        name for line in lines for name in ("OTLP_ENDPOINT", "OTLP_HEADERS", "OTLP_TIMEOUT_MS") if f"{name} =" in line
    ]
    assert not any(SECRET in line for line in lines)
