"""Equal results have equal hashes, different ones have not, and what cannot be told apart has none."""

import pytest

from streams.feed.size import result_hash


class Opaque:
    """Something without a JSON of its own."""


@pytest.mark.parametrize(
    ("one", "other"),
    [("text", "text"), ({"a": 1, "b": [2]}, {"b": [2], "a": 1}), (b"ab", "ab"), (0, 0), ([], []), ("\ud800", "\ud800")],
)
def test_equal_results_have_equal_hashes(one: object, other: object) -> None:
    assert result_hash(one) == result_hash(other)
    assert 16 == len(result_hash(one) or "")


def test_different_results_have_different_hashes() -> None:
    results = ["", "a", "b", [], ["a"], {}, {"a": 1}, {"a": 2}, 0, 1, True]

    assert len(results) == len({result_hash(result) for result in results})


def test_what_has_no_value_to_hash_has_no_hash() -> None:
    """Objects of one type would else all be the same result, and honest work a loop."""
    circle: list[object] = []
    circle.append(circle)

    assert [None] * 4 == [result_hash(each) for each in (None, Opaque(), {"found": Opaque()}, circle)]
