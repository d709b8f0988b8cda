"""Is what people install complete?  The archive is built, a wheel is built from the archive, and used by itself."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest

from streams import __version__
from streams.settings import PREFIX, reference

pytestmark = pytest.mark.long  # every dependency is installed once more

ROOT: Final = Path(__file__).parent.parent
TIMEOUT_S: Final = 600
SHIPPED: Final = (
    "import streams, pathlib; at = pathlib.Path(streams.__file__).parent; "
    "print(*(each.relative_to(at) for each in at.rglob('*') if each.suffix not in ('.py', '.pyc')))"
)


def run(*command: str | Path, folder: Path) -> str:
    """Run a program that knows nothing of this checkout; return what it wrote."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_archive_makes_a_wheel_that_works_where_nothing_else_is(tmp_path: Path) -> None:
    built, home = tmp_path / "built", tmp_path / "home"
    uv = [sys.executable, "-m", "uv"]
    run(*uv, "build", "--out-dir", built, ROOT, folder=tmp_path)  # the wheel from the archive, not from the checkout
    (archive,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(archive) as files:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in files.getnames()}
    run(*uv, "venv", "--python", sys.executable, home, folder=tmp_path)
    run(*uv, "pip", "install", "--python", home / "bin" / "python", wheel, folder=tmp_path)
    program = home / "bin" / "agent-streams"

    assert {"LICENSE", "README.md", "pyproject.toml", "schemas/dead-letter.v1.json", "tests/run"} <= names
    assert run(program, "--version", folder=tmp_path) == f"agent-streams {__version__}\n"
    assert run(program, "settings", "--reference", folder=tmp_path) == reference()
    assert '"$id"' in run(program, "schema", "events", folder=tmp_path)
    assert "_AGENT_STREAMS_COMPLETE" in run("bash", "-c", f"{program} --show-completion bash", folder=tmp_path)
    for package in ("streams.worker.kafka_jars", "streams.rule.defaults", "streams.feed.emitter"):
        said = run(home / "bin" / "python", "-c", f"import {package} as it; print(it.__file__)", folder=tmp_path)
        assert str(home) in said
    shipped = run(home / "bin" / "python", "-c", SHIPPED, folder=tmp_path).split()
    assert {"py.typed", "rule/defaults.yaml", "worker/kafka_jars.sha256"} <= set(shipped)
