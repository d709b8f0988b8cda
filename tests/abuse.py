"""Somebody who means harm to a page: a thousand scrapes at once, wrong logins, connections that dribble; until killed.

    python tests/abuse.py HOST PORT TOKEN

After each round one line of JSON: how many connections ended with which status, 0 for none.
"""

import contextlib
import json
import resource
import selectors
import socket
import sys
from collections import Counter
from typing import Final

CLIENTS: Final = 1_000
SLOW: Final = 60
ROUND_S: Final = 30.0


def main() -> None:
    """Abuse, round by round: the right login, then a wrong one; who dribbles does so all the while."""
    host, port, token = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 3 * CLIENTS, hard))
    slow: list[socket.socket] = []
    number = 0
    while True:
        slow = dribble(slow, host, int(port))
        shown = token if number % 2 == 0 else f"wrong-{number}"
        found = flood(host, int(port), shown)
        told = {"right": number % 2 == 0, **{str(code): count for code, count in found.items()}}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        number += 1


def dribble(slow: list[socket.socket], host: str, port: int) -> list[socket.socket]:
    """Send one more byte of a header that never ends; whoever was let go comes again."""
    kept = []
    for each in slow:
        try:
            each.sendall(b"x")
            kept.append(each)
        except OSError:
            each.close()
    while len(kept) < SLOW:
        try:
            kept.append(socket.create_connection((host, port), timeout=5))
            kept[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        except OSError:
            break
    return kept


def flood(host: str, port: int, token: str) -> Counter[int]:
    """Ask a thousand times at once, and read every answer to its end."""
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    statuses: Counter[int] = Counter()
    heads: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as ready:
        for _ in range(CLIENTS):
            try:
                connection = socket.create_connection((host, port), timeout=5)
                connection.setblocking(False)
            except OSError:
                statuses[0] += 1
                continue
            heads[connection] = b""
            ready.register(connection, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                connection.send(request)
        while heads:
            told = ready.select(ROUND_S)
            if not told:
                break
            for key, _ in told:
                if not isinstance(key.fileobj, socket.socket):
                    continue
                try:
                    some = key.fileobj.recv(1 << 18)
                except BlockingIOError:
                    continue
                except OSError:
                    some = b""
                heads[key.fileobj] = (heads[key.fileobj] + some)[:32]
                if not some:
                    statuses[status(heads.pop(key.fileobj))] += 1
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
        for connection in heads:
            statuses[0] += 1
            connection.close()
    return statuses


def status(head: bytes) -> int:
    """Read the status of an answer's first bytes; 0 when there is none."""
    words = head.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


if __name__ == "__main__":
    main()
