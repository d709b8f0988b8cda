"""Environments beside ours, for frameworks that forbid packages of the other tests or are large: made, used, left."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from streams.worker.connection import KafkaConnection
from streams.worker.topics import create

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


def gave(python: Path, program: str, folder: Path) -> dict[str, Any]:
    """Run a program of tests/other_environments and return what it wrote."""
    told = folder / "gave.json"
    run(python, ROOT / "tests/other_environments" / program, told, PYTHONPATH=str(ROOT / "tests"), HOME=str(folder))
    return dict(json.loads(told.read_text()))


async def example(python: Path, program: str, kafka: str, prefix: str, home: Path) -> tuple[str, str]:
    """Run an example of the documents against fresh topics; return its answer, and what it says of its events."""
    await create(KafkaConnection(bootstrap=kafka), prefix)
    where = {"AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS": kafka, "AGENT_STREAMS_TOPIC_PREFIX": prefix}
    told = await asyncio.to_thread(run, python, ROOT / "docs/examples" / program, HOME=str(home), **where)
    answer, count = told.splitlines()[-2:]
    return answer, count
