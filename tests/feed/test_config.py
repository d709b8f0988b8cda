"""Settings from arguments and from the environment: every fault is named at once, and no password is ever shown."""

from pathlib import Path
from typing import Any

import pytest

from streams.errors import ConfigError
from streams.feed.batch import BatchPolicy
from streams.feed.config import EmitterConfig
from streams.feed.spool_policy import SpoolPolicy
from streams.settings import known_variables

LOGIN = {
    "AGENT_STREAMS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "AGENT_STREAMS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "AGENT_STREAMS_KAFKA_SASL_USERNAME": "agent",
    "AGENT_STREAMS_KAFKA_SASL_PASSWORD": "hunter2",
}


def test_without_settings_it_is_the_local_broker_and_the_usual_topic() -> None:
    config = EmitterConfig.from_env({})

    assert config == EmitterConfig(spool=SpoolPolicy(size_bytes=256 * 1024 * 1024))
    assert (config.bootstrap_servers, config.topic) == ("localhost:9092", "agent.events")


def test_the_environment_reaches_every_part() -> None:
    config = EmitterConfig.from_env(
        {
            **LOGIN,
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": "k1:9092,k2:9093",
            "AGENT_STREAMS_TOPIC_PREFIX": "team.",
            "AGENT_STREAMS_EMITTER_AGE_MS": "100",
            "AGENT_STREAMS_EMITTER_QUEUE_EVENTS": "7",
            "AGENT_STREAMS_EMITTER_EXIT_FLUSH_MS": "0",
            "AGENT_STREAMS_EMITTER_COMPRESSION": "none",
        }
    )

    assert config.topic == "team.events"
    assert config.batch == BatchPolicy(age_ms=100, queue_events=7)
    assert (config.exit_flush_ms, config.compression) == (0, "none")
    arguments = config.client_arguments()
    assert arguments.pop("ssl_context").check_hostname
    assert arguments == {
        "bootstrap_servers": "k1:9092,k2:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "agent",
        "sasl_plain_password": "hunter2",
    }


def test_arguments_win_over_the_environment() -> None:
    config = EmitterConfig.from_env({"AGENT_STREAMS_TOPIC_PREFIX": "team."}, topic_prefix="mine.")

    assert config.topic_prefix == "mine."


def test_a_password_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(LOGIN["AGENT_STREAMS_KAFKA_SASL_PASSWORD"] + "\n")
    environ = {name: value for name, value in LOGIN.items() if not name.endswith("PASSWORD")}

    config = EmitterConfig.from_env({**environ, "AGENT_STREAMS_KAFKA_SASL_PASSWORD_FILE": str(file)})

    assert config == EmitterConfig.from_env(LOGIN)


def test_the_password_is_not_shown() -> None:
    assert "hunter2" not in repr(EmitterConfig.from_env(LOGIN))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        EmitterConfig.from_env(
            {
                "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": "nowhere",
                "AGENT_STREAMS_KAFKA_SECURITY_PROTOCOL": "TLS",
                "AGENT_STREAMS_KAFKA_SASL_PASSWORD_FILE": "/does/not/exist",
                "AGENT_STREAMS_EMITTER_COMPRESSION": "rar",
                "AGENT_STREAMS_EMITTER_AGE_MS": "soon",
                "AGENT_STREAMS_EMITTER_QUEUE_EVENTS": "0",
            }
        )
    said = str(caught.value)

    for part in ("'nowhere'", "'TLS'", "/does/not/exist", "'rar'", "EMITTER_AGE_MS: 'soon'", "queue_events: 0"):
        assert part in said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs a user name and a password"),
        ({"sasl_username": "a", "sasl_password": "hunter2"}, "has none: choose SASL_SSL"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_username": "a", "sasl_password": "hunter2"}, "unencrypted"),
        ({"send_timeout_ms": 1}, "send_timeout_ms: 1 given"),
    ],
)
def test_combinations_that_would_fail_or_leak_later_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        EmitterConfig(**fields)

    assert "hunter2" not in str(caught.value)


