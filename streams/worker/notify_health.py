"""What does notify say of itself?  The catalogue's rows of it, filled in when they are asked for.

Never a number of the product: those are the exporter's.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streams.clock import now_ms
from streams.rule.quiet import Quiet
from streams.sink.processes import OF_NOTIFY
from streams.worker.notify_lane import Lane
from streams.worker.notify_ledger import Ledger
from streams.worker.tail import Follower


class Process(Protocol):
    """What is asked of notify."""

    unreadable: int
    leading: bool
    quiet: Quiet

    @property
    def lanes(self) -> Sequence[Lane]:
        """Its receivers."""

    @property
    def ledger(self) -> Ledger | None:
        """What writes down deliveries, once this replica has sent."""

    @property
    def follower(self) -> Follower | None:
        """What reads alerts, once the broker has answered."""


def registry_of(notifier: Process) -> CollectorRegistry:
    """Return what its page shows."""
    registry = CollectorRegistry()
    registry.register(_Numbers(notifier))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Numbers(Collector):
    """The rows, with their samples."""

    def __init__(self, notifier: Process) -> None:
        self._notifier = notifier

    def collect(self) -> Iterable[Family]:
        """Yield every metric."""
        of_lanes, of_process = self._of_lanes(), self._of_process()
        for row in OF_NOTIFY:
            family = Family(row.family, row.help, row.kind, row.unit)
            for name, value in of_lanes.get(row.name, ()):
                family.add_sample(row.name, {"receiver": name}, value)
            if row.name in of_process:
                family.add_sample(row.name, {}, of_process[row.name])
            yield family

    def _of_lanes(self) -> dict[str, list[tuple[str, float]]]:
        values: dict[str, Callable[[Lane], float]] = {
            "agent_notify_sent_total": lambda lane: lane.sent,
            "agent_notify_resent_total": lambda lane: lane.resent,
            "agent_notify_retries_total": lambda lane: lane.retries,
            "agent_notify_failed_total": lambda lane: lane.failed,
            "agent_notify_pending": lambda lane: lane.outbox.pending,
            "agent_notify_muted": lambda lane: lane.outbox.held,
            "agent_notify_suppressed_total": lambda lane: lane.outbox.suppressed,
            "agent_notify_up": lambda lane: int(lane.up),
        }
        lanes = self._notifier.lanes
        return {name: [(lane.receiver.name, value(lane)) for lane in lanes] for name, value in values.items()}

    def _of_process(self) -> dict[str, float]:
        notifier, follower = self._notifier, self._notifier.follower
        return {
            "agent_notify_records_total": 0 if follower is None else follower.records,
            "agent_notify_unreadable_records_total": notifier.unreadable,
            "agent_notify_unwritten": 0 if notifier.ledger is None else notifier.ledger.waiting,
            "agent_notify_leading": int(notifier.leading),
            "agent_notify_silences": notifier.quiet.active,
            "agent_notify_state_age_seconds": 0 if follower is None else follower.age_ms(now_ms()) / 1000,
        }
