"""Keys go where Kafka's own clients send them, and two keys never become one."""

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.stage.keys import dimension_key, murmur2, partition_of
from streams.stage.session_rows import read_row_key, row_key

labels = st.lists(st.text("ab|\\", max_size=4) | st.text(max_size=4), max_size=4).map(tuple)


@settings(max_examples=500)
@given(st.binary(max_size=64))
def test_the_hash_is_that_of_kafkas_clients(key: bytes) -> None:
    assert theirs(key) & 0xFFFFFFFF == murmur2(key)


@given(st.binary(max_size=64), st.integers(1, 200))
def test_the_partition_is_that_of_the_default_partitioner(key: bytes, partitions: int) -> None:
    every = list(range(partitions))

    assert DefaultPartitioner()(key, every, every) == partition_of(key, partitions)


@settings(max_examples=1_000)
@given(labels, labels)
def test_two_keys_are_never_written_alike(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (one == other) == (dimension_key("d", one) == dimension_key("d", other))


def test_bars_and_backslashes_do_not_move_from_label_to_label() -> None:
    keys = [
        ("a", "b"),
        ("a|b",),
        ("a\\", "b"),
        ("a\\|b",),
        ("a", "|b"),
        ("a|", "b"),
        ("a\\|", "b"),
        ("", "a|b"),
        ("",),
        (),
    ]

    assert len(keys) == len({dimension_key("d", key) for key in keys})


row_keys = (
    st.text(max_size=8)
    | st.tuples(st.text(max_size=8))
    | st.tuples(st.text(max_size=8), st.integers(1, 10**6).map(str))
)


@given(row_keys)
def test_row_keys_come_back(key: str | tuple[str] | tuple[str, str]) -> None:
    assert key == read_row_key(row_key(key))
