"""What is in a Prometheus rule file: groups of recordings and alerts.  Values, and the text of a file.

Never decides what is alerted on.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

from streams.rule.amount import duration_text

RUNBOOKS: Final = "docs/runbooks.md"
_LINE_CHARS: Final = 10_000  # an expression stays on one line: promtool quotes it in its complaints


class Record(NamedTuple):
    """An expression that is evaluated once and kept under a name of its own."""

    name: str
    expr: str


class Alert(NamedTuple):
    """One alert of a rule file; summary and description are Prometheus templates."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: Mapping[str, str] = {}


class Group(NamedTuple):
    """What is evaluated in order, at the same moment: recordings stand before the alerts that read them."""

    name: str
    records: tuple[Record, ...]
    alerts: tuple[Alert, ...]


def anchor(alert: str) -> str:
    """Return the anchor of an alert's section in the runbooks, as renderers of Markdown make it from the heading."""
    return "".join(char for char in alert.lower() if char.isalnum() or char in "-_")


def text(groups: tuple[Group, ...], head: str, runbooks: str = RUNBOOKS) -> str:
    """Return a rule file; `head` stands above it as a comment, `runbooks` is where the runbooks are published."""
    comment = "".join(f"# {line}\n" if line else "#\n" for line in head.splitlines())
    body = yaml.safe_dump(
        {"groups": [_group(group, runbooks) for group in groups]},
        sort_keys=False,
        width=_LINE_CHARS,
        allow_unicode=True,
    )
    return comment + body


def _group(group: Group, runbooks: str) -> dict[str, Any]:
    rules = [
        *({"record": each.name, "expr": each.expr} for each in group.records),
        *(_alert(each, runbooks) for each in group.alerts),
    ]
    return {"name": group.name, "rules": rules}


def _alert(alert: Alert, runbooks: str) -> dict[str, Any]:
    written: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
    if alert.for_ms:
        written["for"] = duration_text(alert.for_ms)
    if alert.keep_firing_for_ms:
        written["keep_firing_for"] = duration_text(alert.keep_firing_for_ms)
    written["labels"] = {**alert.labels, "severity": alert.severity}
    written["annotations"] = {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": f"{runbooks}#{anchor(alert.name)}",
    }
    return written
