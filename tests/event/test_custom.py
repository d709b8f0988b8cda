"""Custom events: what is declared becomes an observation, anything else is refused and says why without quoting it."""

import json
from typing import Any

import pytest
from rare import CUSTOMS, rare_events, undeclared

from streams.event.codec import Reason, decode_record
from streams.event.custom import VALUE_MAX, Observation, label_values


def custom(**fields: Any) -> bytes:
    """Return a custom event; `labels` in any order."""
    event = {"kind": "custom", "id": "e", "time": 1, "agent": "a", "metric": "orders", "metric_kind": "counter"}
    return json.dumps({**event, "value": 1, "labels": {"size": "L", "shop": "x"}, **fields}).encode()


def test_labels_stand_in_their_declared_order() -> None:
    (event,) = decode_record(custom(), CUSTOMS).events

    assert isinstance(event, Observation)
    assert ("x", "L") == label_values(event.values_json)


def test_a_histogram_carries_its_buckets() -> None:
    value = custom(metric="basket_value", metric_kind="histogram", labels={"shop": "x"})
    (event,) = decode_record(value, CUSTOMS).events

    assert isinstance(event, Observation)
    assert CUSTOMS["basket_value"].bounds == event.bounds


def test_without_declarations_nothing_is_judged() -> None:
    """Who only looks at a topic declares nothing."""
    assert 1 == len(decode_record(custom(metric="anything")).events)


@pytest.mark.parametrize("event", undeclared(), ids=lambda event: event["id"])
def test_what_does_not_fit_its_declaration_is_refused(event: dict[str, Any]) -> None:
    (rejected,) = decode_record(json.dumps(event).encode(), CUSTOMS).rejected

    assert Reason.UNDECLARED == rejected.reason
    assert event["metric"] not in rejected.detail


def test_a_refused_one_leaves_its_neighbours() -> None:
    value = json.dumps([undeclared()[0], *rare_events()[:3], json.loads(custom())]).encode()
    decoded = decode_record(value, CUSTOMS)

    assert (4, [0]) == (len(decoded.events), [rejected.position for rejected in decoded.rejected])


@pytest.mark.parametrize(("value", "taken"), [(VALUE_MAX, 1), (VALUE_MAX + 1, 0), (0, 1), (-1, 0), (0.000001, 1)])
def test_counters_have_bounds(value: float, taken: int) -> None:
    assert taken == len(decode_record(custom(value=value), CUSTOMS).events)
