"""`agent-streams rules` without a broker: files, faults, exit codes, and what a replay of lines shows."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from streams.__main__ import build
from streams.errors import ConfigError
from streams.rule.defaults import defaults_text
from streams.stage.ruling import digest_of

T0: Final = 1_763_724_000_000
RULES: Final = """
groups:
  - name: g
    rules:
      - {alert: Failing, over: tool, value: {sum: tool_calls_error}, window: 1m, above: %d, severity: critical,
         summary: "{tool} fails"}
"""
TEST: Final = """
rules: rules.yaml
tests:
  - name: four
    series: [{over: tool, key: {tool: search}, values: {tool_calls_error: 4}}]
    expect: [{at: 0s, alert: Failing, alerts: [{key: {tool: %s}, value: 4}]}]
"""


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the command; it must end with this code. Returns what it wrote to standard output."""
    done = CliRunner().invoke(build(["rules"]), ["rules", *map(str, arguments)])
    assert code == done.exit_code, done.output
    return done.stdout


def refused(*arguments: str | Path) -> str:
    """Run the command; a person has to correct something. Returns what."""
    done = CliRunner().invoke(build(["rules"]), ["rules", *map(str, arguments)])
    assert isinstance(done.exception, ConfigError), done.output
    return str(done.exception)


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def lines(folder: Path) -> Path:
    """Write five calls that fail, a second apart, and two minutes of silence."""
    events = [
        {"kind": "tool_end", "id": f"e{number}", "time": T0 + at_ms, "agent": "a", "session_id": "s", "tool": "search",
         "status": "error" if at_ms < 10_000 else "success"}
        for number, at_ms in enumerate((0, 1_000, 2_000, 3_000, 4_000, 120_000))
    ]  # fmt: skip
    return written(folder, "events.jsonl", "".join(json.dumps(each) + "\n" for each in events) + "\n{not json\n")


# ---- check -----------------------------------------------------------------------------------------------------


def test_check_counts_what_a_file_holds(tmp_path: Path) -> None:
    shipped = written(tmp_path, "shipped.yaml", defaults_text())
    mine = written(tmp_path, "mine.yaml", RULES % 3)
    found = json.loads(run("check", shipped, mine, "--json"))["files"]

    assert [digest_of(defaults_text()), digest_of(RULES % 3)] == [each["digest"] for each in found]
    assert (1, 0) == (found[1]["rules"], found[1]["breakers"])
    assert "1 rules in 1 groups, 0 breakers" in run("check", mine)


def test_check_names_the_file_and_every_fault(tmp_path: Path) -> None:
    said = refused("check", written(tmp_path, "wrong.yaml", "groups: [{rules: [{alert: 7, over: tol}]}]\nbreakers: 3"))

    assert "wrong.yaml" in said
    assert all(f"  {number}. " in said for number in range(1, 6))
    assert "cannot be read" in refused("check", tmp_path / "none.yaml")


# ---- test ------------------------------------------------------------------------------------------------------


def test_tests_pass_beside_their_rules(tmp_path: Path) -> None:
    written(tmp_path, "rules.yaml", RULES % 3)

    assert "1 of 1 tests passed" in run("test", written(tmp_path, "t.yaml", TEST % "search"))


def test_a_test_that_fails_shows_the_difference_and_ends_with_one(tmp_path: Path) -> None:
    written(tmp_path, "rules.yaml", RULES % 3)
    file = written(tmp_path, "t.yaml", TEST % "serch")
    shown = run("test", file, code=1)

    assert "FAILED" in shown
    assert "- firing Failing{tool=serch}, value 4" in shown
    assert "+ firing Failing{tool=search} since 0, value 4: not expected" in shown
    found = json.loads(run("test", file, "--json", code=1))
    assert (1, 1, "four") == (found["tests"], found["failed"], found["failures"][0]["test"])


def test_test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    assert "t.yaml" in refused("test", written(tmp_path, "t.yaml", "tests: 7"))
    assert "rules.yaml: cannot be read" in refused("test", written(tmp_path, "u.yaml", TEST % "search"))
    written(tmp_path, "rules.yaml", "groups: []")
    assert "alert = 'Failing'" in refused("test", tmp_path / "u.yaml")


# ---- backtest and diff -----------------------------------------------------------------------------------------


def test_a_backtest_of_lines_shows_what_would_have_fired(tmp_path: Path) -> None:
    rules, events = written(tmp_path, "rules.yaml", RULES % 3), lines(tmp_path)
    found = json.loads(run("backtest", rules, "--input", events, "--json"))
    (alert,) = found["alerts"]

    assert ("Failing", {"tool": "search"}, 5) == (alert["alert"], alert["labels"], alert["peak"])
    assert 3_000 <= alert["fired_ms"] - T0 <= 4_000
    assert alert["fired_for_ms"] == alert["resolved_ms"] - alert["fired_ms"]
    assert (6, 1, 7) == (found["counters"]["applied"], found["counters"]["rejected"], found["records"])
    shown = run("backtest", rules, "--input", events)
    assert "2025-11-21 11:20:0" in shown
    assert "search fails" in shown
    assert "nothing was written" in shown


def test_two_rule_files_are_compared(tmp_path: Path) -> None:
    low, high, never = (written(tmp_path, f"{above}.yaml", RULES % above) for above in (1, 3, 30))
    events = lines(tmp_path)
    moved = json.loads(run("diff", low, high, "--input", events, "--json"))
    gone = json.loads(run("backtest", low, "--against", never, "--input", events, "--json"))
    same = json.loads(run("diff", low, low, "--input", events, "--json"))

    assert (0, 0, 1, 0) == four(moved)
    one, other = moved["moved"][0]
    assert one["fired_ms"] < other["fired_ms"]
    assert (1, 0, 0, 0) == four(gone)
    assert (0, 0, 0, 1) == four(same)
    assert "at other times: 1" in run("diff", low, high, "--input", events)


def four(found: dict[str, Any]) -> tuple[int, ...]:
    """Count what is only in one, what moved, and what is the same."""
    return (*(len(found[name]) for name in ("only_first", "only_second", "moved")), found["same"])


def test_nothing_to_replay_ends_with_66(tmp_path: Path) -> None:
    run("backtest", "--input", written(tmp_path, "empty.jsonl", "\n"), code=66)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backtest", "--from", "soon"), "--from: 'soon' given"),
        (("backtest", "--from", "1h", "--to", "2h"), "is not before --to"),
        (("backtest", "--step", "1"), "--step: '1' given"),
        (("backtest", "--warm-up", "long"), "--warm-up: 'long' given"),
        (("backtest", "--input", "/nowhere/events"), "--input: /nowhere/events cannot be read"),
        (("load",), "say either a FILE, or --default"),
        (("load", "x.yaml", "--default"), "say either a FILE, or --default"),
    ],
)
def test_wrong_options_say_what_is_expected(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)
