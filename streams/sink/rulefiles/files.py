"""Which rule files are there, and what is in them?  Two: one made of our rules, one about the pipeline itself."""

from typing import Final

from streams.rule.model import RuleSet
from streams.sink.rulefiles.health import Watch, circuits, health
from streams.sink.rulefiles.model import RUNBOOKS, Group, text
from streams.sink.rulefiles.translate import Translation, translate

RULES_FILE: Final = "agent-streams.rules.yaml"
HEALTH_FILE: Final = "agent-streams-pipeline.rules.yaml"
_MADE: Final = "Made by `agent-streams prometheus-rules`: change the rules, not this file."
_OF_RULES: Final = f"""{_MADE}

The rules of AgentStreams for a Prometheus that scrapes the exporter. Load them where alerts must come from Prometheus;
the alert topic has the same alerts within a fraction of a second, exact, and with the session or key in each.
Every recording takes the largest of what several exporters show, so that any number of them can be scraped."""
_OF_HEALTH: Final = f"""{_MADE}

Alerts on the pipeline itself, for a Prometheus that scrapes the exporter and the workers."""


def groups(rules: RuleSet) -> tuple[Group, ...]:
    """Return the groups of a rule set, in its order; a recording that several need stands in the first."""
    by_group: dict[str, list[Translation]] = {}
    for rule in rules.rules:
        by_group.setdefault(rule.group, []).append(translate(rule))
    recorded = set[str]()
    found: list[Group] = []
    for name, translations in by_group.items():
        records = tuple(
            {
                record.name: record for each in translations for record in each.records if record.name not in recorded
            }.values()
        )
        recorded.update(record.name for record in records)
        found.append(Group(f"agent-streams-{name}", records, tuple(each.alert for each in translations)))
    return (*found, *(group for group in (circuits(rules),) if group.alerts))


def files(rules: RuleSet, watch: Watch, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """Return all that belongs into the folder of rule files: file name and text."""
    return {
        RULES_FILE: text(groups(rules), _OF_RULES + _only_counts(rules), runbooks),
        HEALTH_FILE: text((health(watch),), _OF_HEALTH, runbooks),
    }


def _only_counts(rules: RuleSet) -> str:
    """Say which alerts only count what the rule itself fires for."""
    found = [(rule.name, reason) for rule in rules.rules if (reason := translate(rule).only_counts) is not None]
    if not found:
        return ""
    lines = "\n".join(f"  {name}: {reason}" for name, reason in found)
    return f"\n\nThese only count what the alert topic says, because no expression can say it:\n{lines}"
