"""One story of alerts, told to two engines: ours, as the second stage runs it, and Prometheus, as promtool tests it.

A story is what every key's numbers were at each step of ten seconds, a rule, and the state of each key's alert:
`.` none, `P` pending, `F` firing.  Both engines look at each step, and only then.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import yaml
from one_stage import T0, One

from streams.fold.gauges import GaugeDelta, Observation
from streams.fold.rollup import Delta, RollupBatch
from streams.rule.amount import duration_ms
from streams.rule.parse import parse_rules
from streams.stage.rollups import RollupsPartition
from streams.topology import ALERTS

STEP_MS: Final = 10_000
WORDS: Final = {"pending": "P", "firing": "F", "resolved": "."}
NONE: Final = "."


@dataclass(frozen=True)
class Ask:
    """How one kind of question is put to both engines; {} is the limit.

    `late`: our rule waits for panes to close, so that what happened is put into the pane before.
    """

    ours: str
    theirs: str
    fields: tuple[str, ...] = ("tool_calls_error",)
    late: bool = False


ASKS: Final = {
    "above": Ask("value: tool_calls_error, window: 10s, above: {}", "tool_calls_error > {}"),
    "below": Ask("value: tool_calls_error, window: 10s, below: {}, min_count: 1", "tool_calls_error < {}", late=True),
    "ratio": Ask(
        "value: {{ratio: {{of: tool_calls_error, to: tool_calls_started}}}}, window: 10s, above: {}, min_count: 4",
        "tool_calls_error / tool_calls_started > {} and tool_calls_started >= 4",
        ("tool_calls_error", "tool_calls_started"),
        late=True,
    ),
    "expr": Ask(
        'expr: "tool_calls_error[10s] / tool_calls_started[10s] > {} and tool_calls_started[10s] >= 4"',
        "tool_calls_error / tool_calls_started > {} and tool_calls_started >= 4",
        ("tool_calls_error", "tool_calls_started"),
        late=True,
    ),
    "either": Ask(
        'expr: "tool_calls_error[10s] > {} or tool_calls_started[10s] >= 9"',
        "tool_calls_error > {} or tool_calls_started >= 9",
        ("tool_calls_error", "tool_calls_started"),
    ),
    "difference": Ask(
        'value: "tool_calls_started[10s] - tool_calls_error[10s]", above: {}',
        "tool_calls_started - tool_calls_error > {}",
        ("tool_calls_error", "tool_calls_started"),
        late=True,
    ),
    "when": Ask(
        'value: tool_calls_error, window: 10s, above: {}, when: "tool_calls_started[10s] >= 4"',
        "tool_calls_error > {} and tool_calls_started >= 4",
        ("tool_calls_error", "tool_calls_started"),
    ),
    "gauge": Ask("value: {{gauge: tool_queue_depth}}, above: {}", "tool_queue_depth > {}", ("tool_queue_depth",)),
    "silent": Ask("absent: {}", "time() - last > {}", ("last",)),
}


@dataclass
class Story:
    """One story; `series` are the values by key and field, None where there was none."""

    name: str
    ask: str
    limit: Any
    series: dict[str, dict[str, list[int | None]]]
    expect: dict[str, str]
    for_: str = "0"
    keep: str = "0"
    labels: dict[str, str] = field(default_factory=dict)
    group_labels: dict[str, str] = field(default_factory=dict)
    limit_alerts: int = 0
    severity: str = "warning"
    exceeds: bool = False  # too many alerts for Prometheus, which then has none of them
    reloads: dict[int, dict[str, str]] = field(default_factory=dict)  # at a step: other durations for our rule

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return max(len(states) for states in self.expect.values())


def ours_text(story: Story, **changes: str) -> str:
    """Write the rule for us."""
    durations = {"for": story.for_, "keep_firing_for": story.keep} | changes
    group: dict[str, Any] = {"name": "g", "labels": story.group_labels, "limit": story.limit_alerts, "rules": []}
    asked = yaml.safe_load(f"{{{ASKS[story.ask].ours.format(story.limit)}}}")
    group["rules"].append(
        {"alert": "A", "over": "tool", **asked, **durations, "severity": story.severity, "labels": story.labels}
        | {"summary": "{tool} fails"}
    )
    return yaml.safe_dump({"groups": [group]})


def tell_ours(story: Story, crashes: Random | None = None) -> dict[str, str]:
    """Return what state our alerts are in at each step; `crashes`: now and then the partition is built anew."""
    rules = [parse_rules(ours_text(story))]
    one = One(lambda: RollupsPartition(0, 1, rules[-1]))
    told: dict[bytes, tuple[str, str]] = {}
    states: dict[str, str] = dict.fromkeys(story.series, "")
    ask, seen = ASKS[story.ask], 0
    if ask.late:
        alive = [Delta("tool", (key,), T0 - STEP_MS, {"events": 1}) for key in story.series]
        one.state.feed([one.write(msgspec.json.encode(RollupBatch(1, 1, 1, T0 - STEP_MS, alive)), T0)])
        one.flush()
    for step in range(story.steps):
        now_ms = T0 + step * STEP_MS
        if step in story.reloads:
            rules.append(parse_rules(ours_text(story, **story.reloads[step])))
            one.reload()
        elif crashes is not None and crashes.random() < 0.2:
            one.reload()
        deltas = [delta for key in story.series for delta in _deltas(story, ask, key, step, now_ms)]
        batch = RollupBatch(0, step + 1, step + 1, now_ms, deltas)
        one.state.feed([one.write(msgspec.json.encode(batch), now_ms)])
        one.state.tick(now_ms)
        one.flush()
        for send in one.sent(ALERTS.suffix)[seen:]:
            seen += 1
            told.pop(send.key or b"", None)
            if send.value is not None:
                record = json.loads(send.value)
                told[send.key or b""] = record["labels"]["tool"], WORDS[record["state"]]
                _hold_labels(story, record)
        now = dict(told.values())
        states = {key: line + now.get(key, NONE) for key, line in states.items()}
    return states


def _deltas(story: Story, ask: Ask, key: str, step: int, now_ms: int) -> list[Delta]:
    values = {name: line[step] for name, line in story.series[key].items() if step < len(line)}
    if story.ask == "gauge":
        value = values["tool_queue_depth"]
        if value is None:
            return []
        return [
            Delta(
                "tool",
                (key,),
                -1,
                {},
                gauges={"tool_queue_depth": GaugeDelta({"p": Observation(value, now_ms, 0, step)})},
            )
        ]
    if story.ask == "silent":
        return [Delta("tool", (key,), now_ms, {"events": 1})] if values["last"] == step * STEP_MS // 1000 else []
    pane_ms = now_ms - STEP_MS if ask.late else now_ms
    sums = {name: value for name, value in values.items() if value is not None}
    happened = [Delta("tool", (key,), pane_ms, {"events": 1, **sums})] if sums else []
    # something happens to the key in every pane, so that it is looked at when the pane closes
    return [*happened, Delta("tool", (key,), now_ms, {"events": 1})] if ask.late else happened


def _hold_labels(story: Story, record: dict[str, Any]) -> None:
    """The labels and the sentence of every record are those that Prometheus is held to as well."""
    expected = {**story.group_labels, **story.labels, "tool": record["labels"]["tool"]}
    assert expected == record["labels"], story.name
    assert f"{record['labels']['tool']} fails" == record["summary"], story.name


# ---- promtool --------------------------------------------------------------------------------------------------


def _theirs(stories: list[Story]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write one rule file and one test file for all stories; a label `story` keeps them apart."""
    groups, tests = [], []
    for number, story in enumerate(stories):
        ask = ASKS[story.ask]
        limit = story.limit
        if story.ask == "silent":
            limit = (duration_ms(limit) or 0) // 1000
        expr = ask.theirs.format(limit)
        for name in ask.fields:
            expr = expr.replace(name, f'{name}{{story="{number}"}}')
        rule = {
            "alert": f"A{number}",
            "expr": expr,
            "for": story.for_,
            "keep_firing_for": story.keep,
            "labels": {**story.group_labels, **story.labels, "severity": story.severity},
            "annotations": {"summary": "{{ $labels.tool }} fails"},
        }
        groups.append({"name": f"g{number}", "limit": story.limit_alerts, "rules": [rule]})
        tests.append(_test(number, story))
    return {"groups": groups}, {"rule_files": ["rules.yaml"], "evaluation_interval": "10s", "tests": tests}


