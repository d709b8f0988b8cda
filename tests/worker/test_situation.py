"""What is shown of alerts: the topics put together, and what became of each, in order."""

from typing import Any, Final, NamedTuple

import msgspec
from noticed import record

from streams.rule.acknowledgement import StoredAcknowledgement, acknowledged_message, unacknowledged_message
from streams.rule.alert import FIRING, KEPT, AlertState, encode_names, encode_state, fingerprint
from streams.rule.records import AlertRecord
from streams.rule.silence import StoredSilence, encode_silence
from streams.stage.attention import SILENCE
from streams.stage.judging import ALERT_ROW
from streams.topology import ALERTS, COMMANDS_CHANGELOG, NOTIFY_CHANGELOG, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG
from streams.worker.notify import INHIBITIONS
from streams.worker.past import Past
from streams.worker.situation import Situation

NOW_MS: Final = 50_000
NAME: Final = fingerprint("rollups-1", "ToolFailing", "tool", ("search",))


class Record(NamedTuple):
    """What a reader of a topic gets."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 7


def alert(name: str, state: Any = "firing", transition: int = 1, **changes: Any) -> Record:
    made: AlertRecord = record(name, state, transition, **changes)
    return Record(name.encode(), msgspec.json.encode(made))


def acknowledgement(name: str, incarnation: int = 1) -> Record:
    message = acknowledged_message(StoredAcknowledgement(0, "c", name, incarnation, 20_000, 90_000, "ada", "mine"))
    return Record(message.key, message.value, message.headers)


def silenced(name: str, tool: str, ends_ms: int = 60_000) -> Record:
    stored = StoredSilence(0, name, [("tool", tool, False, True)], 0, ends_ms, 0, "ops")
    return Record(SILENCE + name.encode(), encode_silence(stored))


def test_an_alert_is_shown_with_who_is_at_it_and_what_keeps_it_from_being_told() -> None:
    situation = Situation()
    rules = [{"source_matchers": ["tool=a"], "target_matchers": ["tool=b"], "equal": []}]
    situation.take(ALERTS.suffix, 0, [alert("a"), alert("b"), alert("c", "pending"), alert("d", "resolved", 2)])
    situation.take(ALERTS.suffix, 1, [acknowledgement("a"), acknowledgement("b", incarnation=0)])
    situation.take(COMMANDS_CHANGELOG.suffix, 0, [silenced("s", "a"), silenced("over", "b", ends_ms=NOW_MS)])
    situation.take(NOTIFY_CHANGELOG.suffix, 0, [Record(INHIBITIONS.encode(), msgspec.json.encode(rules))])
    shown = {entry.record.fingerprint: entry.as_dict() for entry in situation.entries(NOW_MS, every=True)}

    assert ["a", "b", "c", "d"] == sorted(shown)
    assert ("ada", {"silenced_by": ["s"], "inhibited_by": []}) == (
        shown["a"]["acknowledged"]["by"], shown["a"]["suppressed"],
    )  # fmt: skip
    assert (None, {"silenced_by": [], "inhibited_by": ["a"]}) == (shown["b"]["acknowledged"], shown["b"]["suppressed"])
    ((silence, muted),) = situation.silences(NOW_MS)
    assert ("s", ["a"]) == (silence.id, [each.fingerprint for each in muted])
    assert {"a", "b", "c"} == {entry.record.fingerprint for entry in situation.entries(NOW_MS)}


def test_an_alert_that_is_only_kept_is_told_apart_by_the_row_of_its_owner() -> None:
    situation = Situation()
    firing = alert(NAME, keep_firing_for_ms=60_000)
    situation.take(ALERTS.suffix, 0, [firing])
    assert [ROLLUPS_CHANGELOG.suffix] == situation.kept_in(situation.alerts.values())
    assert [SESSIONS_CHANGELOG.suffix] == situation.kept_in([record("s", over="session")])
    assert [] == situation.kept_in([record("s", keep_firing_for_ms=0), record("t", "resolved")])

    key = ALERT_ROW + encode_names("ToolFailing", "tool", ("search",))
    for phase, since_ms in ((KEPT, 40_000), (FIRING, None)):
        state = AlertState(phase, 1, 1, 0, 0, "critical", {}, absent_since_ms=since_ms)
        situation.take(ROLLUPS_CHANGELOG.suffix, 1, [Record(key, encode_state(state))])
        (entry,) = situation.entries(NOW_MS)
        assert since_ms == entry.kept_since_ms
        assert "firing" == entry.record.state
    situation.take(ROLLUPS_CHANGELOG.suffix, 0, [Record(key, encode_state(state))])
    assert situation.entries(NOW_MS)[0].kept_since_ms is None, "the same names in another partition are another alert"


def test_the_past_is_every_turn_in_its_order() -> None:
    ended = unacknowledged_message(StoredAcknowledgement(0, "c", "a", 1, 0, 0, "ada"), 25_000)
    past = Past()
    past.take("", 0, [alert("a"), alert("a", "resolved", 3), Record(b"a", None, timestamp=40_000)])
    past.take("", 1, [alert("b", transition=2), acknowledgement("a"), Record(ended.key, None, ended.headers)])
    turns = past.turns()

    assert [
        ("a", "firing"), ("b", "firing"), ("a", "acknowledged"), ("a", "unacknowledged"), ("a", "resolved"),
        ("a", "forgotten"),
    ] == [(turn.fingerprint, turn.became) for turn in turns]  # fmt: skip
    assert [10_000, 20_000, 20_000, 25_000, 30_000, 40_000] == [turn.time_ms for turn in turns]
    assert ["b"] == [turn.fingerprint for turn in past.turns("b")]
    assert "by ada: mine" == turns[2].cells()[-1].plain
    assert ("acknowledged", "ada") == (turns[2].as_dict()["state"], turns[2].as_dict()["acknowledged"]["by"])
    assert len(turns) == len(past.fresh())
    assert [] == past.fresh()
