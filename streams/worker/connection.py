"""How do we reach Kafka, and with whose name?  One frozen value that every client of ours is built from.

Never opens a connection itself, never shows a password, and never sends one in the clear unless told to.
"""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from streams.errors import ConfigError, EdgeError
from streams.feed.reach import obstacle

SECURITY_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_REFUSED: Final = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how to log in; a faulty combination raises ConfigError with every fault.

    Without `ssl_context` a TLS protocol trusts the system's certificate authorities.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    allow_sasl_without_tls: bool = False
    rack: str | None = None  # where we are: brokers that may choose let us read from a copy in the same place

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def tls(self) -> bool:
        """Is the connection encrypted?"""
        return self.security_protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Is there a login?"""
        return self.security_protocol.startswith("SASL")

    def client_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client takes; they hold the password."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
        }
        if self.tls:
            arguments["ssl_context"] = self.ssl_context or ssl.create_default_context()
        if self.sasl:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    def consumer_arguments(self) -> dict[str, Any]:
        """Return those that consumers take: the same, and where we are."""
        return {**self.client_arguments(), "client_rack": self.rack}

    def _faults(self) -> Iterator[str]:
        for address in self.bootstrap.split(","):
            host, colon, port = address.strip().rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
                yield f"bootstrap servers: {address.strip()!r} given, expected host:port, several separated by commas"
        if self.security_protocol not in SECURITY_PROTOCOLS:
            known = ", ".join(SECURITY_PROTOCOLS)
            yield f"security protocol: {self.security_protocol!r} given, expected one of {known}"
        if not self.sasl:
            if self.username or self.password:
                yield (
                    f"a user name or password is set, but the security protocol {self.security_protocol} does not "
                    "log in: choose SASL_SSL, or leave them out"
                )
            return
        if self.sasl_mechanism not in SASL_MECHANISMS:
            yield f"SASL mechanism: {self.sasl_mechanism!r} given, expected one of {', '.join(SASL_MECHANISMS)}"
        if not (self.username and self.password):
            yield f"the security protocol {self.security_protocol} needs a user name and a password"
        if not self.tls and not self.allow_sasl_without_tls:
            yield (
                "SASL_PLAINTEXT would send the login unencrypted: choose SASL_SSL, or allow it explicitly "
                "(allow SASL without TLS)"
            )


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a context that trusts `ca`, or the system's authorities, and shows `certificate` where brokers ask."""
    if key and not certificate:
        raise ConfigError(f"TLS key {key}: given without its certificate")
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        given = ", ".join(str(file) for file in (ca, certificate, key) if file)
        raise ConfigError(f"TLS files {given}: {error}; expected readable PEM files") from error
    return context


class edge_errors:  # noqa: N801  read as what it does: with edge_errors(…)
    """Turn what Kafka's client raises inside the block into an EdgeError that names the brokers.

    With `async with` it looks for the reason where no connection came about: a certificate, a login, a protocol.
    """

    def __init__(self, connection: KafkaConnection, doing: str) -> None:
        self._connection = connection
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing has to be prepared."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        where = f"{self._doing}: Kafka at {self._connection.bootstrap}"
        if isinstance(error, _REFUSED):
            step = "Check user, password and ACLs"
            raise EdgeError(f"{where} refused us: {error}. {step}", retryable=False) from error
        if isinstance(error, (KafkaError, OSError)):  # TimeoutError is an OSError
            raise EdgeError(
                f"{where} failed: {type(error).__name__} {error}. Is it running, and reachable from here?",
                retryable=getattr(error, "retriable", True),
            ) from error

    async def __aenter__(self) -> None:
        """Nothing has to be prepared."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KafkaConnectionError):
            found = await obstacle(self._connection.client_arguments())
            if found is not None:
                raise EdgeError(f"{self._doing}: {found}", retryable=not found.lasting) from error
        self.__exit__(kind, error, trace)


def told_to_stop() -> bool:
    """Is a CancelledError meant for us?  The client lets the cancellation of its own requests out, as if it were.

    Taken for ours it would end a task without a word, while a broker that is away is what it means.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
