"""Rules that are changed while events flow: the commands that change them, and what each worker has heard of.

Every worker hears late, or not before it must: the judge asks whether that was ever seen.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import yaml
from simulation.broker import ALERTS, COMMANDS, Broker

from streams.rule.alert import decode_names
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage.erasing import Erasures
from streams.stage.ruling import RULES_KEY, Ruling, decode_rules

TEXT: Final = Path(__file__).with_name("rules.yaml").read_text("utf-8")
RULES: Final = parse_rules(TEXT)
VARIATIONS: Final = 48  # fewer than a process remembers parsed: parsing took half the time of all lives
UNTOUCHED: Final = "Busy"  # it is in every rule set, as it is
CHANGES: Final = (
    {"for": "0s"}, {"for": "5s"}, {"for": "2m"}, {"keep_firing_for": "0s"}, {"keep_firing_for": "5m"},
    {"severity": "critical"}, {"summary": "{value} of {limit}"},
)  # fmt: skip


class Loaded(NamedTuple):
    """What an accepted command does: these rules hold (None: those of the settings)."""

    command: str
    text: str | None


def vary(random: Random) -> str:
    """Write rules that lack some of the first ones, and have others changed."""
    return _variation(random.randrange(VARIATIONS))


@cache
def _variation(number: int) -> str:
    random = Random(number)
    data = yaml.safe_load(TEXT)
    for group in data["groups"]:
        kept = [rule for rule in group["rules"] if rule["alert"] == UNTOUCHED or random.random() < 0.75]
        for rule in kept:
            if rule["alert"] != UNTOUCHED and random.random() < 0.3:
                rule.update(random.choice(CHANGES))
            if rule["alert"] in {"Much", "ToolErrors"} and random.random() < 0.3:
                rule["above"] = random.choice((1, 4, 40))
        group["rules"] = kept
    if random.random() < 0.3:
        del data["breakers"]
    elif random.random() < 0.5:
        data["breakers"][0].update(random.choice(({"open_for": "1s"}, {"open_for": "5m"}, {"min_calls": 1})))
    return json.dumps(data)


class Ear:
    """What one worker has heard: it reads the changelog of the commands for itself."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._position = 0
        self._ruling = Ruling(RULES)
        self.erasures = Erasures()  # they are read in the same place

    @property
    def version(self) -> int:
        return self._ruling.version

    @property
    def rules(self) -> RuleSet:
        return self._ruling.rules

    def listen(self) -> bool:
        """Read to the end; returns whether other rules hold now."""
        records, self._position = self._broker.log(f"{COMMANDS}.changelog", 0).read(self._position, 10**9)
        rows = [(record.key or b"", record.value) for record in records]
        self.erasures.take(rows)
        return self._ruling.take(rows)


def judged_by_none_older(broker: Broker, stage: str, partition: int, at: int) -> None:
    """No partition is ever judged by older rules than it was before; `at` is where its meta row has the version."""
    before = 0
    for record in broker.history.get((f"{stage}.changelog", partition), ()):
        if record.key == b"m" and record.value is not None:
            version = msgspec.msgpack.decode(record.value, strict=False)[at]
            assert version >= before, f"{stage} {partition}: judged by rules {version} after {before}"
            before = version


def rules_hold(rows: dict[bytes, bytes], loaded: Sequence[Loaded]) -> RuleSet:
    """Return the rules that hold in the end; the row says which, and how often they were changed."""
    if not loaded:
        assert RULES_KEY not in rows
        return RULES
    row = decode_rules(rows[RULES_KEY])
    assert (len(loaded), loaded[-1].text, loaded[-1].command) == (row.version, row.text, row.command)
    return RULES if row.text is None else parse_rules(row.text)


def nobody_else_lives(rows: dict[bytes, bytes], rules: RuleSet) -> None:
    """In the end only alerts of rules that there are are alive, and circuits of policies that there are."""
    known = {(rule.name, rule.over) for rule in rules.rules}
    watched = {policy.over for policy in rules.breakers}
    for key, value in rows.items():
        if key[:1] == b"a" and msgspec.msgpack.decode(value)[0] < 4:
            assert decode_names(key[1:])[:2] in known, f"{key!r} is alive without its rule"
        elif key[:1] == b"b":
            assert json.loads(key[1:])[0] in watched, f"{key!r} is there without its policy"


def told_reasons(broker: Broker) -> set[tuple[str, str]]:
    """Return why alerts of which rules have ended or gone back."""
    log = broker.log(ALERTS, 0)
    records = [record for record in log.read(0, log.end)[0] if not (record.key or b"").startswith(b"ack/")]
    told: list[dict[str, Any]] = [json.loads(record.value) for record in records if record.value]
    return {(alert["alert"], alert["reason"]) for alert in told if alert["reason"]}
