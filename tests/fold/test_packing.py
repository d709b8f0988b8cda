"""A row is stored whatever its numbers have grown to."""

import msgspec
import pytest

from streams.fold.packing import STORED_MAX, pack
from streams.fold.rollup import LifetimeHistogram, LifetimeRow, PaneHistogram, PaneRow, decode_lifetime, decode_pane
from streams.fold.rollup import encode_row as encode


def test_sums_that_do_not_fit_stay_at_the_largest_number_and_all_else_is_exact() -> None:
    row = LifetimeRow(
        "tool", ("t",), 3, 1, 2, 7, {"input_bytes": 2**70, "events": 5}, {"us": LifetimeHistogram(2**64, [1, 2])}
    )

    stored = decode_lifetime(encode(row))

    assert {"input_bytes": STORED_MAX, "events": 5} == stored.sums
    assert (STORED_MAX, [1, 2]) == (stored.histograms["us"].sum_us, stored.histograms["us"].buckets)
    assert ("tool", ("t",), 3, 1, 2, 7) == (
        stored.dimension,
        stored.labels,
        stored.ordinal,
        stored.created_ms,
        stored.touched_ms,
        stored.stamp,
    )


def test_maps_with_numbers_as_keys_keep_them() -> None:
    pane = PaneRow(10_000, 0, {"n": 2**64}, {"us": PaneHistogram(1, {-3: 4, 12: 5})})

    assert {-3: 4, 12: 5} == decode_pane(encode(pane)).histograms["us"].bins


@pytest.mark.parametrize("value", [0, 1, 2**63, STORED_MAX])
def test_a_row_whose_numbers_fit_is_stored_as_msgspec_would(value: int) -> None:
    row = PaneRow(10_000, 0, {"n": value})

    assert msgspec.msgpack.encode(row) == pack(row)


def test_fields_may_hold_what_is_packed_already() -> None:
    packed = msgspec.Raw(msgspec.msgpack.encode([1, True, None, "t"]))

    assert [STORED_MAX, False, [1, True, None, "t"]] == msgspec.msgpack.decode(pack((2**64, False, packed)))
