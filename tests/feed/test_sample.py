"""Sampling: whole sessions or nothing, failures always, decided alike by everybody."""

from typing import Any

import pytest
from feed_recording import Recording

from streams.event.model import Degraded, Envelope, Error, Guard, ModelEnd, Payload, Resource, SessionEnd, ToolEnd
from streams.feed import Emitter, EmitterConfig, Session
from streams.feed.sample import chosen, failed, sent


def about(kind: type[Envelope], **fields: Any) -> Envelope:
    return kind(**{"id": "1", "time": 0, "agent": "a", "session_id": "s", **fields})


def emitter(recording: Recording, **fields: Any) -> Emitter:
    return Emitter(EmitterConfig(**fields), outlet=recording.outlet)


def test_the_share_that_is_chosen_is_about_the_share_that_was_asked_for_and_grows_with_it() -> None:
    keys = [f"session-{number}" for number in range(20_000)]
    few, more = ({key for key in keys if chosen(key, ratio)} for ratio in (0.1, 0.3))

    assert 1_800 < len(few) < 2_200
    assert 5_700 < len(more) < 6_300
    assert few < more, "who raises the share keeps the sessions there are"
    assert not any(chosen(key, 0) for key in keys)
    assert all(chosen(key, 1) for key in keys)


def test_a_session_is_sent_whole_or_not_at_all_but_for_its_end_and_what_failed() -> None:
    left_out = next(f"s{number}" for number in range(100) if not chosen(f"s{number}", 0.5))
    taken = next(f"s{number}" for number in range(100) if chosen(f"s{number}", 0.5))
    events = [
        about(ToolEnd, tool="t"),
        about(ToolEnd, tool="t", status="cancelled"),
        about(SessionEnd),
        about(ToolEnd, tool="t", status="error"),
        about(ModelEnd, model="m", status="timeout"),
        about(Error),
        about(Degraded, reason="r"),
        about(Guard, target="t", denied_by="breaker"),
    ]

    def kept(session_id: str) -> list[bool]:
        return [sent(_of(event, session_id), sessions=0.5, payloads=1) for event in events]

    assert [True] * 8 == kept(taken)
    assert [False] * 2 + [True] * 6 == kept(left_out), "its end too: what failed would keep it open"
    assert [False] * 3 + [True] * 5 == [failed(event) for event in events]


def _of(event: Envelope, session_id: str) -> Envelope:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**fields | {"session_id": session_id})


def test_what_belongs_to_no_session_is_always_sent() -> None:
    assert sent(about(Resource, session_id=None), sessions=0, payloads=0)


def test_request_and_response_of_a_call_are_sent_together() -> None:
    calls = [f"c{number}" for number in range(200)]
    kept = [
        [
            sent(about(Payload, id=f"{call}-{direction}", call_id=call, direction=direction, body=""), sessions=1,
                 payloads=0.3)
            for direction in ("request", "response")
        ]
        for call in calls
    ]  # fmt: skip

    assert {(True, True), (False, False)} == {(first, second) for first, second in kept}


def test_what_is_left_out_is_counted_and_makes_no_gap_in_the_numbers() -> None:
    recording = Recording()
    with emitter(recording, sample=0.5) as out:
        for number in range(400):
            out.emit(about(ToolEnd, id=str(number), session_id=f"s{number % 40}", tool="t"))
    arrived = recording.events()

    sessions = {f"s{number}" for number in range(40) if chosen(f"s{number}", 0.5)}
    assert sessions == {event.session_id for event in arrived}
    assert 10 * len(sessions) == len(arrived)
    assert {"sampled": 400 - len(arrived)} == out.stats().dropped
    assert list(range(len(arrived))) == sorted(event.seq or 0 for event in arrived)


# ---- bodies ----------------------------------------------------------------------------------------------------


def test_no_body_leaves_the_process_unless_bodies_are_switched_on() -> None:
    recording = Recording()
    with emitter(recording) as out:
        session = Session(out, agent="a")
        session.payload("request", "secret")
        out.emit(about(Payload, direction="request", body="secret"))
        out.emit(about(ToolEnd, tool="t"))

    assert [ToolEnd] == [type(event) for event in recording.events()]
    assert {"payloads_off": 1} == out.stats().dropped


def test_a_body_belongs_to_the_call_around_it_and_is_redacted_before_it_leaves() -> None:
    recording = Recording()
    with emitter(recording, payloads=True, payload_sample=1.0) as out:
        session = Session(out, agent="a", session_id="s")
        with session.model_call("gpt-5"):
            session.payload("request", {"messages": [{"role": "user", "content": "I am ann@example.com"}]})
            session.payload("response", "Hello, [email].")
            session.payload("response", b"\xff bytes")
            session.payload("response", object())
    bodies = [event for event in recording.events() if isinstance(event, Payload)]
    (ended,) = [event for event in recording.events() if isinstance(event, ModelEnd)]

    assert [
        '{"messages":[{"content":"I am [email]","role":"user"}]}', "Hello, [email].", "\ufffd bytes", '"object"',
    ] == [each.body for each in bodies]  # fmt: skip
    assert {(ended.call_id, "s")} == {(each.call_id, each.session_id) for each in bodies}
    assert {"email": 1} == out.stats().redacted


@pytest.mark.parametrize("direction", ["both", None])
def test_a_direction_that_is_none_never_raises(direction: Any) -> None:
    recording = Recording()
    with emitter(recording, payloads=True, payload_sample=1.0) as out:
        Session(out, agent="a").payload(direction, "x")

    assert not recording.events()
