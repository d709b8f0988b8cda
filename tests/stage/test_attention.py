"""Stories of acknowledgements and silences: taken once, told once, ended by time, the same after a load."""

import json
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from one_stage import T0, Record

from streams.rule.acknowledgement import KEPT_MS, acknowledged_of, read_acknowledgement
from streams.rule.silence import silence_of
from streams.stage import attention
from streams.stage.commands import META_KEY, CommandsPartition
from streams.stage.plan import Send
from streams.stage.schemas import schema

ONE: Final = "1" * 32
TWO: Final = "2" * 32
HOUR_MS: Final = 60 * 60_000


class Desk:
    """The commands topic, its stage, its changelog and what it sends."""

    def __init__(self) -> None:
        self.state = CommandsPartition(0, 1)
        self.log: list[Record] = []
        self.rows: dict[bytes, bytes] = {}
        self.sends: list[Send] = []

    def tell(self, kind: str, at_ms: int = T0, **fields: Any) -> None:
        """Append a command and feed it."""
        command = {"kind": kind, "id": f"c{len(self.log)}", "time": at_ms, "by": "ops", **fields}
        self.log.append(Record(len(self.log), at_ms, None, json.dumps(command).encode()))
        self.state.feed(self.log[-1:])

    def acknowledge(self, fingerprint: str = ONE, incarnation: int = 7, **fields: Any) -> None:
        self.tell("acknowledge", fingerprint=fingerprint, incarnation=incarnation, **fields)

    def silence(self, *matchers: dict[str, Any], until: Any = T0 + HOUR_MS, **fields: Any) -> None:
        given = list(matchers) or [{"name": "tool", "value": "search"}]
        self.tell("silence", matchers=given, until=until, **fields)

    def flush(self) -> bool:
        """Plan and write; returns whether there was anything."""
        plan = self.state.plan()
        for key, value in () if plan is None else plan.rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.sends += [] if plan is None else plan.sends
        return plan is not None

    def reload(self) -> None:
        """Throw the partition away, build it from the changelog, and read the whole log again."""
        self.state = CommandsPartition(0, 1)
        self.state.load(self.rows.items())
        self.state.loaded()
        self.state.feed(self.log)

    def told(self) -> list[tuple[str | None, str | None]]:
        """Return what the alert topic was told: whose, and by which command; None when it was taken back."""
        return [
            (acknowledged_of(send.key), None if send.value is None else read_acknowledgement(send.value).id)
            for send in self.sends
            if send.topic == "alerts"
        ]

    def refusals(self) -> list[str]:
        return [json.loads(send.value or b"")["detail"] for send in self.sends if send.topic == "dead-letter"]


def test_an_acknowledgement_is_told_with_its_row_and_ends_once() -> None:
    desk = Desk()
    desk.acknowledge(note="ticket 1")
    desk.flush()
    desk.reload()
    desk.acknowledge(TWO, until=T0 + HOUR_MS)
    desk.tell("unacknowledge", fingerprint=ONE)
    desk.tell("unacknowledge", fingerprint=ONE)
    desk.flush()
    desk.reload()

    assert [(ONE, "c0"), (TWO, "c1"), (ONE, None)] == desk.told()
    assert {TWO} == desk.state.attention.acknowledged().keys()
    assert {"accepted": 4, "repeated": 0, "rejected": 0} == desk.state.counters()


def test_the_record_names_one_life_of_the_alert() -> None:
    desk = Desk()
    desk.acknowledge(note="mine", until=T0 + HOUR_MS)
    desk.flush()
    (send,) = desk.sends
    record = read_acknowledgement(send.value or b"")

    assert ("ops", "mine", 7, T0, T0 + HOUR_MS) == (
        record.by, record.note, record.incarnation, record.time_ms, record.ends_ms,
    )  # fmt: skip
    Draft202012Validator(schema("acknowledgement")).validate(json.loads(send.value or b""))
    assert b"agent-streams.alert.acknowledged" == dict(send.headers)["ce_type"]
    assert record.holds(7, T0 + HOUR_MS - 1)
    assert not record.holds(8, T0)
    assert not record.holds(7, T0 + HOUR_MS)


