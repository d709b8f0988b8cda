"""What the topics say: records, keys, tombstones, CloudEvents headers."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule.rows import NOW_MS, Row, rule_of

from streams.rule.alert import Transition
from streams.rule.book import AlertBook
from streams.rule.breaker import BreakerBook, BreakerTransition, breaker_name
from streams.rule.model import Rule, RuleSet
from streams.rule.parse import parse_rules
from streams.rule.records import (
    AlertRecord,
    BreakerRecord,
    Completeness,
    alert_message,
    alert_record,
    breaker_message,
    rfc3339,
)
from streams.rule.threshold import BREACHED, CLEAR, Verdict

RULE = rule_of(
    "over: tool; value: {ratio: {of: errors, to: events}}; window: 5m; above: 5%; min_count: 20; for: 1m; "
    "severity: critical; labels: {team: agents}; summary: '{tool} of {team}: {value}'; "
    "description: '{value} of {count} within {window}, limit {limit}, for {for}, {alert} {severity}'".replace("; ", ";")
)
KEY = ("search",)


def moves(rule: Rule = RULE, *steps: tuple[int, Verdict]) -> list[Transition]:
    """Return the transitions along (second, verdict) steps."""
    book = AlertBook(RuleSet((rule,)), "3")
    told = [book.judge(rule, KEY, verdict, NOW_MS + 1_000 * second) for second, verdict in steps]
    return [moved for moved in told if moved]


BAD, GOOD = Verdict(BREACHED, 0.125, 40), Verdict(CLEAR, 0.01, 50)
LIFE = ((0, BAD), (60, BAD), (90, GOOD))


def test_every_transition_is_a_record_and_says_all_there_is_to_know() -> None:
    pending, firing, resolved = (alert_record(moved, Completeness(late=2)) for moved in moves(RULE, *LIFE))
    assert pending
    assert firing
    assert resolved

    assert [pending.state, firing.state, resolved.state] == ["pending", "firing", "resolved"]
    assert (firing.alert, firing.severity, firing.over) == ("R", "critical", "tool")
    assert firing.labels == {"team": "agents", "tool": "search"}
    assert (firing.value, firing.value_text, firing.count, firing.unit) == (0.125, "12.5%", 40, "ratio")
    assert (firing.limit, firing.limit_text, firing.comparison) == (0.05, "5%", "above")
    assert (firing.window_ms, firing.for_ms, firing.keep_firing_for_ms) == (300_000, 60_000, 0)
    assert (firing.active_since_ms, firing.fired_ms, firing.resolved_ms) == (NOW_MS, NOW_MS + 60_000, None)
    assert (firing.incarnation, firing.transition) == (NOW_MS, 2)
    assert firing.summary == "search of agents: 12.5%"
    assert firing.description == "12.5% of 40 within 5m, limit 5%, for 1m, R critical"
    assert firing.completeness == Completeness(2, 0, 0)
    assert (resolved.reason, resolved.resolved_ms, resolved.value) == ("recovered", NOW_MS + 90_000, 0.01)
    assert (resolved.active_since_ms, resolved.fired_ms) == (NOW_MS, NOW_MS + 60_000)
    assert pending.reason is firing.reason is None


def test_a_life_has_one_key_and_an_id_for_each_transition() -> None:
    messages = [alert_message(moved) for moved in moves(RULE, *LIFE)]

    assert len({message.key for message in messages}) == 1
    assert len({dict(message.headers)["ce_id"] for message in messages}) == 3


def test_a_record_reads_back_and_its_headers_agree_with_it() -> None:
    message = alert_message(moves(RULE, *LIFE)[1])
    assert message.value
    record = msgspec.json.decode(message.value, type=AlertRecord)
    headers = dict(message.headers)

    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": record.id.encode(),
        "ce_type": b"agent-streams.alert.firing",
        "ce_source": b"/agent-streams/rules/R",
        "ce_time": b"1970-01-12T13:47:40.000Z",
        "content-type": b"application/json",
    }
    assert message.key == record.fingerprint.encode()
    assert record.schema == 1


def test_a_forgotten_alert_is_a_tombstone_that_still_says_what_it_is() -> None:
    pending, forgotten = (alert_message(moved) for moved in moves(RULE, (0, BAD), (5, GOOD)))

    assert (forgotten.key, forgotten.value) == (pending.key, None)
    assert dict(forgotten.headers)["ce_type"] == b"agent-streams.alert.forgotten"
    assert dict(forgotten.headers)["ce_id"] != dict(pending.headers)["ce_id"]


def test_an_alert_whose_rule_is_gone_says_nothing_it_does_not_know() -> None:
    book, again = AlertBook(RuleSet((RULE,))), AlertBook(RuleSet())
    book.judge(RULE, KEY, BAD, NOW_MS)
    book.judge(RULE, KEY, BAD, NOW_MS + 60_000)
    for names, stored in book.drain():
        assert stored
        again.load(names, stored)
    record = alert_record(again.expire(NOW_MS + 70_000)[0])
    assert record

    assert (record.state, record.reason, record.severity) == ("resolved", "rule_removed", "critical")
    assert record.labels == {"team": "agents", "tool": "search"}
    assert [record.limit, record.limit_text, record.comparison, record.window_ms, record.for_ms] == [None] * 5


def test_a_faulty_template_never_keeps_an_alert_back() -> None:
    """Such a template is refused when rules are read; should one get here, the record says so and goes out."""
    broken = msgspec.structs.replace(RULE, summary="{nobody}")
    record = alert_record(moves(broken, *LIFE)[1])
    assert record

    assert record.summary == "<template error: there is no {nobody}> {nobody}"
    assert record.state == "firing"


def test_a_value_nobody_could_measure_is_written_as_such() -> None:
    record = alert_record(moves(RULE, (0, Verdict(BREACHED, None)))[0])
    assert record

    assert (record.value, record.value_text) == (None, "no value")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_728_496_007, "2025-11-21T12:34:56.007Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (2**63, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


@given(st.integers(-(2**70), 2**70))
def test_every_time_can_be_written(ms: int) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(ms))


# ---- breakers --------------------------------------------------------------------------------------------------


def circuit_moves() -> list[BreakerTransition]:
    rules = parse_rules("breakers: [{over: tool, min_calls: 3, half_open_calls: 1}]")
    book, row = BreakerBook(rules), Row()
    row.add(NOW_MS, tool_calls_error=2, tool_calls_success=1)
    told = [book.touch("tool", KEY, row.at(NOW_MS), NOW_MS)]
    told.append(book.touch("tool", KEY, row.at(NOW_MS + 30_000), NOW_MS + 30_000))
    told.append(book.end("tool", KEY, NOW_MS + 31_000))
    return [moved for moved in told if moved]


def test_a_circuit_is_published_with_its_code_and_what_it_was_decided_on() -> None:
    opened, half_open, gone = (breaker_message(moved) for moved in circuit_moves())
    assert opened.value
    assert half_open.value
    record: Any = msgspec.json.decode(opened.value, type=BreakerRecord)

    assert opened.key == half_open.key == gone.key == b"tool|search"
    assert (record.state, record.code, record.previous, record.reason) == ("open", 1, "closed", "failure_rate_exceeded")
    assert (record.labels, record.over) == ({"tool": "search"}, "tool")
    assert (record.calls, record.failures, record.failure_rate) == (3, 2, 0.666666)
    assert (record.since_ms, record.open_until_ms) == (NOW_MS, NOW_MS + 30_000)
    assert dict(opened.headers)["ce_type"] == b"agent-streams.breaker.open"

    record = msgspec.json.decode(half_open.value, type=BreakerRecord)
    assert (record.state, record.code, record.open_until_ms, record.transition) == ("half_open", 2, None, 2)

    assert gone.value is None
    assert dict(gone.headers)["ce_type"] == b"agent-streams.breaker.forgotten"


@given(st.text(alphabet="a|\\", max_size=6), st.text(alphabet="a|\\", max_size=6))
def test_names_of_circuits_never_collide(one: str, other: str) -> None:
    assert (breaker_name("tool", (one,)) == breaker_name("tool", (other,))) == (one == other)
    assert (breaker_name("tool", (one, other)) == breaker_name("tool", (other, one))) == (one == other)


@pytest.mark.parametrize(
    ("text", "verdict", "limit", "text_of_limit", "comparison"),
    [
        ('expr: "errors[5m] > 5"', Verdict(BREACHED, 7), 5, "5", "above"),
        ('expr: "errors[5m] <= 2 * events[5m]"', Verdict(BREACHED, 7, limit=8.0), 8.0, "8", "below"),
        ('expr: "errors[5m] == 7"', Verdict(BREACHED, 7), 7, "7", None),
        ("value: errors; window: 5m; above: mean + 3 sigma", Verdict(BREACHED, 7, limit=4.25), 4.25, "4.25", "above"),
        ("value: errors; window: 5m; above: mean + 3 sigma", Verdict(BREACHED, 7), None, "no value", "above"),
        ("absent: 10m", Verdict(BREACHED, 600_001), 600_000, "10m", "above"),
    ],
)
def test_a_record_names_what_the_value_was_compared_with(
    text: str, verdict: Verdict, limit: float | None, text_of_limit: str, comparison: str | None
) -> None:
    (fired,) = moves(rule_of(f"over: tool; {text}"), (0, verdict))
    record = alert_record(fired)

    assert record
    assert (record.limit, record.limit_text, record.comparison) == (limit, text_of_limit, comparison)
    assert f"limit {text_of_limit}" in record.description
