"""How is one row shown in full: every field, for programs as a dictionary, for people as text?  Pure.

Never leaves a field out: what a row holds is what is shown.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams.fold.rollup import LifetimeHistogram
from streams.fold.session import A2A, MODEL, REQUEST, TOOL, SessionRow
from streams.fold.shapes import shape_of
from streams.rule.amount import amount_text
from streams.rule.reading import unit_of
from streams.rule.records import rfc3339
from streams.worker.columns import DIMENSION_COLUMNS, as_dict
from streams.worker.tables import Entry

_FAMILIES: Final = {REQUEST: "request", MODEL: "model", TOOL: "tool", A2A: "a2a"}
_US_PER_SECOND: Final = 1_000_000
_OPEN_CALL: Final = ("family", "agent", "tenant", "name", "provider", "started_ms")
_MOMENTS: Final = frozenset({"started_ms", "last_ms", "seen_ms", "ended_ms", "created_ms", "touched_ms"})


def session_dict(session_id: str, row: SessionRow) -> dict[str, Any]:
    """Return a session's whole row."""
    shown = msgspec.structs.asdict(row)
    return {
        "session_id": session_id,
        **shown,
        "tools": {tool: msgspec.structs.asdict(totals) for tool, totals in sorted(row.tools.items())},
        "open": {call_id: _open_call(call) for call_id, call in row.open.items()},
        "panes": [msgspec.structs.asdict(pane) for pane in row.panes],
    }


def entry_dict(dimension: str, columns: tuple[str, ...], entry: Entry, now_ms: int) -> dict[str, Any]:
    """Return everything about one key of a dimension: the table's columns, sums, buckets, gauges and panes."""
    row = entry.row
    return {
        "dimension": dimension,
        "labels": dict(zip(columns, entry.labels, strict=True)),
        **as_dict(DIMENSION_COLUMNS[dimension], entry, now_ms),
        "created_ms": row.created_ms,
        "touched_ms": row.touched_ms,
        "sums": dict(sorted(row.sums.items())),
        "histograms": {name: _histogram_dict(name, histogram) for name, histogram in sorted(row.histograms.items())},
        "gauges": {name: level.value for name, level in sorted(entry.gauges.items())},
        "panes": sorted(
            ({"size_ms": pane.size_ms, "start_ms": pane.start_ms, "sums": pane.sums} for pane in entry.panes()),
            key=lambda pane: pane["start_ms"],
        ),
    }


def _histogram_dict(name: str, histogram: LifetimeHistogram) -> dict[str, Any]:
    """Return durations by seconds, and anything else by the unit it is stored in."""
    bounds, unit = shape_of(name)
    if unit == "us":
        uppers = [*(upper / _US_PER_SECOND for upper in bounds.uppers), "+Inf"]
        buckets_name = "buckets_le_seconds"
    else:
        uppers = [*bounds.uppers, "+Inf"]
        buckets_name = f"buckets_le_{unit}"
    return {
        f"sum_{unit}": histogram.sum_us,
        f"min_{unit}": histogram.min_us if histogram.min_us >= 0 else None,
        f"max_{unit}": histogram.max_us if histogram.max_us >= 0 else None,
        buckets_name: dict(zip(map(str, uppers), histogram.buckets, strict=True)),
    }


def text_of(name: str, value: object) -> str:
    """Write one field for people, in the unit that its name says."""
    if name in _MOMENTS and isinstance(value, int):
        return rfc3339(value) if value > 0 else "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if name.endswith("_us"):
        return amount_text(value, "us")
    return amount_text(value, "ratio" if name.endswith("_ratio") else unit_of(name))


def flat(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the plain fields of a row, as name and text."""
    return [(name, text_of(name, value)) for name, value in row.items() if not isinstance(value, dict | list)]


def _open_call(call: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(_OPEN_CALL, call, strict=True))
    return {**named, "family": _FAMILIES[call[0]]}
