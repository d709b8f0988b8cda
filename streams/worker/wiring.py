"""Which parts does a set of settings make of a worker: its configuration, its stages and their rules?

Never reads the environment and never starts anything.
"""

from collections.abc import Mapping
from pathlib import Path

from streams.errors import ConfigError
from streams.event.custom import NO_CUSTOMS, Customs
from streams.event.patterns import PATTERNS, own_patterns
from streams.event.redact import REDACTOR, Redactor
from streams.fold.price import Override, Overrides, PriceBook, Pricer
from streams.fold.pricelist import packaged_prices
from streams.rule.declared import read_customs
from streams.rule.defaults import default_rules, defaults_text
from streams.rule.faults import Faults
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.rule.pricefile import parse_prices
from streams.settings import Settings, variable
from streams.stage.commands import CommandsPartition
from streams.stage.payloads import OFF, PayloadPolicy
from streams.stage.rollups import RollupsPartition
from streams.stage.ruling import Ruling, digest_of
from streams.stage.session_table import Bounds
from streams.stage.sessions import SessionsPartition
from streams.topology import COMMANDS_STAGE, ROLLUPS, ROLLUPS_STAGE, SESSIONS_STAGE
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.pace import Pace
from streams.worker.partition import Stages
from streams.worker.web import WebConfig
from streams.worker.web_door import Login, server_context


def worker_config(settings: Settings, kafka: KafkaConnection) -> WorkerConfig:
    """Return what a worker is told."""
    return WorkerConfig(
        connection=kafka,
        prefix=settings.topic_prefix,
        app_id=settings.app_id,
        instance_id=settings.instance_id,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_ms=settings.heartbeat_ms,
        rebalance_timeout_ms=settings.rebalance_timeout_ms,
        request_timeout_ms=settings.request_timeout_ms,
        pace=Pace(
            idle_ms=settings.flush_idle_ms,
            busy_ms=settings.flush_busy_ms,
            limit_ms=settings.flush_limit_ms,
            pending_limit=settings.flush_records,
        ),
    )


def web(settings: Settings, *, host: str, port: int) -> WebConfig:
    """Return how pages are served, and to whom. Raises ConfigError for certificates that cannot be used."""
    certificate, key, clients = settings.web_tls_certfile, settings.web_tls_keyfile, settings.web_tls_clients_cafile
    password, token = settings.web_password, settings.web_token
    login = Login(
        settings.web_username,
        password.get_secret_value() if password else None,
        token.get_secret_value() if token else None,
    )
    return WebConfig(
        port=port,
        host=host,
        connections_max=settings.web_connections,
        login=login if login.wanted else None,
        tls=server_context(certificate, key, clients) if certificate and key else None,
    )


def bounds(settings: Settings) -> Bounds:
    """Return how much partitions remember."""
    return Bounds(settings.sessions, settings.sessions_active)


def rules(settings: Settings) -> RuleSet:
    """Return the rules of the file that is set, or the shipped ones; ConfigError names the file and every fault."""
    return ruling(settings).rules


def rules_text(settings: Settings) -> str:
    """Return the text of the same, as people write it."""
    path = settings.rules_file
    return defaults_text() if path is None else read_rules(path, f"{variable('rules_file')} = {path}")[1]


def ruling(settings: Settings) -> Ruling:
    """Return the same, until others are loaded; ConfigError as above."""
    path = settings.rules_file
    if path is None:
        return Ruling(default_rules(), digest_of(defaults_text()))
    rule_set, text = read_rules(path, f"{variable('rules_file')} = {path}")
    return Ruling(rule_set, digest_of(text))


def read_rules(path: Path, what: str) -> tuple[RuleSet, str]:
    """Read a rule file; ConfigError says what it is for, and every fault."""
    try:
        text = path.read_text("utf-8")
        return parse_rules(text), text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}: cannot be read ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{what}\n{error}") from error


def price_book(settings: Settings) -> PriceBook | None:
    """Return the prices of the file that is set and those shipped, in this order; None when pricing is off.

    Raises ConfigError that names the file and every fault.
    """
    if not settings.pricing:
        return None
    path = settings.prices_file
    shipped = packaged_prices()
    return PriceBook(shipped) if path is None else PriceBook(Overrides(_read_prices(path)), shipped)


def _read_prices(path: Path) -> tuple[Override, ...]:
    try:
        return parse_prices(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable('prices_file')} = {path}: cannot be read ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{variable('prices_file')} = {path}\n{error}") from error


def customs(settings: Settings) -> Customs:
    """Return the custom metrics that are declared; ConfigError names every fault."""
    faults = Faults()
    found = read_customs(settings.custom_metrics or "[]", faults, variable("custom_metrics"))
    faults.settle("the custom metrics cannot be used")
    return found


def redactor(settings: Settings) -> Redactor:
    """Return what redacts: the patterns of the file that is set, then the built-in ones; ConfigError names faults."""
    path = settings.redaction_file
    if path is None:
        return REDACTOR
    try:
        return Redactor((*own_patterns(path.read_text("utf-8")), *PATTERNS))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{variable('redaction_file')} = {path}: {error}") from error


def payloads(settings: Settings) -> PayloadPolicy:
    """Return whether and how bodies are written."""
    return PayloadPolicy(settings.payload_chars, redactor(settings), settings.payloads)


def stages(
    ruling: Ruling,
    pricer: Pricer | None = None,
    policy: PayloadPolicy = OFF,
    customs: Customs = NO_CUSTOMS,
    *,
    log_bins: bool = False,
    bounds: Bounds = Bounds(),  # noqa: B008  never changed
) -> Stages:
    """Return all stages, each with the maker of its partitions; without a pricer only publishers name costs.

    Without a policy no body is written; `log_bins` makes the tables keep what exponential histograms are made of.
    """

    def sessions(partition: int, partition_count: int, partitions: Mapping[str, int]) -> SessionsPartition:
        rollup_count = partitions[ROLLUPS.suffix]
        return SessionsPartition(partition, partition_count, rollup_count, ruling.rules, pricer, policy, customs,
            rules_version=ruling.version, bounds=bounds)  # fmt: skip

    def rollups(partition: int, partition_count: int, partitions: Mapping[str, int]) -> RollupsPartition:  # noqa: ARG001  the protocol's
        return RollupsPartition(
            partition, partition_count, rules=ruling.rules, log_bins=log_bins, rules_version=ruling.version
        )

    def commands(partition: int, partition_count: int, partitions: Mapping[str, int]) -> CommandsPartition:
        return CommandsPartition(partition, partitions[ROLLUPS.suffix], partition_count)

    return ((SESSIONS_STAGE, sessions), (ROLLUPS_STAGE, rollups), (COMMANDS_STAGE, commands))
