"""Declarations of custom metrics: every fault at once, and nobody's name becomes a label."""

import json
from typing import Any

import pytest
from rare import CUSTOMS, CUSTOMS_JSON

from streams.errors import ConfigError
from streams.rule.declared import BUCKETS_MAX, EXAMPLE, METRICS_MAX, read_customs
from streams.rule.faults import Faults

GOOD: dict[str, Any] = {"name": "basket", "kind": "histogram", "labels": ["shop"], "buckets": [1, 2.5]}


def faults_of(text: str) -> Faults:
    faults = Faults()
    read_customs(text, faults, "METRICS")
    return faults


def test_what_is_declared_is_what_is_known() -> None:
    faults = Faults()

    assert CUSTOMS == read_customs(CUSTOMS_JSON, faults, "METRICS")
    assert not faults


def test_the_example_is_one() -> None:
    assert not faults_of(EXAMPLE)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": "Basket"}, "name"),
        ({"name": "basket_sum"}, "name"),
        ({"name": ""}, "name"),
        ({"kind": "summary"}, "kind"),
        ({"labels": ["user_id"]}, "labels"),
        ({"labels": ["session"]}, "labels"),
        ({"labels": ["le"]}, "labels"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": ["a", "b", "c", "d", "e"]}, "labels"),
        ({"labels": "shop"}, "labels"),
        ({"buckets": None}, "buckets"),
        ({"buckets": []}, "buckets"),
        ({"buckets": [2, 1]}, "buckets"),
        ({"buckets": [1, 1.0000001]}, "buckets"),
        ({"buckets": [-1]}, "buckets"),
        ({"buckets": [True]}, "buckets"),
        ({"buckets": list(range(BUCKETS_MAX + 1))}, "buckets"),
        ({"kind": "counter"}, "buckets"),
        ({"unit": "s"}, "unit"),
    ],
)
def test_a_fault_names_its_place(change: dict[str, Any], place: str) -> None:
    (fault,) = faults_of(json.dumps([{**GOOD, **change}]))

    assert f"METRICS, metric 1, {place}" == fault.place


@pytest.mark.parametrize("text", ["", "{", "{}", "7", "[7]", json.dumps([GOOD, GOOD])])
def test_other_shapes_are_faults(text: str) -> None:
    assert 1 == len(faults_of(text))


def test_there_is_an_end_of_metrics() -> None:
    most = [{"name": f"m{number}", "kind": "counter"} for number in range(METRICS_MAX)]

    assert not faults_of(json.dumps(most))
    assert faults_of(json.dumps([*most, {"name": "more", "kind": "counter"}]))


def test_all_faults_are_named_at_once() -> None:
    faults = faults_of(json.dumps([{"name": "A", "kind": "x"}, {"name": "b"}]))

    assert 3 == len(faults)
    with pytest.raises(ConfigError, match="3 faults"):
        faults.settle("cannot be used")
