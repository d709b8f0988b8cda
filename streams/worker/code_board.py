"""How well does code execution go?  Its key figures with their trend, the skills used most, and how long runs take.

Never asks Kafka and never reads a clock: a picture and `now_ms` come in, what rich can print goes out.
"""

from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.fold.measure import DISCOVERY, EXECUTION, FILTERING, SECURITY, SKILL
from streams.fold.shapes import bounds_of
from streams.worker.picture import Picture
from streams.worker.tables import Entry

TREND_MS: Final = 5 * 60_000  # the last five minutes are held against the five before
TREND_LEAST: Final = 0.05  # a smaller change is none
SKILLS_SHOWN: Final = 8
BAR_COLUMNS: Final = 32
US_PER_SECOND: Final = 1_000_000
_RUNS: Final = ("executions_success", "executions_error", "executions_timeout", "executions_cancelled")
_SKILL_RUNS: Final = ("skills_success", "skills_error", "skills_timeout", "skills_cancelled")
_FOUND: Final = ("discovery_found", "discovery_empty")
_NOTHING_YET: Final = Text("nothing yet", "dim")

Sums = Callable[..., int]  # of measures, over all keys of a dimension and some time


class Kpi(NamedTuple):
    """One key figure: what of a dimension's sums it is, how it is written, and when it asks for attention."""

    name: str
    dimension: str
    of: Callable[[Sums], float | None]
    text: Callable[[float], str]
    poor: Callable[[float], bool] = lambda _: False


def _ratio(over: int, under: int) -> float | None:
    return over / under if under else None


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


# The limits are those that the advice on code execution names: below 80 % found, below 10 % reuse.
KPIS: Final = (
    Kpi("discovery queries", DISCOVERY.name, lambda of: of(*_FOUND) or None, _count),
    Kpi("discovery hit ratio", DISCOVERY.name, lambda of: _ratio(of("discovery_found"), of(*_FOUND)), _percent,
        lambda value: value < 0.8),
    Kpi("discovery cache hits", DISCOVERY.name, lambda of: _ratio(of("discovery_cache_hits"), of(*_FOUND)), _percent),
    Kpi("executions", EXECUTION.name, lambda of: of(*_RUNS) or None, _count),
    Kpi("execution success", EXECUTION.name, lambda of: _ratio(of("executions_success"), of(*_RUNS)), _percent,
        lambda value: value < 0.9),
    Kpi("execution timeouts", EXECUTION.name, lambda of: _ratio(of("executions_timeout"), of(*_RUNS)), _percent),
    Kpi("data filtered away", FILTERING.name,
        lambda of: _ratio(of("filtering_input_bytes") - of("filtering_output_bytes"), of("filtering_input_bytes")),
        _percent),
    Kpi("context tokens saved", FILTERING.name, lambda of: of("tokens_saved") or None, _count),
    Kpi("skill runs per saved skill", SKILL.name, lambda of: _ratio(of(*_SKILL_RUNS), of("skills_saved")),
        lambda value: f"{value:.1f}"),
    Kpi("skill success", SKILL.name, lambda of: _ratio(of("skills_success"), of(*_SKILL_RUNS)), _percent,
        lambda value: value < 0.9),
    Kpi("personal data detected", SECURITY.name, lambda of: of("pii_detected") or None, _count),
    Kpi("personal data tokenized", SECURITY.name, lambda of: _ratio(of("tokenized"), of("pii_detected")), _percent),
)  # fmt: skip


def screen(picture: Picture, now_ms: int, footer: Text) -> RenderableType:
    """Return the board of code execution; the last lines are the caller's."""
    entries = {name: picture.tables.rollups.entries(name) for name in dict.fromkeys(kpi.dimension for kpi in KPIS)}
    return Group(
        Panel(_figures(entries, now_ms), title="code execution", title_align="left", border_style="dim"),
        Panel(_skills(entries[SKILL.name]), title="skills used most", title_align="left", border_style="dim"),
        Panel(_spread(entries[EXECUTION.name]), title="how long runs take", title_align="left", border_style="dim"),
        footer,
    )


