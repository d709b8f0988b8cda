"""The table of faults: what goes wrong, what must hold, which tests show it, and the figures they last saw.

Tests name their rows by a mark, `@pytest.mark.fault("T2", "T9")`; `tests/run long --fault T2` runs those of a row.
With RECORD_FIGURES=1 a test writes what it saw to tests/faults/seen; `python tests/fault_table.py` makes the page.
"""

import ast
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).parent
SEEN: Final = TESTS / "faults" / "seen"
PAGE: Final = TESTS.parent / "docs" / "faults.md"
README: Final = TESTS.parent / "README.md"
MET: Final = {"kills": "kill -9", "pauses": "pauses beyond a session timeout"}  # figures, and what they count
BEGIN: Final = "<!-- faults -->"
END: Final = "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    fault: str
    holds: str  # what must be true


ROWS: Final[dict[str, Row]] = {
    "T1": Row("deterministic simulation: crashes, zombies, torn transactions", "totals equal the truth for each seed"),
    "T2": Row("kill -9 of one of two workers, again and again", "totals exact; takeover within session timeout + 10 s"),
    "T3": Row("kill -9 of all workers at once", "totals exact; recovery bounded"),
    "T4": Row("SIGTERM, worker by worker", "totals exact; nothing folded twice"),
    "T5": Row("scale 1 → 4 → 2 → 4 under load", "totals exact; no series of partitions that moved away"),
    "T6": Row("rebalance while a worker recovers", "totals exact; recovery always ends"),
    "T7": Row("broker: SIGTERM, kill -9, bounces, of leader and coordinator", "totals exact; workers back within 60 s"),
    "T8": Row("broker out of reach for 60 s", "totals exact; memory bounded; no crash loop"),
    "T9": Row("SIGSTOP of a worker for two session timeouts", "totals exact, also after compaction and recovery"),
    "T10": Row("Redis down, slow, or refusing the password", "stages not slowed; projection converges within 10 s"),
    "T11": Row("poison: 1 in 100, then nothing else", "no restart; dead letters are exactly the bad set"),
    "T12": Row("clock skew of producers; the worker's clock steps", "watermark bounded; late and future counted"),
    "T13": Row("cardinality bomb", "memory and page bounded; known tools unaffected; overflow counted"),
    "T14": Row("records of 1 MB and 8 MB; a row that grows", "refused by size; no crash loop"),
    "T15": Row("a blocked loop; a dead fetcher; a coordinator that moved", "the worker ends or recovers; totals exact"),
    "T16": Row("soak at half load", "memory, file descriptors and changelog flat"),
    "T17": Row("disk full at the broker; read-only or full disk at the worker", "clean exit; totals exact afterwards"),
    "T18": Row("changelog with records that cannot be read", "never a silently wrong state; the message says which"),
    "T19": Row("topic recreated, truncated, or with another partition count", "start refused, with the reason"),
    "T20": Row("clients that repeat and reorder", "totals exact"),
    "T21": Row("upgrade and downgrade", "the previous release's state is read; a newer one is refused"),
    "T22": Row("alerts under T2, T7 and T9", "each transition there, once after dedup, in order per key"),
    "T23": Row("TLS, SASL, ACL: wrong in every way", "refused within 10 s; no secret in a log"),
    "T24": Row("exporter abused", "processing loses < 5 %; 401 and 429; no stall"),
    "T25": Row("slow and lossy network", "totals exact; queues bounded"),
    "T26": Row("traps of Faust and aiokafka that we work around", "upstream still behaves as we believe"),
}


@dataclass(slots=True)
class Shown:
    """The tests of a row and what they saw."""

    tests: list[str] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)


def record(row: str, name: str, **figures: float | str) -> None:
    """Keep what a test saw of a row, if figures are being recorded; else nothing."""
    if row not in ROWS:
        raise KeyError(row)
    if os.environ.get("RECORD_FIGURES") == "1":
        SEEN.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"row": row, "name": name, "figures": figures}, indent=2)
        (SEEN / f"{row}-{name}.json").write_text(text + "\n", "utf-8")


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (row, test) of the marks in a file, those of `pytestmark` as the file itself."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for mark in node.decorator_list:
                yield from ((row, f"{path.name}::{node.name}") for row in _rows(mark))
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets
        ):
            yield from ((row, path.name) for row in _rows(node.value))


def _rows(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "fault":
            yield from (ast.literal_eval(argument) for argument in call.args)


def table() -> dict[str, Shown]:
    """Return every row with its tests and figures."""
    rows = {row: Shown() for row in ROWS}
    for path in sorted(TESTS.rglob("test_*.py")):
        for row, test in marked(path):
            rows[row].tests.append(test)
    for path in sorted(SEEN.glob("*.json")):
        told = json.loads(path.read_text("utf-8"))
        rows[told["row"]].seen.append(told)
    return rows


def markdown() -> str:
    """Return the table as docs/faults.md shows it."""
    lines = ["| | what goes wrong | what must hold | shown by | last seen |", "|---|---|---|---|---|"]
    for row, shown in table().items():
        tests = "<br>".join(f"`{test}`" for test in shown.tests)
        seen = "<br>".join(_said(told) for told in shown.seen)
        lines.append(f"| {row} | {ROWS[row].fault} | {ROWS[row].holds} | {tests} | {seen} |")
    return "\n".join(lines)


def _said(told: dict[str, Any]) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told["figures"].items())
    return f"{told['name'].replace('-', ' ')}: {figures}"


def headline() -> str:
    """Return the table in a few sentences, as README.md shows it; a sum that nobody has recorded is left out."""
    rows = table()
    tests = len({test for shown in rows.values() for test in shown.tests})
    told = [told["figures"] for shown in rows.values() for told in shown.seen]
    sums = {name: sum(int(each.get(name, 0)) for each in told) for name in ("events", "kills", "pauses", "refused")}
    met = [f"{sums[name]:,} {what}" for name, what in MET.items() if sums[name]]
    through = f" through {' and '.join(met)}" if met else ""
    lines = (
        f"**Proven**: {len(rows)} kinds of fault are caused on purpose by {tests} tests, large ones on a real Kafka.",
        f"Their last recorded figures: {sums['events']:,} events counted, none lost and none twice{through};",
        f"{sums['refused']:,} times something that did not fit was refused in words that say what to do:",
        "[the table of faults](docs/faults.md).",
    )
    return "\n".join(lines)


def page(path: Path = PAGE) -> str:
    """Return docs/faults.md, or README.md, with what stands between the marks made anew."""
    head, _, rest = path.read_text("utf-8").partition(BEGIN)
    made = markdown() if path == PAGE else headline()
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for each in (PAGE, README):
        each.write_text(page(each), "utf-8")
        sys.stdout.write(f"{each}\n")
