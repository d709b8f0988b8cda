"""What is normal is learned, bounded, forgotten in time, and the same after a restart."""

import msgspec
import pytest

from streams.fold import norms
from streams.fold.norms import BINS, CEILING_MS, DEFAULT_MS, ENOUGH, FLOOR_MS, FORGET_AT, NORMS_MAX, LiveNorm, Norms
from streams.fold.session import Norm


def taught(*seconds: float) -> LiveNorm:
    norm = LiveNorm("t")
    for second in seconds:
        norm.observe(int(second * 1_000_000))
    return norm


def test_too_few_calls_say_nothing() -> None:
    assert DEFAULT_MS == taught(*[0.1] * (ENOUGH - 1)).deadline_ms


def test_a_deadline_is_some_times_the_slowest_but_one_in_a_hundred() -> None:
    """Of 20 s calls the half octave ends at 25.2 s; the one of an hour in two hundred is no norm."""
    norm = taught(*[20] * 191, 3_600)

    assert 4 * 20_000 <= norm.deadline_ms <= 4 * 20_000 * 1.42


def test_deadlines_have_a_floor_and_a_ceiling() -> None:
    assert FLOOR_MS == taught(*[0.001] * 64).deadline_ms
    assert CEILING_MS == taught(*[3_000] * 64).deadline_ms


def test_what_was_normal_once_is_forgotten() -> None:
    norm = taught(*[0.01] * FORGET_AT, *[60] * FORGET_AT)

    assert norm.calls < FORGET_AT
    assert norm.deadline_ms > 200_000


def test_a_tool_that_says_ok_to_everybody_acknowledges() -> None:
    writer, reader = LiveNorm("w"), LiveNorm("r")
    for number in range(20):
        writer.answer(b"ok")
        reader.answer(number.to_bytes(4, "big"))

    assert writer.acknowledges
    assert not reader.acknowledges


def test_norms_come_back_as_they_were() -> None:
    known = Norms()
    tool, model = known.tool("search"), known.model("search")
    assert tool is not None
    assert model is not None
    for number in range(100):
        tool.observe(number * 10_000)
        model.observe(number)
        tool.answer(b"%d" % (number // 3))
    rows = dict(known.drain())

    again = Norms()
    for key, stored in rows.items():
        again.load(key, stored)

    assert {b"ntsearch", b"nmsearch"} == set(rows)
    assert values(tool) == values(again.tools["search"])
    assert values(model) == values(again.models["search"])
    assert {} == dict(known.drain())


def values(norm: LiveNorm) -> tuple[object, ...]:
    return norm.bins, norm.calls, norm.deadline_ms, norm.told, norm.shared, norm.last, norm.code


def test_a_flood_of_names_is_not_learned() -> None:
    known = Norms()
    for number in range(NORMS_MAX):
        assert known.tool(f"t{number}") is not None

    assert known.tool("one more") is None
    assert known.tool("t0") is not None


def test_the_longest_duration_of_an_event_has_a_bin() -> None:
    assert 2 * (30 * 24 * 3600 * 10**6).bit_length() + 1 < norms.BINS


@pytest.mark.parametrize("index", [-1, BINS])
def test_a_stored_norm_with_a_bin_that_is_unknown_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="no bin is number"):
        Norms().load(b"ntsearch", msgspec.msgpack.encode(Norm({index: 1})))
