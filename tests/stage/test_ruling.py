"""Rules as commands: what is accepted, which version holds, and what running partitions make of it."""

import json
from typing import Any, Final

import msgspec
import pytest
from one_stage import T0, One, Record, happen
from through_stages import Stages

from streams.errors import StateRefused
from streams.event.command import COMMAND_BYTES_MAX, RULES_CHARS_MAX
from streams.rule.defaults import default_rules, defaults_text
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage import arming
from streams.stage.commands import META_KEY, CommandsPartition
from streams.stage.ruling import RULES_KEY, RulesRow, Ruling, decode_rules, digest_of, encode_rules
from streams.stage.sessions import SessionsPartition

TEXT: Final = "groups: [{name: g, rules: [{alert: A, over: session, value: {total: events}, above: 1}]}]"
OTHER: Final = TEXT.replace("above: 1", "above: 5")
AGE: Final = """
groups:
  - name: g
    rules: [{alert: Waits, over: session, value: {gauge: oldest_in_flight_ms}, above: 10m}]
"""


def rules(command_id: str, text: str | None = None, **fields: Any) -> bytes:
    told = {} if text is None else {"text": text}
    return json.dumps({"kind": "rules", "id": command_id, "time": T0, "by": "ops", **told, **fields}).encode()


class Desk:
    """The commands stage with its changelog."""

    def __init__(self) -> None:
        self.state = CommandsPartition(0, 2)
        self.rows: dict[bytes, bytes] = {}
        self.letters: list[dict[str, Any]] = []
        self._log: list[Record] = []

    def tell(self, *values: bytes) -> None:
        for value in values:
            self._log.append(Record(len(self._log), T0, None, value))
            self.state.feed(self._log[-1:])

    def flush(self) -> None:
        plan = self.state.plan()
        assert plan is not None
        self.rows |= {key: value for key, value in plan.rows if value is not None}
        assert not [send for send in plan.sends if send.topic == "rollups"]
        self.letters += [json.loads(send.value or b"") for send in plan.sends if send.topic == "dead-letter"]

    def restart(self) -> None:
        self.state = CommandsPartition(0, 2)
        self.state.load(self.rows.items())
        self.state.loaded()
        self.state.feed(self._log)

    @property
    def row(self) -> RulesRow:
        return decode_rules(self.rows[RULES_KEY])


# ---- commands --------------------------------------------------------------------------------------------------


def test_an_accepted_text_is_one_row_with_its_version_and_digest() -> None:
    desk = Desk()
    desk.tell(rules("a", TEXT), rules("b", OTHER, note="why"))
    desk.flush()

    assert (2, OTHER, digest_of(OTHER), "ops", "why", "b") == (
        desk.row.version, desk.row.text, desk.row.digest, desk.row.by, desk.row.note, desk.row.command,
    )  # fmt: skip
    assert {"accepted": 2, "repeated": 0, "rejected": 0} == desk.state.counters()


def test_versions_go_on_after_a_restart_and_a_repeated_id_makes_none() -> None:
    desk = Desk()
    desk.tell(rules("a", TEXT))
    desk.flush()
    desk.restart()
    desk.tell(rules("a", TEXT), rules("b"))
    desk.flush()

    assert (2, None, "") == (desk.row.version, desk.row.text, desk.row.digest)
    assert 1 == desk.state.counters()["repeated"]


def test_what_a_torn_transaction_left_is_written_again_alike() -> None:
    """The row of a flush is there, its meta row is not: the same command gets the same version once more."""
    desk = Desk()
    desk.tell(rules("a", TEXT))
    desk.flush()
    meta = desk.rows[META_KEY]
    desk.tell(rules("b", OTHER))
    desk.flush()
    torn, desk.rows[META_KEY] = desk.row, meta
    desk.restart()
    desk.flush()

    assert torn == desk.row
    assert 2 == desk.row.version


def test_a_text_that_is_no_rule_set_is_refused_with_every_fault() -> None:
    desk = Desk()
    wrong = "groups: [{name: g, rules: [{alert: A, over: tol, value: {sum: x}, above: 1, when: now}]}]"
    desk.tell(rules("a", wrong), rules("b", "groups: 7"), rules("c", "x" * RULES_CHARS_MAX), rules("d", "]"))
    desk.flush()

    assert RULES_KEY not in desk.rows
    assert {"accepted": 0, "repeated": 0, "rejected": 4} == desk.state.counters()
    assert {"invalid"} == {letter["reason"] for letter in desk.letters}
    assert all(f"  {number}. " in desk.letters[0]["detail"] for number in (1, 2, 3))


def test_versions_have_one_order_because_rules_are_taken_from_one_partition() -> None:
    state = CommandsPartition(1, 2)
    state.feed([Record(0, T0, None, rules("a", TEXT))])
    plan = state.plan()

    assert plan is not None
    assert RULES_KEY not in dict(plan.rows)
    assert "partition 0 alone" in json.loads(plan.sends[0].value or b"")["detail"]


def test_the_shipped_rules_fit_into_a_command_and_longer_texts_are_refused_before_they_are_read() -> None:
    desk = Desk()
    command = rules("a", defaults_text())
    desk.tell(command, rules("b", "#" * (RULES_CHARS_MAX + 1)), rules("c", "\n" * RULES_CHARS_MAX))
    desk.flush()

    assert len(command) < COMMAND_BYTES_MAX / 2
    assert ["invalid", "too_large"] == [letter["reason"] for letter in desk.letters]


