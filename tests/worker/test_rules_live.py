"""Rules on a real broker: predicted for what has happened, loaded into running workers, there after kill -9."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
from exporting import create
from harness import ROOT, Broker, Fleet, eventually

from streams.rule.defaults import defaults_text
from streams.settings import PREFIX

WAIT_S: Final = 90
STEP_MS: Final = 250
# A worker judges when it has fetched and flushed, which a machine full of tests does late; the log knows nothing of it.
RIGHT_TO_MS: Final = STEP_MS + 10_000
LOOP: Final = "SessionToolErrorLoop"
FAILING: Final = "ToolFailing"
SECOND: Final = """
groups:
  - name: busy
    rules:
      - {alert: ManyCalls, over: tool, value: {total: events}, above: 2, severity: info, summary: "{tool}: {value}"}
"""


def without(name: str, more: str) -> str:
    """Return the shipped rules without one of them, and with more."""
    head, _, rest = defaults_text().partition(f"      - alert: {name}\n")
    _, _, tail = rest.partition("\n\n")
    return f"{head}\n{tail}".replace("breakers:\n", more.partition("groups:\n")[2] + "\nbreakers:\n", 1)


def program(*arguments: str, code: int = 0) -> str:
    """Run the program; it must end with this code. Returns what it wrote to standard output."""
    kept = {name: each for name, each in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(
        [sys.executable, "-m", "streams", "rules", *arguments], capture_output=True, text=True, timeout=90,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "150"}, cwd=ROOT, check=False,
    )  # fmt: skip
    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


class Topics:
    """What a test publishes, and what the workers tell."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.broker = Broker(kafka)
        self.prefix = prefix
        self._published = 0

    def calls(self, tool: str, sessions: int, each: int, status: str) -> None:
        """Publish calls of a tool that end now."""
        records = []
        for number in range(sessions * each):
            self._published += 1
            session = f"s{number % sessions}"
            event = {"kind": "tool_end", "id": f"e{self._published}", "time": int(time.time() * 1000), "agent": "a",
                     "session_id": session, "tool": tool, "status": status, "duration_ms": 5}  # fmt: skip
            records.append((session.encode(), json.dumps(event).encode()))
        self.broker.publish(f"{self.prefix}events", records)

    def end(self, session: str) -> None:
        """End a session."""
        self._published += 1
        event = {"kind": "session_end", "id": f"e{self._published}", "time": int(time.time() * 1000), "agent": "a",
                 "session_id": session}  # fmt: skip
        self.broker.publish(f"{self.prefix}events", [(session.encode(), json.dumps(event).encode())])

    def told(self) -> list[dict[str, Any]]:
        """Return every transition that the workers have committed, none of them twice."""
        read = self.broker.read(f"{self.prefix}alerts")
        records = [json.loads(value) for message in read if (value := message.value())]
        assert len({record["id"] for record in records}) == len(records)
        return records

    def until(self, what: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait for so many transitions with these fields."""

        def probe() -> list[dict[str, Any]]:
            found = [one for one in self.told() if fields.items() <= one.items()]
            return found if len(found) >= count else []

        return eventually(probe, timeout_s=WAIT_S, what=what)

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters of commands."""
        read = [json.loads(message.value() or b"{}") for message in self.broker.read(f"{self.prefix}dead-letter")]
        return [letter for letter in read if letter.get("topic") == "commands"]


def lives(told: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """Return what has fired and ended, by rule and key; what was only pending is no alert."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for one in told:
        if one["state"] != "pending":
            found.setdefault((one["alert"], str(one["labels"])), []).append((one["state"], one["time_ms"]))
    return found


def predicted(alerts: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """Return the same of a backtest's document."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for one in alerts:
        told = found.setdefault((one["alert"], str(one["labels"])), [])
        told.append(("firing", one["fired_ms"]))
        if one["resolved_ms"] is not None:
            told.append(("resolved", one["resolved_ms"]))
    return found


@pytest.mark.kafka
async def test_rules_are_predicted_loaded_and_kept(kafka: str, prefix: str, tmp_path: Path) -> None:
    there = ("--bootstrap", kafka, "--prefix", prefix)
    await create(kafka, prefix)
    topics = Topics(kafka, prefix)
    began_ms = int(time.time() * 1000) - 1_000
    with Fleet(tmp_path) as fleet:
        workers = [
            fleet.add(name, ["-m", "streams", "worker", *there, "--instance", name]) for name in ("one", "two")
        ]  # fmt: skip
        eventually(lambda: topics.broker.members(f"{prefix}workers") == 2, timeout_s=WAIT_S, what=fleet.logs)
        a_backtest_predicts_what_workers_told(topics, there, began_ms)
        loaded_rules_hold_at_once(topics, there, tmp_path)
        for worker in workers:
            worker.kill()
            worker.start()
        they_hold_after_kill(topics, there)
        a_text_with_faults_is_refused(topics, there, tmp_path)
        the_rules_of_the_settings_come_back(topics, there)
        what_is_no_longer_retained_is_named(topics, there, began_ms)
        assert [0, 0] == [worker.stop() for worker in workers]


def a_backtest_predicts_what_workers_told(topics: Topics, there: tuple[str, ...], began_ms: int) -> None:
    """The same rules, keys and times, of two stages, from the log alone; and nothing is written for it."""
    topics.calls("search", sessions=4, each=12, status="error")
    topics.until("loops", 4, alert=LOOP, state="firing")
    topics.end("s3")
    topics.until("the end of a loop", alert=LOOP, state="resolved", reason="session_ended")
    topics.until("a tool that fails", alert=FAILING, state="firing")
    ends = {name: topics.broker.ends(f"{topics.prefix}{name}") for name in ("rollups", "alerts", "dead-letter")}
    told = lives(topics.told())
    document = json.loads(program("backtest", *there, "--from", str(began_ms), "--step", f"{STEP_MS}ms", "--json"))
    found = predicted(document["alerts"])

    assert told.keys() == found.keys()
    for name, moves in told.items():
        assert [state for state, _ in moves] == [state for state, _ in found[name]], name
        for (_, told_ms), (_, found_ms) in zip(moves, found[name], strict=True):
            assert abs(told_ms - found_ms) <= RIGHT_TO_MS, name
    assert (49, {}) == (document["counters"]["received"], document["missing"])
    assert ends["dead-letter"] == topics.broker.ends(f"{topics.prefix}dead-letter")


def loaded_rules_hold_at_once(topics: Topics, there: tuple[str, ...], folder: Path) -> None:
    """Alerts of a rule that is gone end, a new rule judges, and an alert of an unchanged rule goes on."""
    before = [one for one in topics.told() if one["alert"] == FAILING]
    file = folder / "second.yaml"
    file.write_text(without(LOOP, SECOND), encoding="utf-8")
    done = json.loads(program("load", str(file), *there, "--note", "a trial", "--id", "second", "--json"))
    assert ("applied", 1, False) == (done["outcome"], done["version"], done["repeated"])
    assert {1} == set(done["partitions"].values())
    assert {name.partition("-")[0] for name in done["partitions"]} == {"sessions", "rollups"}
    topics.until("loops whose rule is gone", 3, alert=LOOP, state="resolved", reason="rule_removed")
    topics.calls("fetch", sessions=1, each=3, status="success")
    (fired,) = topics.until("calls of fetch", alert="ManyCalls", state="firing", labels={"tool": "fetch"})
    assert "fetch: 3" == fired["summary"]
    assert before == [one for one in topics.told() if one["alert"] == FAILING]
    shown = json.loads(program("show", *there, "--json"))
    assert (1, "command", "a trial", "second") == tuple(
        shown[name] for name in ("version", "source", "note", "command")
    )
    assert file.read_text(encoding="utf-8") == program("show", *there, "--text")


def they_hold_after_kill(topics: Topics, there: tuple[str, ...]) -> None:
    """A worker knows the loaded rules before it judges anything: what was removed never fires in between."""
    before = len([one for one in topics.told() if one["alert"] == LOOP])
    topics.calls("search", sessions=3, each=12, status="error")
    topics.calls("parse", sessions=1, each=3, status="success")
    topics.until("calls of parse", alert="ManyCalls", state="firing", labels={"tool": "parse"})
    assert before == len([one for one in topics.told() if one["alert"] == LOOP])
    again = json.loads(program("show", *there, "--json"))
    assert {1} == set(again["partitions"].values())


def a_text_with_faults_is_refused(topics: Topics, there: tuple[str, ...], folder: Path) -> None:
    """By the program before anything is published, and by the workers with every fault."""
    file = folder / "wrong.yaml"
    file.write_text("groups:\n  - {name: g, rules: [{alert: A, over: tol, value: 1, above: x}]}\n", encoding="utf-8")
    assert "over = 'tol'" in program("load", str(file), *there, code=78)
    assert not topics.letters()
    wrong = {"kind": "rules", "id": "wrong", "time": 0, "by": "ops", "text": file.read_text(encoding="utf-8")}
    topics.broker.publish(f"{topics.prefix}commands", [(b"wrong", json.dumps(wrong).encode())])
    (letter,) = eventually(topics.letters, timeout_s=WAIT_S, what="a dead letter")
    assert "invalid" == letter["reason"]
    assert all(f"  {number}. " in letter["detail"] for number in (1, 2))
    assert 1 == json.loads(program("show", *there, "--json"))["version"]


def the_rules_of_the_settings_come_back(topics: Topics, there: tuple[str, ...]) -> None:
    """The next version is that of nobody's text."""
    assert "version 2" in program("load", "--default", *there)
    topics.until("alerts whose rule is gone", 3, alert="ManyCalls", state="resolved", reason="rule_removed")
    topics.calls("search", sessions=1, each=1, status="error")
    topics.until("a loop", 5, alert=LOOP, state="firing")
    shown = program("show", *there)
    assert "the rules of the settings" in shown
    assert defaults_text() == program("show", *there, "--text")


def what_is_no_longer_retained_is_named(topics: Topics, there: tuple[str, ...], began_ms: int) -> None:
    """With what to do about it; and a range in which nothing is left is no success."""
    events = f"{topics.prefix}events"
    gone = [number for number, end in topics.broker.ends(events).items() if end > 3]
    topics.broker.delete_before(events, dict.fromkeys(gone, 3))
    found = json.loads(program("backtest", *there, "--from", str(began_ms), "--json"))
    assert {str(number) for number in gone} == set(found["missing"])
    assert found["records"] > 0
    topics.broker.delete_before(events, topics.broker.ends(events))
    said = program("backtest", *there, "--from", str(began_ms), code=66)
    assert "no longer retained" in said
    assert "--input FILE" in said
