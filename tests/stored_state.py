"""The state of a release: what its stages leave in their changelogs after one story, and the totals of that story.

`python tests/stored_state.py` writes tests/golden/state-<version>/ with the code of today.  What a release has written
stays as it is for ever: every release after it must read it.
"""

import base64
import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fleet import Fleet
from through_stages import Record, event, of_every_kind, of_gauges, of_money

from streams import __version__
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage.commands import CommandsPartition
from streams.stage.erasing import Erasures
from streams.stage.plan import Plan, StagePartition
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition
from streams.topology import ROLLUPS

GOLDEN: Final = Path(__file__).parent / "golden"
T0: Final = 1_763_724_000_000
END_MS: Final = T0 + 5_000_000  # after the last event of the story
RULES: Final = """
groups:
  - name: stored
    rules:
      - {alert: Busy, over: tool, value: {sum: events}, window: 1h, above: 0, severity: warning, summary: "{tool}"}
      - {alert: Much, over: session, value: {total: events}, above: 3, severity: info, summary: "{session_id}"}
      - {alert: Unusual, over: tool, value: events, window: 1m, above: mean + 0.5 sigma, samples: 5, cold_start: 2,
         severity: info, summary: "{tool} {limit}"}
breakers:
  - {over: tool, failure_rate: 40%, window: 4 calls, min_calls: 3, open_for: 30d}
"""
FINGERPRINT: Final = "0123456789abcdef" * 2
Totals = dict[str, dict[str, int]]


class Place:
    """One partition of a stage, and its changelog as compaction leaves it."""

    def __init__(self, state: StagePartition, rows: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.state = state
        self.rows = dict(rows)
        state.load(self.rows.items())
        state.loaded()
        self.end = state.next_offset or 0

    def feed(self, *records: tuple[bytes, int]) -> None:
        """Append records, value and time, and feed them."""
        self.state.feed(
            [Record(self.end + number, at_ms, None, value) for number, (value, at_ms) in enumerate(records)]
        )
        self.end += len(records)

    def flush(self) -> list[Any]:
        """Write what is planned; return what is sent."""
        plan: Plan | None = self.state.plan()
        for key, value in () if plan is None else plan.rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        return [] if plan is None else list(plan.sends)


class World:
    """One partition of each stage, wired as a worker wires them."""

    def __init__(self, rows: dict[str, dict[bytes, bytes]] | None = None) -> None:
        rows = rows or {}
        rules: RuleSet = parse_rules(RULES)
        self.commands = CommandsPartition(0, 1)
        self.sessions = SessionsPartition(0, 1, 1, rules, rules_version=1)
        self.rollups = RollupsPartition(0, 1, rules, rules_version=1)
        self.places = {
            name: Place(state, rows.get(name, {}).items())
            for name, state in (("sessions", self.sessions), ("rollups", self.rollups), ("commands", self.commands))
        }

    def publish(self, events: Iterable[dict[str, Any] | bytes]) -> None:
        """Feed events to the first stage, bytes as they are."""
        made = [(one, T0) if isinstance(one, bytes) else (json.dumps(one).encode(), one["time"]) for one in events]
        self.places["sessions"].feed(*made)
        self.flush()

    def command(self, kind: str, **fields: Any) -> None:
        """Give a command."""
        told = {"kind": kind, "id": f"{kind}-1", "time": T0, "by": "ops", **fields}
        self.places["commands"].feed((json.dumps(told).encode(), T0))
        self.flush()

    def tick(self, now_ms: int) -> None:
        """Let time pass everywhere."""
        for place in self.places.values():
            place.state.tick(now_ms)
        self.flush()

    def flush(self) -> None:
        """Write everything, and carry what one stage sends to the other."""
        for name in ("commands", "sessions"):
            for send in self.places[name].flush():
                if send.topic == ROLLUPS.suffix:
                    self.places["rollups"].feed((send.value, T0))
        self.places["rollups"].flush()

    def rows(self) -> dict[str, dict[bytes, bytes]]:
        """Return every changelog."""
        return {name: place.rows for name, place in self.places.items()}

    def totals(self) -> Totals:
        """Return every lifetime sum by key, and what was counted of events and commands."""
        keyed = {keyed.key: {**keyed.row.sums, **_histograms(keyed.row)} for keyed in self.rollups.keyed()}
        told = {"events": self.sessions.counters(), "commands": self.commands.counters()}
        sessions = {
            repr(key): {"events": row.events, "cost": row.cost_nano_usd} for key, row in self.sessions.sessions()
        }
        return dict(sorted({**keyed, **told, **sessions}.items()))


def _histograms(row: Any) -> dict[str, int]:
    return {f"{name} µs": told.sum_us for name, told in row.histograms.items()}


def beginning(world: World) -> None:
    """Let everything happen that leaves a row of its own kind."""
    world.publish(of_every_kind())
    world.publish([event("tool_start", 3_990, session_id="s2", source="host-1", seq=1, tool="fetch", call_id="f")])
    world.publish(of_money())
    world.publish(of_gauges())
    world.publish(
        [event("cycle", 4_010, session_id=name, user_id="ann", phase="planning", id=name) for name in ("x", "y")]
    )
    world.publish(Fleet(21, sessions=12, tools=5, step_ms=500, start_ms=T0 + 4_011_000).events(600))
    digest = {
        name: sha256(f"{name}:{'x' if name == 'session' else 'ann'}".encode()).hexdigest()
        for name in ("session", "user")
    }
    world.command("purge", scope="session", digest=digest["session"])
    world.command("silence", matchers=[{"name": "tool", "value": "search"}], until=END_MS + 3_600_000)
    world.command("acknowledge", fingerprint=FINGERPRINT, incarnation=7, until=END_MS + 3_600_000)
    world.command("reset", scope={"dimension": "tool", "labels": {"tool": "search"}})
    world.command("breaker", breaker="tool|fetch", action="force-open")
    world.command("rules", text=RULES)
    erasures = Erasures()
    erasures.take(world.places["commands"].rows.items())
    world.sessions.erase(erasures)
    world.flush()
    for step in range(20):
        world.publish([event("tool_end", 4_320 + 30 * step, session_id="s9", tool="search", call_id=f"n{step}", status=
                             "error" if step % 2 else "success", duration_ms=20 + step)])  # fmt: skip
        world.tick(T0 + 4_320_000 + 30_000 * step)


def later(world: World) -> None:
    """Let it go on, from whatever the state says."""
    world.publish(event for event in Fleet(22, sessions=12, tools=5, step_ms=500, start_ms=END_MS).events(300))
    world.publish(of_every_kind())
    world.tick(END_MS + 3_600_000)


def stored(folder: Path) -> dict[str, dict[bytes, bytes]]:
    """Read the changelogs of a release."""
    found: dict[str, dict[bytes, bytes]] = {}
    for path in sorted(folder.glob("*.changelog.jsonl")):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        decode = base64.b64decode
        found[path.name.partition(".")[0]] = {decode(line["key"]): decode(line["value"]) for line in lines}
    return found


def write(folder: Path) -> None:
    """Write the changelogs of today's code and the totals, at the end of the beginning and of what came later."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World()
    beginning(world)
    for name, rows in world.rows().items():
        lines = (
            json.dumps({"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()})
            for key, value in sorted(rows.items())
        )
        (folder / f"{name}.changelog.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    told = {"beginning": world.totals()}
    later(world)
    told["later"] = world.totals()
    (folder / "totals.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write(GOLDEN / f"state-{__version__}")
    sys.stdout.write(f"{GOLDEN / f'state-{__version__}'}\n")
