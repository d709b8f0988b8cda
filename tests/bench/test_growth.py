"""The programs that measure growth count every event, and draw what they have measured."""

from xml.etree import ElementTree as ET

import pytest
from bench.edges import langchain, material, paced
from bench.grown import FEATURES, START, cost, many_rules, recovery, without
from bench.growth import LADDERS, ROOT, plot, point, table


@pytest.mark.parametrize(
    "grown", [{"sessions": 300}, {"tools": 200}, {"rules": 20}, {"partitions": 8}, {"payload_bytes": 20_000}]
)
def test_a_point_counts_every_event(grown: dict[str, int]) -> None:
    """The program itself asserts that; here: the axis does what its name says."""
    found = cost({**START, "sessions": 200, **grown}, 2_000)

    assert found["us_per_event"] > 0
    assert (found["value_bytes"] > 15_000) == ("payload_bytes" in grown)


@pytest.mark.parametrize("feature", ["nothing", *FEATURES])
def test_a_run_without_a_feature_is_measured(feature: str) -> None:
    assert without(feature, 2_000)["us_per_event"] > 0


def test_so_many_rules_are_there_as_were_asked_for() -> None:
    assert len(many_rules(500).rules) == 500


def test_sessions_at_rest_take_less_than_those_at_work() -> None:
    """In a process of its own: ours has room left over from other tests, which would look like no memory at all."""
    found = point(ROOT, "memory", 3_000)

    assert found["bytes_per_session"] < found["hot_bytes"]


def test_every_session_comes_back() -> None:
    assert recovery(500)["rows"] >= 500


def test_the_table_and_the_plot_show_every_point() -> None:
    point = {"us_per_event": 4.25, "rows_per_event": 0.5, "row_bytes": 200.0, "value_bytes": 345}
    found = {axis: {str(step): point for step in ladder} for axis, ladder in LADDERS.items()}
    points = sum(map(len, LADDERS.values()))
    at_rest = {"1000": {"bytes_per_session": 900.0, "hot_bytes": 4_000.0}}
    features = {"nothing": {"us_per_event": 8.0}} | {feature: {"us_per_event": 6.0} for feature in FEATURES}
    all_of_it = found | {"without": features} | {"memory": at_rest, "recovery": {"1000": {"rows_per_s": 200_000.0}}}

    text = table(all_of_it, {"rows_per_s": 150_000.0, "rows": 1_000}, {"emit_p50_us": 0.3}, "here")
    drawn = ET.fromstring(plot(found))  # noqa: S314  our own text

    assert points == text.count("| 4.2 |")
    assert points == len(drawn.findall(".//{http://www.w3.org/2000/svg}circle"))
    assert "150,000 rows/s" in text
    assert "| prices | 2.00 | 25% |" in text


def test_the_agent_side_loses_nothing() -> None:
    """Both programs assert that every event arrived."""
    found = paced(material(500)) | langchain(5)

    assert found["events_per_request"] == 9
