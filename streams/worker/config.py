"""With which names, limits and intervals does a worker run?  One frozen value; the settings reader makes it.

Never reads the environment, and no default here is less safe than what a person would choose.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from streams.errors import ConfigError
from streams.worker.connection import KafkaConnection
from streams.worker.pace import Pace


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Everything a worker needs besides its stages; a value out of bounds raises ConfigError with every fault."""

    connection: KafkaConnection
    prefix: str = "agent."
    app_id: str = "workers"
    # Unique per live process (a pod name); with it a restart takes its own partitions back without a rebalance.
    instance_id: str | None = None

    # How long a dead worker's partitions stay dark, and how long its open transaction blocks readers.
    session_timeout_ms: int = 10_000
    heartbeat_ms: int = 3_000
    # Members that do not come back within it lose their partitions; a final flush may take half a session.
    rebalance_timeout_ms: int = 30_000
    # An answer that takes longer counts as none; longer than a transaction may last, so that none is retried inside.
    request_timeout_ms: int = 15_000

    # The broker answers an idle fetch after this long: the bound on how old our idea of the log's end is.
    fetch_wait_ms: int = 50
    fetch_bytes: int = 4 * 1024 * 1024  # per partition and answer: one chunk
    queued_chunks: int = 32  # per stage; beyond 80 % its partitions are not fetched
    # The event loop is held this long by one slice of a chunk: what heartbeats, flushes and scrapes wait for.
    slice_ms: float = 8.0

    pace: Pace = field(default_factory=Pace)
    tick_ms: int = 250
    # Work waits, but nothing moves for this long: end with 75 and let the supervisor start us anew.
    stuck_ms: int = 60_000
    stop_timeout_ms: int = 15_000

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def group_id(self) -> str:
        """Name the consumer group, and begin every transactional id; unique per prefix."""
        return f"{self.prefix}{self.app_id}"

    @property
    def transaction_timeout_ms(self) -> int:
        """Bound a transaction by the session: a dead owner's open one must not outlive its ownership."""
        return self.session_timeout_ms

    def topic(self, suffix: str) -> str:
        """Name the topic that carries this suffix."""
        return f"{self.prefix}{suffix}"

    def transactional_id(self, stage: str, partition: int) -> str:
        """Name the one writer of a source partition: whoever initialises it last, fences all others."""
        return f"{self.group_id}-{stage}-{partition}"

    def _faults(self) -> Iterator[str]:
        if not self.app_id:
            yield "app id: empty, expected a name for the consumer group"
        if self.heartbeat_ms * 3 > self.session_timeout_ms:
            yield (
                f"heartbeat interval: {self.heartbeat_ms} ms given, expected at most a third of the session timeout "
                f"({self.session_timeout_ms} ms), so that two lost ones are no expulsion"
            )
        if self.request_timeout_ms <= self.session_timeout_ms:
            yield (
                f"request timeout: {self.request_timeout_ms} ms given, expected more than the session timeout "
                f"({self.session_timeout_ms} ms)"
            )
        for name in ("heartbeat_ms", "fetch_wait_ms", "fetch_bytes", "queued_chunks", "tick_ms", "stuck_ms"):
            if getattr(self, name) <= 0:
                yield f"{name}: {getattr(self, name)} given, expected more than 0"