def line(picture: Picture) -> str:
    """Return the key figures as one line of text, for logs and pipes."""
    parts = []
    for kpi in KPIS:
        value = kpi.of(_lifetime(picture.tables.rollups.entries(kpi.dimension)))
        if value is not None:
            parts.append(f"{kpi.name} {kpi.text(value)}")
    return "  ".join(parts) or "no code execution yet"


def _lifetime(entries: Sequence[Entry]) -> Sums:
    return lambda *names: sum(entry.sum(*names) for entry in entries)


def _between(entries: Sequence[Entry], since_ms: int, until_ms: int) -> Sums:
    panes = [pane for entry in entries for pane in entry.panes(since_ms) if pane.start_ms < until_ms]
    return lambda *names: sum(pane.sums.get(name, 0) for pane in panes for name in names)


def _figures(entries: dict[str, list[Entry]], now_ms: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("figure", ratio=2, no_wrap=True)
    for header in ("since the beginning", "last 5 m", "5 m before", ""):
        table.add_column(header, justify="right", no_wrap=True)
    for kpi in KPIS:
        mine = entries[kpi.dimension]
        whole = kpi.of(_lifetime(mine))
        if whole is None:
            continue
        now = kpi.of(_between(mine, now_ms - TREND_MS, now_ms + TREND_MS))
        before = kpi.of(_between(mine, now_ms - 2 * TREND_MS, now_ms - TREND_MS))
        style = "red" if kpi.poor(whole) else ""
        cells = [Text("–" if value is None else kpi.text(value), "dim") for value in (now, before)]
        table.add_row(Text(kpi.name), Text(kpi.text(whole), style), *cells, Text(trend(now, before)))
    return table if table.row_count else _NOTHING_YET


def trend(now: float | None, before: float | None) -> str:
    """Return an arrow: up, down, or level when less than a twentieth has changed; nothing without both figures."""
    if now is None or before is None:
        return ""
    change = now - before
    if abs(change) <= TREND_LEAST * max(abs(before), abs(now)):
        return "→"
    return "↑" if change > 0 else "↓"


def _skills(entries: Sequence[Entry]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("skill", ratio=2, no_wrap=True)
    for header in ("language", "runs", "success", "mean"):
        table.add_column(header, justify="right", no_wrap=True)
    for entry in nlargest(SKILLS_SHOWN, entries, key=lambda each: each.sum(*_SKILL_RUNS)):
        runs, took = entry.sum(*_SKILL_RUNS), entry.row.histograms.get("skill_duration")
        if runs:
            success = _percent(entry.sum("skills_success") / runs)
            mean = "–" if took is None else f"{took.sum_us / sum(took.buckets) / US_PER_SECOND:.2f} s"
            table.add_row(*(Text(cell) for cell in (*entry.labels, _count(runs), success, mean)))
    return table if table.row_count else _NOTHING_YET


def _spread(entries: Sequence[Entry]) -> RenderableType:
    """Draw how many runs took how long, a bar per bucket that has any."""
    uppers = bounds_of("execution_duration").uppers
    counts = [0] * (len(uppers) + 1)
    for entry in entries:
        seen = entry.row.histograms.get("execution_duration")
        for at, count in enumerate(seen.buckets if seen is not None else ()):
            counts[at] += count
    if not any(counts):
        return _NOTHING_YET
    table = Table(box=None, pad_edge=False, show_header=False)
    names = [*(f"≤ {upper / US_PER_SECOND:g} s" for upper in uppers), f"> {uppers[-1] / US_PER_SECOND:g} s"]
    for name, count in zip(names, counts, strict=True):
        if count:
            bar = "█" * max(1, round(count / max(counts) * BAR_COLUMNS))
            table.add_row(Text(name, justify="right"), Text(bar, "cyan"), Text(_count(count), "dim"))
    return table
