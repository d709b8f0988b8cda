"""With which brokers, limits and patience does an emitter work?  One frozen value, from arguments or the environment.

Never shows a password, and never sends one unencrypted unless told to.
"""

import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from streams.errors import ConfigError
from streams.event.patterns import PATTERNS, own_patterns
from streams.event.redact import REDACTOR, Redactor
from streams.feed.batch import BatchPolicy
from streams.feed.guard.policy import GuardPolicy
from streams.feed.spool_policy import SpoolPolicy
from streams.profiles import EMITTER_DEFAULTS, PRODUCTION, VARIABLE
from streams.topology import EVENTS
from streams.variables import COMPRESSIONS, EMITTER, EMITTER_PREFIX, PREFIX, meant, unknown

SECURITY_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
Compression: TypeAlias = Literal["auto", "none", "gzip", "lz4", "zstd", "snappy"]
_log: Final = logging.getLogger("streams.feed")


@dataclass(frozen=True, slots=True)
class EmitterConfig:
    """Everything an emitter needs; a value out of bounds raises ConfigError with every fault.

    `redactor` None sends free text as it is. `compression` auto is zstd (Kafka 2.1 or later).
    """

    bootstrap_servers: str = "localhost:9092"
    topic_prefix: str = "agent."
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    redactor: Redactor | None = field(default=REDACTOR, repr=False)
    compression: Compression = "auto"
    sample: float = 1.0  # share of the sessions that are sent, each as a whole; failures always are
    payloads: bool = False  # are bodies of requests and responses sent?
    payload_sample: float = 0.1  # share of the calls whose bodies are sent, where they are
    guard: GuardPolicy = field(default_factory=GuardPolicy)
    spool: SpoolPolicy = field(default_factory=SpoolPolicy)  # `from_env` has one on disk, but for development

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None  # without it: the system's certificate authorities
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    allow_sasl_without_tls: bool = False

    # An answer that takes longer counts as lost: a new connection is made and the same records go again.
    send_timeout_ms: int = 30_000
    backoff_ms: int = 100  # doubles with every failure in a row
    backoff_max_ms: int = 5_000
    exit_flush_ms: int = 3_000  # how long the end of the process may wait for what is queued; 0 sends nothing more

    def __post_init__(self) -> None:
        if faults := "; ".join(self._faults()):
            raise ConfigError(faults)

    @property
    def topic(self) -> str:
        """Name the topic that events go to."""
        return self.topic_prefix + EVENTS.suffix

    @property
    def tls(self) -> bool:
        """Is the connection encrypted?"""
        return self.security_protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Is there a login?"""
        return self.security_protocol.startswith("SASL")

    def client_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for aiokafka's clients; they hold the password. Reads the certificate files."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.tls:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
            arguments["ssl_context"] = context
        if self.sasl:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return arguments

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "EmitterConfig":
        """Read AGENT_STREAMS_* variables; `overrides` are fields that win. Raises ConfigError with every fault.

        A variable nobody knows is a warning, once per process: no agent ends for a name.
        """
        environ = os.environ if environ is None else environ
        _warn_of(tuple(unknown(environ, _OURS, _KNOWN)))
        given: dict[str, Any] = {}
        faults: list[str] = []
        for variable, name in _FIELDS.items():
            if text := environ.get(variable):
                given[name] = text
        for variable, name in _FILES.items():
            if (path := environ.get(variable)) and name not in given:
                try:
                    given[name] = Path(path).read_text(encoding="utf-8").strip()
                except OSError as error:
                    faults.append(f"{variable}: {error}")
        for name in _NUMBERS & given.keys():
            faults += _number(given, name, int, "an integer")
        for name in _SHARES & given.keys():
            faults += _number(given, name, float, "a number from 0 to 1")
        for name in _SWITCHES & given.keys():
            faults += _switch(given, name)
        faults += _profile(given, environ)
        faults += _redaction(given, environ, overrides)
        for part, policy in (("batch", BatchPolicy), ("guard", GuardPolicy), ("spool", SpoolPolicy)):
            own = {name.removeprefix(f"{part}."): given.pop(name) for name in [*given] if name.startswith(f"{part}.")}
            try:
                given[part] = overrides.pop(part, None) or policy(**own)
            except ConfigError as error:
                faults.append(str(error))
        try:
            config = cls(**given | overrides)
        except ConfigError as error:
            faults.append(str(error))
        if faults:
            raise ConfigError("; ".join(faults))
        return config

    def _faults(self) -> Iterator[str]:
        for address in self.bootstrap_servers.split(","):
            host, colon, port = address.strip().rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536):
                yield f"bootstrap servers: {address.strip()!r} given, expected host:port, several separated by commas"
        for what, value, known in (
            ("security protocol", self.security_protocol, SECURITY_PROTOCOLS),
            ("compression", self.compression, COMPRESSIONS),
            ("SASL mechanism", self.sasl_mechanism, SASL_MECHANISMS),
        ):
            if value not in known:
                yield f"{what}: {value!r} given, expected one of {', '.join(known)}"
        if self.sasl and not (self.sasl_username and self.sasl_password):
            yield f"the security protocol {self.security_protocol} needs a user name and a password"
        if self.sasl and not self.tls and not self.allow_sasl_without_tls:
            yield "SASL_PLAINTEXT would send the password unencrypted: choose SASL_SSL, or allow it explicitly"
        if not self.sasl and (self.sasl_username or self.sasl_password):
            yield f"a login is set, but the security protocol {self.security_protocol} has none: choose SASL_SSL"
        for name in ("sample", "payload_sample"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name}: {getattr(self, name)} given, expected a share from 0 to 1"
        for name, least in (("send_timeout_ms", 1_000), ("backoff_ms", 1), ("backoff_max_ms", 1), ("exit_flush_ms", 0)):
            if getattr(self, name) < least:
                yield f"{name}: {getattr(self, name)} given, expected {least} or more"


def _number(given: dict[str, Any], name: str, kind: Callable[[str], float], expected: str) -> list[str]:
    """Turn one field's text into its number; leave it out and name the variable when it is none."""
    text = given.pop(name)
    try:
        given[name] = kind(text)
    except ValueError:
        variable = next(variable for variable, field_name in _FIELDS.items() if field_name == name)
        return [f"{variable}: {text!r} given, expected {expected}"]
    return []


