"""What must come of the records of a partition: which events count, and what they add up to along every dimension.

Shares no code with the product.  Whoever made the records says what they mean; nothing is parsed here.
"""

import json
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, NamedTuple

from rare_ledger import Part, rare_parts

Event = dict[str, Any]
Totals = dict[str, int]
Place = tuple[str, tuple[str, ...]]  # dimension and labels

SKEW_MS: Final = 60_000
GRACE_MS: Final = 300_000
USAGE: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
NOUNS: Final = {"agent": "requests", "model": "model_calls", "tool": "tool_calls"}
# USD per million tokens of input, output and cache reads, by model and provider.
PRICES: Final = {
    ("m-1", "p-1"): ("2.5", "10.01", "0.333"),
    ("m|3\\", None): ("0.0007", "0.0605", "0.0007"),
}
DURATIONS: Final = {"agent_end": "request_duration", "model_end": "model_duration", "tool_end": "tool_duration"}


class Judged(NamedTuple):
    """An event, and the time its publisher means, in epoch milliseconds."""

    event: Event
    event_ms: int


class Counted(NamedTuple):
    """An event that counts, whether it came too late for any window, and when it happened as far as we believe it."""

    event: Event
    late: bool
    event_ms: int


class PartitionLedger:
    """One source partition: take its records in log order."""

    def __init__(self) -> None:
        self.counters: Totals = {}
        self.counted: list[Counted] = []
        self.watermark_ms = -1
        self._seen: set[Any] = set()

    def take(self, timestamp: int, events: Sequence[Judged], refused: Sequence[str] = ()) -> None:
        """Judge one record: good events in their order, and the reasons of what is refused."""
        for reason in refused:
            self._count("rejected")
            self._count(f"rejected_{reason}")
        for event, said_ms in events:
            event_ms = said_ms
            if event_ms - timestamp > SKEW_MS:
                event_ms = timestamp
                self._count("skewed")
            if self._repeated(event):
                self._count("duplicate")
                continue
            self.watermark_ms = max(self.watermark_ms, event_ms)
            late = event_ms < self.watermark_ms - GRACE_MS
            self._count("late" if late else "applied")
            self.counted.append(Counted(event, late, event_ms))

    def _repeated(self, event: Event) -> bool:
        """Remember an event for ever; the product does so within its horizon."""
        mark: Any = event["id"]
        if "seq" in event and "source" in event:
            mark = event.get("session_id"), event["source"], event["seq"]
        if mark in self._seen:
            return True
        self._seen.add(mark)
        return False

    def _count(self, name: str) -> None:
        grow(self.counters, name)
        if name in {"applied", "late", "duplicate", "rejected"}:
            grow(self.counters, "received")


def grow(totals: Totals, name: str, by: int = 1) -> None:
    """Add to a total; zeroes leave no trace."""
    if by:
        totals[name] = totals.get(name, 0) + by


def micros(ms: float) -> int:
    """Round milliseconds half up to whole microseconds."""
    return int(ms * 1000 + 0.5)


def cost_nano_usd(event: Event) -> int | None:
    """Return the cost that is named, or else that of PRICES, rounded half up; None without either."""
    if "cost_nano_usd" in event:
        return int(event["cost_nano_usd"])
    prices = PRICES.get((event["model"], event.get("provider")))
    if prices is None:
        return None
    given, read = event["input_tokens"], event["cache_read_tokens"]
    fresh = given if read > given else given - read
    usd = sum(
        Decimal(price) * count for price, count in zip(prices, (fresh, event["output_tokens"], read), strict=True)
    )
    return int((usd * 1_000).to_integral_value(ROUND_HALF_UP))


def session_totals(counted: Iterable[Counted]) -> dict[str, Totals]:
    """Add up what a session's rows must hold in the end."""
    sessions: dict[str, Totals] = {}
    for event, late, _ in counted:
        session_id = event.get("session_id")
        if session_id is not None:
            totals = sessions.setdefault(session_id, {})
            grow(totals, "events")
            grow(totals, "late", int(late))
            _add_to_session(totals, event)
    return sessions


def _add_to_session(totals: Totals, event: Event) -> None:
    kind = event["kind"]
    if kind in {"error", "heartbeat"}:
        grow(totals, f"{kind}s")
    grow(totals, "cycles", int(kind == "cycle"))
    if kind == "token_usage" and event.get("scope", "leaf") == "leaf":
        for name in USAGE:
            grow(totals, name, event.get(name) or 0)
        grow(totals, "cost_nano_usd", cost_nano_usd(event) or 0)
        grow(totals, "unpriced", int(cost_nano_usd(event) is None))
    if kind in DURATIONS:
        noun = kind.removesuffix("_end")
        prefix = {"agent": "request"}.get(noun, noun)
        grow(totals, NOUNS[noun])
        grow(totals, f"{prefix}_us", micros(event.get("duration_ms", 0)))
        grow(totals, f"{prefix}_errors", int(_failed(event)))


