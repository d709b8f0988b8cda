"""What is removed from texts and events, what must survive, and that hostile text costs no more than linear time."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from streams.errors import ConfigError
from streams.event.codec import decode_one
from streams.event.model import (
    TEXT_CHARS_MAX,
    Degraded,
    Envelope,
    Error,
    ModelEnd,
    Payload,
    SessionEnd,
    SessionStart,
    ToolEnd,
)
from streams.event.patterns import IP, PATTERNS, luhn, own_pattern, own_patterns, repeats_of
from streams.event.redact import BODY_CHARS_MAX, FREE_TEXT, Redactor, redact, redact_event

AT: dict[str, Any] = {"id": "e1", "time": 1_763_725_260_123, "agent": "a"}

FOUND = [
    ("email", "mail alice.smith+crm@example.co.uk.", "mail [email]."),
    ("email", "<bob@example.com>", "<[email]>"),
    ("email", '{"to":"zoë@example.com"}', '{"to":"[email]"}'),
    ("email", "a@example.com@b.example.com", "[email][email]"),
    ("phone", "call +1 (415) 555-2671 now", "call [phone] now"),
    ("phone", "call (415) 555-2671.", "call [phone]."),
    ("phone", "call 415-555-2671, please", "call [phone], please"),
    ("phone", "call 1-415-555-2671", "call [phone]"),
    ("phone", "tel:+491711234567", "tel:[phone]"),
    ("phone", "0049 171 1234567", "[phone]"),
    ("card", "pay 4111 1111 1111 1111 today", "pay [card] today"),
    ("card", "pay 5555-5555-5555-4444", "pay [card]"),
    ("card", "amex 378282246310005", "amex [card]"),
    ("card", "amex 3782 822463 10005", "amex [card]"),
    ("card", "2025-11-21 4111 1111 1111 1111", "2025-11-21 [card]"),
    ("card", "4242 4111 1111 1111 1111", "4242 [card]"),
    ("ssn", "ssn 123-45-6789.", "ssn [ssn]."),
    ("iban", "to DE89 3704 0044 0532 0130 00 AND more", "to [iban] AND more"),
    ("iban", "GB29NWBK60161331926819", "[iban]"),
    ("iban", "(FR14 2004 1010 0505 0001 3M02 606)", "([iban])"),
    ("api_key", "sk-proj-abcdEFGH1234567890abcd", "[api_key]"),
    ("api_key", "use sk_live_4eC39HqLyjWDarjtT1zdp7dc!", "use [api_key]!"),
    ("api_key", "ghp_" + "a1B2" * 9, "[api_key]"),
    ("api_key", "github_pat_11ABCDEFG0123456789_abcdefghij", "[api_key]"),
    ("api_key", "id AKIAIOSFODNN7EXAMPLE", "id [api_key]"),
    ("api_key", "xoxb-123456789012-abcdefABCDEF", "[api_key]"),
    ("api_key", "AIza" + "SyA1" * 8 + "abc", "[api_key]"),
    ("api_key", '{"key":"hf_' + "abcD" * 8 + '"}', '{"key":"[api_key]"}'),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3", "[jwt]"),
    ("jwt", "cut eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMj", "cut [jwt]"),
    ("secret", "Authorization: Bearer abc123def456ghi", "Authorization: Bearer [secret]"),
    ("secret", "Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [secret]"),
    ("secret", "password=hunter2", "password=[secret]"),
    ("secret", 'DB_PASSWORD: "two words"', 'DB_PASSWORD: "[secret]"'),
    ("secret", '{"api_key": "0123abcd"}', '{"api_key": "[secret]"}'),
    ("secret", '{\\"password\\": \\"hunter2\\"}', '{\\"password\\": \\"[secret]\\"}'),
    ("secret", "session-token: 9f8e7d6c5b4a", "session-token: [secret]"),
    ("secret", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=[secret]"),
    ("secret", "postgres://app:s3cr:et@db.internal/x", "postgres://app:[secret]@db.internal/x"),
    ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nok", "[private_key]\nok"),
    ("private_key", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANB", "[private_key]"),
]

SURVIVES = [
    "",
    "the tool answered after 123 ms with 4512 input tokens",
    "550e8400-e29b-41d4-a716-446655440000",
    "01a1fdf2-55bf-7030-b423-2ad038b7d161",
    "2025-11-21T11:41:00.123Z",
    "2025-11-21 11:41:00,123 +0100",
    "1763725260",
    "1763725260123",
    "1763725260123456789",
    "call_9f8e7d6c5b4a39281706f5e4",
    "toolu_01A09q90qw90lq917835lq9",
    "run-4111111111111111",
    "call_4111111111111111",
    "4111111111111112",  # the check digit is wrong
    "1234567890123452",  # the check digit fits, no card begins like this
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "d41d8cd98f00b204e9800998ecf8427e",
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "DE89 3704 0044 0532 0130 01",  # modulo 97 does not fit
    "XX89370400440532013000",
    "version 3.11.2, build 2025.11.21",
    "192.168.100.200:9092",
    "input_tokens=12345678, max_tokens: 4096",
    "tokens: 1024",
    "token: expected",
    "the bearer of this letter",
    "risk-assessment-of-the-whole-plan",
    "sk-learn-pipelines-and-transformers",
    "keyboard: qwerty12345",
    "monkey=banana123",
    "user@host",
    "@decorator and pkg@1.2.3",
    "C++ and a -> b, 50 % of 12,345,678",
    "+12 new, -3 removed",
    "step 1 of 3: 415 results",
    "0xdeadbeef 0012 3456",
    "https://example.com/path?page=2&size=50",
    "partition 7 offset 123456789012",
]


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_a_known_shape_is_removed_and_counted_under_its_name(name: str, text: str, expected: str) -> None:
    clean, counts = redact(text)

    assert expected == clean
    assert {name} == set(counts)


@pytest.mark.parametrize("text", SURVIVES)
def test_what_only_looks_alike_survives_as_the_same_object(text: str) -> None:
    clean, counts = redact(text)

    assert text is clean
    assert counts == {}


def test_every_hit_is_counted() -> None:
    text = "a@example.com b@example.com password=x1y2 DE89370400440532013000"

    assert redact(text).counts == {"email": 2, "secret": 1, "iban": 1}


def test_redacting_twice_changes_nothing_more() -> None:
    for _, text, _ in FOUND:
        once = redact(text).text

        assert (once, {}) == redact(once)


@given(st.text(max_size=200), st.sampled_from([case for case in FOUND if case[0] not in {"private_key", "jwt"}]))
@settings(max_examples=200, deadline=None)
def test_a_secret_between_other_words_is_found_whatever_they_are(around: str, case: tuple[str, str, str]) -> None:
    name, text, expected = case

    clean, counts = redact(f"{around}\n\n{text}\n\n{around}")

    assert expected in clean
    assert counts[name] >= 1


def test_ip_addresses_go_only_when_asked_for() -> None:
    text = "from 10.1.2.3 and [2001:db8::8a2e:370:7334] at 11:41:00, version 1.2.3.4444"
    with_ip = Redactor((*PATTERNS, IP))

    assert text is redact(text).text
    assert with_ip.text(text).text == "from [ip] and [[ip]] at 11:41:00, version 1.2.3.4444"


def test_luhn_knows_the_check_digit_of_cards() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")


# ---- own patterns ----------------------------------------------------------------------------------------------


def test_an_own_pattern_is_used_like_the_built_in_ones() -> None:
    redactor = Redactor((*PATTERNS, own_pattern("employee", r"\bEMP-\d{6}\b", "emp-")))

    assert redactor.text("EMP-123456 and a@example.com") == ("[employee] and [email]", {"employee": 1, "email": 1})


@pytest.mark.parametrize(
    ("expression", "because"),
    [
        (r"(a+)+b", "repeat"),
        (r"a{1,100}.*", "repeat"),
        (r"(?:a{1,100}){1,100}", "repeat"),
        (r"(unclosed", "missing"),
        (r"a{0,5}", "empty text"),
    ],
)
def test_an_own_pattern_that_could_hang_or_hit_everywhere_is_refused(expression: str, because: str) -> None:
    with pytest.raises(ConfigError, match=because):
        own_pattern("mine", expression)


def test_an_own_pattern_needs_a_name_fit_for_a_label() -> None:
    with pytest.raises(ConfigError, match="a-z"):
        own_pattern("Not Good", "x")


# ---- hostile text ----------------------------------------------------------------------------------------------


def test_no_repeat_in_our_expressions_is_without_a_bound() -> None:
    assert all(repeats_of(pattern.expression.pattern) <= 16_384 for pattern in (*PATTERNS, IP))


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "4111 ", "eyJ", "eyJaaaaaaaa ", "a@", "a.", "://a:", "sk-", "sk-aaaaaaaaaaaaaaaa ", "token=",
     "token:a", "password:", "=    ", "bearer ", "-----BEGIN PRIVATE KEY-----", "AA11 ", "AA11", "+1 ", "+1(((",
     "0011 ", "SG.aaaaaaaa", "xoxb-", "ghp_", "1.", "1:", "a@b.", "authorization: basic ", "İ@"],
)  # fmt: skip
def test_text_made_to_be_slow_costs_no_more_than_linear_time(unit: str) -> None:
    """A bound a hundred times above what a quiet machine needs; a quadratic expression misses it by far more."""
    redactor = Redactor((*PATTERNS, IP))
    text = (unit * BODY_CHARS_MAX)[:BODY_CHARS_MAX]
    started = time.thread_time()

    redactor.text(text)

    assert time.thread_time() - started < 5.0


# ---- cutting ---------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_with_a_note_that_says_how_much() -> None:
    clean, counts = Redactor().shorten("x" * 10_000, chars_max=1_000)

    assert clean == "x" * 952 + "… [9048 of 10000 characters cut]"
    assert counts == {}


def test_a_secret_on_the_edge_of_the_cut_is_not_halved() -> None:
    secret = "sk-" + "a1" * 40
    for before in range(900, 1_000):
        clean, _ = Redactor().shorten("." * before + " " + secret + " " + "." * 500, chars_max=1_000)

        assert "a1" not in clean


def test_a_short_text_is_not_cut() -> None:
    assert Redactor().cut("short", chars_max=10) == (("short", {}), 0)


def test_a_text_that_is_short_once_it_is_redacted_has_lost_no_more_than_that() -> None:
    text = "sk-" + "a1" * 100 + " end"

    assert Redactor().shorten(text, chars_max=100).text == "[api_key] end"


# ---- events ----------------------------------------------------------------------------------------------------


def test_free_text_of_every_kind_that_has_some_is_redacted() -> None:
    mail = "a@example.com"
    events: list[Envelope] = [
        Error(**AT, message=mail, code=mail),
        ToolEnd(**AT, tool="t", error_message=mail),
        ModelEnd(**AT, model="m", error_code=mail),
        SessionEnd(**AT, reason=mail),
        Degraded(**AT, reason=mail),
        Payload(**AT, direction="request", body=mail),
    ]

    assert set(FREE_TEXT) == {type(event) for event in events}
    for event in events:
        clean, counts = redact_event(event)

        assert b"[email]" in json.encode(clean)
        assert mail.encode() not in json.encode(clean)
        assert counts["email"] == len(FREE_TEXT[type(event)])


def test_text_in_attributes_is_redacted_and_everything_else_in_them_kept() -> None:
    event = SessionStart(**AT, attributes={"note": "call +1 415 555 2671", "n": 3, "ok": True, "none": None})

    clean, counts = redact_event(event)

    assert clean.attributes == {"note": "call [phone]", "n": 3, "ok": True, "none": None}
    assert counts == {"phone": 1}


def test_an_event_without_anything_to_hide_is_the_same_object() -> None:
    plain = ToolEnd(**AT, tool="search", status="error", error_message="no such file", attributes={"a": "b"})

    assert plain is redact_event(plain)[0]


def test_ids_are_never_touched() -> None:
    event = SessionStart(**AT, session_id="a@example.com", user_id="b@example.com", call_id="4111111111111111")

    assert event is redact_event(event)[0]


def test_what_was_too_long_is_accepted_by_the_decoder_after_redaction() -> None:
    message = Error(**AT, message="x" * (TEXT_CHARS_MAX + 5_000), attributes={"a": "y" * 5_000})
    body = Payload(**AT, direction="response", body="ß" * 100_000)

    small_message, small_body = redact_event(message)[0], redact_event(body)[0]

    assert small_message == decode_one(json.encode(small_message))
    assert small_body == decode_one(json.encode(small_body))
    assert small_body.cut_bytes == 2 * (100_000 - BODY_CHARS_MAX + 48)
    assert small_body.body.endswith(f"… [{small_body.cut_bytes} bytes cut]")


def test_a_file_of_own_patterns_is_read_line_by_line_and_every_fault_is_named() -> None:
    text = "# ours\n\nemployee  EMP-\\d{6}\nbadge [A-Z]{2} \\d{4}\n"
    redactor = Redactor((*own_patterns(text), *PATTERNS))

    assert "[employee] [badge]" == redactor.text("EMP-123456 XY 1234").text
    with pytest.raises(ConfigError) as refused:
        own_patterns("fine x\nBad x\nnothing\nslow (a+)+\n")
    assert ["line 2", "line 3", "line 4"] == [each.partition(":")[0] for each in str(refused.value).split("; ")]
