"""Every account holds the leaves beneath its call, however they came; and nothing is held against a parent twice."""

import random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event import model
from streams.fold import session
from streams.fold.apply import apply, end
from streams.fold.cells import Cells
from streams.fold.ledger import (
    CALLS_MAX,
    UNCLAIMED_MAX,
    Accounts,
    Settled,
    add_aggregate,
    add_leaf,
    close,
    due,
    end_call,
)
from streams.fold.live import LiveRow, unpack
from streams.fold.session import Account, SessionRow
from streams.fold.streamtime import GRACE_MS

T0: Final = 1_763_724_000_000
OK: Final = Settled("a", None, aggregates=1)


def aggregate(accounts: Accounts, call_id: str, tokens: int, parent_id: str | None = None, at_ms: int = T0) -> None:
    assert add_aggregate(accounts, call_id, parent_id, tokens, at_ms, "a", None) == []


def test_an_aggregate_that_is_the_sum_of_its_leaves_has_no_gap() -> None:
    accounts: Accounts = {}
    for tokens in (100, 20, 3):
        add_leaf(accounts, "r", tokens)
    aggregate(accounts, "r", 123)

    assert [OK] == close(accounts)
    assert not accounts


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (130, OK._replace(over_tokens=30)),
        (70, OK._replace(under_tokens=30)),
    ],
)
def test_the_gap_says_in_which_direction(tokens: int, expected: Settled) -> None:
    accounts: Accounts = {}
    add_leaf(accounts, "r", 100)
    aggregate(accounts, "r", tokens)

    assert [expected] == close(accounts)


def test_an_aggregate_without_leaves_is_all_gap() -> None:
    accounts: Accounts = {}
    aggregate(accounts, "r", 50)

    assert [OK._replace(leafless=1, over_tokens=50)] == close(accounts)


def test_leaves_without_an_aggregate_have_nothing_to_say() -> None:
    accounts: Accounts = {}
    add_leaf(accounts, "r", 5)

    assert [] == close(accounts)


def test_nested_aggregates_are_each_held_against_their_own_leaves() -> None:
    """A task of two turns: the turns name 30 and 12, the task 42, and nobody 84."""
    accounts: Accounts = {}
    for turn, leaves in (("turn-1", (10, 20)), ("turn-2", (12,))):
        for tokens in leaves:
            add_leaf(accounts, turn, tokens)
        aggregate(accounts, turn, sum(leaves), "task")
    aggregate(accounts, "task", 42)

    assert [OK] * 3 == close(accounts)


def test_of_several_sums_of_one_call_the_largest_stands() -> None:
    accounts: Accounts = {}
    add_leaf(accounts, "r", 10)
    for tokens in (4, 10, 7):
        aggregate(accounts, "r", tokens)

    assert [OK] == close(accounts)


def test_a_late_leaf_still_counts_within_the_grace_and_not_after_it() -> None:
    accounts: Accounts = {}
    add_leaf(accounts, "r", 10)
    aggregate(accounts, "r", 15)

    assert [] == due(accounts, T0 + GRACE_MS - 1)
    add_leaf(accounts, "r", 5)
    assert [OK] == due(accounts, T0 + GRACE_MS)
    assert not accounts


def test_of_calls_that_are_over_without_an_aggregate_only_the_newest_are_kept() -> None:
    """Most publishers report none, and a session's row should not grow for what never comes."""
    accounts: Accounts = {}
    for number in range(20):
        add_leaf(accounts, f"r{number}", 1)
        end_call(accounts, f"r{number}", None, T0)
        assert [] == due(accounts, T0)

    assert [f"r{number}" for number in range(20 - UNCLAIMED_MAX, 20)] == list(accounts)


def test_the_end_of_a_call_says_what_encloses_it_even_after_its_leaves() -> None:
    """A model call inside a tool inside a request: only the ends name who is inside whom."""
    accounts: Accounts = {}
    add_leaf(accounts, "tool", 10)
    end_call(accounts, "tool", "request", T0)
    add_leaf(accounts, "tool", 7)
    aggregate(accounts, "request", 17)

    assert [OK] == close(accounts)


def test_calls_that_enclose_one_another_are_not_believed() -> None:
    accounts: Accounts = {}
    for call, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("b", "b")):
        add_leaf(accounts, call, 1)
        end_call(accounts, call, parent, T0)
    for call, tokens in (("a", 1), ("b", 3), ("c", 4)):
        aggregate(accounts, call, tokens)

    assert [OK] * 3 == close(accounts)


def test_beyond_its_limit_the_oldest_call_is_settled_as_it_stands() -> None:
    accounts: Accounts = {}
    add_leaf(accounts, "old", 10)
    aggregate(accounts, "old", 12)
    for number in range(CALLS_MAX - 1):
        assert add_leaf(accounts, f"r{number}", 1) is None

    assert OK._replace(over_tokens=2) == add_leaf(accounts, "new", 1)
    assert Settled("", None, forgotten=1) == add_leaf(accounts, "newer", 1)
    end_call(accounts, "r1", None, T0)
    assert add_leaf(accounts, "newest", 1) is None  # r1 was over: nothing is lost with it
    assert CALLS_MAX == len(accounts)


