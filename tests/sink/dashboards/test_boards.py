"""Dashboards hold to Grafana's published models, ask only for what is exported, and keep what reviewers look for."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from grafana_models import UNITS, faults
from promql_reading import Selector, selectors

from streams.sink.dashboards.boards import BOARDS, files
from streams.sink.dashboards.grafana import dashboard
from streams.sink.dashboards.panel import GRID_WIDTH, Ask
from streams.sink.dashboards.rest import LEFT_OUT, rest, shown_on
from streams.sink.promql import CATALOGUE, FOREIGN, TARGET_LABELS, UnknownMetric

ROOT: Final = Path(__file__).parents[3]
NAMES: Final = sorted(BOARDS)
FIXED: Final = {"services": ("5m", "1h")}  # windows that two panels have in their titles


@cache
def board(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(files()[f"{name}.json"])
    return made


def panels(name: str) -> list[dict[str, Any]]:
    return [each for each in board(name)["panels"] if each["type"] != "row"]


def expressions(name: str) -> Iterator[str]:
    """Yield what a board asks of Prometheus: in panels, annotations and the values of variables."""
    for panel in panels(name):
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["expr"] for each in board(name)["annotations"]["list"])
    for variable in board(name)["templating"]["list"]:
        if variable["type"] == "query":
            inner, _, column = variable["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
            yield f"count by ({column}) ({inner})"


def asked(name: str) -> Iterator[Selector]:
    for expression in expressions(name):
        yield from selectors(expression)


def row_of(selector: Selector) -> tuple[str, frozenset[str]]:
    """Return the kind and the labels of what a selector names, from the catalogue; fails by name."""
    if selector.name in FOREIGN:
        return ("counter" if selector.name.endswith("_total") else "gauge"), frozenset(FOREIGN[selector.name])
    for suffix in ("", "_bucket", "_count", "_sum"):
        metric = CATALOGUE.get(selector.name.removesuffix(suffix)) if selector.name.endswith(suffix) else None
        if metric is not None and (not suffix or metric.kind in {"histogram", "summary"}):
            return ("counter" if suffix else metric.kind), frozenset(metric.columns)
    pytest.fail(f"the catalogue has no metric {selector.name}")


def test_the_files_are_what_the_command_writes() -> None:
    folder = ROOT / "k8s" / "dashboards"
    published = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}

    assert files() == published, "run: agent-streams dashboards --to k8s/dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_a_board_is_what_grafanas_models_say(name: str) -> None:
    assert [] == faults(board(name))


def test_a_board_that_is_not_is_found_out() -> None:
    """The models alone would say nothing: they drop what they do not know, and check no types."""
    wrong = json.loads(files()["tools.json"])
    wrong["panels"][1]["titel"] = "misspelt"
    wrong["panels"][2]["targets"][0]["exprs"] = "misspelt"
    wrong["panels"][3]["gridPos"]["h"] = "4"
    wrong["panels"][4]["options"]["graphMode"] = "areas"
    wrong["panels"][5]["fieldConfig"]["defaults"]["thresholds"]["mode"] = "relative"

    assert [
        ".panels[1].titel is unknown",
        ".panels[2].targets[0].exprs is unknown",
        ".panels[3].grid_pos.h: '4' is no int",
        ".panels[4].options.graph_mode: 'areas' is no BigValueGraphMode",
        ".panels[5].field_config.defaults.thresholds.mode: 'relative' is no ThresholdsMode",
    ] == faults(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_a_board_asks_only_for_what_is_exported(name: str) -> None:
    for selector in asked(name):
        _, columns = row_of(selector)
        unknown = selector.matchers.keys() - columns - TARGET_LABELS

        assert not unknown, f"{selector.name} has no label {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_counters_are_asked_how_they_grow_and_nothing_else_is(name: str) -> None:
    for selector in asked(name):
        if selector.function in {"rate", "increase", "histogram_quantile"} or selector.window is not None:
            assert row_of(selector)[0] == "counter", selector
            assert selector.window in {"$__rate_interval", "$__range", *FIXED.get(name, ())}, selector


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_never_shows_a_bare_counter(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            for selector in selectors(target["expr"]):
                kind, _ = row_of(selector)
                assert kind != "counter" or selector.function in {"rate", "increase"}, f"{panel['title']}: {selector}"


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_narrowed_to_the_jobs_that_are_chosen(name: str) -> None:
    """Instances are not chosen: exporters are replicas of one truth, and workers are shown side by side."""
    for panel in panels(name):
        for target in panel["targets"]:
            for selector in selectors(target["expr"]):
                of_worker = selector.name in FOREIGN or selector.name.startswith("agent_worker_")
                assert selector.matchers["job"] == ("$workers" if of_worker else "$job"), selector


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_used_and_every_one_used_is_there(name: str) -> None:
    variables = {each["name"] for each in board(name)["templating"]["list"]}
    used = {value[1:] for each in asked(name) for value in each.matchers.values() if value.startswith("$")}

    assert used == variables - {"datasource"}
    assert {"datasource", "job"} <= variables


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
        for source in (panel, *panel["targets"]):
            assert {"type": "prometheus", "uid": "${datasource}"} == source["datasource"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap_and_stay_on_the_grid(name: str) -> None:
    taken = set[tuple[int, int]]()
    for panel in board(name)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= GRID_WIDTH, panel["title"]
        taken |= cells


def test_identities_are_unique_and_short_enough() -> None:
    uids = [each.uid for each in BOARDS.values()]

    assert len(set(uids)) == len(uids)
    assert all(8 <= len(uid) <= 40 for uid in uids)
    for name in NAMES:
        numbers = [each["id"] for each in board(name)["panels"]]
        assert len(set(numbers)) == len(numbers)


def test_the_board_of_services_has_four_sections_of_22_panels_in_all() -> None:
    """Grafana counts headings among the panels."""
    services = BOARDS["services"]

    assert [6, 4, 4, 4] == [len(section.panels) for section in services.sections]
    assert 22 == len(board("services")["panels"])


@pytest.mark.parametrize("name", NAMES)
def test_a_board_cannot_be_edited_where_it_would_be_overwritten(name: str) -> None:
    assert board(name)["editable"] is False


def test_every_metric_is_on_a_board() -> None:
    kept = {metric.name for metric in CATALOGUE.values() if metric.kind not in LEFT_OUT}

    assert kept == shown_on(BOARDS.values())


def test_what_one_board_shows_the_rest_does_not() -> None:
    others = [each for name, each in BOARDS.items() if name != "rest"]

    assert not shown_on(others) & shown_on([BOARDS["rest"]])


def test_a_metric_of_any_kind_gets_a_panel_of_its_own() -> None:
    """Also those that are on other boards now."""
    everything = rest([])
    panels = [panel for section in everything.sections for panel in section.panels]

    assert [] == faults(dashboard(everything))
    assert [each.kind for each in CATALOGUE.values()].count("info") == len(CATALOGUE) - len(panels)
    assert all(panel.unit in UNITS for panel in panels)


def test_a_metric_that_goes_away_fails_by_name() -> None:
    with pytest.raises(UnknownMetric, match="agent_gone_total"):
        Ask(()).rate("agent_gone_total")


def test_a_query_is_narrowed_by_the_variables_its_metric_has_labels_for() -> None:
    tools = BOARDS["tools"]
    target = Ask(tools.variables).rate("agent_tool_uses_total", "agent", status="error")
    (selector,) = selectors(target.expr)

    assert {"job": "$job", "tool": "$tool", "agent": "$agent", "status": "error"} == selector.matchers
    assert target.legend == "{{agent}}"


def test_what_is_made_does_not_hang_on_what_was_made_before() -> None:
    """Parts that boards share are never changed: one board made twice is the same."""
    assert dashboard(BOARDS["tools"]) == dashboard(BOARDS["tools"])
