"""Which node of a cluster does what: who leads a partition, who is the controller, who coordinates.

Asked by librdkafka, and of the quorum of controllers by a request written here; never by the product.
"""

import socket
import struct
from typing import Any, Final

from confluent_kafka.admin import AdminClient

from streams.worker.embedded import EmbeddedKafka

_DESCRIBE_QUORUM: Final = 55
_TIMEOUT_S: Final = 10.0
TRANSACTIONS: Final = "__transaction_state"
GROUPS: Final = "__consumer_offsets"


class Roles:
    """What the nodes of a running cluster say of each other."""

    def __init__(self, cluster: EmbeddedKafka) -> None:
        self._cluster = cluster
        self._admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})

    def leader(self, topic: str, partition: int) -> int:
        """Return the node that leads a partition; below 1 where none does."""
        return int(self._topic(topic)[partition].leader)

    def in_sync(self, *topics: str) -> bool:
        """Has every partition of these topics, and of Kafka's own, all its copies in sync?"""
        wanted = {*topics, TRANSACTIONS, GROUPS}
        found = self._admin.list_topics(timeout=_TIMEOUT_S).topics
        partitions = [each for topic in wanted for each in found[topic].partitions.values()]
        return all(set(each.isrs) == set(each.replicas) and each.leader > 0 for each in partitions)

    def transaction_coordinator(self, transactional_id: str) -> int:
        """Return the node that ends the transactions of this id."""
        return self.leader(TRANSACTIONS, _java_hash(transactional_id) % len(self._topic(TRANSACTIONS)))

    def group_coordinator(self, group: str) -> int:
        """Return the node that knows the group's members and offsets."""
        return self.leader(GROUPS, _java_hash(group) % len(self._topic(GROUPS)))

    def controller(self) -> int:
        """Return the active controller."""
        for node in self._cluster.nodes:
            try:
                return _quorum_leader(node.port)
            except (OSError, struct.error):  # it is down; any other knows
                continue
        raise AssertionError("no node answers")

    def _topic(self, name: str) -> dict[int, Any]:
        found: dict[int, Any] = self._admin.list_topics(name, timeout=_TIMEOUT_S).topics[name].partitions
        return found


def _java_hash(text: str) -> int:
    """Return String.hashCode without its sign, as Kafka's Utils.abs makes it."""
    number = 0
    for char in text:
        number = (31 * number + ord(char)) & 0xFFFFFFFF
    signed = number - (1 << 32) if number >> 31 else number
    return 0 if signed == -(1 << 31) else abs(signed)


def _quorum_leader(port: int) -> int:
    """Ask by DescribeQuorum, version 0. Raises OSError, struct.error."""
    client, topic = b"roles", b"__cluster_metadata"
    header = struct.pack(f">hhih{len(client)}sB", _DESCRIBE_QUORUM, 0, 1, len(client), client, 0)
    body = struct.pack(f">BB{len(topic)}sBiBBB", 2, len(topic) + 1, topic, 2, 0, 0, 0, 0)
    request = header + body
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", stream.read(4))
        answer = stream.read(size)
    # correlation, tags; error, topics + 1, name; partitions + 1, partition, error, leader
    at = 4 + 1 + 2 + 1
    at += answer[at]  # the name's length + 1, and the name
    _, _, error, leader = struct.unpack_from(">Bihi", answer, at)
    assert not error, error
    return int(leader)
