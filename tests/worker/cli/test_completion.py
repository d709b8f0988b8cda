"""Does the Tab key know the program?  The real scripts in real shells where they are, the same protocol elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from streams.__main__ import COMMANDS

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = (sys.executable, "-m", "streams")


def run(*command: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


def offered(shell: str, line: str) -> set[str]:
    """Return what completes the last word of a line, asked as the shell's script asks."""
    if shell == "bash":
        at = str(len(line.split(" ")) - 1)
        return set(run(*PROGRAM, _AGENT_STREAMS_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=at).split())
    said = run(
        *PROGRAM,
        _AGENT_STREAMS_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    if shell == "fish":
        return {each.partition("\t")[0] for each in said.splitlines() if each}
    return {each.split('"')[1] for each in said.splitlines() if '"' in each}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_values_are_completed(shell: str) -> None:
    assert {"tables"} == offered(shell, "agent-streams ta")
    assert {"--watch"} == offered(shell, "agent-streams tables --wa")
    assert {"tools", "tenants"} == offered(shell, "agent-streams tables t")
    assert {"backtest"} == offered(shell, "agent-streams rules ba")


def test_every_command_is_offered_where_nothing_is_typed() -> None:
    assert set(COMMANDS) == offered("fish", "agent-streams ")


def test_bash_completes_with_the_script_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "agent-streams").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streams "$@"\n')
    (tmp_path / "agent-streams").chmod(0o755)
    asked = (
        'source <(_AGENT_STREAMS_COMPLETE=source_bash agent-streams); COMP_WORDS=(agent-streams doc); COMP_CWORD=1; '
        '_agent_streams_completion agent-streams; echo "${COMPREPLY[@]}"'
    )  # fmt: skip

    assert "doctor\n" == run("bash", "-c", asked, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
