"""What the doctor makes of facts: nothing to say where all is well, else value, expectation and next step."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from streams.topology import ROLLUPS_CHANGELOG, STAGES
from streams.worker.checkup import (
    Books,
    Clocks,
    Finding,
    Group,
    Place,
    book_findings,
    clock_findings,
    lag_findings,
    misrouted_finding,
    place_findings,
    redis_finding,
    strange_findings,
    topic_findings,
    worker_findings,
)
from streams.worker.doctor import _Rows
from streams.worker.topics import Cluster, judge

NOW_MS = 1_763_724_000_000
GOOD = {"received": 10, "applied": 6, "late": 2, "duplicate": 1, "rejected": 1}


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def place(*, begin: int = 0, end: int = 100, committed: int | None = 90, state: int | None = 90) -> Place:
    return Place("sessions", TopicPartition("agent.events", 3), begin, end, committed, state)


def test_topics_findings_keep_their_weight_and_their_next_step() -> None:
    found = list(topic_findings(judge(Cluster(1, {}), "agent.", {})))

    assert set(levels(found)) == {"fault"}
    assert all("topics create" in finding.next_step for finding in found)
    assert levels(topic_findings([])) == ["ok"]


@pytest.mark.parametrize(
    ("members", "state", "level", "said"),
    [
        (0, "Empty", "fault", "agent-streams worker"),
        (1, "Stable", "ok", ""),
        (8, "Stable", "ok", ""),
        (9, "Stable", "advice", "stop 1"),
        (2, "PreparingRebalance", "advice", "look again"),
    ],
)
def test_workers_are_held_against_the_partitions_they_share(members: int, state: str, level: str, said: str) -> None:
    finding = only(worker_findings(Group("agent.workers", state, members), 8))

    assert finding.level == level
    assert said in finding.next_step


@pytest.mark.parametrize(
    ("where", "level", "said"),
    [
        (place(), "ok", ""),
        (place(committed=None, state=None), "ok", ""),
        (place(committed=80), "advice", "committed offset 80, state at 90"),
        (place(state=None), "fault", "is gone"),
        (place(state=101, committed=101), "fault", "ends at 100"),
        (place(begin=95), "fault", "5 records were deleted"),
    ],
)
def test_state_decides_where_reading_goes_on_and_must_fit_its_log(where: Place, level: str, said: str) -> None:
    finding = only(place_findings([where]))

    assert finding.level == level
    assert said in finding.value


def test_a_changelog_of_a_newer_release_is_a_fault_and_no_traceback() -> None:
    rows = _Rows()
    suffix = ROLLUPS_CHANGELOG.suffix
    for value in (b"\x92\xc1", b"\xc1", b'["a", "of another shape"]'):
        rows.take(suffix, 3, [SimpleNamespace(key=b"m", value=value, timestamp=1, timestamp_type=0)])
    finding = only(strange_findings(sorted(rows.strange)))

    assert {(suffix, 3)} == rows.strange
    assert ("state", "fault", f"{suffix} partition 3") == (finding.check, finding.level, finding.what)
    assert "run the release that wrote it" in finding.next_step


def test_lag_is_counted_per_stage_from_where_the_state_is() -> None:
    sessions, *others = lag_findings([place(), place(state=None, begin=40)])
    behind, *_ = lag_findings([place(end=90 + 20_000)])

    assert (sessions.level, sessions.value) == ("ok", "70 offsets, at most 60 in one partition")
    assert [stage.name for stage in STAGES[1:]] == [each.what.removeprefix("lag of ") for each in others]
    assert all(each.value.startswith("0 offsets") for each in others)
    assert behind.level == "advice"
    assert "start another one" in behind.next_step


def test_misrouted_sessions_are_told_with_the_option_of_each_client() -> None:
    assert misrouted_finding({0: {"received": 5}}).level == "ok"
    finding = misrouted_finding({0: {"misrouted": 2}, 1: {"misrouted": 1}})

    assert (finding.level, finding.value) == ("advice", "3")
    assert "partitioner=murmur2_random" in finding.next_step
    assert "Murmur2Balancer" in finding.next_step


@pytest.mark.parametrize(
    ("books", "level"),
    [
        (Books({0: GOOD}, {0: (10, 10)}, (8, 8), still=True), ["ok"]),
        (Books({0: GOOD}, {0: (10, 10)}, (8, 7), still=False), ["ok"]),
        (Books({0: GOOD}, {0: (10, 10)}, (8, 7), still=True), ["fault"]),
        (Books({0: GOOD}, {0: (11, 10)}, (8, 8), still=False), ["fault"]),
        (Books({0: {**GOOD, "applied": 7}}, {0: (10, 10)}, (8, 8), still=False), ["fault"]),
        (Books({0: {**GOOD, "late": 0}, 1: {**GOOD, "late": 0}}, {0: (1, 2)}, (8, 8), still=True), ["fault"] * 3),
    ],
)
def test_books_must_balance_within_and_between_the_stages(books: Books, level: list[str]) -> None:
    assert levels(book_findings(books)) == level


def test_clocks_ahead_of_ours_are_a_fault_and_events_from_the_future_an_advice() -> None:
    good = only(clock_findings(Clocks(NOW_MS - 70, NOW_MS, by_broker=False), {}))
    ahead = only(clock_findings(Clocks(NOW_MS + 60_000, NOW_MS, by_broker=True), {}))
    skewed = list(clock_findings(Clocks(None, NOW_MS, by_broker=False), {0: {"skewed": 3}}))

    assert (good.level, good.what) == ("ok", "the workers' clock against ours")
    assert (ahead.level, ahead.what, ahead.value) == ("fault", "the brokers' clock against ours", "1m ahead")
    assert [(finding.level, finding.value) for finding in skewed] == [("advice", "3")]


def test_redis_is_a_fault_when_it_does_not_answer() -> None:
    assert redis_finding(None).level == "ok"
    assert redis_finding("no answer (ConnectionError)").level == "fault"


def test_finding_is_one_line_with_value_expectation_and_next_step() -> None:
    text = str(Finding("lag", "advice", "lag", "5", "0", "wait"))

    assert text == "lag: 5, expected 0 → wait"
    assert str(Finding("lag", "ok", "lag", "0")) == "lag: 0"
