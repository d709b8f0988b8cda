"""Which calls do the workers' records stop?  Every state of a circuit, every kind of row, and nothing else."""

import msgspec
import pytest
from verdict_records import CODES, circuit, stopping

from streams.feed.guard import verdicts
from streams.feed.guard.verdicts import Index, Standing, columns_of, read

CALL = {"tool": "search", "agent": "planner", "session_id": "s1", "user_id": "u1", "tenant": "acme"}
EXPECTED = {
    "closed": None, "open": "deny", "half_open": "probe", "disabled": None, "forced_open": "deny", "metrics_only": None,
}  # fmt: skip


@pytest.mark.parametrize("state", CODES)
def test_every_state_of_a_circuit_is_understood_by_its_word(state: str) -> None:
    verdict = read("breaker/tool|search", circuit(state))

    assert EXPECTED[state] == (None if verdict is None else verdict.mode)


@pytest.mark.parametrize("state", CODES)
def test_every_state_of_a_circuit_is_understood_by_its_code(state: str) -> None:
    body = circuit(state).replace(f'"state":"{state}"'.encode(), b'"state":"a word of a later release"')
    verdict = read("breaker/tool|search", body)

    assert EXPECTED[state] == (None if verdict is None else verdict.mode)


def test_a_row_is_known_by_the_words_of_its_kind() -> None:
    assert ("tool",) == columns_of("tool")
    assert ("agent", "tool") == columns_of("agent_tool")
    assert ("user_id",) == columns_of("user")
    assert () == columns_of("all")
    assert columns_of("partition") is None
    assert columns_of("model_error") is None


@pytest.mark.parametrize(
    ("over", "labels"),
    [
        ("session", {"session_id": "s1"}),
        ("user", {"user_id": "u1"}),
        ("tenant", {"tenant": "acme"}),
        ("agent", {"agent": "planner"}),
        ("tool", {"tool": "search"}),
        ("agent_tool", {"agent": "planner", "tool": "search"}),
        ("all", {}),
    ],
)
def test_an_alert_stops_the_calls_of_its_key_and_no_others(over: str, labels: dict[str, str]) -> None:
    verdict = read("stop/f1", stopping(over, {"team": "red", **labels}))
    assert verdict is not None
    index = Index([verdict])

    assert [verdict] == index.about(CALL)
    for column in labels:
        assert not index.about({**CALL, column: "another"})
        assert not index.about({**CALL, column: None})


@pytest.mark.parametrize("change", [{"stop": False}, {"state": "resolved"}, {"state": "pending"}])
def test_only_an_alert_that_fires_and_stops_stops(change: dict[str, object]) -> None:
    assert read("stop/f1", stopping(**change)) is None  # type: ignore[arg-type]  # fields of the record


def test_what_a_call_cannot_be_held_against_stops_nothing() -> None:
    assert read("stop/f1", stopping("partition", {"partition": "3"})) is None
    assert read("stop/f1", stopping("session", {"team": "red"})) is None


def test_what_is_spent_is_a_budget_what_a_detector_explains_a_loop_and_the_rest_are_rules() -> None:
    spent = msgspec.json.decode(stopping("tenant", {"tenant": "acme"}, unit="ratio"))
    looped = msgspec.json.decode(stopping(unit="nano_usd"))
    by = [
        verdict.denied_by
        for body in (
            stopping(unit="tokens"),
            msgspec.json.encode({**spent, "budget": {"budget": "acme", "period_end_ms": 9_000}}),
            msgspec.json.encode({**looped, "explanation": {"signature": "search", "times": 9}}),
            stopping(),
        )
        if (verdict := read("stop/f1", body)) is not None
    ]

    assert ["budget", "budget", "loop", "rule"] == by


def test_what_is_said_last_holds_and_what_is_older_changes_nothing() -> None:
    standing = Standing()
    standing.take("breaker/tool|search", circuit("open", 3, since_ms=3_000))
    standing.take("breaker/tool|search", circuit("half_open", 2, since_ms=2_000))
    modes = [verdict.mode for verdict in standing.index().about(CALL)]
    standing.take("breaker/tool|search", circuit("closed", 4, since_ms=4_000))

    assert ["deny"] == modes
    assert not standing.index().about(CALL)


def test_what_is_forgotten_or_unreadable_stops_nothing() -> None:
    standing = Standing()
    standing.take("breaker/tool|search", circuit())
    standing.take("stop/f1", b"{")
    standing.take("breaker/tool|search", None)

    assert not standing.index().about(CALL)
    assert 1 == standing.unreadable


def test_there_is_room_for_so_many_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "VERDICTS_MAX", 2)
    standing = Standing()
    for tool in "abc":
        standing.take(f"breaker/tool|{tool}", circuit(labels={"tool": tool}))
    standing.take("breaker/tool|a", circuit("half_open", 2, labels={"tool": "a"}))

    assert (2, 1) == (standing.index().verdicts, standing.overflowed)
    assert ["probe"] == [verdict.mode for verdict in standing.index().about({"tool": "a"})]
