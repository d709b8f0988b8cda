"""How deltas are grouped, numbered and split, so that no flush is ever too large for a topic."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.fold.rollup import Delta, RollupBatch
from streams.stage import batches
from streams.stage.batches import Batches
from streams.stage.keys import dimension_key, partition_of
from streams.stage.plan import Send

COUNTERS = {"received": 9, "late": 2, "duplicate": 1, "rejected": 3}
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
delta_lists = st.lists(
    st.builds(
        Delta, dimension=st.just("tool"), labels=st.tuples(names), pane_ms=st.just(-1), sums=st.just({"events": 1})
    ),
    max_size=60,
)


def decoded(send: Send) -> RollupBatch:
    return msgspec.json.decode(send.value or b"", type=RollupBatch)


def tool(name: str) -> Delta:
    return Delta("tool", (name,), -1, {"events": 1})


@given(delta_lists, st.integers(1, 5), st.integers(1, 3_000))
def test_every_delta_arrives_once_where_its_key_belongs(deltas: list[Delta], targets: int, limit: int) -> None:
    sequences: dict[int, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BATCH_BYTES_MAX", limit)
        sends = Batches(3, targets).sends(deltas, COUNTERS, 17, sequences)

    for target in range(targets):
        mine = [
            delta for delta in deltas if partition_of(dimension_key("tool", delta.labels).encode(), targets) == target
        ]
        got = [decoded(send) for send in sends if send.partition == target]
        assert mine == [delta for batch in got for delta in batch.deltas]
        assert list(range(1, len(got) + 1)) == [batch.sequence for batch in got]
        assert sequences.get(target, 0) == len(got)
    assert all(len(send.value or b"") <= limit or len(decoded(send).deltas) == 1 for send in sends)


def test_a_flush_that_touches_a_hundred_thousand_tools_still_fits() -> None:
    """A topic with the broker's default limit takes 1,048,588 bytes per batch."""
    sends = Batches(0, 1).sends([tool(f"tool-{n}") for n in range(100_000)], {}, 0, {})

    assert len(sends) > 1
    assert all(len(send.value or b"") < 1_000_000 for send in sends)
    assert 100_000 == sum(len(decoded(send).deltas) for send in sends)


def test_a_batch_says_where_it_comes_from_and_how_whole_it_is() -> None:
    sequences = {0: 41}
    (send,) = Batches(7, 1).sends([tool("x")], COUNTERS, 17, sequences)

    assert (("source", b"7"), ("sequence", b"42"), ("events", b"9")) == send.headers
    assert ("rollups", 0, None) == (send.topic, send.partition, send.key)
    assert RollupBatch(7, 42, 9, 17, [tool("x")], 2, 1, 3) == decoded(send)
    assert {0: 42} == sequences


def test_without_deltas_nothing_is_sent() -> None:
    sequences = {0: 1}

    assert [] == Batches(0, 2).sends([], COUNTERS, 0, sequences)
    assert {0: 1} == sequences


def test_more_keys_than_are_remembered_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROUTES_MAX", 2)
    deltas = [tool(f"tool-{n % 5}") for n in range(50)]
    few = Batches(0, 4)
    found = {delta.labels: send.partition for send in few.sends(deltas, {}, 0, {}) for delta in decoded(send).deltas}
    again = {delta.labels: send.partition for send in few.sends(deltas, {}, 0, {}) for delta in decoded(send).deltas}

    assert found == again
    assert found == {labels: partition_of(dimension_key("tool", labels).encode(), 4) for labels in found}
