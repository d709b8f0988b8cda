"""Bodies: off until somebody switches them on, then once each, redacted and cut, with a word about what was cut."""

import json
from typing import Any

import pytest
from one_stage import T0, One, happen, totals

from streams.errors import ConfigError
from streams.event.patterns import PATTERNS, own_patterns
from streams.event.redact import NOTE_CHARS, Redactor
from streams.fold.streamtime import GRACE_MS
from streams.stage.payloads import BYTES_PER_RECORD, CHARS_MIN, OFF, PayloadPolicy
from streams.stage.sessions import SessionsPartition
from streams.topology import DEAD_LETTER, PAYLOADS, ROLLUPS

OWN = Redactor((*own_patterns(r"customer CUST-\d{6}"), *PATTERNS))


def first(policy: PayloadPolicy) -> One[SessionsPartition]:
    return One(lambda: SessionsPartition(0, 1, 1, payloads=policy))


def body(number: int, text: str, at_ms: int = 0, **fields: Any) -> dict[str, Any]:
    return {"kind": "payload", "id": f"p{number}", "time": T0 + at_ms, "agent": "a", "session_id": "s",
            "direction": "request", "body": text, **fields}  # fmt: skip


def counted(one: One[SessionsPartition]) -> dict[str, int]:
    return totals(one.sent(ROLLUPS.suffix))["partition", ("0",)]


def test_a_body_is_counted_and_dropped_unless_somebody_has_switched_them_on() -> None:
    one = first(OFF)
    happen(one, body(1, "hello"), body(2, "hello again"))
    one.flush()

    assert not one.sent(PAYLOADS.suffix)
    assert 2 == counted(one)["payloads_dropped"] == counted(one)["applied"]
    assert not any(b"hello" in value for value in one.rows.values())


def test_a_body_goes_to_its_topic_in_the_transaction_of_its_offset() -> None:
    one = first(PayloadPolicy())
    happen(one, body(1, "hello", call_id="c", trace_id="t", tenant="acme"))
    plan = one.flush()

    assert plan is not None
    (send,) = [each for each in plan.sends if each.topic == PAYLOADS.suffix]
    said = json.loads(send.value or b"")
    assert (b"s", None, 1) == (send.key, send.partition, plan.next_offset)
    assert ("hello", 5, 0, T0) == (said["body"], said["body_bytes"], said["cut_bytes"], said["time_ms"])
    assert ("p1", "s", "c", "t", "acme", "request") == tuple(
        said[name] for name in ("id", "session_id", "call_id", "trace_id", "tenant", "direction")
    )
    assert 1 == counted(one)["payloads_logged"]


def test_a_body_that_comes_twice_is_written_once_and_a_late_one_too() -> None:
    one = first(PayloadPolicy())
    happen(one, body(1, "one"), body(1, "one"), body(2, "two", GRACE_MS + 1), body(3, "three", -1))
    one.flush()
    one.replay()
    one.flush()

    assert ["one", "two", "three"] == [each["body"] for each in one.told(PAYLOADS.suffix)]
    assert (1, 1) == (counted(one)["duplicate"], counted(one)["late"])


def test_what_is_personal_or_secret_never_gets_there_by_built_in_and_own_patterns() -> None:
    one = first(PayloadPolicy(redactor=OWN))
    happen(one, body(1, "ann@example.com and CUST-123456 and bob@example.com"))
    one.flush()

    (said,) = one.told(PAYLOADS.suffix)
    assert "[email] and [customer] and [email]" == said["body"]
    assert {"email": 2, "customer": 1} == said["redacted"]
    assert 3 == counted(one)["payload_redactions"]


def test_own_patterns_also_hold_for_what_is_refused() -> None:
    one = first(PayloadPolicy(redactor=OWN))
    one.state.feed([one.write(b'{"kind":"payload","body":"CUST-123456"')])
    one.flush()

    (said,) = one.told(DEAD_LETTER.suffix)
    assert "[customer]" in said["excerpt"]


def test_a_long_body_is_cut_and_says_how_much_is_missing_and_how_much_there_was() -> None:
    one = first(PayloadPolicy(CHARS_MIN))
    happen(one, body(1, "ß" * 1_000, cut_bytes=7))
    one.flush()

    (said,) = one.told(PAYLOADS.suffix)
    assert said["body"] == "ß" * CHARS_MIN + f"… [{said['cut_bytes']} bytes cut]"
    assert 2 * (1_000 - CHARS_MIN) + 7 == said["cut_bytes"] == counted(one)["payload_cut_bytes"]
    assert 2_000 + 7 == said["body_bytes"]
    assert len(said["body"]) <= CHARS_MIN + NOTE_CHARS


def test_a_secret_on_the_edge_of_the_cut_is_seen_whole() -> None:
    one = first(PayloadPolicy(CHARS_MIN))
    happen(one, body(1, "x" * (CHARS_MIN - 9) + " ann.of.green@example.com " + "y" * 2_000))
    one.flush()

    (said,) = one.told(PAYLOADS.suffix)
    assert "ann" not in said["body"]


def test_bodies_weigh_on_the_decision_to_flush() -> None:
    light, heavy = first(OFF), first(PayloadPolicy(65_536))
    for one in (light, heavy):
        happen(one, body(1, "x" * 60_000))

    assert 1 == light.state.pending
    assert 60_000 // BYTES_PER_RECORD < heavy.state.pending
    heavy.flush()
    assert 0 == heavy.state.pending


def test_a_process_without_a_session_has_its_bodies_under_its_own_name() -> None:
    one = first(PayloadPolicy())
    happen(one, body(1, "x", session_id=None), body(2, "x", session_id=None, source="host", seq=1))
    one.flush()

    assert [b"a", b"host"] == [send.key for send in one.sent(PAYLOADS.suffix)]


@pytest.mark.parametrize("chars", [CHARS_MIN - 1, 65_537])
def test_a_limit_out_of_bounds_is_refused(chars: int) -> None:
    with pytest.raises(ConfigError, match=f"{chars} given, expected 256 to 65536"):
        PayloadPolicy(chars)
