"""Is what people install complete?  The archive is built, a wheel is built from the archive, and used by itself."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Final, NamedTuple

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


UV: Final = (sys.executable, "-m", "uv")
EPOCH: Final = "1767225600"  # any moment: what is built must not tell when it was
EXTRAS: Final = {
    *("kafka", "langchain", "litellm", "mcp", "openai-agents", "pydantic-ai", "strands", "otlp"),
    *("agent-framework", "claude-agent-sdk", "google-adk", "llama-index", "smolagents"),
}
DEMO_S: Final = 10


class Built(NamedTuple):
    """What people get."""

    archive: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The archive, and the wheel from the archive, not from the checkout."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def home(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that pip has made of the wheel, with the embedded Kafka."""
    folder = tmp_path_factory.mktemp("home")
    run(sys.executable, "-m", "venv", folder, folder=folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, f"{built.wheel}[kafka]", folder=folder)
    return folder / "bin"


def build(folder: Path) -> Built:
    run(*UV, "build", "--out-dir", folder, ROOT, folder=folder, SOURCE_DATE_EPOCH=EPOCH)
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(archive, wheel)


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a program that knows nothing of this checkout; return what it wrote."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_archive_has_everything_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.archive) as files:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in files.getnames()}

    assert {"LICENSE", "README.md", "pyproject.toml", "schemas/dead-letter.v1.json", "tests/run"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git/", ".venv")) or ".so" in name]


def test_the_wheel_has_the_package_its_types_and_its_licence_and_no_tests(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as files:
        names = set(files.namelist())
        about = Parser().parsestr(files.read(f"agent_streams-{__version__}.dist-info/METADATA").decode())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "streams").rglob("*.py")}
    beside = {"streams/py.typed", "streams/rule/defaults.yaml", "streams/worker/kafka_jars.sha256"}

    assert {"streams", f"agent_streams-{__version__}.dist-info"} == {name.partition("/")[0] for name in names}
    assert sources | beside <= names
    assert not [name for name in names if "test" in name.split("/")[0]]
    assert f"agent_streams-{__version__}.dist-info/licenses/LICENSE" in names
    assert ("Apache-2.0", __version__) == (about["License-Expression"], about["Version"])
    assert set(about.get_all("Provides-Extra", [])) >= EXTRAS


def test_a_build_gives_the_same_bytes_every_time(built: Built, tmp_path: Path) -> None:
    again = build(tmp_path)

    for one, other in zip(built, again, strict=True):
        assert one.name == other.name
        assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest(), one.name


def test_whoever_checks_packages_finds_no_fault(built: Built, tmp_path: Path) -> None:
    assert 2 == run(*UV, "tool", "run", "twine", "check", "--strict", *built, folder=tmp_path).count("PASSED")
    assert "OK" in run(*UV, "tool", "run", "check-wheel-contents", built.wheel, folder=tmp_path)


def test_the_wheel_works_where_nothing_else_is(home: Path, tmp_path: Path) -> None:
    program = home / "agent-streams"

    assert run(program, "--version", folder=tmp_path) == f"agent-streams {__version__}\n"
    assert run(program, "settings", "--reference", folder=tmp_path) == reference()
    assert '"$id"' in run(program, "schema", "events", folder=tmp_path)
    assert "_agent_streams_completion" in run(program, folder=tmp_path, _AGENT_STREAMS_COMPLETE="source_bash")
    for package in ("streams.worker.kafka_jars", "streams.rule.defaults", "streams.feed.emitter"):
        said = run(home / "python", "-c", f"import {package} as it; print(it.__file__)", folder=tmp_path)
        assert str(home.parent) in said
    shipped = run(home / "python", "-c", SHIPPED, folder=tmp_path).split()
    assert {"py.typed", "rule/defaults.yaml", "worker/kafka_jars.sha256"} <= set(shipped)


def test_the_demo_of_the_wheel_brings_its_kafka_and_is_exact(home: Path, tmp_path: Path) -> None:
    said = json.loads(run(home / "agent-streams", "demo", "--for", f"{DEMO_S}s", "--json", folder=tmp_path))

    assert (said["exact"], said["faults"], said["passed"]) == (True, [], True)
    assert said["published"] == said["received"] > 0
