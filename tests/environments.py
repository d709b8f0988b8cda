"""Environments beside ours, for frameworks that forbid packages of the other tests or are large: made, used, left."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TIMEOUT_S: Final = 1200
# Programs report by their standard output, and frameworks tell nobody of it.
QUIET: Final = {
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "PYTHONWARNINGS": "ignore",
}


def run(*command: str | Path, **variables: str) -> str:
    """Run a command to its end, without the settings of whoever tests; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_STREAMS_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        env={**kept, **QUIET, **variables}, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert 0 == done.returncode, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def environment(folder: Path, package: str) -> Path:
    """Make an environment with a framework and the wheel that people install; return its interpreter."""
    uv, home = (sys.executable, "-m", "uv"), folder / "home"
    run(*uv, "build", "--wheel", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    run(*uv, "venv", "--python", sys.executable, home)
    run(*uv, "pip", "install", "--python", home / "bin" / "python", wheel, package)
    return home / "bin" / "python"