# ---- which rules hold ------------------------------------------------------------------------------------------


def row(version: int, text: str | None) -> tuple[bytes, bytes]:
    return RULES_KEY, encode_rules(RulesRow(version, "", T0, "ops", None, text, "c"))


def test_rules_of_the_settings_hold_until_others_are_loaded_and_again_after() -> None:
    ruling = Ruling(default_rules(), "digest")
    stood = (ruling.version, ruling.rules, ruling.source, ruling.digest)
    ruling.take([row(1, TEXT)])
    loaded = (ruling.version, ruling.rules, ruling.source)
    ruling.take([(META_KEY, b""), row(2, None)])

    assert (0, default_rules(), "settings", "digest") == stood
    assert (1, parse_rules(TEXT), "command") == loaded
    assert (2, default_rules(), "settings", "digest") == (ruling.version, ruling.rules, ruling.source, ruling.digest)


def test_an_older_version_never_holds_after_a_newer_one() -> None:
    ruling = Ruling(RuleSet())

    assert ruling.take([row(3, TEXT)])
    assert not ruling.take([row(2, OTHER), row(3, TEXT)])
    assert parse_rules(TEXT) == ruling.rules


def test_rules_that_this_release_cannot_read_are_refused_with_the_next_step() -> None:
    with pytest.raises(StateRefused, match=r"version 4, loaded by ops(.|\n)*agent-streams rules load"):
        Ruling(RuleSet()).take([row(4, "groups: [{name: g, rules: [{alert: A, of_tomorrow: 1}]}]")])


# ---- partitions ------------------------------------------------------------------------------------------------


def event(kind: str, number: int, session: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": f"e{session}{number}",
        "time": T0 + number,
        "agent": "a",
        "session_id": session,
        **fields,
    }


def states(one: One[SessionsPartition]) -> list[tuple[str, str, str | None]]:
    return [(alert["alert"], alert["state"], alert["reason"]) for alert in one.told("alerts")]


def test_a_partition_goes_by_other_rules_from_the_next_flush_on_and_remembers_which() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1, parse_rules(TEXT)))
    happen(one, event("cycle", 0, "s", phase="planning"), event("cycle", 1, "s", phase="planning"))
    one.flush()
    one.state.use(parse_rules(OTHER.replace("A,", "B,")), 7)
    one.flush()
    happen(one, *(event("cycle", number, "s", phase="planning") for number in range(2, 9)))
    one.flush()

    assert [("A", "firing", None), ("A", "resolved", "rule_removed"), ("B", "firing", None)] == states(one)
    one.reload()
    assert 7 == one.state.judged_by


def test_an_empty_partition_writes_nothing_because_rules_change() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    one.state.use(parse_rules(TEXT), 1)

    assert one.flush() is None


def test_the_same_version_again_changes_nothing() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1, parse_rules(TEXT), rules_version=1))
    happen(one, event("cycle", 0, "s", phase="planning"))
    one.flush()
    one.state.use(parse_rules(OTHER), 1)

    assert one.flush() is None


@pytest.mark.parametrize("per_step", [1, 5_000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_new_rule_on_ages_finds_calls_that_wait_already(
    per_step: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody touches these sessions any more; some at a time, each with a call in flight is looked at."""
    monkeypatch.setattr(arming, "ARM_PER_STEP", per_step)
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    for session in ("s1", "s2", "s3"):
        happen(one, event("tool_start", 0, session, call_id="c", tool="t"))
    happen(one, event("cycle", 1, "idle", phase="planning"))
    one.flush()
    if packed:
        one.reload()
    one.state.use(parse_rules(AGE), 1)
    for minute in range(12):
        one.state.tick(T0 + minute * 60_000)
        one.flush()

    fired = [alert["labels"]["session_id"] for alert in one.told("alerts") if alert["state"] == "firing"]
    assert ["s1", "s2", "s3"] == sorted(fired)


def test_rows_of_the_last_release_know_no_version() -> None:
    one: One[SessionsPartition] = One(lambda: SessionsPartition(0, 1, 1))
    happen(one, event("cycle", 0, "s", phase="planning"))
    one.flush()
    meta = msgspec.msgpack.decode(one.rows[META_KEY], strict=False)
    one.rows[META_KEY] = msgspec.msgpack.encode(meta[:7])
    one.reload()

    assert 0 == one.state.judged_by


def test_budgets_follow_the_rules() -> None:
    """What was spent stays spent; a lower limit is passed at once by a row that is charged again."""
    text = "budgets: [{budget: day, over: tool, of: calls, limit: %d, per: day}]"
    stages = Stages(parse_rules(text % 100), events=1, rollups=1)
    ended = [event("tool_end", number, "s", tool="t", status="success") for number in range(6)]
    stages.publish(ended[:5])
    stages.rollups[0].use(parse_rules(text % 4), 1)
    stages.publish(ended[5:])
    alerts = [json.loads(value) for _, value in stages.sent("alerts") if value]

    assert [("BudgetSpent:day", "firing", 6)] == [
        (alert["alert"], alert["state"], alert["budget"]["spent"]) for alert in alerts
    ]
