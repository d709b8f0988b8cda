"""What the dead letter says of something refused: enough to find it again, and nobody's secret."""

import json
from hashlib import sha256
from typing import Any

import pytest

from streams.event.codec import Reason, Rejected, decode_record
from streams.stage.deadletter import EXCERPT_CHARS_MAX, dead_letter


def letter(part: bytes, position: int = 0) -> dict[str, Any]:
    send = dead_letter(Rejected(Reason.MALFORMED, position, "no JSON", part), 3, 41, 17)
    said: dict[str, Any] = json.loads(send.value or b"")
    return said


def test_a_letter_names_the_place_the_size_and_the_digest() -> None:
    send = dead_letter(Rejected(Reason.MALFORMED, 5, "no JSON", b"\xff\xfe"), 3, 41, 17)
    said = letter(b"\xff\xfe", 5)

    assert ("dead-letter", None, b"events:3:41:5") == (send.topic, send.partition, send.key)
    assert ("malformed", "no JSON") == (said["reason"], said["detail"])
    assert ("events", 3, 41, 5, 17) == tuple(
        said[name] for name in ("topic", "partition", "offset", "position", "timestamp_ms")
    )
    assert (2, sha256(b"\xff\xfe").hexdigest()) == (said["value_bytes"], said["value_sha256"])


@pytest.mark.parametrize("secret", ["sk-proj-abcdEFGH1234567890abcd", "alice.smith@example.com", "4111 1111 1111 1111"])
def test_a_secret_on_the_edge_of_the_excerpt_is_not_cut_in_two(secret: str) -> None:
    for before in range(EXCERPT_CHARS_MAX - len(secret) - 2, EXCERPT_CHARS_MAX + 2):
        excerpt = letter(b"x" * (before - 1) + b" " + secret.encode() + b" " + b"y" * 300)["excerpt"]

        assert len(excerpt) <= EXCERPT_CHARS_MAX
        assert secret[:6] not in excerpt


def test_a_megabyte_costs_no_more_than_its_beginning() -> None:
    said = letter(b"a b " * 250_000)

    assert ("a b " * 64, 1_000_000) == (said["excerpt"], said["value_bytes"])


def test_an_event_refused_for_its_time_is_recognised_by_its_own_bytes() -> None:
    part = b'{"kind": "heartbeat",  "id": "1", "time": "soon", "agent": "a"}'
    (rejected,) = decode_record(b"[17, " + part + b"]").rejected[1:]

    assert (Reason.TIME, 1, part) == (rejected.reason, rejected.position, rejected.part)
