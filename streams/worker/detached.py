"""Is an embedded Kafka of this user running on its own, where does it listen, and how is it started and stopped?

Never starts a second one on the same data, and never signals a process that it has not recognised.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from streams.errors import EdgeError
from streams.worker.embedded import POLL_S, START_TIMEOUT_S, EmbeddedKafka, not_ready
from streams.worker.kafka_jars import Progress
from streams.worker.kafka_node import Node, child_environment, log_tail
from streams.worker.loopback import is_free, live_brokers

PORT_WANTED: Final = 9092  # where every Kafka tool looks first
STOP_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Broker:
    """One detached broker as its state file describes it."""

    bootstrap: str
    pid: int
    data_dir: str
    config: str

    @property
    def running(self) -> bool:
        """Does the process exist, and is it this broker and no later process with its number?"""
        with contextlib.suppress(OSError):
            return os.fsencode(self.config) in Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        return False

    @property
    def answering(self) -> bool:
        """Does it answer a client?"""
        return bool(live_brokers(self.bootstrap))

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "running": self.running, "answering": self.answering}


def default_folder() -> Path:
    """Return where this user's broker keeps its data and state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "agent-streams" / "kafka"


def status(folder: Path | None = None) -> Broker | None:
    """Return the running broker, or None."""
    file = _state_file(folder or default_folder())
    try:
        broker = Broker(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # none, or one that was cut short
        return None
    return broker if broker.running else None


def start_detached(
    folder: Path | None = None,
    *,
    port: int | None = None,
    progress: Progress | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Broker:
    """Start the broker and return once it answers; it goes on after this process. One that runs already is returned.

    Without `port` it takes that of its last start, 9092 at the first, or a free one when that is taken.
    """
    folder = (folder or default_folder()).resolve()
    with _locked(folder):
        running = status(folder)
        if running:
            return running
        first = not (folder / "cluster.json").exists() and is_free(PORT_WANTED)
        ports = [port] if port else [PORT_WANTED] * first
        kafka = EmbeddedKafka(folder, ports=ports, progress=progress)
        kafka.prepare()
        node = kafka.nodes[0]
        broker = Broker(node.address, _spawn(kafka.command(node), node), str(folder), str(node.config))
        _state_file(folder).write_text(json.dumps(asdict(broker)))
        if progress:
            progress(f"starting Kafka on {node.address}")
        try:
            _wait_ready(broker, node, timeout_s)
        except BaseException:
            _end(broker)
            _state_file(folder).unlink()
            raise
        return broker


def stop_detached(folder: Path | None = None) -> Broker | None:
    """Stop the broker cleanly, by force after 30 s, and return what it was; None when none ran."""
    folder = (folder or default_folder()).resolve()
    with _locked(folder):
        broker = status(folder)
        if broker:
            _end(broker)
        _state_file(folder).unlink(missing_ok=True)
        return broker


def _state_file(folder: Path) -> Path:
    return folder / "broker.json"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time start or stop the broker of a folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "start-stop.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _spawn(command: list[str], node: Node) -> int:
    """Start a process that is nobody's child to wait for, in a session of its own, and return its id."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        child_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(node.console), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _wait_ready(broker: Broker, node: Node, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not broker.answering:
        # Our own child until we end; its command line, which `running` reads, appears a moment after its start.
        ended, wait_status = os.waitpid(broker.pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(wait_status)
            raise EdgeError(f"Kafka ended with status {code}; {log_tail(node)}", retryable=False)
        if time.monotonic() > deadline:
            raise not_ready(node, timeout_s)
        time.sleep(POLL_S)


def _end(broker: Broker) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            if broker.running:
                os.kill(broker.pid, signal_number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while broker.running and time.monotonic() < deadline:
            time.sleep(POLL_S)
    with contextlib.suppress(ChildProcessError):  # started by an earlier process
        os.waitpid(broker.pid, os.WNOHANG)
