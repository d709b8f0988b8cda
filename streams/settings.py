"""What has a person set?  The only reader of the environment on the worker's side; one frozen value comes out.

Never guesses and never stops at the first fault: all of them are named at once, and no secret is ever shown.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from streams import variables
from streams.ingest_settings import IngestSettings
from streams.output_settings import OTLP_FIELDS, OutputSettings, check_otlp
from streams.profiles import PRODUCTION, WORKER_DEFAULTS
from streams.rule.declared import EXAMPLE as CUSTOM_EXAMPLE
from streams.rule.declared import read_customs
from streams.rule.faults import Faults
from streams.session_settings import SessionSettings
from streams.variables import EMITTER
from streams.web_settings import WEB_FIELDS, check_web

PREFIX: Final = variables.PREFIX
FILE_SUFFIX: Final = "_FILE"
SECRET_BYTES_MAX: Final = 64 * 1024
HIDDEN: Final = "(hidden)"
EXPORTER_PORT: Final = 8464  # outside 9100 to 9999, which are given out to Prometheus's exporters

Port = Annotated[int, Field(ge=0, le=65_535)]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_REDIS_URL: Final = re.compile(r"(rediss?|unix)://.+")
_ADDRESS: Final = r"[^\s,:]+:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}"
_ADDRESSES: Final = rf"^(?:{_ADDRESS})(?:,\s*(?:{_ADDRESS}))*$"
_TOPIC_CHARS: Final = r"^[A-Za-z0-9._-]*$"  # what Kafka takes in a topic name


class Settings(SessionSettings, OutputSettings, IngestSettings):
    """Everything that can be set; `load` is how one is made."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    # ---- Kafka
    kafka_bootstrap_servers: str | None = Field(
        default=None,
        pattern=_ADDRESSES,
        description="Kafka brokers. Without it: the broker that `agent-streams kafka start` has started.",
        examples=["broker-1:9092,broker-2:9092"],
    )
    kafka_security_protocol: SecurityProtocol = Field(
        default="PLAINTEXT", description="How brokers are talked to.", examples=["SASL_SSL"]
    )
    kafka_sasl_mechanism: SaslMechanism = Field(default="PLAIN", description="How to log in, with a SASL protocol.")
    kafka_sasl_username: str | None = Field(default=None, description="The user to log in as.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="The user's password.")
    kafka_ssl_cafile: Path | None = Field(default=None, description="Authorities to trust (PEM). Else the system's.")
    kafka_ssl_certfile: Path | None = Field(default=None, description="Our certificate, where brokers ask for one.")
    kafka_ssl_keyfile: Path | None = Field(default=None, description="The key of our certificate.")
    kafka_allow_sasl_without_tls: bool = Field(
        default=False, description="Send the password although nothing encrypts it. For trials only."
    )
    kafka_client_rack: str | None = Field(
        default=None, min_length=1, description="Our broker.rack: read from copies there, where brokers offer it."
    )
    # ---- topics
    topic_prefix: str = Field(
        default="agent.",
        min_length=1,
        max_length=200,
        pattern=_TOPIC_CHARS,
        description="What every topic name, consumer group and transactional id begins with.",
    )
    events_partitions: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Partitions of the events topic, when topics are created. Without it: 8, or as many as it has.",
    )
    rollups_partitions: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Partitions of the rollups topic, when topics are created. Without it: 4, or as many as it has.",
    )
    replication: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Copies of each partition, when topics are created. Without it: 3, or the number of brokers.",
    )

    # ---- worker
    app_id: str = Field(
        default="workers",
        min_length=1,
        max_length=200,
        pattern=_TOPIC_CHARS,
        description="Name of the workers' consumer group, after the prefix.",
    )
    instance_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="A name that no other live worker has, such as the pod's: a restart then takes its own partitions "
        "back, and no other worker is disturbed. Scaling in leaves them dark for one session timeout.",
        examples=["worker-0"],
    )
    session_timeout_ms: int = Field(
        default=10_000,
        ge=1_000,
        le=300_000,
        description="How long a dead worker's partitions stay dark, and how long its open transaction blocks readers.",
    )
    heartbeat_ms: int = Field(default=3_000, ge=100, le=100_000, description="How often a worker says that it lives.")
    rebalance_timeout_ms: int = Field(
        default=30_000, ge=1_000, le=600_000, description="How long a rebalance waits for a worker to come back."
    )
    request_timeout_ms: int = Field(
        default=15_000, ge=1_001, le=600_000, description="An answer of a broker that takes longer counts as none."
    )
    flush_idle_ms: int = Field(
        default=50, ge=1, le=60_000, description="How long a change waits for its transaction, below half load."
    )
    flush_busy_ms: int = Field(
        default=500, ge=1, le=60_000, description="The same at full load: larger flushes cost less per event."
    )
    flush_limit_ms: int = Field(default=2_000, ge=1, le=60_000, description="No change waits longer than this.")
    flush_records: int = Field(
        default=200_000, ge=1, le=10_000_000, description="Records per transaction at most; what a crash reads again."
    )
    rules_file: Path | None = Field(
        default=None,
        description="Alert rules and breakers (YAML). Without it: the rules that are shipped. Rules that were loaded "
        "with `agent-streams rules load` win over both.",
    )
    pricing: bool = Field(
        default=True, description="Compute the cost of usage reports that name none, from a list of model prices."
    )
    prices_file: Path | None = Field(
        default=None, description="Prices of your own (YAML), which win over the list that is shipped."
    )
    custom_metrics: str | None = Field(
        default=None,
        max_length=65_536,
        description="Metrics that publishers may send as custom events, for workers and exporters alike. Any other "
        "custom event is refused.",
        examples=[CUSTOM_EXAMPLE],
    )

    # ---- what a process shows of itself
    exporter_host: str = Field(default="127.0.0.1", min_length=1, description="Where the exporter listens.")
    exporter_port: Port = Field(default=EXPORTER_PORT, description="Port of /metrics; 0 takes a free one.")
    health_host: str = Field(default="127.0.0.1", min_length=1, description="Where a worker's health is shown.")
    health_port: Port | None = Field(
        default=None,
        description="Port of a worker's health, ready and own metrics; 0 takes a free one. "
        "Without it: no port is opened.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis that the exporter mirrors the breaker states to, and what stops calls, for guards to read. "
        "Without it: no mirror.",
        examples=["redis://:password@localhost:6379/0"],
    )
    log_level: LogLevel = Field(default="info", description="What is logged, to standard error.")
    log_format: LogFormat = Field(default="text", description="How a line of log is written.")

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; `overrides` (from the command line) win, None means not given.

        Raises ConfigError with every fault: variables nobody knows, values out of bounds, combinations that cannot be.
        """
        faults = Faults()
        _refuse_unknown(faults, os.environ)
        given = {name: value for name, value in overrides.items() if value is not None}
        given = {**_secrets_from_files(faults, os.environ, given), **given}
        given = {**_of_profile(given, os.environ), **given}
        wrong: set[str] = set()
        try:
            settings = cls(**given)
        except ValidationError as error:
            wrong = {str(each["loc"][0]) for each in error.errors(include_url=False)}
            for field in (name for name in cls.model_fields if name in wrong):
                _note(faults, field, _raw(field, given, os.environ))
            # The others are looked at all the same, so that nobody has to start twice to learn the next fault.
            settings = cls(**given | {name: cls.model_fields[name].default for name in wrong})
        for fields, check in _COMBINATIONS:
            if not wrong & set(fields):
                check(settings, faults)
        faults.settle("the settings cannot be used")
        return settings


# ---- combinations that cannot be --------------------------------------------------------------------------------


def _check_login(settings: Settings, faults: Faults) -> None:
    protocol = settings.kafka_security_protocol
    choose, name, password = map(variable, _LOGIN[:3])
    if not protocol.startswith("SASL"):
        given = {name: settings.kafka_sasl_username, password: settings.kafka_sasl_password and HIDDEN}
        for each, value in given.items():
            if value:
                step = f"set {choose}=SASL_SSL, or leave it out"
                faults.note(each, value, f"nothing: {choose} is {protocol}, which has no login", step)
        return
    if not settings.kafka_sasl_username:
        faults.note(name, None, f"a user name, as {protocol} logs in", f"set {name}")
    if not (settings.kafka_sasl_password and settings.kafka_sasl_password.get_secret_value()):
        faults.note(password, None, f"a password, as {protocol} logs in", f"set {password}{FILE_SUFFIX}")
    if protocol == "SASL_PLAINTEXT" and not settings.kafka_allow_sasl_without_tls:
        step = f"set it to SASL_SSL, or {variable('kafka_allow_sasl_without_tls')}=true for a trial"
        faults.note(choose, protocol, "a protocol that encrypts the password", step)


def _check_tls(settings: Settings, faults: Faults) -> None:
    protocol, choose = settings.kafka_security_protocol, variable("kafka_security_protocol")
    for name in _TLS[1:]:
        path: Path | None = getattr(settings, name)
        if path is not None and not protocol.endswith("SSL"):
            step = f"set {choose}=SSL or SASL_SSL, or leave it out"
            faults.note(variable(name), str(path), f"nothing: {choose} is {protocol}, without TLS", step)
        else:
            _check_file(faults, name, path)
    if settings.kafka_ssl_keyfile and not settings.kafka_ssl_certfile:
        certificate = variable("kafka_ssl_certfile")
        faults.note(certificate, None, "the certificate that the key belongs to", f"set {certificate}")


def _check_rules(settings: Settings, faults: Faults) -> None:
    _check_file(faults, "rules_file", settings.rules_file)


def _check_prices(settings: Settings, faults: Faults) -> None:
    path, switch = settings.prices_file, variable("pricing")
    if path is not None and not settings.pricing:
        step = f"set {switch}=true, or leave it out"
        faults.note(variable("prices_file"), str(path), f"nothing: {switch} is false", step)
    else:
        _check_file(faults, "prices_file", path)


def _check_redaction(settings: Settings, faults: Faults) -> None:
    _check_file(faults, "redaction_file", settings.redaction_file)


def _check_receivers(settings: Settings, faults: Faults) -> None:
    _check_file(faults, "receivers_file", settings.receivers_file)


def _check_custom(settings: Settings, faults: Faults) -> None:
    if settings.custom_metrics is not None:
        read_customs(settings.custom_metrics, faults, variable("custom_metrics"))


def _check_file(faults: Faults, name: str, path: Path | None) -> None:
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
        faults.note(variable(name), str(path), "a file that we may read", "correct the path, or its permissions")


def _check_session(settings: Settings, faults: Faults) -> None:
    heartbeat_ms, session_ms = settings.heartbeat_ms, settings.session_timeout_ms
    session = f"{variable('session_timeout_ms')} ({session_ms})"
    if heartbeat_ms * 3 > session_ms:
        why = f"at most a third of {session}, so that two lost ones are no expulsion"
        faults.note(variable("heartbeat_ms"), heartbeat_ms, why, f"set it to {session_ms // 3} or less")
    if settings.request_timeout_ms <= session_ms:
        step = f"set it to {session_ms * 3 // 2}"
        faults.note(variable("request_timeout_ms"), settings.request_timeout_ms, f"more than {session}", step)


def _check_flush(settings: Settings, faults: Faults) -> None:
    for low, high in pairwise(_FLUSH):
        value, most = getattr(settings, low), getattr(settings, high)
        if value > most:
            faults.note(variable(low), value, f"at most {variable(high)} ({most})", f"set it to {most}")


def _check_redis(settings: Settings, faults: Faults) -> None:
    url = settings.redis_url
    if url is not None and not _REDIS_URL.fullmatch(url.get_secret_value()):
        example = Settings.model_fields["redis_url"].examples or [""]
        shape = "a URL that begins with redis://, rediss:// or unix://"
        faults.note(variable("redis_url"), HIDDEN, shape, f"set it to {example[0]}, for example")


def _check_ports(settings: Settings, faults: Faults) -> None:
    port = settings.health_port
    if port and (settings.health_host, port) == (settings.exporter_host, settings.exporter_port):
        faults.note(variable("health_port"), port, f"not {variable('exporter_port')}'s", f"set it to {port + 1}")


_LOGIN: Final = (
    "kafka_security_protocol",
    "kafka_sasl_username",
    "kafka_sasl_password",
    "kafka_allow_sasl_without_tls",
)
_TLS: Final = ("kafka_security_protocol", "kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
_FLUSH: Final = ("flush_idle_ms", "flush_busy_ms", "flush_limit_ms")
_COMBINATIONS: Final[tuple[tuple[tuple[str, ...], Callable[[Settings, Faults], None]], ...]] = (
    (_LOGIN, _check_login),
    (_TLS, _check_tls),
    (("rules_file",), _check_rules),
    (("pricing", "prices_file"), _check_prices),
    (("redaction_file",), _check_redaction),
    (("receivers_file",), _check_receivers),
    (OTLP_FIELDS, check_otlp),
    (WEB_FIELDS, check_web),
    (("custom_metrics",), _check_custom),
    (("heartbeat_ms", "session_timeout_ms", "request_timeout_ms"), _check_session),
    (_FLUSH, _check_flush),
    (("redis_url",), _check_redis),
    (("health_host", "health_port", "exporter_host", "exporter_port"), _check_ports),
)


# ---- names and words --------------------------------------------------------------------------------------------


def variable(field: str) -> str:
    """Name the environment variable of a setting."""
    return PREFIX + field.upper()


def environment(**changes: str | None) -> dict[str, str]:
    """Return this process's environment for a child, with some settings changed; None takes one out."""
    gone = {variable(field) + ending for field in changes for ending in ("", FILE_SUFFIX)}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in gone}
    return kept | {variable(field): value for field, value in changes.items() if value is not None}


