"""How does the cost grow?  With sessions, tools, rules, partitions and payloads; memory, recovery and the agent's side.

    python tests/bench/growth.py                   short ladders: a few minutes
    python tests/bench/growth.py --full            to 1,000,000 sessions, 10,000 tools, 500 rules, 64 partitions, 20 kB
    python tests/bench/growth.py --plain           without compiling the path of an event

One thing grows at a time, the rest stays as `grown.START` says.  The stages run without a broker, each point in a
process of its own; then the worker reads its changelogs back from a broker, and `edges.py` measures the agent's side.
Writes growth.md, growth.svg and growth.json.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench import edges  # noqa: E402  the path is set above
from bench.compare import machine  # noqa: E402  as above
from bench.grown import FEATURES, LIFE, START, Events  # noqa: E402  as above
from bench.peer_install import cache  # noqa: E402  as above
from bench.throughput import Run  # noqa: E402  as above
from bench.written import write  # noqa: E402  as above
from compiled import build  # noqa: E402  as above
from harness import Broker, eventually  # noqa: E402  as above

from streams.worker.embedded import EmbeddedKafka  # noqa: E402  as above

LADDERS: Final = {  # the last step of each is --full's alone; more than 500 rules are refused
    "sessions": (1_000, 10_000, 100_000, 1_000_000),
    "tools": (10, 100, 1_000, 10_000),
    "rules": (10, 100, 500),
    "partitions": (4, 16, 64),
    "payload_bytes": (0, 2_000, 20_000),
}
REMEMBERED: Final = (10_000, 100_000, 1_000_000)  # sessions, of memory and of recovery; the last is --full's alone
LOADED: Final = re.compile(r"partitions_loaded partitions=\S*sessions\S* rows=(\d+) ms=(\d+)")
PANEL: Final = 230  # pixels
MARGIN: Final = 46

Point = dict[str, Any]


def point(code: Path, *arguments: object) -> Point:
    """Measure one point in a process of its own."""
    program = str(ROOT / "tests" / "bench" / "grown.py")
    paths = os.pathsep.join((str(code), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr[-2000:]}")
    found: Point = json.loads(done.stdout)
    print(" ".join(map(str, arguments)), found, file=sys.stderr, flush=True)
    return found


def reloaded(code: Path, sessions: int, folder: Path) -> Point:
    """Let a worker fold, end it, start it again: how fast does it read the rows of its sessions back from a broker?"""
    kafka = EmbeddedKafka(folder / "kafka")
    prefix = f"growth-{uuid.uuid4().hex[:8]}."
    try:
        broker = Broker(kafka.start())
        environment = {
            "AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "AGENT_STREAMS_TOPIC_PREFIX": prefix,
            "PYTHONPATH": str(code),
        }
        command = [sys.executable, "-m", "streams"]
        topics = [*command, "topics", "create", "--partitions", f"events={START['partitions']}"]
        subprocess.run(topics, env={**os.environ, **environment}, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        source = Events(sessions, START["tools"], sessions * LIFE, 0)
        count = broker.publish(f"{prefix}events", source.each(LIFE))
        first = Run([*command, "worker"], 1, environment, folder / "first.log")
        try:

            def read() -> bool:
                first.lives()
                return sum(broker.committed(f"{prefix}workers", f"{prefix}events").values()) >= count

            eventually(read, timeout_s=1_200, what="the worker to read everything")
        finally:
            first.stop()
        again = Run([*command, "worker"], 1, environment, folder / "again.log")
        try:

            def loaded() -> list[tuple[str, str]]:
                again.lives()
                return LOADED.findall((folder / "again.log").read_text(errors="replace"))

            found = eventually(loaded, timeout_s=300, what="the state to be read back")
        finally:
            again.stop()
    finally:
        kafka.stop()
    rows, took_ms = (sum(int(each[at]) for each in found) for at in (0, 1))
    return {"rows_per_s": rows / took_ms * 1000, "rows": rows}


def grow(code: Path, *, full: bool, events: int) -> dict[str, dict[str, Point]]:
    """Measure every ladder, what each feature costs, memory and recovery."""
    found: dict[str, dict[str, Point]] = {}
    found["without"] = {feature: point(code, "without", feature, events) for feature in ("nothing", *FEATURES)}
    for axis, ladder in LADDERS.items():
        steps = ladder if full else ladder[:-1]
        found[axis] = {str(step): point(code, "cost", axis, step, events) for step in steps}
    sessions = REMEMBERED if full else REMEMBERED[:-2]
    for what in ("memory", "recovery"):
        found[what] = {str(number): point(code, what, number) for number in sessions}
    return found


def table(found: Mapping[str, Mapping[str, Point]], reload: Point, edge: Mapping[str, float], about: str) -> str:
    """Return everything as Markdown."""
    lines = [about, "", "| what grows | to | µs of CPU per event, both stages | rows per event | bytes per row |",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for axis in LADDERS:
        for step, each in found[axis].items():
            to = f"{each['value_bytes']:,} per event" if axis == "payload_bytes" else f"{int(step):,}"
            lines.append(
                f"| {axis.removesuffix('_bytes')} | {to} | {each['us_per_event']:.1f} | {each['rows_per_event']:.2f} | "
                f"{each['row_bytes']:.0f} |"
            )
    whole = found["without"]["nothing"]["us_per_event"]
    lines += ["", "| feature | µs of CPU per event that it costs | share |", "|---|---:|---:|"]
    for feature in FEATURES:
        costs = whole - found["without"][feature]["us_per_event"]
        lines.append(f"| {feature} | {costs:.2f} | {costs / whole:.0%} |")
    lines.append(f"| everything, both stages | {whole:.2f} | |")
    lines += ["", "| live sessions | RSS per session at rest | while folding | recovery without a broker |",
              "|---:|---:|---:|---:|"]  # fmt: skip
    for step, each in found["memory"].items():
        rate = found["recovery"][step]["rows_per_s"]
        lines.append(
            f"| {int(step):,} | {each['bytes_per_session']:,.0f} B | {each['hot_bytes']:,.0f} B | {rate:,.0f} rows/s |"
        )
    rate, rows = reload["rows_per_s"], reload["rows"]
    said = f"Recovery from a broker, one core, fence and offsets included: {rate:,.0f} rows/s over {rows:,} rows."
    lines += ["", said, "", "| the agent's side | |", "|---|---:|"]
    lines += [f"| {name.replace('_', ' ')} | {value:,.2f} |" for name, value in edge.items()]
    return "\n".join(lines)


def plot(found: Mapping[str, Mapping[str, Point]]) -> str:
    """Draw CPU per event against each thing that grows: one panel each, steps evenly spaced, all to one scale."""
    most = max(each["us_per_event"] for axis in LADDERS for each in found[axis].values())
    width, height = len(LADDERS) * PANEL, PANEL
    size = {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", **size})
    ET.SubElement(svg, "title").text = "CPU microseconds per event, as one thing grows"
    ET.SubElement(svg, "rect", {"width": str(width), "height": str(height), "fill": "#fff"})
    for number, axis in enumerate(LADDERS):
        _panel(svg, number * PANEL, axis, list(found[axis].items()), most)
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def _panel(svg: ET.Element, left: int, axis: str, steps: Sequence[tuple[str, Point]], most: float) -> None:
    bottom, inner = PANEL - MARGIN, PANEL - 2 * MARGIN
    _text(svg, left + PANEL / 2, 20, f"µs per event by {axis.removesuffix('_bytes')}", 12)
    ET.SubElement(svg, "path", {"d": f"M{left + MARGIN} {MARGIN}V{bottom}h{inner + 20}", "fill": "none",
                                 "stroke": "#888"})  # fmt: skip
    places = []
    for at, (step, each) in enumerate(steps):
        x = left + MARGIN + 10 + at * inner / max(1, len(steps) - 1)
        y = bottom - each["us_per_event"] / most * inner
        places.append(f"{x:.1f},{y:.1f}")
        ET.SubElement(svg, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3", "fill": "#0b62a4"})
        _text(svg, x, y - 8, f"{each['us_per_event']:.1f}", 10)
        _text(svg, x, bottom + 16, f"{each['value_bytes'] if axis == 'payload_bytes' else int(step):,}", 10)
    ET.SubElement(svg, "polyline", {"points": " ".join(places), "fill": "none", "stroke": "#0b62a4"})


def _text(svg: ET.Element, x: float, y: float, text: str, size: int) -> None:
    at = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": str(size), "text-anchor": "middle", "fill": "#222"}
    ET.SubElement(svg, "text", at).text = text


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--events", type=int, default=0, help="per point; 40,000, with --full 400,000")
    parser.add_argument("--out", type=Path, default=cache() / "results")
    parser.add_argument("--docs", action="store_true", help="put table and plot into docs/performance.md as well")
    options = parser.parse_args()
    events = options.events or (400_000 if options.full else 40_000)
    folder = Path(tempfile.mkdtemp(prefix="agent-streams-bench-"))
    try:
        code = ROOT if options.plain else build(folder)
        found = grow(code, full=options.full, events=events)
        reload = reloaded(code, REMEMBERED[1 if options.full else 0], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    edge = edges.measure(100_000 if options.full else 20_000, 500 if options.full else 100, kafka=True)
    how = "plain Python" if options.plain else "compiled"
    about = f"{how}, {events:,} events per point. " + ", ".join(f"{name} {value}" for name, value in machine().items())
    text = table(found, reload, edge, about)
    told = {"machine": machine(), "compiled": not options.plain, "events": events, "points": found}
    told |= {"reload": reload, "edges": edge}
    write("growth", text, told, out=options.out, docs=options.docs, svg=plot(found))


if __name__ == "__main__":
    main()
