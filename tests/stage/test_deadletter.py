"""What the dead letter says of something refused: enough to find it again, and nobody's secret."""

import json
from hashlib import sha256
from typing import Any

import pytest
from one_stage import Record

from streams.event.codec import Reason, Rejected, decode_record
from streams.stage.deadletter import EXCERPT_CHARS_MAX, LETTERS_PER_RECORD_MAX, dead_letter, dead_letters
from streams.stage.sessions import SessionsPartition
from streams.topology import DEAD_LETTER


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


@pytest.mark.parametrize("refused", [1, LETTERS_PER_RECORD_MAX, LETTERS_PER_RECORD_MAX + 1, 9_999])
def test_a_record_has_so_many_letters_and_the_last_one_counts_the_rest(refused: int) -> None:
    rejected = [Rejected(Reason.INVALID, position, "no event", b"1") for position in range(refused)]
    letters = [json.loads(send.value or b"") for send in dead_letters(rejected, 3, 41, 17)]

    assert min(refused, LETTERS_PER_RECORD_MAX) == len(letters)
    assert list(range(len(letters))) == [each["position"] for each in letters]
    assert refused - len(letters) == letters[-1].get("more", 0)
    assert not any("more" in each for each in letters[:-1])


def test_a_small_record_of_many_refusals_costs_little_and_every_one_is_counted() -> None:
    """Ten thousand numbers in an array were five megabytes of letters; beside them, one event counts."""
    good = b'{"kind":"heartbeat","id":"1","time":1763724000000,"agent":"a"}'
    record = Record(0, 1_763_724_000_000, b"a", b"[" + b"1," * 9_999 + good + b"]")
    partition = SessionsPartition(0, 1, 1)
    partition.feed([record])
    plan = partition.plan()
    assert plan is not None
    letters = [send for send in plan.sends if send.topic == DEAD_LETTER.suffix]
    counters = partition.counters()

    assert (10_000, 9_999, 1) == tuple(counters[name] for name in ("received", "rejected", "applied"))
    assert 9_999 == counters["rejected_invalid"]
    assert 9_999 == sum(1 + json.loads(send.value or b"").get("more", 0) for send in letters)
    assert sum(len(send.value or b"") for send in letters) < len(record.value or b"")


def test_an_event_refused_for_its_time_is_recognised_by_its_own_bytes() -> None:
    part = b'{"kind": "heartbeat",  "id": "1", "time": "soon", "agent": "a"}'
    (rejected,) = decode_record(b"[17, " + part + b"]").rejected[1:]

    assert (Reason.TIME, 1, part) == (rejected.reason, rejected.position, rejected.part)