def _failed(event: Event) -> bool:
    return event.get("status", "success") in {"error", "timeout", "validation_error"}


def places(event: Event) -> list[Place]:
    """Name every key of every dimension that an event adds to."""
    found: list[Place] = [("all", ()), ("agent", (event["agent"],))]
    if event.get("tenant") is not None:
        found.append(("tenant", (event["tenant"],)))
    if event["kind"] in {"tool_start", "tool_end"}:
        found += [("tool", (event["tool"],)), ("agent_tool", (event["agent"], event["tool"]))]
    if event["kind"] in {"model_start", "model_end", "token_usage"}:
        found.append(("model", (event["model"],)))
        if event.get("provider") is not None:
            found.append(("provider", (event["provider"],)))
    return found


def added(event: Event) -> Totals:
    """Say what an event adds to each of its places; how ends found their starts is left out: it hangs on ticks."""
    kind, totals = event["kind"], {"events": 1}
    noun, _, what = kind.partition("_")
    if kind == "heartbeat":
        totals["heartbeats"] = 1
    elif kind == "error":
        totals |= {"errors": 1, f"errors_{event.get('error_type', 'other')}": 1}
    elif noun in NOUNS and what == "start":
        totals[f"{NOUNS[noun]}_started"] = 1
    elif kind in DURATIONS:
        totals[f"{NOUNS[noun]}_{event.get('status', 'success')}"] = 1
        if kind != "tool_end":
            grow(totals, f"{NOUNS[noun]}_streaming", int(event.get("streaming", False)))
        if event.get("finish_reason") in {"max_tokens", "length"}:
            totals["model_calls_max_tokens"] = 1
        if kind == "tool_end":
            grow(totals, "tool_calls_parallel", int("parallel_group" in event))
            grow(totals, "tool_retries", int(event.get("attempt", 1) > 1))
            grow(totals, "tool_input_bytes", event.get("input_bytes", 0))
            grow(totals, "tool_output_bytes", event.get("output_bytes", 0))
    elif kind == "token_usage" and event.get("scope", "leaf") == "aggregate":
        totals["usage_aggregates"] = 1
    elif kind == "token_usage":
        totals["usage_reports"] = 1
        cost = cost_nano_usd(event)
        for name in USAGE:
            grow(totals, name, event.get(name) or 0)
        grow(totals, "cost_nano_usd", cost or 0)
        grow(totals, "computed_cost_nano_usd", 0 if "cost_nano_usd" in event else cost or 0)
        grow(totals, "unpriced", int(cost is None))
        grow(totals, "usage_inconsistent", int(event.get("cache_read_tokens", 0) > event["input_tokens"]))
    return totals


def user_part(event: Event) -> Part | None:
    """Say what an event adds to its user, if it names one and they have spent something."""
    kind, spent = event["kind"], added(event)
    if "user_id" not in event or not (kind in DURATIONS or "usage_reports" in spent):
        return None
    sums = {"events": 1}
    if kind in DURATIONS:
        sums[NOUNS[kind.partition("_")[0]]] = 1
    for name in ("input_tokens", "output_tokens", "cost_nano_usd", "unpriced"):
        grow(sums, name, spent.get(name, 0))
    return Part("user", (event["user_id"],), sums, {})


def durations(event: Event) -> dict[str, int]:
    """Say what an event adds to histograms, in stored units."""
    kind = event["kind"]
    if kind not in DURATIONS:
        return {}
    found = {DURATIONS[kind]: micros(event.get("duration_ms", 0))}
    if event.get("first_token_ms") is not None:
        found["first_token"] = micros(event["first_token_ms"])
    if "temperature" in event:
        found["temperature"] = int(event["temperature"] * 1_000_000 + 0.5)
    if kind == "agent_end" and event.get("response_bytes"):
        found["response_bytes"] = event["response_bytes"]
    return found


class KeyTotals:
    """What one key of one dimension must hold: sums, those of them that are in panes, and durations."""

    def __init__(self) -> None:
        self.sums: Totals = {}
        self.in_panes: Totals = {}
        self.durations: dict[str, list[int]] = {}
        self.in_bins: Totals = {}

    def add(self, event: Event, *, late: bool) -> None:
        """Add one event."""
        for name, by in added(event).items():
            grow(self.sums, name, by)
            if not late:
                grow(self.in_panes, name, by)
        for name, us in durations(event).items():
            self.durations.setdefault(name, []).append(us)
            if not late:
                grow(self.in_bins, name)

    def add_part(self, part: Part, *, late: bool) -> None:
        """Add what an event of a rare kind adds to this key."""
        for name, by in part.sums.items():
            grow(self.sums, name, by)
            if not late:
                grow(self.in_panes, name, by)
        for name, value in part.samples.items():
            self.durations.setdefault(name, []).append(value)
            if not late:
                grow(self.in_bins, name)


