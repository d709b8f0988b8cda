"""Are the folders that commands write the published ones, and is a wrong name explained?"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streams.rule.defaults import default_rules
from streams.sink.dashboards.boards import BOARDS, files
from streams.sink.rulefiles import files as rulefiles
from streams.sink.rulefiles.health import Watch

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "streams", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def written(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_every_dashboard_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    done = run("dashboards", "--to", str(folder))

    assert 0 == done.returncode, done.stderr
    assert files() == written(folder)


def test_one_dashboard_is_printed_and_all_are_named() -> None:
    assert BOARDS["tools"].uid == json.loads(run("dashboards", "tools").stdout)["uid"]
    assert list(BOARDS) == [line.split()[0] for line in run("dashboards").stdout.splitlines()]


def test_both_rule_files_are_written_for_as_many_workers_as_there_are(tmp_path: Path) -> None:
    done = run("prometheus-rules", "--to", str(tmp_path), "--workers", "3", "--runbooks", "https://wiki.example/a")

    assert 0 == done.returncode, done.stderr
    assert rulefiles.files(default_rules(), Watch(3), "https://wiki.example/a") == written(tmp_path)


def test_one_rule_file_is_printed() -> None:
    made = rulefiles.files(default_rules(), Watch())

    assert made[rulefiles.RULES_FILE] == run("prometheus-rules").stdout
    assert made[rulefiles.HEALTH_FILE] == run("prometheus-rules", "pipeline").stdout


@pytest.mark.parametrize("command", ["dashboards", "prometheus-rules"])
def test_a_name_that_is_none_is_explained(command: str) -> None:
    done = run(command, "nothing")

    assert 2 == done.returncode
    assert "'nothing'" in done.stderr
    assert not done.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    done = run("dashboards", "--to", str(taken))

    assert 78 == done.returncode
    assert str(taken) in done.stderr
