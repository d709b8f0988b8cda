"""The simulated agents: plausible, the same for the same seed, and counted by a ledger of their own."""

from collections import Counter
from itertools import islice

import msgspec
from painted import BEGIN_MS, RATE

from streams.event.codec import decode_record
from streams.event.model import TokenUsage, ToolEnd
from streams.worker.crew import BAD_TOOL, EVENTS_LEAST, HOSTS, RUNAWAY, Act, Crew, Script, Stranger


def crew(seed: int = 1, seconds: float | None = 20, rate: float = RATE) -> Crew:
    return Crew(seed, rate=rate, begin_ms=BEGIN_MS, script=Script.of(seconds))


def acts(count: int, seed: int = 1, seconds: float | None = 20, rate: float = RATE) -> list[Act]:
    return list(islice(crew(seed, seconds, rate), count))


def test_same_seed_makes_the_same_events_and_another_one_others() -> None:
    assert acts(2_000, seed=3) == acts(2_000, seed=3)
    assert acts(2_000, seed=3) != acts(2_000, seed=4)


def test_every_event_is_one_that_workers_take_and_has_an_id_of_its_own() -> None:
    made = acts(5_000)
    decoded = [decode_record(msgspec.json.encode(act.event)) for act in made]

    assert all(len(one.events) == 1 and not one.rejected for one in decoded)
    assert len({act.event.id for act in made}) == len(made)
    assert {act.host for act in made} == set(range(HOSTS))


def test_events_come_in_the_order_of_their_times_at_the_rate_asked_for() -> None:
    times = [int(act.event.time) for act in acts(2_001)]

    assert times == sorted(times)
    assert times[-1] - times[0] == 10_000


def test_session_stays_with_its_process() -> None:
    """Duplicates are found by source and sequence number: a session that changed its process would be another."""
    hosts: dict[str | None, set[int]] = {}
    for act in acts(5_000):
        hosts.setdefault(act.event.session_id, set()).add(act.host)

    assert all(len(each) == 1 for each in hosts.values())


def test_tool_is_good_before_its_time_and_bad_after_it_until_it_recovers() -> None:
    script = Script.of(None)
    begin_ms = BEGIN_MS + script.bad_s * 1000
    ends = [
        act.event for act in acts(24_000, seconds=None) if isinstance(act.event, ToolEnd) and act.event.tool == BAD_TOOL
    ]
    before = Counter(end.status for end in ends if int(end.time) < begin_ms)
    during = Counter(end.status for end in ends if begin_ms <= int(end.time) < begin_ms + 45_000)
    after = Counter(end.status for end in ends if begin_ms + 45_000 <= int(end.time))

    assert before["success"] > 0.9 * before.total() > 0
    assert during["success"] < 0.3 * during.total()
    assert after["success"] > 0.9 * after.total() > 0


def test_even_the_shortest_run_holds_enough_trouble_to_be_noticed() -> None:
    """Ten failures a minute, twenty calls with half of them failed, five million tokens: what the shipped rules ask."""
    for rate in (20, 50, 200):
        seconds = EVENTS_LEAST / rate
        events = [act.event for act in acts(EVENTS_LEAST, seconds=seconds, rate=rate)]
        calls = Counter(event.status for event in events if isinstance(event, ToolEnd) and event.tool == BAD_TOOL)
        tokens = sum(
            event.input_tokens + event.output_tokens
            for event in events
            if isinstance(event, TokenUsage) and event.session_id == RUNAWAY
        )

        failed = calls["error"] + calls["timeout"]
        assert failed > 20
        assert failed > calls.total() / 2
        assert tokens > 5_000_000


def test_ledger_counts_what_was_handed_out() -> None:
    working = crew()
    events = [act.event for act in islice(working, 3_000)]

    assert working.ledger.published == 3_000
    assert working.ledger.sessions.total() == 3_000
    assert sum(statuses.total() for statuses in working.ledger.tools.values()) == sum(
        isinstance(event, ToolEnd) for event in events
    )


def test_stranger_sends_everything_twice_and_now_and_then_something_old_or_broken() -> None:
    ledger = crew().ledger
    stranger = Stranger(ledger, BEGIN_MS)
    records = [record for _ in range(21) for record in stranger.records()]
    good = [decode_record(record).events for record in records]

    assert len(records) == ledger.published
    assert ledger.outcomes == {"applied": 21, "duplicate": 21, "late": 7, "rejected": 3}
    assert sum(not events for events in good) == 3