def _switch(given: dict[str, Any], name: str) -> list[str]:
    """Turn one field's text into true or false; leave it out and name the variable when it is neither."""
    text = given.pop(name)
    if text.lower() not in _ON | _OFF:
        variable = next(variable for variable, field_name in _FIELDS.items() if field_name == name)
        return [f"{variable}: {text!r} given, expected true or false"]
    given[name] = text.lower() in _ON
    return []


def _profile(given: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Fill in the profile's defaults for what is not given."""
    chosen = environ.get(VARIABLE) or PRODUCTION
    for name, value in EMITTER_DEFAULTS.get(chosen, {}).items():
        given.setdefault(name, value)
    return (
        []
        if chosen in EMITTER_DEFAULTS
        else [f"{VARIABLE}: {chosen!r} given, expected one of {', '.join(EMITTER_DEFAULTS)}"]
    )


def _redaction(given: dict[str, Any], environ: Mapping[str, str], overrides: Mapping[str, Any]) -> list[str]:
    """Put the patterns of the file that is named before the built-in ones."""
    variable = PREFIX + "REDACTION_FILE"
    path = environ.get(variable)
    if not path or "redactor" in overrides:
        return []
    try:
        given["redactor"] = Redactor((*own_patterns(Path(path).read_text(encoding="utf-8")), *PATTERNS))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        return [f"{variable}: {error}"]
    return []


@cache
def _warn_of(names: tuple[str, ...]) -> None:
    """Log names that nobody reads, and what was meant; the same ones never again."""
    if names:
        said = (f"{name} (meant: {near})" if (near := meant(name, _KNOWN)) else name for name in names)
        _log.warning("emitter.unknown_variables, nothing reads them: %s", ", ".join(said))


_FILES: Final = {
    PREFIX + "KAFKA_SASL_PASSWORD_FILE": "sasl_password",
    PREFIX + "REDIS_URL_FILE": "guard.redis_url",
}
_FIELDS: Final = {
    PREFIX + "KAFKA_BOOTSTRAP_SERVERS": "bootstrap_servers",
    PREFIX + "TOPIC_PREFIX": "topic_prefix",
    PREFIX + "KAFKA_SECURITY_PROTOCOL": "security_protocol",
    PREFIX + "KAFKA_SASL_MECHANISM": "sasl_mechanism",
    PREFIX + "KAFKA_SASL_USERNAME": "sasl_username",
    PREFIX + "KAFKA_SASL_PASSWORD": "sasl_password",
    PREFIX + "KAFKA_SSL_CAFILE": "ssl_cafile",
    PREFIX + "KAFKA_SSL_CERTFILE": "ssl_certfile",
    PREFIX + "KAFKA_SSL_KEYFILE": "ssl_keyfile",
    PREFIX + "KAFKA_ALLOW_SASL_WITHOUT_TLS": "allow_sasl_without_tls",
    PREFIX + "REDIS_URL": "guard.redis_url",
    **{variable.name: variable.field for variable in EMITTER},
}
_NOT_OURS: Final = (PREFIX + "KAFKA_CLIENT_RACK",)  # of those who read: emitters write to leaders, wherever they are
_KNOWN: Final = (*_FIELDS, *_FILES, *_NOT_OURS)
_OURS: Final = (EMITTER_PREFIX, PREFIX + "KAFKA_")  # the worker reads none that begins so and is not read here
_NUMBERS: Final = frozenset(name for name in _FIELDS.values() if name.endswith(("_ms", "_events", "_bytes")))
_ON: Final = frozenset({"1", "true", "yes", "on"})
_OFF: Final = frozenset({"0", "false", "no", "off"})
_SHARES: Final = frozenset({"sample", "payload_sample"})
_SWITCHES: Final = frozenset({"allow_sasl_without_tls", "payloads"})
