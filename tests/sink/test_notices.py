"""What receivers are told: the bodies that each of them takes, and the signature that anybody can check."""

import base64
import hashlib
import hmac
import json

import pytest
from noticed import record

from streams.sink.notices import alertmanager_body, signing_key, slack_body, webhook_body, webhook_headers

KEY = b"0123456789abcdef"


def test_what_fires_ends_four_resends_from_now() -> None:
    (posted,) = json.loads(
        alertmanager_body([record("search")], now_ms=100_000, resend_ms=60_000, generator_url="http://g")
    )

    assert {"alertname": "ToolFailing", "severity": "critical", "over": "tool", "tool": "search"} == posted["labels"]
    assert ("1970-01-01T00:00:10.000Z", "1970-01-01T00:05:40.000Z") == (posted["startsAt"], posted["endsAt"])
    assert "http://g" == posted["generatorURL"]
    assert "search fails: 12 failures within 1m" == posted["annotations"]["summary"]


@pytest.mark.parametrize(("now_ms", "ended"), [(100_000, "20"), (15_000, "15"), (5_000, "05")])
def test_what_is_resolved_has_ended_and_never_after_now(now_ms: int, ended: str) -> None:
    """Event time may be ahead of the clock, and an end in the future would mean that it still fires."""
    (posted,) = json.loads(alertmanager_body([record("search", "resolved", 2)], now_ms=now_ms, resend_ms=60_000))

    assert f"1970-01-01T00:00:{ended}.000Z" == posted["endsAt"]
    assert posted["startsAt"] <= posted["endsAt"]
    assert "generatorURL" not in posted


def test_labels_without_a_value_are_left_out() -> None:
    (posted,) = json.loads(
        alertmanager_body([record("x", labels={"tool": "", "team": "a"})], now_ms=100_000, resend_ms=60_000)
    )

    assert {"alertname", "severity", "over", "team"} == posted["labels"].keys()


def test_a_webhook_is_signed_as_the_standard_says() -> None:
    alert = record("search")
    body = webhook_body(alert)
    headers = webhook_headers(alert, body, KEY, now_ms=1_700_000_000_999)
    digest = hmac.new(KEY, b"search-1.1700000000." + body, hashlib.sha256).digest()

    assert ("search-1", "1700000000") == (headers["webhook-id"], headers["webhook-timestamp"])
    assert "v1," + base64.b64encode(digest).decode() == headers["webhook-signature"]
    assert ("alert.firing", "search") == (json.loads(body)["type"], json.loads(body)["data"]["labels"]["tool"])


def test_the_standards_own_example_gives_the_signature_it_prints() -> None:
    """Of the reference libraries' tests: secret, id and time as there."""
    from streams.sink.notices import signature  # noqa: PLC0415  next to the figures it is held against

    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}', key)

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == signed


@pytest.mark.parametrize("secret", ["short", "whsec_###", "whsec_c2hvcnQ="])
def test_a_secret_that_guards_nothing_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|base64") as raised:
        signing_key(secret)

    assert secret not in str(raised.value)


def test_a_chat_can_neither_be_made_to_shout_nor_flooded() -> None:
    body = slack_body(record("x", summary="<!channel> & <http://bad|good>", description="d" * 10_000))
    (attachment,) = json.loads(body)["attachments"]

    assert "&lt;!channel&gt; &amp; &lt;http://bad|good&gt;" == attachment["title"]
    assert 3_000 == len(attachment["text"])
    assert "Critical: ToolFailing" == json.loads(body)["text"]


def test_a_chat_sees_that_it_is_over() -> None:
    body = json.loads(slack_body(record("x", "resolved", 2)))

    assert "Resolved: ToolFailing" == body["text"]
    assert {"title": "reason", "value": "recovered", "short": True} in body["attachments"][0]["fields"]
