"""Alerts for the tests of notify: records of the alert topic, as they come one after the other."""

from typing import Any

import msgspec

from streams.rule.records import AlertPhase, AlertRecord, Completeness


def record(name: str, state: AlertPhase = "firing", transition: int = 1, **changes: Any) -> AlertRecord:
    """Return a state of the alert `name`, whose id is `name-transition`."""
    made = AlertRecord(
        id=f"{name}-{transition}",
        fingerprint=name,
        alert="ToolFailing",
        state=state,
        severity="critical",
        over="tool",
        labels={"tool": name},
        value=12,
        value_text="12",
        count=20,
        unit="count",
        limit=10,
        limit_text="10",
        comparison="above",
        window_ms=60_000,
        for_ms=0,
        keep_firing_for_ms=60_000,
        time_ms=10_000 * transition,
        active_since_ms=10_000,
        fired_ms=None if state == "pending" else 10_000,
        resolved_ms=10_000 * transition if state == "resolved" else None,
        reason="recovered" if state == "resolved" else None,
        summary=f"{name} fails: 12 failures within 1m",
        description="",
        incarnation=1,
        transition=transition,
        completeness=Completeness(),
    )
    return msgspec.structs.replace(made, **changes)
