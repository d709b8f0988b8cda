"""What fuzzing looks for, in a small way and with whole events: it runs on every change."""

import random
from collections.abc import Callable

import pytest
from fuzz.seeds import ODD, mutated, seeds
from fuzz.targets import TARGETS, record
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from streams.stage import examples

pytestmark = pytest.mark.fault("T11")

KINDS = sorted(examples.EVENTS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.__name__))
def test_what_fuzzing_begins_with_breaks_nothing(target: Callable[[bytes], None]) -> None:
    for seed in seeds():
        target(seed[1:])


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=100)
def test_an_event_with_any_field_replaced_is_taken_or_refused(kind: str, data: st.DataObject) -> None:
    event = examples.event(kind)
    names = data.draw(st.lists(st.sampled_from(sorted(event)), min_size=1, max_size=3, unique=True))
    anything = st.recursive(
        st.one_of(st.sampled_from(ODD[:18]), st.integers(-(2**63), 2**64 - 1), st.text(max_size=300)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
        max_leaves=8,
    )
    for name in names:
        event[name] = data.draw(anything)

    record(json.encode(event))


@given(st.binary(max_size=600))
@settings(max_examples=100)
def test_bytes_of_any_kind_break_nothing(data: bytes) -> None:
    for target in TARGETS:
        target(data)


def test_changes_keep_the_shape_of_json() -> None:
    rng = random.Random(7)
    event = json.encode(examples.event("tool_end"))
    made = [mutated(event, rng) for _ in range(500)]

    assert len(set(made)) > 100
    assert all(isinstance(json.decode(each), dict) for each in made if each is not None)
    assert mutated(b"{", rng) is None