def secret_fields() -> tuple[str, ...]:
    """Name the settings that are never shown."""
    return tuple(name for name, field in Settings.model_fields.items() if _is(SecretStr, field))


def known_variables() -> tuple[str, ...]:
    """Name every variable that is read here."""
    secrets = secret_fields()
    return tuple(
        name
        for field in Settings.model_fields
        for name in (variable(field), *([variable(field) + FILE_SUFFIX] if field in secrets else []))
    )


def expected(field: str) -> str:
    """Say in words what a setting takes."""
    info = Settings.model_fields[field]
    for kind in _kinds(info.annotation):
        if get_origin(kind) is Literal:
            return f"one of {', '.join(get_args(kind))}"
        if kind is bool:
            return "true or false"
        if kind is int:
            return f"a whole number from {_bound(info, 'ge')} to {_bound(info, 'le')}"
        if kind is Path:
            return "a file that we may read"
        if kind is SecretStr:
            return "a text; kept secret"
    return _expected_text(field, info)


_TABLE_HEAD: Final = ("| variable | default | takes | meaning |", "|---|---|---|---|")


def reference() -> str:
    """Return the tables of all settings as Markdown: everybody's, then the emitter's own."""
    lines = [*_TABLE_HEAD]
    secrets = secret_fields()
    for name, info in Settings.model_fields.items():
        default = "" if info.default is None else f"`{_shown_default(info.default)}`"
        names = f"`{variable(name)}`" + (f"<br>`{variable(name)}{FILE_SUFFIX}`" if name in secrets else "")
        example = f" Example: `{info.examples[0]}`" if info.examples else ""
        lines.append(f"| {names} | {default} | {expected(name)} | {info.description}{example} |")
    lines += ["", "The emitter's own:", "", *_TABLE_HEAD]
    lines += (f"| `{each.name}` | `{each.default}` | {each.takes} | {each.meaning} |" for each in EMITTER)
    return "\n".join(lines) + "\n"