def dimension_totals(counted: Iterable[Counted]) -> dict[Place, KeyTotals]:
    """Add up what every key of every dimension must hold in the end."""
    totals: dict[Place, KeyTotals] = {}
    for event, late, _ in counted:
        for place in places(event):
            totals.setdefault(place, KeyTotals()).add(event, late=late)
        user = user_part(event)
        for part in rare_parts(event) if user is None else (*rare_parts(event), user):
            totals.setdefault((part.dimension, part.labels), KeyTotals()).add_part(part, late=late)
    return totals


# ---- gauges --------------------------------------------------------------------------------------------------------

MINUTE_MS: Final = 60_000
_RESOURCES: Final = (
    "memory_bytes", "pool_active", "pool_idle", "threads_busy", "threads_total", "async_tasks", "queue_depth",
)  # fmt: skip
TTLS_MS: Final = {
    "memory_peak_bytes": 10**15, "context_tokens": 30 * MINUTE_MS, "context_limit_tokens": 30 * MINUTE_MS,
    "context_used": 30 * MINUTE_MS, "temperature": 60 * MINUTE_MS,
}  # fmt: skip
OTHERS_TTL_MS: Final = 5 * MINUTE_MS

Named = tuple[Place, str, str]  # a key, a gauge, a source


class Word(NamedTuple):
    """What a source has said last: by event time, source partition and place in it; a peak is the highest of all."""

    event_ms: int
    partition: int
    at: int
    value: int


def said(event: Event) -> dict[Named, int]:
    """Say what an event tells of gauges, by key, gauge and source."""
    agent = "agent", (event["agent"],)
    process = event.get("source") or event["agent"]
    conversation = event.get("session_id") or process
    found: dict[Named, int] = {}
    kind = event["kind"]
    if kind == "resource":
        found |= {(agent, name, process): event[name] for name in _RESOURCES if name in event}
        if "memory_bytes" in event:
            found[agent, "memory_peak_bytes", ""] = event["memory_bytes"]
        if "uptime_ms" in event:
            found[agent, "uptime_us", process] = event["uptime_ms"] * 1000
        for name in ("batch_efficiency", "cpu"):
            if name in event:
                found[agent, name, process] = round(event[name] * 10**6)
    elif kind == "message":
        for name, gauge in (("context_tokens", "context_tokens"), ("context_limit", "context_limit_tokens")):
            if name in event:
                found[agent, gauge, conversation] = event[name]
        if "context_tokens" in event and event.get("context_limit"):
            found[agent, "context_used", conversation] = event["context_tokens"] * 10**6 // event["context_limit"]
    elif kind in {"tool_start", "tool_end"} and "queue_depth" in event:
        tool = event["tool"]
        found[("agent_tool", (event["agent"], tool)), "tool_queue_depth", process] = event["queue_depth"]
        found[("tool", (tool,)), "tool_queue_depth", joined((event["agent"],), process)] = event["queue_depth"]
    elif kind in {"model_start", "model_end"} and "temperature" in event:
        found[agent, "temperature", process] = round(event["temperature"] * 10**6)
    elif kind == "custom" and event["metric_kind"] == "gauge":
        labels = event["metric"], json.dumps(list(event["labels"].values()), separators=(",", ":"), ensure_ascii=False)
        found[("custom", labels), f"custom:{event['metric']}", process] = round(event["value"] * 10**6)
    elif kind == "parameter_change" and event.get("parameter", "temperature") == "temperature" and "after" in event:
        found[agent, "temperature", process] = round(event["after"] * 10**6)
    return found


def joined(labels: Iterable[str], source: str) -> str:
    """Write a source where several keys share a row."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in (*labels, source))


def last_words(partitions: Iterable[Iterable[Counted]]) -> dict[Named, Word]:
    """Return what counts of every source of every gauge, of the events of all source partitions in log order."""
    found: dict[Named, Word] = {}
    for partition, counted in enumerate(partitions):
        for at, (event, _, event_ms) in enumerate(counted):
            for named, value in said(event).items():
                word, known = Word(event_ms, partition, at, value), found.get(named)
                if named[1] == "memory_peak_bytes":
                    newer = known is None or (value, -event_ms) > (known.value, -known.event_ms)
                else:
                    newer = known is None or word > known
                if newer:
                    found[named] = word
    return found
