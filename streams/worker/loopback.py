"""Which loopback ports are free, and which brokers answer there?

Needs no client library and no event loop; never leaves the machine unless it is given another address.
"""

import io
import itertools
import random
import socket
import struct
from collections.abc import Collection
from typing import Final

from streams.errors import EdgeError

HOST: Final = "127.0.0.1"
# Below Linux's ephemeral ports (32768 on): while a node is down no outgoing connection can take its port.
PORTS: Final = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Does nobody listen on this loopback port?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int, avoid: Collection[int] = ()) -> list[int]:
    """Choose loopback ports nobody listens on, other than those in `avoid`."""
    shuffled = random.SystemRandom().sample(PORTS, len(PORTS))
    free = (port for port in shuffled if port not in avoid and is_free(port))
    chosen = list(itertools.islice(free, count))
    if len(chosen) < count:
        raise EdgeError(f"no {count} free ports on {HOST} between {PORTS.start} and {PORTS.stop}", retryable=True)
    return chosen


def live_brokers(address: str, timeout_s: float = 1.0) -> frozenset[int]:
    """Which nodes are up, as the broker at `address` (host:port) sees it?  Empty when it does not answer.

    Asks by a Metadata request (version 1, no topics), so it needs neither an event loop nor a client.
    """
    client = b"agent-streams"
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection, connection.makefile("rb") as stream:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", stream.read(4))
            answer = io.BytesIO(stream.read(size))
        _correlation, count = struct.unpack(">ii", answer.read(8))
        return frozenset(_broker(answer) for _ in range(count))
    except (OSError, struct.error):  # struct.error: it closed the connection in the middle
        return frozenset()


def _broker(answer: io.BytesIO) -> int:
    """Read one broker of a Metadata answer (node id, host, port, rack or -1) and return its id."""
    node_id, host_size = struct.unpack(">ih", answer.read(6))
    _port, rack_size = struct.unpack_from(">ih", answer.read(host_size + 6), host_size)
    answer.read(max(0, rack_size))
    return int(node_id)
