"""How does Grafana write a dashboard?  Boards into its JSON model, the classic one that provisioning reads.

Never decides what is shown.  Nothing in it depends on an installation: the data source and the jobs are variables.
"""

import string
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams.sink import promql
from streams.sink.dashboards.panel import (
    GREEN,
    GRID_WIDTH,
    JOB,
    WORKERS,
    Board,
    Panel,
    Section,
    Target,
    Variable,
)

Json = dict[str, Any]

SCHEMA_VERSION: Final = 39  # Grafana 10.4 and later; newer ones migrate it when they load it
TAG: Final = "agent-streams"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_ALL: Final = {"selected": True, "text": ["All"], "value": ["$__all"]}
_JOB: Final = Variable("job", "Exporter", "agent_state_age_seconds", "job")
_WORKERS: Final = Variable("workers", "Workers", "agent_worker_ready", "job")
_LAST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_INSTANT: Final = frozenset({"table", "bargauge"})


def text(board: Board) -> str:
    """Return a dashboard as it is written to a file."""
    return msgspec.json.format(msgspec.json.encode(dashboard(board)), indent=2).decode() + "\n"


def dashboard(board: Board) -> Json:
    """Return the JSON model of a board."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": [TAG],
        "timezone": "browser",
        "editable": False,  # made from code: a copy can be edited, this one would lose the change
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *(_variable(each) for each in _variables(board))]},
        "annotations": {"list": [_firing()]},
        "links": [_siblings()],
        "panels": _panels(board.sections),
    }


# ---- around the panels -----------------------------------------------------------------------------------------


def _variables(board: Board) -> list[Variable]:
    expressions = "".join(
        target.expr for section in board.sections for each in section.panels for target in each.targets
    )
    return [_JOB, *([_WORKERS] if f'"{WORKERS}"' in expressions else []), *board.variables]


def _source() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "refresh": 1,
    }


def _variable(variable: Variable) -> Json:
    where = {} if variable.column == "job" else {"job": JOB}
    query = f"label_values({promql.select(variable.metric, where)}, {variable.column})"
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,  # with the time range: keys come and go
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": _ALL,
    }


def _firing() -> Json:
    """Mark while alerts fire: points that follow one another become a region."""
    firing = promql.once("agent_alerts", promql.select("agent_alerts", {"job": JOB, "state": "firing"}))
    return {
        "name": "Alerts that fire",
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": f"{promql.by('sum', ('alert', 'severity'), firing)} > 0",
        "step": "30s",
        "titleFormat": "{{alert}}",
        "textFormat": "{{severity}}",
        "tagKeys": "alert,severity",
    }


def _siblings() -> Json:
    return {
        "type": "dashboards",
        "title": "AgentStreams",
        "icon": "external link",
        "tooltip": "The other dashboards of AgentStreams",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


# ---- panels ----------------------------------------------------------------------------------------------------


def _panels(sections: tuple[Section, ...]) -> list[Json]:
    """Lay sections out from top to bottom, and their panels from left to right."""
    found: list[Json] = []
    y = 0
    for section in sections:
        place = {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1}
        found.append(
            {
                "type": "row",
                "id": len(found) + 1,
                "title": section.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        x = height = 0
        for panel in section.panels:
            if x + panel.width > GRID_WIDTH:
                x, y, height = 0, y + height, 0
            found.append(_panel(panel, len(found) + 1, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return found


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            _target(panel, letter, target)
            for letter, target in zip(string.ascii_uppercase, panel.targets, strict=False)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(panel: Panel, letter: str, target: Target) -> Json:
    instant = panel.kind in _INSTANT
    kind = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    return {
        "refId": letter,
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": target.expr,
        "legendFormat": target.legend or panel.title,
        "format": kind,
        "instant": instant,
        "range": not instant,
    }


def _field(panel: Panel) -> Json:
    field: Json = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {"value": None, "color": GREEN},
                *({"value": value, "color": colour} for value, colour in panel.steps),
            ],
        },
        "color": {"mode": "palette-classic" if panel.kind in {"timeseries", "bargauge"} else "thresholds"},
        "mappings": _mappings(panel),
    }
    if panel.kind != "heatmap":
        field["min"] = 0
    if panel.most is not None:
        field["max"] = panel.most
    custom = _CUSTOM.get(panel.kind)
    if custom is not None:
        field["custom"] = dict(custom)
    if panel.kind == "timeseries":
        field["custom"]["stacking"] = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        field["custom"]["fillOpacity"] = 30 if panel.stacked else 8
        field["custom"]["thresholdsStyle"] = {"mode": "line" if panel.steps else "off"}
    return field


def _mappings(panel: Panel) -> list[Json]:
    if not panel.words:
        return []
    options = {
        str(value): {"text": word, "color": colour, "index": at}
        for at, (value, (word, colour)) in enumerate(panel.words.items())
    }
    return [{"type": "value", "options": options}]


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries" and len(panel.targets) == 1 and not panel.targets[0].legend:
        return {**_OPTIONS[panel.kind], "legend": {**_LEGEND, "showLegend": False}}
    return _OPTIONS[panel.kind]


_LEGEND: Final[Json] = {
    "displayMode": "table",
    "placement": "right",
    "showLegend": True,
    "calcs": ["lastNotNull", "max"],
}
_CUSTOM: Final[Mapping[str, Json]] = {
    "timeseries": {"drawStyle": "line", "lineWidth": 1, "showPoints": "never", "spanNulls": False},
    "state-timeline": {"fillOpacity": 70, "lineWidth": 0},
    "table": {"align": "auto", "inspect": False},
}
_OPTIONS: Final[Mapping[str, Json]] = {
    "stat": {
        "graphMode": "area",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "orientation": "auto",
        "reduceOptions": _LAST,
    },
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "gauge": {
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
        "minVizWidth": 75,
        "minVizHeight": 75,
        "orientation": "auto",
        "reduceOptions": _LAST,
    },
    "bargauge": {
        "displayMode": "gradient",
        "valueMode": "color",
        "namePlacement": "auto",
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "showUnfilled": True,
        "orientation": "horizontal",
        "reduceOptions": _LAST,
    },
    "table": {
        "frameIndex": 0,
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": "Value", "desc": True}],
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "filterValues": {"le": 1e-9},
        "yAxis": {"unit": "s"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "showValue": "never",
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.9,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
}
