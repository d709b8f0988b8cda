"""A real redis-server on a free loopback port, with nothing on disk."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import eventually

from streams.worker.loopback import free_ports, is_free


class RedisServer:
    """A server that can be stopped and started again on the same port, empty.

    With a certificate it speaks TLS and nothing else there, and with a password it wants it.
    """

    def __init__(
        self,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        authority: Path | None = None,
        password: str = "",
    ) -> None:
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._tls = (certificate, key, authority)
        self._password = password

    @property
    def url(self) -> str:
        """Where it is."""
        login = f":{self._password}@" if self._password else ""
        scheme, ending = ("rediss", f"?ssl_ca_certs={self._tls[2]}") if self._tls[0] else ("redis", "")
        return f"{scheme}://{login}127.0.0.1:{self.port}/0{ending}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("redis-server is missing: apt-get install redis-server")
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self._listening()]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        eventually(self._answers, timeout_s=60, what="redis-server")

    def _listening(self) -> list[str]:
        certificate, key, authority = map(str, self._tls)
        wanted = ["--requirepass", self._password] if self._password else []
        if not self._tls[0]:
            return ["--port", str(self.port), *wanted]
        files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority]
        return ["--port", "0", "--tls-port", str(self.port), *files, "--tls-auth-clients", "optional", *wanted]

    def _answers(self) -> bool:
        if self._tls[0]:
            return not is_free(self.port)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16) == b"+PONG\r\n"
        except OSError:
            return False

    def stop(self) -> None:
        """End it; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a server."""
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
