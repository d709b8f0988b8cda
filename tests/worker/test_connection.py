"""How Kafka is reached: every fault named at once, no secret shown, no login in the clear."""

import ssl
from pathlib import Path

import pytest

from streams.errors import ConfigError, EdgeError
from streams.worker.connection import KafkaConnection, edge_errors, tls_context


def test_plain_connection_passes_no_login() -> None:
    arguments = KafkaConnection(bootstrap="a:1,b:2").client_arguments()

    assert arguments == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}


def test_login_over_tls_passes_all_and_trusts_the_system() -> None:
    connection = KafkaConnection("a:1", "SASL_SSL", "SCRAM-SHA-512", username="me", password="secret")  # noqa: S106  made up
    arguments = connection.client_arguments()

    assert isinstance(arguments.pop("ssl_context"), ssl.SSLContext)
    assert arguments == {
        "bootstrap_servers": "a:1",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }


def test_password_is_not_shown() -> None:
    connection = KafkaConnection("a:1", "SASL_SSL", username="me", password="secret")  # noqa: S106  made up

    assert "secret" not in repr(connection)
    assert "secret" not in str(connection)


def test_login_without_tls_needs_an_explicit_word() -> None:
    with pytest.raises(ConfigError, match="unencrypted: choose SASL_SSL, or allow it explicitly"):
        KafkaConnection("a:1", "SASL_PLAINTEXT", username="me", password="p")  # noqa: S106  made up

    assert KafkaConnection("a:1", "SASL_PLAINTEXT", username="me", password="p", allow_sasl_without_tls=True).sasl  # noqa: S106  made up


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        KafkaConnection("nowhere,b:0", "SASL_SSL", "GSSAPI", username="me")

    message = str(refused.value)
    assert "'nowhere' given, expected host:port" in message
    assert "'b:0' given, expected host:port" in message
    assert "'GSSAPI' given, expected one of PLAIN" in message
    assert "needs a user name and a password" in message


def test_login_that_would_not_be_used_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="does not log in"):
        KafkaConnection("a:1", "SSL", username="me", password="p")  # noqa: S106  made up


def test_unknown_protocol_is_named() -> None:
    with pytest.raises(ConfigError, match="security protocol: 'TLS' given, expected one of PLAINTEXT, SSL"):
        KafkaConnection("a:1", "TLS")


def test_unreadable_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TLS files .*ca\.pem"):
        tls_context(tmp_path / "ca.pem", None, None)


def test_key_without_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without its certificate"):
        tls_context(None, None, tmp_path / "key.pem")


def test_timeouts_become_edge_errors_that_may_be_retried() -> None:
    with (
        pytest.raises(EdgeError, match="counting: Kafka at a:1 failed: TimeoutError") as raised,
        edge_errors(KafkaConnection("a:1"), "counting"),
    ):
        raise TimeoutError

    assert raised.value.retryable