# ---- faults ----------------------------------------------------------------------------------------------------


def _refuse_unknown(faults: Faults, environ: Mapping[str, str]) -> None:
    known = (*known_variables(), *(each.name for each in EMITTER))  # the emitter's are not ours to judge, but exist
    for name in variables.unknown(environ, [PREFIX], known):
        near = variables.meant(name, known)
        # Its value may be a secret under a wrong name.
        faults.note(name, HIDDEN, "a variable that exists", f"rename it to {near}" if near else "remove it")


def _of_profile(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the defaults of the chosen profile, for what nobody has set."""
    chosen = str(_raw("profile", given, environ) or PRODUCTION)
    return {name: value for name, value in WORKER_DEFAULTS.get(chosen, {}).items() if not _raw(name, given, environ)}


def _secrets_from_files(faults: Faults, environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Read every secret whose variable names a file; beside the variable itself there can be none."""
    secrets: dict[str, str] = {}
    for field in secret_fields():
        name = variable(field) + FILE_SUFFIX
        path = environ.get(name)
        if not path or field in given:
            continue
        if environ.get(variable(field)):
            faults.note(name, path, f"nothing, as {variable(field)} is set too", "leave one of the two out")
            continue
        text = _read_secret(Path(path))
        if text is None:
            faults.note(name, path, "a text file that we may read, with the secret in it", "correct the path")
        elif not text:
            faults.note(name, path, "a file with the secret in it; it is empty", "write the secret into it")
        else:
            secrets[field] = text
    return secrets


def _read_secret(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(SECRET_BYTES_MAX).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError):
        return None


def _raw(field: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> object:
    """Return what was set, as it was set."""
    if field in given:
        return given[field]
    return next((value for name, value in environ.items() if name.upper() == variable(field)), None)


def _note(faults: Faults, field: str, value: object) -> None:
    shown = HIDDEN if field in secret_fields() else value
    info = Settings.model_fields[field]
    step = f"set it to {info.examples[0]}, for example" if info.examples else "correct it"
    if isinstance(value, str) and value.startswith("tcp://"):
        step = "set enableServiceLinks: false in the pod: Kubernetes has set it for a Service of that name"
    elif info.default is not None:
        step = f"leave it out for {_shown_default(info.default)}, or {step}"
    faults.note(variable(field), shown, expected(field), step)


# ---- reading the fields ----------------------------------------------------------------------------------------


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types a setting may have, without None."""
    if get_origin(annotation) in {None, Literal}:
        yield annotation
        return
    for part in get_args(annotation):
        if part is not type(None):
            yield from _kinds(part)


def _is(kind: type, field: FieldInfo) -> bool:
    return kind in set(_kinds(field.annotation))


def _bound(info: FieldInfo, name: str) -> object:
    return next((getattr(each, name) for each in _metadata(info) if hasattr(each, name)), None)


def _metadata(info: FieldInfo) -> Iterable[Any]:
    """Return the bounds of a setting; those of an optional one stand inside its union."""
    yield from info.metadata
    for part in get_args(info.annotation):
        for each in getattr(part, "__metadata__", ()):
            yield from each.metadata if isinstance(each, FieldInfo) else (each,)


def _expected_text(field: str, info: FieldInfo) -> str:
    if field == "kafka_bootstrap_servers":
        return "host:port, several separated by commas"
    if field == "custom_metrics":
        return "a JSON array of metrics: name, kind (counter, gauge or histogram), labels, buckets, help"
    most = _bound(info, "max_length")
    if _bound(info, "pattern") or any(getattr(each, "pattern", None) for each in info.metadata):
        return f"letters, digits, dots, dashes and underscores, 1 to {most}"
    return "a text" if most is None else f"a text of 1 to {most} characters"


def _shown_default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
