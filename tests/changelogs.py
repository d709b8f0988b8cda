"""What the changelogs say, read by code that shares nothing with the product: its layouts are written down here again.

Sessions changelog: key `s<id>`, `c<n>:<id>` (closed incarnation); value = 19 bytes of head, then a MessagePack array.
Rollups changelog: key `l<dimension>|<label>…`; value = a MessagePack array.
Gauges of the same: key `g<gauge>:<dimension>|<label>…`; value = [dimension, labels, gauge, ordinal, {source: [value,
event time, source partition, offset]}].
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack
from harness import Broker

Totals = dict[str, int]

HEAD_BYTES: Final = 19
SESSION_FIELDS: Final = (
    "agent", "tenant", "user_id", "started_ms", "last_ms", "seen_ms", "incarnation", "ended_ms", "end_reason", "stamp",
    "events", "late", "errors", "requests", "request_errors", "model_calls", "model_errors", "tool_calls",
    "tool_errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "cost_nano_usd", "unpriced", "heartbeats", "abandoned", "unmatched", "request_us", "model_us", "tool_us",
)  # fmt: skip
COUNTED: Final = (
    "events", "errors", "requests", "request_us", "request_errors", "model_calls", "model_us", "model_errors",
    "tool_calls", "tool_us", "tool_errors", "input_tokens", "output_tokens", "cost_nano_usd",
)  # fmt: skip


def totals(broker: Broker, prefix: str) -> tuple[dict[str, Totals], dict[str, Totals]]:
    """Return totals by session and by tool, zeroes and tools without any left out, in the shape of `truth.recount`."""
    sessions: dict[str, Totals] = {}
    for rows in broker.rows(f"{prefix}sessions.changelog").values():
        for key, value in rows.items():
            if key[:1] in {b"s", b"c"}:
                text = key[1:].decode()
                session_id = text if key[:1] == b"s" else text.partition(":")[2]
                _grow(sessions.setdefault(session_id, {}), session_totals(value))
    tools: dict[str, Totals] = {}
    for rows in broker.rows(f"{prefix}rollups.changelog").values():
        for key, value in rows.items():
            if key.startswith(b"ltool|"):
                dimension = msgpack.unpackb(value, strict_map_key=False)
                _grow(tools.setdefault(dimension[1][0], {}), tool_totals(dimension))
    return sessions, {tool: found for tool, found in tools.items() if found}  # a call that goes on counts nothing yet


def session_totals(value: bytes) -> Totals:
    """Read the counted fields of one stored session row."""
    fields = dict(zip(SESSION_FIELDS, msgpack.unpackb(value[HEAD_BYTES:], strict_map_key=False), strict=False))
    return {name: fields[name] for name in COUNTED if fields[name]}


def tool_totals(row: list[Any]) -> Totals:
    """Read calls by status and durations of one stored row of the dimension `tool`."""
    sums: Mapping[str, int] = row[6]
    found = {name.replace("tool_calls_", "calls_"): count for name, count in sums.items() if _is_status(name)}
    duration_us, buckets, *_ = row[7].get("tool_duration", (0, []))
    found["calls"] = sum(buckets)
    found["duration_us"] = duration_us
    return {name: count for name, count in found.items() if count}


def gauges(broker: Broker, prefix: str) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    """Return value and event time of every live source, by gauge and key."""
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for rows in broker.rows(f"{prefix}rollups.changelog").values():
        for key, value in rows.items():
            if key[:1] == b"g":
                gauge, _, name = key[1:].decode().partition(":")
                sources = msgpack.unpackb(value, strict_map_key=False)[4]
                found[gauge, name] = {source: (said[0], said[1]) for source, said in sources.items()}
    return found


def _is_status(name: str) -> bool:
    return name.removeprefix("tool_calls_") in {"success", "error", "timeout", "validation_error", "cancelled"}


def _grow(into: Totals, more: Totals) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count
