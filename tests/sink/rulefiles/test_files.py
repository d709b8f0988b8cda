"""The rule files are the published ones, promtool finds no fault, and every alert has cases and a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streams.rule.defaults import default_rules
from streams.rule.parse import parse_rules
from streams.sink.dashboards.boards import BOARDS
from streams.sink.rulefiles.files import HEALTH_FILE, RULES_FILE, files, groups
from streams.sink.rulefiles.health import Watch, health
from streams.sink.rulefiles.model import RUNBOOKS, anchor

ROOT: Final = Path(__file__).parents[3]
RULES: Final = ROOT / "k8s" / "rules"
CASES: Final = sorted((RULES / "tests").glob("*.test.yaml"))
GROUPS: Final = (*groups(default_rules()), health(Watch()))
ALERTS: Final = sorted(alert.name for group in GROUPS for alert in group.alerts)
PARTS: Final = ("**It means**", "**Look**", "**Do**")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def sections() -> dict[str, str]:
    """Return the runbooks by the name of their alert."""
    text = (ROOT / RUNBOOKS).read_text(encoding="utf-8")
    _, *parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def cases() -> list[dict[str, Any]]:
    """Return what is asked of each alert in the cases."""
    found: list[dict[str, Any]] = []
    for file in CASES:
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            found += case["alert_rule_test"]
    return found


def test_the_files_are_what_the_command_writes() -> None:
    published = {file.name: file.read_text(encoding="utf-8") for file in RULES.glob("*.yaml")}

    assert files(default_rules(), Watch()) == published, "run: agent-streams prometheus-rules --to k8s/rules"


def test_promtool_finds_no_fault() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yaml")))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert not done.stderr


def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", *CASES)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert len(CASES) == done.stdout.count("SUCCESS")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert ALERTS == sorted({each["alertname"] for each in cases() if each["exp_alerts"]})
    assert ALERTS == sorted({each["alertname"] for each in cases() if not each["exp_alerts"]})


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Those of the rules too: Prometheus and the alert topic call them the same."""
    ruled = {rule.name for rule in default_rules().rules}

    assert ALERTS == sorted(sections())
    assert ruled <= set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    text = sections()[name]

    assert [text.count(part) for part in PARTS] == [1, 1, 1]
    assert sorted(PARTS, key=text.index) == list(PARTS)


def test_what_a_runbook_points_at_is_on_a_dashboard() -> None:
    """What stands in *italics* is the name of a dashboard, of a section or of a panel."""
    shown = {board.title.removeprefix("AgentStreams / ") for board in BOARDS.values()}
    for section in (section for board in BOARDS.values() for section in board.sections):
        shown |= {section.title, *(panel.title for panel in section.panels)}
    said = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", " ".join("".join(sections().values()).split()))

    assert len(said) > 20
    assert [] == sorted(set(said) - shown)


def test_a_link_leads_to_the_section() -> None:
    for name in ALERTS:
        assert anchor(name) == name.lower()


def test_runbooks_can_be_anywhere() -> None:
    made = files(default_rules(), Watch(), "https://wiki.example/agents")

    for text in made.values():
        links = [
            rule["annotations"]["runbook_url"]
            for group in yaml.safe_load(text)["groups"]
            for rule in group["rules"]
            if "alert" in rule
        ]
        assert links
        assert all(link.startswith("https://wiki.example/agents#") for link in links)


def test_the_number_of_workers_is_what_is_expected() -> None:
    text = files(default_rules(), Watch(workers=3))[HEALTH_FILE]

    assert "vector(0)) < 3" in text
    assert "expected 3" in text


def test_a_recording_that_two_groups_read_stands_once() -> None:
    rules = parse_rules(
        """
groups:
  - name: first
    rules:
      - {alert: A, over: tool, value: {sum: tool_calls_error}, window: 5m, above: 1}
  - name: second
    rules:
      - {alert: B, over: tool, value: {sum: tool_calls_timeout}, window: 5m, above: 1}
"""
    )
    first, second = groups(rules)

    assert 1 == len(first.records)
    assert () == second.records


def test_no_rules_and_no_breakers_make_a_file_without_groups(tmp_path: Path) -> None:
    file = tmp_path / RULES_FILE
    file.write_text(files(parse_rules("groups: []"), Watch())[RULES_FILE], encoding="utf-8")
    done = promtool("check", "rules", file)

    assert "groups: []" in file.read_text(encoding="utf-8")
    assert 0 == done.returncode, done.stdout + done.stderr
