"""Is the folder that `agent-streams schema --to` writes the one that is published, and is a wrong name explained?"""

import json
import subprocess
import sys
from pathlib import Path

from streams.stage import asyncapi
from streams.stage.schemas import files, schema

PROGRAM = [sys.executable, "-m", "streams", "schema"]
ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_to_writes_every_schema(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    done = run("--to", str(folder))

    assert 0 == done.returncode, done.stderr
    assert {**files(), asyncapi.FILE: asyncapi.text()} == {
        file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()
    }


def test_a_kind_is_shown_by_its_name() -> None:
    assert schema("event.tool_end") == json.loads(run("tool_end").stdout)


def test_a_name_that_is_none_is_explained() -> None:
    done = run("tool_ends")

    assert 2 == done.returncode
    assert "tool_end?" in done.stderr
    assert not done.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    done = run("--to", str(taken))

    assert 78 == done.returncode
    assert str(taken) in done.stderr
