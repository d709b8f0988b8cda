"""What the totals must be: a plain recount of published events, sharing no code with the product.

Counts an event once however often it is published; knows nothing of windows, partitions or flushes.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from genai_prices import Usage, calc_price

Totals = dict[str, int]
CostOf = Callable[[dict[str, Any]], int]


def named_cost(event: dict[str, Any]) -> int:
    """Return what the publisher named, in nano-USD."""
    return int(event.get("cost_nano_usd", 0))


def listed_cost(event: dict[str, Any]) -> int:
    """Return what the publisher named, or else what the price list's own package computes; 0 for neither."""
    if "cost_nano_usd" in event:
        return named_cost(event)
    parts = ("input", "output", "cache_read", "cache_write")
    usage = Usage(**{f"{part}_tokens": event.get(f"{part}_tokens", 0) for part in parts})
    moment = datetime.fromtimestamp(event["time"] / 1000, UTC)
    try:
        found = calc_price(usage, event["model"], provider_id=event["provider"], genai_request_timestamp=moment)
    except LookupError:
        return 0
    return int((found.total_price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


def recount(
    events: Iterable[dict[str, Any]], cost_of: CostOf = named_cost
) -> tuple[dict[str, Totals], dict[str, Totals]]:
    """Return totals by session and by tool of a set of events (repeats of an id or of a (source, seq) count once)."""
    sessions: dict[str, Totals] = {}
    tools: dict[str, Totals] = {}
    seen: set[Any] = set()
    for event in events:
        mark = (event["source"], event["seq"]) if "seq" in event and "source" in event else event["id"]
        if mark in seen:
            continue
        seen.add(mark)
        session_id = event.get("session_id")
        if session_id is not None:
            _add_session(sessions.setdefault(session_id, {}), event, cost_of)
        if event["kind"] == "tool_end":
            _add_tool(tools.setdefault(event["tool"], {}), event)
    return _without_zeroes(sessions), _without_zeroes(tools)


def _without_zeroes(tables: dict[str, Totals]) -> dict[str, Totals]:
    return {key: {name: count for name, count in totals.items() if count} for key, totals in tables.items()}


def _grow(totals: Totals, name: str, by: int = 1) -> None:
    totals[name] = totals.get(name, 0) + by


def _failed(event: dict[str, Any]) -> bool:
    return event.get("status", "success") in {"error", "timeout", "validation_error"}


def _add_session(totals: Totals, event: dict[str, Any], cost_of: CostOf) -> None:
    _grow(totals, "events")
    kind = event["kind"]
    if kind == "error":
        _grow(totals, "errors")
    if kind == "token_usage" and event.get("scope", "leaf") == "leaf":
        for name in ("input_tokens", "output_tokens"):
            _grow(totals, name, event.get(name, 0))
        _grow(totals, "cost_nano_usd", cost_of(event))
    for noun, end in (("request", "agent_end"), ("model", "model_end"), ("tool", "tool_end")):
        if kind == end:
            _grow(totals, f"{noun}s" if noun == "request" else f"{noun}_calls")
            _grow(totals, f"{noun}_us", round(event.get("duration_ms", 0) * 1000))
            if _failed(event):
                _grow(totals, f"{noun}_errors")


def _add_tool(totals: Totals, event: dict[str, Any]) -> None:
    _grow(totals, "calls")
    _grow(totals, f"calls_{event.get('status', 'success')}")
    _grow(totals, "duration_us", round(event.get("duration_ms", 0) * 1000))