@pytest.mark.parametrize("restart", [False, True], ids=["living on", "reloaded"])
def test_time_ends_what_was_to_last_until_then_and_nothing_else(restart: bool) -> None:
    desk = Desk()
    desk.acknowledge(ONE, until=T0 + HOUR_MS)
    desk.acknowledge(TWO)
    desk.silence()
    desk.silence(until=T0 + 2 * HOUR_MS)
    desk.flush()
    if restart:
        desk.reload()
    desk.state.tick(T0 + HOUR_MS - 1)
    assert not desk.flush()
    desk.state.tick(T0 + HOUR_MS)
    assert desk.flush()

    assert {b"k" + TWO.encode(), b"sc3", META_KEY, b"ic0", b"ic1", b"ic2", b"ic3"} == desk.rows.keys()
    assert (ONE, None) == desk.told()[-1]
    desk.state.tick(T0 + KEPT_MS)
    desk.flush()
    assert (TWO, None) == desk.told()[-1]
    assert not desk.state.attention.silences()


def test_a_silence_is_ended_by_its_id_and_made_anew_under_another() -> None:
    desk = Desk()
    desk.silence(
        {"name": "tool", "value": "web.*", "isRegex": True}, {"name": "env", "value": "prod", "isEqual": False}
    )
    desk.flush()
    (stored,) = desk.state.attention.silences().values()
    silence = silence_of(stored)
    assert silence.means({"tool": "web_search"})
    assert not silence.means({"tool": "web_search", "env": "prod"})
    assert ["active", "expired"] == [silence.state(at_ms) for at_ms in (T0, T0 + HOUR_MS)]

    desk.tell("unsilence", silence="c0")
    desk.tell("unsilence", silence="never")
    desk.silence(startsAt=T0 + 10)
    desk.flush()
    assert ["c3"] == list(desk.state.attention.silences())
    assert "pending" == silence_of(desk.state.attention.silences()["c3"]).state(T0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"until": T0}, "over when it begins"),
        ({"until": "soon"}, "neither epoch"),
        ({"until": T0 + 400 * 24 * HOUR_MS}, "more than a year"),
        ({"startsAt": "soon"}, "startsAt is neither"),
        ({"startsAt": T0 + 2 * HOUR_MS}, "over when it begins"),
        ({"matchers": [{"name": "tool", "value": ""}]}, "mean every alert"),
        ({"matchers": [{"name": "tool", "value": ".*", "isRegex": True}]}, "mean every alert"),
        ({"matchers": [{"name": "tool", "value": "(", "isRegex": True}]}, "cannot be used"),
        ({"matchers": [{"name": "tool", "value": r"(a)\1", "isRegex": True}]}, "linear time"),
        ({"matchers": []}, "matchers"),
    ],
)
def test_a_silence_that_makes_no_sense_is_a_dead_letter(fields: dict[str, Any], said: str) -> None:
    desk = Desk()
    desk.tell("silence", **{"matchers": [{"name": "tool", "value": "a"}], "until": T0 + HOUR_MS, **fields})
    desk.flush()

    (detail,) = desk.refusals()
    assert said in detail
    assert not desk.state.attention.silences()


def test_an_acknowledgement_that_makes_no_sense_is_a_dead_letter() -> None:
    desk = Desk()
    desk.acknowledge(until=T0)
    desk.acknowledge(until=T0 + KEPT_MS + 1)
    desk.acknowledge("short")
    desk.flush()

    assert 3 == len(desk.refusals())
    assert [] == desk.told()


def test_limits_take_the_oldest_acknowledgement_back_and_refuse_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be told once too often is the safe side; a silence that is not there must be known not to be."""
    monkeypatch.setattr(attention, "ACKNOWLEDGEMENTS_MAX", 1)
    monkeypatch.setattr(attention, "SILENCES_MAX", 1)
    desk = Desk()
    desk.acknowledge(ONE)
    desk.acknowledge(TWO)
    desk.silence()
    desk.silence()
    desk.flush()

    assert [(ONE, "c0"), (TWO, "c1"), (ONE, None)] == desk.told()
    assert ["c2"] == list(desk.state.attention.silences())
    assert "1 silences are there" in desk.refusals()[0]


def test_rows_that_a_torn_transaction_left_behind_are_taken_anew() -> None:
    """Rows without the meta row that ends them: what they say was not told, and the commands come again."""
    desk = Desk()
    desk.silence()
    desk.flush()
    desk.acknowledge()
    desk.silence()
    plan = desk.state.plan()
    assert plan is not None
    desk.rows |= {key: value for key, value in plan.rows if key != META_KEY and value is not None}
    desk.reload()
    desk.flush()

    assert [(ONE, "c1")] == desk.told()
    assert ["c0", "c2"] == list(desk.state.attention.silences())
    assert {"accepted": 3, "repeated": 0, "rejected": 0} == desk.state.counters()
