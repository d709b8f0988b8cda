"""Outcomes of guarded calls: kept in their order, packed and read again, and gathered only where a policy asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.event.model import Guard
from streams.fold.cells import Cells
from streams.fold.circuits import Guarded, Outcomes, named_circuit, pack_codes, unpack_codes
from streams.fold.kinds import CONTRIBUTE
from streams.fold.measure import TOOL_ENDED, UNMATCHED
from streams.fold.streamtime import LATE_PANE
from streams.rule.breaker import breaker_name

PANE: int = 1_763_724_000_000
VERDICTS = {"success": 0, "error": 1}


@given(st.lists(st.integers(0, 3), max_size=70))
def test_codes_survive_packing_at_four_to_a_byte(codes: list[int]) -> None:
    packed = pack_codes(codes)

    assert codes == unpack_codes(packed)
    assert 1 + -(-len(codes) // 4) == len(packed)


@pytest.mark.parametrize("packed", [b"\x04\x00", b"\x01", b"\xff"])
def test_what_is_no_outcomes_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no outcomes"):
        unpack_codes(packed)


@given(
    st.sampled_from(("tool", "model", "provider", "endpoint", "agent")),
    st.text(alphabet="ab|\\*é", min_size=1, max_size=8),
)
def test_a_name_of_a_circuit_is_read_as_it_was_written(over: str, value: str) -> None:
    assert (over, (value,)) == named_circuit(breaker_name(over, (value,)))


@pytest.mark.parametrize("name", ["", "search", "tool", "tool|", "tool|a|b", "agent_tool|a", "session|a", "tool|a\\"])
def test_what_names_no_circuit_is_none(name: str) -> None:
    assert named_circuit(name) is None


def cells_of(*guarded: Guarded) -> Cells:
    return Cells(None, Outcomes(guarded))


def end(cells: Cells, status: str, us: int = 0, *, pane_ms: int = PANE) -> None:
    """End a call as `apply` does."""
    cells.of(TOOL_ENDED[status, UNMATCHED], pane_ms, "a", None, "t", None).observe(us)
    if cells.outcomes is not None:
        cells.outcomes.tool("a", "t", status, us, pane_ms)


def test_calls_of_one_flush_keep_their_order_across_statuses_and_panes() -> None:
    cells = cells_of(Guarded("tool", VERDICTS, 100, in_order=True), Guarded("agent_tool", VERDICTS, in_order=True))
    end(cells, "error", 101)
    end(cells, "success", pane_ms=PANE + 10_000)
    end(cells, "cancelled", 10**6)
    end(cells, "error", 100)
    deltas = cells.deltas()

    found = {delta.dimension: unpack_codes(delta.outcomes) for delta in deltas if delta.outcomes}
    assert {"tool": [3, 0, 1], "agent_tool": [1, 0, 1]} == found
    assert 2 == sum(bool(delta.outcomes) for delta in deltas)
    end(cells, "success")
    assert [[0], [0]] == [unpack_codes(delta.outcomes) for delta in cells.deltas() if delta.outcomes]


def test_a_late_call_is_in_no_window() -> None:
    cells = cells_of(Guarded("tool", VERDICTS, in_order=True))
    end(cells, "error", pane_ms=LATE_PANE)

    assert all(not delta.outcomes for delta in cells.deltas())


def test_without_a_policy_nothing_is_gathered() -> None:
    cells = Cells()
    end(cells, "error")

    assert all(delta.outcomes == b"" for delta in cells.deltas())


def test_a_window_of_time_gets_sums_by_pane() -> None:
    cells = cells_of(Guarded("tool", VERDICTS, 100, in_order=False))
    end(cells, "error", 101)
    end(cells, "success", 102)
    end(cells, "success", 1, pane_ms=PANE + 10_000)
    added = [delta for delta in cells.deltas() if "circuit_calls" in delta.sums]

    assert [(PANE, {"circuit_calls": 2, "circuit_failures": 1, "circuit_slow_calls": 2})] == [
        (delta.pane_ms, delta.sums) for delta in added[:1]
    ]
    assert [(PANE + 10_000, {"circuit_calls": 1})] == [(delta.pane_ms, delta.sums) for delta in added[1:]]


@pytest.mark.parametrize(
    ("target", "denied_by", "told"),
    [
        ("tool|search", "breaker", [("tool", ("search",))]),
        ("agent_tool|planner|search", "breaker", [("agent_tool", ("planner", "search"))]),
        ("tool:search", "breaker", [("tool", ("search",))]),
        ("tool:a|b", "breaker", [("tool", ("a|b",))]),
        ("agent_tool:planner", "breaker", []),
        ("tool|search", "budget", []),
        ("search", "breaker", []),
    ],
)
def test_a_denied_call_is_told_to_the_circuit_it_names(
    target: str, denied_by: str, told: list[tuple[str, tuple[str, ...]]]
) -> None:
    event = Guard(id="1", time=PANE, agent="a", target=target, denied_by=denied_by)  # type: ignore[arg-type]  # one of three
    first, *rest = CONTRIBUTE[Guard](event)

    assert ("guard", (target,)) == first[:2]
    assert told == [each[:2] for each in rest]
    assert [{"circuit_not_permitted": 1}] * len(told) == [each.sums for each in rest]