def _test(number: int, story: Story) -> dict[str, Any]:
    series = [
        {"series": f'{name}{{tool="{key}",story="{number}"}}', "values": " ".join(_values(line))}
        for key, fields in story.series.items()
        for name, line in fields.items()
    ]
    return {
        "name": story.name,
        "interval": "10s",
        "input_series": series,
        "promql_expr_test": [_states_at(number, story, step) for step in range(story.steps)],
        "alert_rule_test": [_firing_at(number, story, step) for step in range(story.steps)],
    }


def _values(line: list[int | None]) -> list[str]:
    """Write values in promtool's notation: what is not there any more is stale at once, as when a target is gone."""
    return [
        str(value) if value is not None else "stale" if step and line[step - 1] is not None else "_"
        for step, value in enumerate(line)
    ]


def _at(story: Story, step: int) -> dict[str, str]:
    return {key: line[step] for key, line in story.expect.items() if line[step] != NONE}


def _labels(number: int, story: Story, key: str) -> dict[str, str]:
    own = {**story.group_labels, **story.labels}
    return {**own, "severity": story.severity, "tool": key, "story": str(number)}


def _states_at(number: int, story: Story, step: int) -> dict[str, Any]:
    words = {"P": "pending", "F": "firing"}
    samples = []
    for key, state in _at(story, step).items():
        labels = {"alertname": f"A{number}", "alertstate": words[state], **_labels(number, story, key)}
        text = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        samples.append({"labels": f"ALERTS{{{text}}}", "value": 1})
    return {"expr": f'ALERTS{{story="{number}"}}', "eval_time": f"{step * 10}s", "exp_samples": samples}


def _firing_at(number: int, story: Story, step: int) -> dict[str, Any]:
    alerts = [
        {"exp_labels": _labels(number, story, key), "exp_annotations": {"summary": f"{key} fails"}}
        for key, state in _at(story, step).items()
        if state == "F"
    ]
    return {"eval_time": f"{step * 10}s", "alertname": f"A{number}", "exp_alerts": alerts}


def tell_promtool(stories: list[Story], folder: Path) -> str:
    """Return what promtool finds wrong with all stories; nothing when Prometheus does as they say."""
    rules, tests = _theirs(stories)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules), "utf-8")
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests), "utf-8")
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    done = subprocess.run(
        [program, "test", "rules", folder / "tests.yaml"], capture_output=True, text=True, timeout=300, check=False
    )
    return "" if done.returncode == 0 and "SUCCESS" in done.stdout else done.stdout + done.stderr
