"""The JSON document: the numbers of the text page, the shape its types say, and rankings over every row."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from pages import Series, full_view, own_samples, render, series
from viewing import CREATED_MS, row, view_of

from streams.sink.catalog import METRICS
from streams.sink.document import Document, as_json
from streams.sink.top import KEYS_SHOWN
from streams.sink.view import View

NOW_MS: Final = 1_763_724_000_007


def document(view: View) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(b"".join(as_json(view, {**view.samples(), **own_samples()}, now_ms=NOW_MS)))
    return made


def flattened(found: dict[str, Any]) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    for metric in found["metrics"]:
        for each in metric["series"]:
            labels = each["labels"]
            if "buckets" not in each:
                yield (metric["name"], frozenset(labels.items())), each["value"]
                continue
            yield (f"{metric['name']}_count", frozenset(labels.items())), each["count"]
            yield (f"{metric['name']}_sum", frozenset(labels.items())), each["sum"]
            for bound, count in each["buckets"].items():
                yield (f"{metric['name']}_bucket", frozenset({**labels, "le": bound}.items())), count


def test_json_has_the_numbers_of_the_text() -> None:
    _, view = full_view()
    found: Series = dict(flattened(document(view)))

    assert series(render(view)) == found


def test_every_metric_of_the_catalogue_is_there_once_even_without_series() -> None:
    for view in (View(1), full_view()[1]):
        found = document(view)

        assert [metric.name for metric in METRICS] == [each["name"] for each in found["metrics"]]
        assert NOW_MS == found["time_ms"]


def test_the_document_is_what_its_types_say() -> None:
    text = b"".join(as_json(full_view()[1], own_samples(), now_ms=NOW_MS))

    assert json.loads(msgspec.json.encode(msgspec.json.decode(text, type=Document))) == json.loads(text)


def test_more_groups_than_a_piece_holds_make_one_list() -> None:
    rows = [row("tool", (f"t{number:03d}",), number, tool_calls_success=number) for number in range(100)]
    (calls,) = [each for each in document(view_of(*rows))["metrics"] if each["name"] == "agent_tool_retries_total"]

    assert [f"t{number:03d}" for number in range(100)] == [each["labels"]["tool"] for each in calls["series"]]
    assert {CREATED_MS} == {each["created_ms"] for each in calls["series"]}


def test_a_ranking_also_knows_the_keys_that_share_the_overflow_series() -> None:
    rows = [row("tool", (f"t{number:02d}",), number, tool_calls_ended=number) for number in range(30)]
    tops = document(view_of(*rows, tool=3))["top"]
    (calls,) = [each for each in tops if (each["dimension"], each["by"]) == ("tool", "calls")]

    assert [f"t{number}" for number in range(29, 29 - KEYS_SHOWN, -1)] == [p["labels"]["tool"] for p in calls["places"]]
    assert list(range(29, 29 - KEYS_SHOWN, -1)) == [place["value"] for place in calls["places"]]


def test_a_ranking_leaves_out_who_has_nothing_and_writes_exported_units() -> None:
    rich, poor = row("agent", ("rich",), 0, cost_nano_usd=2_500_000_000), row("agent", ("poor",), 1)
    tops = document(view_of(rich, poor))["top"]
    (cost,) = [each for each in tops if (each["dimension"], each["by"]) == ("agent", "cost")]

    assert [{"labels": {"agent": "rich"}, "value": 2.5}] == cost["places"]
    assert "usd" == cost["unit"]
