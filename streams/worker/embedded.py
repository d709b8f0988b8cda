"""How a real Apache Kafka runs as our child: its preparation, its start, its end.

Never a substitute for one: the same transactions, groups and compaction as any cluster, on loopback only.
"""

import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.errors import ConfigError, EdgeError
from streams.worker import kafka_jars, leash
from streams.worker.kafka_jars import Progress
from streams.worker.kafka_node import JVM, Node, child_environment, log_tail, write_files
from streams.worker.loopback import free_ports, is_free, live_brokers

START_TIMEOUT_S: Final = 60.0  # 2 s alone, 20 s for three nodes on a busy two-core machine
STOP_TIMEOUT_S: Final = leash.GRACE_S
HEAP_MB: Final = 256
POLL_S: Final = 0.05


class EmbeddedKafka:
    """A cluster of 1 or 3 nodes under `data_dir`; as a context manager it is up inside the block and gone after it.

    It ends with this process, however that ends. `ports` are the clients' ports, one per node; without them it keeps
    those of its last start, or chooses free ones. `settings` (Kafka's) and `java_options` win over ours.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        nodes: int = 1,
        ports: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        if nodes not in {1, 3}:
            raise ConfigError(f"nodes: {nodes} given, expected 1 or 3 (the smallest cluster that survives a loss)")
        if ports and len(ports) != nodes:
            raise ConfigError(f"ports: {len(ports)} given, expected {nodes}, one per node")
        self._folder = data_dir.resolve()
        self._count = nodes
        self._ports = list(ports)
        self._settings = dict(settings or {})
        self._java_options = (f"-Xmx{HEAP_MB}m", *java_options)
        self._progress = progress
        self._nodes: tuple[Node, ...] = ()
        self._java = ""
        self._classpath = ""
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """Return the addresses of all nodes, for clients."""
        return ",".join(node.address for node in self._nodes)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes, once prepared; their numbers start at 1."""
        return self._nodes

    def prepare(self) -> None:
        """Fetch and check the jars, write the settings and format the storage; nothing runs afterwards."""
        self._java = str(kafka_jars.java())
        self._classpath = kafka_jars.classpath(progress=self._progress)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # records are their owner's business
        cluster, ports, controller_ports = self._identity()
        self._nodes = tuple(
            Node(number, self._folder / f"node-{number}", port, controller_port)
            for number, (port, controller_port) in enumerate(zip(ports, controller_ports, strict=True), start=1)
        )
        write_files(self._nodes, self._settings)
        self._format([node for node in self._nodes if not node.formatted], cluster)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Start every node, wait until each knows all the others, and return `bootstrap`."""
        self.prepare()
        try:
            if self._progress:
                self._progress("starting Kafka")
            for node in self._nodes:
                self._spawn(node)
            for node in self._nodes:
                self._wait_ready(node, timeout_s)
        except BaseException:
            self.stop()
            raise
        return self.bootstrap

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End every node cleanly, by force after `timeout_s`; nothing happens when none runs."""
        for number in self._processes:
            self._signal(number, signal.SIGCONT)  # a frozen one would never see the next signal
            self._processes[number].terminate()
        deadline = time.monotonic() + timeout_s
        for number in list(self._processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[number].wait(max(0.0, deadline - time.monotonic()))
            self.kill(number)

    def kill(self, number: int = 1) -> None:
        """End one node as a power cut would (kill -9)."""
        self._signal(number, signal.SIGKILL)
        self._processes.pop(number).communicate()  # closes the leash and waits for it
        _wait_released(self._nodes[number - 1])

    def end(self, number: int = 1) -> None:
        """End one node as a deployment does (SIGTERM): it hands over what it leads; by force after `STOP_TIMEOUT_S`."""
        self._processes[number].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[number].wait(STOP_TIMEOUT_S)
        self.kill(number)

    def pause(self, number: int = 1) -> None:
        """Freeze one node (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int = 1) -> None:
        """Let a frozen node go on."""
        self._signal(number, signal.SIGCONT)

    def restart(self, number: int = 1, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start one node again on its own data and ports, ending it cleanly first if it runs; wait until it is up.

        After `kill` this takes up to `broker.session.timeout.ms` (3 s): the old registration has to end first.
        """
        if number in self._processes:
            self.end(number)
        node = self._nodes[number - 1]
        self._spawn(node)
        self._wait_ready(node, timeout_s)

    def command(self, node: Node) -> list[str]:
        """Return the command line that runs `node`; `prepare` comes first."""
        logging = f"-Dlog4j2.configurationFile={node.logging}"
        options = [*JVM, *self._java_options, logging, "-cp", self._classpath]
        return [self._java, *options, "kafka.Kafka", str(node.config)]

    def _identity(self) -> tuple[str, list[int], list[int]]:
        """Return the cluster's id, its clients' ports and its controllers' ports, and remember them."""
        file = self._folder / "cluster.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        busy = [port for port in self._ports if not is_free(port)]
        if busy:
            raise ConfigError(f"port {busy[0]}: in use by another program; choose another, or none to get a free one")
        cluster = str(known.get("cluster") or _new_cluster_id())
        ports = self._ports or self._again(known.get("ports", []), avoid=[])
        controller_ports = self._again(known.get("controller_ports", []), avoid=ports)
        file.write_text(json.dumps({"cluster": cluster, "ports": ports, "controller_ports": controller_ports}))
        return cluster, ports, controller_ports

    def _again(self, ports: list[int], avoid: list[int]) -> list[int]:
        """Return the ports of the last start where they still serve, else others."""
        serve = len(ports) == self._count and not set(ports) & set(avoid) and all(map(is_free, ports))
        return ports if serve else free_ports(self._count, avoid)

    def _format(self, nodes: list[Node], cluster: str) -> None:
        if nodes and self._progress:
            self._progress("formatting the storage")
        tool = [self._java, *JVM, "-Xmx64m", "-cp", self._classpath, "kafka.tools.StorageTool"]
        running = [
            subprocess.Popen(  # noqa: S603  our own command line
                [*tool, "format", "--cluster-id", cluster, "--config", str(node.config)],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for node in nodes
        ]
        try:
            results = [(process.communicate()[0], process.returncode) for process in running]
        finally:  # interrupted: leave nothing behind
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        for node, (output, status) in zip(nodes, results, strict=True):
            if status:
                text = output.decode(errors="replace").strip()
                raise EdgeError(f"Kafka could not format {node.folder}: {text}", retryable=False)

    def _spawn(self, node: Node) -> None:
        with node.console.open("ab") as console:
            self._processes[node.number] = subprocess.Popen(  # noqa: S603  our own command line
                leash.command(self.command(node)),
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C at the terminal is for us; we end the broker after its clients
            )

    def _signal(self, number: int, signal_number: signal.Signals) -> None:
        """Signal a node and its leash at once, unless it has ended by itself."""
        process = self._processes[number]
        if process.poll() is None:
            os.killpg(process.pid, signal_number)

    def _wait_ready(self, node: Node, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        expected = frozenset(self._processes)
        while not expected <= live_brokers(node.address):
            status = self._processes[node.number].poll()
            if status is not None:
                raise EdgeError(f"Kafka ended with status {status}; {log_tail(node)}", retryable=False)
            if time.monotonic() > deadline:
                raise not_ready(node, timeout_s)
            time.sleep(POLL_S)


def not_ready(node: Node, timeout_s: float) -> EdgeError:
    """Return the error of a node that runs but does not answer."""
    return EdgeError(f"Kafka did not answer at {node.address} within {timeout_s:g} s; {log_tail(node)}", retryable=True)


def _new_cluster_id() -> str:
    # Kafka's ids are base64 of a UUID; a leading dash would look like an option to its tools.
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _wait_released(node: Node, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Wait until a killed node has let go of its data: its leash may be gone a moment before it is."""
    deadline = time.monotonic() + timeout_s
    while node.lock.exists():
        with node.lock.open("r+b") as stream, contextlib.suppress(OSError):
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise EdgeError(f"a process still holds {node.lock}; end it and start again", retryable=False)
        time.sleep(POLL_S)