@settings(deadline=None)
@given(st.integers(2, CALLS_MAX), st.integers(0, 60), st.randoms(use_true_random=False))
def test_any_order_of_leaves_ends_and_aggregates_gives_every_call_its_leaves(
    calls: int, leaves: int, chance: random.Random
) -> None:
    """A random tree, told in any order, against a recount that walks up from every leaf."""
    parents = {n: chance.randrange(max(0, n - 3), n) if n else None for n in range(min(calls, 14))}
    told: list[tuple[str, int, int]] = [("aggregate", n, 0) for n in parents]
    told += [("end", n, 0) for n in parents if chance.random() < 0.5]
    told += [("leaf", chance.randrange(len(parents)), chance.randrange(1, 1000)) for _ in range(leaves)]
    chance.shuffle(told)
    expected = dict.fromkeys(parents, 0)
    for what, call, tokens in told:
        above: int | None = call
        while what == "leaf" and above is not None:
            expected[above] += tokens
            above = parents[above]
    accounts: Accounts = {}
    for what, call, tokens in told:
        parent = parents[call]
        parent_id = None if parent is None else str(parent)
        if what == "leaf":
            add_leaf(accounts, str(call), tokens)
        elif what == "end":
            end_call(accounts, str(call), parent_id, T0)
        else:
            aggregate(accounts, str(call), expected[call], parent_id)

    assert expected == {int(call): account.leaf_tokens for call, account in accounts.items()}
    settled = close(accounts)
    assert (0, 0) == (sum(each.over_tokens for each in settled), sum(each.under_tokens for each in settled))
    assert len(parents) == len(settled)


# ---- in a session ------------------------------------------------------------------------------------------------


def usage(call_id: str | None, tokens: int, parent_id: str | None = None, **fields: Any) -> model.TokenUsage:
    return model.TokenUsage(id="e", time=T0, agent="a", model="m", call_id=call_id, parent_id=parent_id,
                            input_tokens=tokens, **fields)  # fmt: skip


def fold(*events: model.Envelope) -> tuple[LiveRow, dict[str, int]]:
    """Fold events, end the session; return its row, and the sums of its agent."""
    row, cells = LiveRow("a", None, None, T0, T0, T0), Cells()
    for event in events:
        assert isinstance(event.time, int)
        row.last_ms = max(row.last_ms, event.time)
        apply(row, None, event, cells, -1, event.time)
        row = unpack(row.pack())  # what is not stored is not known
    end(row, row.last_ms, "idle", cells, -1)
    return row, next((delta.sums for delta in cells.deltas() if delta.dimension == "agent"), {})


def call(kind: type[model.Envelope], call_id: str, parent_id: str | None = None, **fields: Any) -> model.Envelope:
    return kind(**{"id": "e", "time": T0, "agent": "a", "call_id": call_id, "parent_id": parent_id, **fields})


def test_a_request_s_aggregate_is_held_against_all_model_calls_within_it() -> None:
    """One of them was made by a tool, whose end alone says that it belongs to the request."""
    row, sums = fold(
        call(model.AgentStart, "r"),
        usage("m1", 100, "r"),
        call(model.ToolStart, "t", "r", tool="expert"),
        usage("m2", 40, "t"),
        call(model.ToolEnd, "t", "r", tool="expert"),
        usage("r", 150, scope="aggregate"),
        call(model.AgentEnd, "r"),
    )

    assert (140, 140) == (row.input_tokens, sums["input_tokens"])
    assert (1, 10) == (sums["aggregates_settled"], sums["aggregate_over_tokens"])
    assert not {"aggregates_leafless", "aggregate_under_tokens", "ledger_forgotten"} & sums.keys()
    assert {} == row.ledger


def test_usage_reported_by_a_request_itself_is_a_leaf_of_it() -> None:
    _, sums = fold(call(model.AgentStart, "r"), usage("r", 9), usage("r", 9, scope="aggregate"))

    assert 1 == sums["aggregates_settled"]
    assert "aggregate_over_tokens" not in sums


def test_model_calls_that_nothing_encloses_take_no_memory() -> None:
    row = LiveRow("a", None, None, T0, T0, T0)
    for number in range(100):
        apply(row, None, usage(f"m{number}", 1), Cells(), -1, T0)

    assert {} == row.ledger


def test_an_aggregate_of_no_call_can_be_held_against_nothing() -> None:
    _, sums = fold(usage(None, 9, scope="aggregate"))

    assert (1, 1) == (sums["aggregates_settled"], sums["aggregates_leafless"])
    assert "aggregate_over_tokens" not in sums


def test_a_gap_is_told_once_the_grace_is_over_without_waiting_for_the_session() -> None:
    row = LiveRow("a", None, None, T0, T0, T0)
    cells = Cells()
    events = [usage("m", 5, "r"), usage("r", 7, scope="aggregate"), usage("m9", 1, "r9"),
              call(model.AgentEnd, "r9", time=T0 + GRACE_MS)]  # fmt: skip
    for event in events:
        assert isinstance(event.time, int)
        row.last_ms = max(row.last_ms, event.time)
        apply(row, None, event, cells, -1, event.time)
    sums = next(delta.sums for delta in cells.deltas() if delta.dimension == "agent")

    assert 2 == sums["aggregate_over_tokens"]
    assert ["r9"] == list(row.ledger)


def test_a_row_stored_before_there_was_a_ledger_is_read() -> None:
    row = SessionRow("a", None, None, T0, T0, T0, ledger={"r": Account(1, 2)})
    stored = session.encode(row)

    assert {"r": Account(1, 2)} == session.decode(stored).ledger
    fields = msgspec.msgpack.encode(
        [getattr(row, name) for name in SessionRow.__struct_fields__[: SessionRow.__struct_fields__.index("ledger")]]
    )
    assert {} == session.decode(stored[: session.HEAD_BYTES] + fields).ledger
