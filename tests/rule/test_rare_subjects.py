"""Rules over rows of rare kinds: fields that these rows have, limits in their units, and alerts that fire."""

import json
from typing import Final

import pytest
from through_stages import Stages, event

from streams.errors import ConfigError
from streams.rule.parse import parse_rules
from streams.topology import ALERTS

RULES: Final = """
groups:
  - name: rare
    rules:
      - {alert: LimitHit, over: rate_limit, value: {sum: rate_limit_denied}, window: 1m, above: 2}
      - alert: PoorAnswers
        over: feedback
        value: {quantile: {of: quality, q: 0.5}}
        window: 1m
        min_count: 3
        below: 0.5
      - {alert: Poison, over: partition, value: {sum: rejected_malformed}, window: 1m, above: 0}
"""


def test_rules_over_rare_rows_fire() -> None:
    stages = Stages(parse_rules(RULES), events=1, rollups=1)
    stages.publish(event("rate_limit", n, session_id="s", endpoint="/v1", result="denied") for n in range(3))
    stages.publish(event("feedback", 3 + n, session_id="s", quality=0.2 + n / 10) for n in range(3))
    stages.publish([b"{", event("cycle", 30, session_id="s", phase="planning")])
    stages.tick(1_763_724_000_000 + 40_000)

    told = [json.loads(value) for _, value in stages.sent(ALERTS.suffix) if value]
    firing = {(alert["alert"], tuple(alert["labels"].values())): alert for alert in told if alert["state"] == "firing"}
    assert {
        ("LimitHit", ("/v1", "unknown")),
        ("PoorAnswers", ("planner",)),
        ("Poison", ("0",)),
    } == firing.keys()
    poor = firing["PoorAnswers", ("planner",)]
    assert "millionths" == poor["unit"]
    assert 0.3 * 10**6 == pytest.approx(poor["value"], rel=0.006)


@pytest.mark.parametrize(("over", "field"), [("cache", "tool_calls_error"), ("tool", "cache_hit"), ("a2a", "cycles")])
def test_a_field_that_such_rows_never_have_is_refused(over: str, field: str) -> None:
    rule = f"{{alert: A, over: {over}, value: {{sum: {field}}}, window: 1m, above: 1}}"

    with pytest.raises(ConfigError, match=field):
        parse_rules(f"groups: [{{name: g, rules: [{rule}]}}]")
