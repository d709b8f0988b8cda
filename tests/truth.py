"""What the totals must be: a plain recount of published events, sharing no code with the product.

Counts an event once however often it is published; knows nothing of windows, partitions or flushes.
"""

from collections.abc import Iterable
from typing import Any

Totals = dict[str, int]


def recount(events: Iterable[dict[str, Any]]) -> tuple[dict[str, Totals], dict[str, Totals]]:
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
            _add_session(sessions.setdefault(session_id, {}), event)
        if event["kind"] == "tool_end":
            _add_tool(tools.setdefault(event["tool"], {}), event)
    return _without_zeroes(sessions), _without_zeroes(tools)


def _without_zeroes(tables: dict[str, Totals]) -> dict[str, Totals]:
    return {key: {name: count for name, count in totals.items() if count} for key, totals in tables.items()}


def _grow(totals: Totals, name: str, by: int = 1) -> None:
    totals[name] = totals.get(name, 0) + by


def _failed(event: dict[str, Any]) -> bool:
    return event.get("status", "success") in {"error", "timeout", "validation_error"}


def _add_session(totals: Totals, event: dict[str, Any]) -> None:
    _grow(totals, "events")
    kind = event["kind"]
    if kind == "error":
        _grow(totals, "errors")
    if kind == "token_usage" and event.get("scope", "leaf") == "leaf":
        for name in ("input_tokens", "output_tokens", "cost_nano_usd"):
            _grow(totals, name, event.get(name, 0))
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
