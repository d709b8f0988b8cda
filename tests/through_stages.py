"""Events through the real stages, without a broker: what they would write to the changelog and the verdict topics.

Partitions are chosen as Kafka's default partitioner does; every call of `publish` is one flush of every partition.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from streams.event.custom import NO_CUSTOMS, Customs
from streams.fold.dedup import MARKS_MAX
from streams.fold.ledger import CALLS_MAX
from streams.fold.price import Pricer
from streams.rule.model import RuleSet
from streams.stage.keys import partition_of
from streams.stage.payloads import OFF, PayloadPolicy
from streams.stage.plan import Plan, Row
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition
from streams.topology import ROLLUPS

EVENT_PARTITIONS: Final = 3
ROLLUP_PARTITIONS: Final = 2


class Record(NamedTuple):
    """One record as a stage reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Stages:
    """Both stages of one prefix; `plans` are the second stage's flushes in order, with their partitions."""

    def __init__(
        self,
        rules: RuleSet | None = None,
        pricer: Pricer | None = None,
        customs: Customs = NO_CUSTOMS,
        *,
        events: int = EVENT_PARTITIONS,
        rollups: int = ROLLUP_PARTITIONS,
        payloads: PayloadPolicy = OFF,
        log_bins: bool = False,
    ) -> None:
        self.sessions = [
            SessionsPartition(number, events, rollups, rules, pricer, payloads, customs) for number in range(events)
        ]
        self.rollups = [RollupsPartition(number, rollups, rules, log_bins=log_bins) for number in range(rollups)]
        self.plans: list[tuple[int, Plan]] = []
        self._event_ends = [0] * events
        self._rollup_ends = [0] * rollups

    def publish(
        self,
        events: Iterable[dict[str, Any] | bytes],
        *,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> None:
        """Feed events (bytes: as they are) and flush; a record's timestamp is its event's time unless given."""
        batches: dict[int, list[Record]] = {}
        for event in events:
            if isinstance(event, bytes):
                key, value, time_ms = b"raw", event, 0
            else:
                key = (event.get("session_id") or event.get("source") or event["agent"]).encode()
                value, time_ms = json.dumps(event).encode(), event["time"]
            number = partition_of(key, len(self.sessions)) if partition is None else partition
            stamp = time_ms if timestamp_ms is None else timestamp_ms
            batches.setdefault(number, []).append(Record(self._event_ends[number], stamp, key, value))
            self._event_ends[number] += 1
        for number, records in batches.items():
            self.sessions[number].feed(records)
        self.flush()

    def tick(self, now_ms: int) -> None:
        """Let time pass everywhere, and flush."""
        for first in self.sessions:
            first.tick(now_ms)
        for second in self.rollups:
            second.tick(now_ms)
        self.flush()

    def flush(self) -> None:
        """Plan the first stage, feed the second, plan it."""
        for first in self.sessions:
            plan = first.plan()
            for send in plan.sends if plan is not None else ():
                if send.topic == ROLLUPS.suffix:
                    assert send.partition is not None
                    end = self._rollup_ends[send.partition]
                    self.rollups[send.partition].feed([Record(end, 0, send.key, send.value, send.headers)])
                    self._rollup_ends[send.partition] += 1
        for number, second in enumerate(self.rollups):
            plan = second.plan()
            if plan is not None:
                self.plans.append((number, plan))

    def changelog(self) -> list[tuple[int, list[Row]]]:
        """Return what was written to the second stage's changelog: partition and rows, a flush each."""
        return [(number, plan.rows) for number, plan in self.plans]

    def sent(self, topic: str) -> list[tuple[bytes, bytes | None]]:
        """Return keys and values sent to a topic by the second stage, in order."""
        sends = [send for _, plan in self.plans for send in plan.sends if send.topic == topic]
        return [(send.key or b"", send.value) for send in sends]


def event(kind: str, number: int, **fields: Any) -> dict[str, Any]:
    """Make one event; numbers make ids, and time passes a second per number."""
    return {"kind": kind, "id": f"e{number}", "time": 1_763_724_000_000 + number * 1000, "agent": "planner", **fields}


def of_every_kind() -> list[dict[str, Any] | bytes]:
    """Return events of every kind, with every status and type, and some that are refused or repeated."""
    made: list[dict[str, Any] | bytes] = []

    def add(kind: str, **fields: Any) -> None:
        made.append(event(kind, len(made), **{"session_id": "s1", "tenant": "acme", **fields}))

    model = {"model": "gpt-5", "provider": "openai"}
    for status in ("success", "error", "timeout", "cancelled"):
        add("agent_start", call_id=f"r-{status}")
        add("agent_end", call_id=f"r-{status}", status=status, duration_ms=1500)
        add("model_start", call_id=f"m-{status}", **model)
        add("model_end", call_id=f"m-{status}", status=status, duration_ms=700, first_token_ms=120, **model)
    for status in ("success", "error", "timeout", "validation_error", "cancelled"):
        add("tool_start", call_id=f"t-{status}", tool="search")
        add("tool_end", call_id=f"t-{status}", tool="search", status=status, duration_ms=30, attempt=2,
            input_bytes=10, output_bytes=2000)  # fmt: skip
    used = {"input_tokens": 100, "output_tokens": 40, "cache_read_tokens": 60, "cache_write_tokens": 7,
            "reasoning_tokens": 9}  # fmt: skip
    add("token_usage", cost_nano_usd=1_234_567, **used, **model)
    add("token_usage", **used, **model)
    add("token_usage", scope="aggregate", **used, **model)
    for kind in ("rate_limit", "timeout", "auth_failure", "network", "validation", "tool_error", "other"):
        add("error", error_type=kind)
    add("heartbeat", call_id="t-open")
    add("payload", direction="request", body="Ask ann@example.com. " + 300 * "x")
    add("tool_start", call_id="t-open", tool="search")
    add("model_start", call_id="m-open", **model)
    add("agent_start", call_id="r-open")
    add("tool_end", call_id="t-unseen", tool="search")
    add("model_end", call_id="m-unseen", **model)
    add("agent_end", call_id="r-unseen")
    add("session_end")
    add("session_start")  # a second life of the session
    made.append(made[0])  # a duplicate
    made.append(b"{")  # malformed
    return made


def of_every_mishap(stages: Stages) -> None:
    """Publish what is late, too far ahead, in the wrong partition, and of more sources than a session remembers."""
    new = event("cycle", 3_000, phase="planning", session_id="s2")
    stages.publish([new, event("cycle", 1, phase="planning", session_id="s2", id="late")])
    stages.publish([event("cycle", 9_000, phase="planning", session_id="s2")], timestamp_ms=new["time"])
    for number in range(EVENT_PARTITIONS):
        stages.publish([event("cycle", 3_001, phase="planning", session_id=f"s3-{number}", id=f"m{number}")],
                       partition=number)  # fmt: skip
    sources = [{"source": f"host-{number}", "seq": 1, "id": f"f{number}"} for number in range(MARKS_MAX + 1)]
    stages.publish([event("cycle", 3_002, phase="planning", session_id="s4", **each) for each in sources])


def of_money() -> list[dict[str, Any]]:
    """Return usage that is priced or inconsistent, and aggregates that name too much, too little, or have no leaf."""
    made: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        made.append(event(kind, 4_000, **{"id": f"u{len(made)}", "agent": "spender", "session_id": "s5", **fields}))

    def used(tokens: int, **fields: Any) -> None:
        add("token_usage", model="house-model", provider="house", tenant="lab", input_tokens=tokens, **fields)

    used(1_000, call_id="m1", parent_id="r1")
    used(10, cache_read_tokens=20, call_id="m2", parent_id="r2")
    used(1_300, scope="aggregate", call_id="r1")
    used(8, scope="aggregate", call_id="r2")
    used(70, scope="aggregate", call_id="r3")
    for number in range(CALLS_MAX + 1):
        used(1, call_id=f"n{number}", parent_id=f"q{number}")
    add("session_end")
    return made


def of_gauges(number: int = 4_003) -> list[dict[str, Any]]:
    """Return what two processes, a conversation and a tool's queue say of themselves; late enough to be live."""
    used = {"pool_active": 3, "pool_idle": 1, "threads_busy": 2, "threads_total": 8, "async_tasks": 5,
            "queue_depth": 6, "batch_efficiency": 0.5, "cpu": 1.25}  # fmt: skip
    return [
        event("resource", number, source="host-1", memory_bytes=1_000, uptime_ms=60_000, **used),
        event("resource", number + 1, source="host-2", memory_bytes=3_000, uptime_ms=61_500, **used),
        event("message", number + 2, session_id="s2", role="user", context_tokens=500, context_limit=2_000),
        event("parameter_change", number + 3, session_id="s2", after=0.7),
        event("tool_start", number + 4, session_id="s2", call_id="q", tool="search", queue_depth=3),
    ]
