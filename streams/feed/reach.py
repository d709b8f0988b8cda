"""Why does no connection to Kafka come about?  The certificate, the login or the protocol, and what to do about it.

Never falls back to less than what is set, and never sends a login anywhere but where it is due: to a broker whose
certificate holds.  The client library tells none of this to whoever uses it.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest

from streams.feed.obstacle import Obstacle, untrusted
from streams.variables import PREFIX

ATTEMPT_S: Final = 2.0  # per connection; four at most per address, the last two of which mostly end at once
ADDRESSES_MAX: Final = 3  # the brokers of one cluster are set up alike
ALERT_S: Final = 0.5  # TLS 1.3 refuses a client's certificate after the handshake
_CLIENT_ID: Final = "agent-streams-reach"
_PROTOCOL: Final = PREFIX + "KAFKA_SECURITY_PROTOCOL"
_MECHANISM: Final = PREFIX + "KAFKA_SASL_MECHANISM"
_CA: Final = PREFIX + "KAFKA_SSL_CAFILE"
_CERTIFICATE: Final = PREFIX + "KAFKA_SSL_CERTFILE"
_LOGIN: Final = f"{PREFIX}KAFKA_SASL_USERNAME and {PREFIX}KAFKA_SASL_PASSWORD"


class _Discreet(logging.Filter):
    """Keeps logins out of what the client library logs at debug, where PLAIN's password stands as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_without_login, record.args))
        return True


def _without_login(part: object) -> object:
    name = type(part).__name__
    return f"{name}(hidden)" if name.startswith("SaslAuthenticate") else part


logging.getLogger("aiokafka.conn").addFilter(_Discreet())


async def obstacle(arguments: Mapping[str, Any]) -> Obstacle | None:
    """Look for what keeps a client with these arguments from connecting; None when it is not TLS, nor the login."""
    addresses = [each.strip().rpartition(":") for each in str(arguments["bootstrap_servers"]).split(",")]
    for host, _, port in addresses[:ADDRESSES_MAX]:
        found = await _Broker(host.strip("[]"), int(port), arguments).look()
        if found is not None:
            return found
    return None


class _Broker:
    """One address, and what we are told to use there."""

    def __init__(self, host: str, port: int, arguments: Mapping[str, Any]) -> None:
        self._host, self._port = host, port
        self._at = f"{host}:{port}"
        self._arguments = arguments
        self._protocol = str(arguments.get("security_protocol", "PLAINTEXT"))
        self._context: ssl.SSLContext | None = arguments.get("ssl_context")

    async def look(self) -> Obstacle | None:
        if self._context is not None:
            return await self._tls(self._context) or await self._login()
        if await self._speaks_tls():
            wanted = "SASL_SSL" if self._protocol.startswith("SASL") else "SSL"
            return Obstacle(f"{self._at} speaks TLS and {self._protocol} is set", f"set {_PROTOCOL}={wanted}")
        return await self._login()

    async def _tls(self, context: ssl.SSLContext) -> Obstacle | None:
        try:
            await self._handshake(context)
        except ssl.SSLCertVerificationError as error:
            return untrusted(error, self._at, _CA)
        except (ssl.SSLError, OSError) as error:
            if "CERTIFICATE_REQUIRED" in str(error) or "BAD_CERTIFICATE" in str(error):
                what = f"{self._at} does not take our certificate, or wants one and we have none"
                return Obstacle(what, f"set {_CERTIFICATE} and its key to what the brokers accept")
            if await self._answers("PLAINTEXT"):
                return Obstacle(
                    f"{self._at} speaks no TLS and {self._protocol} is set",
                    f"name the brokers' TLS listener; only where nobody listens in, set {_PROTOCOL} to one without TLS",
                )
            if isinstance(error, ssl.SSLError):
                reason = error.reason or type(error).__name__
                step = "is this the brokers' TLS listener, and do both sides know TLS 1.2 or later?"
                return Obstacle(f"TLS with {self._at} fails ({reason})", step, lasting=False)
        return None

    async def _login(self) -> Obstacle | None:
        try:
            connection = await self._connect(self._protocol)
        except UnsupportedSaslMechanismError:
            mechanism = self._arguments.get("sasl_mechanism")
            return Obstacle(f"{self._at} knows no login by {mechanism}", f"set {_MECHANISM} to one that it knows")
        except IllegalSaslStateError:
            step = f"name the listener with a login, or set {_PROTOCOL} to one without"
            return Obstacle(f"{self._at} takes no login and {self._protocol} is set", step)
        except (SaslAuthenticationFailed, AuthenticationFailedError):
            return Obstacle(f"{self._at} refused the user or the password", f"correct {_LOGIN}")
        except (KafkaError, OSError):
            return None
        try:
            if not self._protocol.startswith("SASL") and await _wants_login(connection):
                wanted = "SASL_SSL" if self._context is not None else "SASL_SSL, or SASL_PLAINTEXT for a trial"
                step = f"set {_PROTOCOL}={wanted}, and {_LOGIN}"
                return Obstacle(f"{self._at} wants a login and {self._protocol} is set", step)
        finally:
            connection.close()
        return None

    async def _handshake(self, context: ssl.SSLContext) -> None:
        """Do a handshake and wait for what the broker may say against it. Raises OSError, SSLError."""
        async with asyncio.timeout(ATTEMPT_S):
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALERT_S):
                    await reader.read(1)
        finally:
            writer.transport.abort()

    async def _speaks_tls(self) -> bool:
        try:
            await self._handshake(ssl.create_default_context())
        except ssl.SSLCertVerificationError:
            return True
        except ssl.SSLError as error:
            return "CERTIFICATE_REQUIRED" in str(error)
        except OSError:
            return False
        return True

    async def _answers(self, protocol: str) -> bool:
        """Does the broker tell its versions there?  That is asked before any login."""
        try:
            (await self._connect(protocol)).close()
        except (KafkaError, OSError):
            return False
        return True

    async def _connect(self, protocol: str) -> Any:
        given = {name: value for name, value in self._arguments.items() if name.startswith("sasl_")}
        return await create_conn(
            self._host,
            self._port,
            client_id=_CLIENT_ID,
            request_timeout_ms=int(ATTEMPT_S * 1000),
            security_protocol=protocol,
            **({"ssl_context": self._context} if protocol.endswith("SSL") else {}),
            **(given if protocol.startswith("SASL") else {}),
        )


async def _wants_login(connection: Any) -> bool:
    """Ask how to log in: a listener without logins says that this makes no sense there."""
    try:
        answer = await connection.send(SaslHandShakeRequest("PLAIN"))
    except (KafkaError, OSError):
        return False
    return answer.error_code in {0, UnsupportedSaslMechanismError.errno}
