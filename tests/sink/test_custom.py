"""Declared metrics on a page: under their own labels, exact through the overflow, gone when nobody declares them."""

from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from pages import families, own_samples, promtool, render, series, settle, total, value
from rare import CUSTOMS
from through_stages import Stages, event

from streams.event.custom import CustomMetric
from streams.fold.session import OVERFLOW
from streams.sink.custom import custom_metrics, exported_name
from streams.sink.document import as_json
from streams.sink.view import View

SHOPS: Final = [f"shop-{number}" for number in range(8)]

NOW_MS: Final = 1_763_724_000_007


def orders(*sold: tuple[str, float]) -> list[dict[str, Any]]:
    """Return events: a counter and a histogram of every value."""
    made = []
    for number, (shop, amount) in enumerate(sold):
        fields: dict[str, Any] = {"value": amount, "session_id": f"s{number % 3}"}
        count = {"metric": "orders", "metric_kind": "counter", "labels": {"shop": shop, "size": "L"}}
        seen = {"metric": "basket_value", "metric_kind": "histogram", "labels": {"shop": shop}}
        made += [event("custom", 2 * number, **fields, **count), event("custom", 2 * number + 1, **fields, **seen)]
    return made


def view_of(stages: Stages, keys_max: int) -> View:
    view = View(len(stages.rollups), {"custom": keys_max})
    for number, rows in stages.changelog():
        view.feed(number, rows)
    settle(view)
    return view


@given(st.lists(st.tuples(st.sampled_from(SHOPS), st.integers(0, 10**12)), max_size=30), st.integers(1, 20))
def test_named_and_overflow_add_up_to_all_of_every_metric(sold: list[tuple[str, int]], keys_max: int) -> None:
    stages = Stages(None, None, CUSTOMS)
    stages.publish(orders(*((shop, millionths / 1_000_000) for shop, millionths in sold if millionths <= 10**15)))
    found = series(render(view_of(stages, keys_max), customs=CUSTOMS))
    expected = sum(millionths for _, millionths in sold)

    assert expected == round(total(found, "agent_custom_orders_total") * 1_000_000)
    assert expected == round(total(found, "agent_custom_basket_value_sum") * 1_000_000)
    assert len(sold) == total(found, "agent_custom_basket_value_count")


def test_the_overflow_keeps_metrics_apart() -> None:
    stages = Stages(None, None, CUSTOMS, rollups=1)
    stages.publish(orders(*((shop, 2) for shop in SHOPS)))
    found = series(render(view_of(stages, 2), customs=CUSTOMS))

    assert 2 * 7 == value(found, "agent_custom_orders_total", shop=OVERFLOW, size=OVERFLOW)
    assert 7 == value(found, "agent_custom_basket_value_count", shop=OVERFLOW)


def test_a_label_may_hold_anything() -> None:
    nasty = 'a"b|c\\d\n{},é[]'
    stages = Stages(None, None, CUSTOMS)
    stages.publish(orders((nasty, 1)))
    view = view_of(stages, 10)
    for openmetrics in (False, True):
        page = render(view, openmetrics=openmetrics, customs=CUSTOMS)
        assert 1 == value(series(page), "agent_custom_orders_total", shop=nasty, size="L")
        assert families(page)


def test_json_says_the_same() -> None:
    stages = Stages(None, None, CUSTOMS)
    stages.publish(orders(("a", 1), ("b", 2.5)))
    view = view_of(stages, 10)
    blocks = as_json(view, {**view.samples(), **own_samples()}, now_ms=NOW_MS, customs=custom_metrics(CUSTOMS))
    found = {metric["name"]: metric["series"] for metric in msgspec.json.decode(b"".join(blocks))["metrics"]}

    assert [("a", "L", 1.0), ("b", "L", 2.5)] == [
        (*each["labels"].values(), each["value"]) for each in found["agent_custom_orders_total"]
    ]
    assert {"1.0": 0, "10.0": 1, "+Inf": 1} == found["agent_custom_basket_value"][1]["buckets"]


def test_other_buckets_are_another_histogram() -> None:
    """What was counted in the old ones is not mixed with the new."""
    stages = Stages(None, None, CUSTOMS)
    stages.publish(orders(("a", 3)))
    changed = {**CUSTOMS, "basket_value": CUSTOMS["basket_value"]._replace(bounds=(5_000_000,))}
    page = render(view_of(stages, 10), customs=changed)

    assert "basket_value_bucket" not in page
    assert ("", "", 0) == promtool(page)


def test_counters_end_as_counters_do() -> None:
    assert "agent_custom_orders_total" == exported_name(CustomMetric("orders", "counter"))
    assert "agent_custom_orders_total" == exported_name(CustomMetric("orders_total", "counter"))
    assert "agent_custom_load" == exported_name(CustomMetric("load", "histogram"))


def test_a_declared_gauge_says_what_was_heard_last_and_is_gone_with_its_time() -> None:
    stages = Stages(None, customs=CUSTOMS)
    stock = {"metric": "stock", "metric_kind": "gauge"}
    for number, (shop, left) in enumerate((("a", 7), ("b|c", 2.5), ("a", -3))):
        stages.publish([event("custom", number, value=left, labels={"shop": shop}, source="till", **stock)])
    found = series(render(view_of(stages, 10), customs=CUSTOMS))
    one = Stages(None, customs=CUSTOMS, rollups=1)
    one.publish(
        [event("custom", 9, metric="orders", metric_kind="counter", value=1, labels={"shop": "x", "size": "L"})]
    )
    for number, (shop, left) in enumerate((("b|c", 2.5), ("a", -3)), 10):
        one.publish([event("custom", number, value=left, labels={"shop": shop}, source="till", **stock)])
    beyond = series(render(view_of(one, 1), customs=CUSTOMS))
    document = msgspec.json.decode(
        b"".join(as_json(view_of(stages, 10), {}, now_ms=NOW_MS, customs=custom_metrics(CUSTOMS)))
    )
    told = {metric["name"]: metric["series"] for metric in document["metrics"]}
    stages.tick(1_763_724_000_000 + 6 * 60_000)

    assert -3 == value(found, "agent_custom_stock", shop="a")
    assert 2.5 == value(found, "agent_custom_stock", shop="b|c")
    assert {-3.0, 2.5} == {each["value"] for each in told["agent_custom_stock"]}
    assert -3 == value(beyond, "agent_custom_stock", shop=OVERFLOW), "of both, the one heard of last"
    assert "agent_custom_stock" not in render(view_of(stages, 10), customs=CUSTOMS)