def test_an_unencrypted_login_has_to_be_allowed_in_words() -> None:
    environ = {**LOGIN, "AGENT_STREAMS_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}

    config = EmitterConfig.from_env({**environ, "AGENT_STREAMS_KAFKA_ALLOW_SASL_WITHOUT_TLS": "true"})

    assert config.sasl
    assert not config.tls


def test_variable_nobody_reads_is_one_warning_and_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    """However many emitters a process has; what Kubernetes sets and what only the worker reads is none."""
    environ = {
        "AGENT_STREAMS_EMITTER_AGE": "hunter2",
        "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVER": "kafka:9092",
        "AGENT_STREAMS_EMITTER_XYZZY": "1",
        "AGENT_STREAMS_KAFKA_SERVICE_HOST": "10.0.0.7",
        "AGENT_STREAMS_SESSION_TIMEOUT_MS": "10000",
        "AGENT_STREAMS_KAFKA_SASL_PASSWORD_FILE": "",
    }
    for _ in range(3):
        assert EmitterConfig.from_env(environ) == EmitterConfig.from_env({})

    (record,) = caplog.records
    said = record.getMessage()
    assert record.levelname == "WARNING"
    assert "AGENT_STREAMS_EMITTER_AGE (meant: AGENT_STREAMS_EMITTER_AGE_MS)" in said
    assert "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVER (meant: AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS)" in said
    assert "AGENT_STREAMS_EMITTER_XYZZY" in said
    for absent in ("hunter2", "SERVICE_HOST", "SESSION_TIMEOUT", "PASSWORD_FILE"):
        assert absent not in said


def test_everything_the_worker_reads_of_kafka_the_emitter_reads_too(caplog: pytest.LogCaptureFixture) -> None:
    """Else a worker's variable would be called unknown in an agent's process."""
    names = [name for name in known_variables() if name.startswith("AGENT_STREAMS_KAFKA_")]
    EmitterConfig.from_env(dict.fromkeys(names, ""))

    assert names
    assert not caplog.records


def test_a_profile_sets_defaults_and_nothing_that_is_set() -> None:
    production = EmitterConfig.from_env({})
    development = EmitterConfig.from_env({"AGENT_STREAMS_PROFILE": "development"})
    mixed = EmitterConfig.from_env(
        {
            "AGENT_STREAMS_PROFILE": "development",
            "AGENT_STREAMS_EMITTER_PAYLOADS": "false",
            "AGENT_STREAMS_EMITTER_AGE_MS": "70",
            "AGENT_STREAMS_EMITTER_SAMPLE": "0.25",
        }
    )

    assert (False, 0.1, 20, 1.0) == (
        production.payloads, production.payload_sample, production.batch.age_ms, production.sample,
    )  # fmt: skip
    assert (True, 1.0, 5) == (development.payloads, development.payload_sample, development.batch.age_ms)
    assert (True, False) == (production.spool.on, development.spool.on)
    assert (False, 70, 0.25) == (mixed.payloads, mixed.batch.age_ms, mixed.sample)


def test_faults_of_shares_profiles_and_patterns_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "redaction.txt"
    file.write_text("slow (a+)+\n")
    with pytest.raises(ConfigError) as refused:
        EmitterConfig.from_env(
            {
                "AGENT_STREAMS_PROFILE": "staging",
                "AGENT_STREAMS_EMITTER_SAMPLE": "half",
                "AGENT_STREAMS_EMITTER_PAYLOAD_SAMPLE": "2",
                "AGENT_STREAMS_REDACTION_FILE": str(file),
            }
        )

    for part in ("PROFILE: 'staging'", "EMITTER_SAMPLE: 'half'", "payload_sample: 2.0", "REDACTION_FILE: line 1"):
        assert part in str(refused.value)


def test_patterns_of_a_file_come_before_the_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "redaction.txt"
    file.write_text("# ours\ncustomer CUST-\\d{6}\n")
    config = EmitterConfig.from_env({"AGENT_STREAMS_REDACTION_FILE": str(file)})

    assert config.redactor is not None
    assert "[customer] [email]" == config.redactor.text("CUST-123456 a@example.com").text
