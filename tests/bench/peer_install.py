"""Where do the peers come from?  Each from its registry into a folder of its own, once per user.

Never changes the environment that runs the benchmark.  The cache is `agent-streams/bench` under the user's cache
folder; remove it and everything is fetched anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from streams.worker import kafka_jars

PROGRAMS: Final = Path(__file__).parent / "peers"
QUIX: Final = ("quixstreams==3.28.1",)
BYTEWAX: Final = ("bytewax[kafka]==0.21.1",)

# Kafka Streams of the embedded broker's version, what it keeps its state in, and a compiler that needs no JDK.
JARS: Final = {
    ("org.apache.kafka", "kafka-streams", kafka_jars.KAFKA_VERSION): (
        "415998b32e8627b3ce21ff87226c66f3313e9fc52eca2513a3600bf492e3cbac"
    ),
    ("org.rocksdb", "rocksdbjni", "9.7.3"): "5ca63e0e955f101f7af1c1fb8ce260b5d3a5701cea7d8c2852b9d56031a57221",
    ("org.eclipse.jdt", "ecj", "3.43.0"): "c786468c65e906498e7e36ece4e0d04c6d3dd34c9a61b34a3a5b512801911a82",
}


class LeftOut(Exception):
    """A peer that cannot be had here, and why."""


def cache() -> Path:
    """Return the folder that peers are kept in."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "agent-streams" / "bench"


def python_of(name: str, requirements: tuple[str, ...]) -> str:
    """Return the Python of an environment that holds these packages; make it when there is none."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    known = hashlib.sha256(" ".join((version, *requirements)).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{known}"
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what was interrupted
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
        (folder / "whole").touch()
    return str(python)


def kafka_streams() -> list[str]:
    """Return the command that runs the Kafka Streams program, compiled anew: that takes two seconds."""
    jars = {coordinate[1]: _jar(coordinate, sha256) for coordinate, sha256 in JARS.items()}
    java, classes = str(kafka_jars.java()), cache() / "classes"
    path = os.pathsep.join((kafka_jars.classpath(), str(jars["kafka-streams"]), str(jars["rocksdbjni"])))
    source = PROGRAMS / "KafkaStreamsPeer.java"
    _run([java, "-jar", str(jars["ecj"]), "-21", "-nowarn", "-cp", path, "-d", str(classes), str(source)])
    return [java, "-cp", f"{classes}{os.pathsep}{path}", "KafkaStreamsPeer"]


def _jar(coordinate: tuple[str, str, str], sha256: str) -> Path:
    group, artifact, version = coordinate
    mirrors = GlobalSettings.load().repositories
    remotes = {**mirrors, "central": mirrors.get("central", MAVEN_CENTRAL_URL)}
    maven = MavenContext(repo_cache=cache() / "maven", remote_repos=remotes, timeout=60)
    try:
        found = Path(maven.project(group, artifact).at_version(version).artifact().resolve())
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own RuntimeErrors
        raise LeftOut(f"{artifact} {version} could not be downloaded: {error}") from error
    with found.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise LeftOut(f"{found} has the SHA-256 {digest}, expected {sha256}: remove it and start again")
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LeftOut(f"{' '.join(command[:4])} … ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
