"""Silences, inhibition and acknowledgements against what fires; inhibition as Alertmanager means it."""

import random
from typing import Any

from noticed import record

from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.faults import Faults, Form
from streams.rule.inhibition import Inhibition, Inhibitors, read_inhibition, written
from streams.rule.matcher import all_hold, read_matcher
from streams.rule.quiet import Quiet
from streams.rule.silence import Silence


def rule(sources: str, targets: str, *equal: str) -> Inhibition:
    return Inhibition((read_matcher(sources),), (read_matcher(targets),), equal)


def silence(matcher: str, starts_ms: int = 0, ends_ms: int = 1_000, name: str = "s") -> Silence:
    return Silence(name, (read_matcher(matcher),), starts_ms, ends_ms, 0, "ops")


def taken(fingerprint: str, incarnation: int = 1, ends_ms: int = 1_000) -> AcknowledgementRecord:
    return AcknowledgementRecord(
        id="c", fingerprint=fingerprint, incarnation=incarnation, by="ada", note=None, time_ms=0, ends_ms=ends_ms
    )


# ---- inhibition --------------------------------------------------------------------------------------------------


def test_a_target_is_muted_while_a_source_fires_whose_equal_labels_are_the_same() -> None:
    inhibitors = Inhibitors([rule("severity=critical", "severity=warning", "tool", "env")])
    inhibitors.put("source", {"severity": "critical", "tool": "a"})

    assert ("source",) == inhibitors.inhibiting({"severity": "warning", "tool": "a"})
    assert ("source",) == inhibitors.inhibiting({"severity": "warning", "tool": "a", "env": ""}), "missing is empty"
    assert () == inhibitors.inhibiting({"severity": "warning", "tool": "a", "env": "x"})
    assert () == inhibitors.inhibiting({"severity": "warning", "tool": "b"})
    assert () == inhibitors.inhibiting({"severity": "info", "tool": "a"})
    inhibitors.put("source", None)
    assert () == inhibitors.inhibiting({"severity": "warning", "tool": "a"})


def test_what_matches_both_sides_is_not_inhibited_by_what_does_too() -> None:
    """Neither by itself nor by another of its kind; by a source that is no target it is."""
    inhibitors = Inhibitors([rule("team=a", "kind=x")])
    both = {"team": "a", "kind": "x"}
    inhibitors.put("one", both)
    inhibitors.put("two", both)
    assert () == inhibitors.inhibiting(both)

    inhibitors.put("source", {"team": "a"})
    assert ("source",) == inhibitors.inhibiting(both)
    assert "one" in inhibitors.inhibiting({"kind": "x"})


def test_an_index_says_what_a_comparison_of_all_with_all_says() -> None:
    """Alertmanager's own loop is the oracle: every rule, every firing alert."""
    luck = random.Random(7)
    words = ("", "a", "b")
    rules = [
        rule(f"{luck.choice('xyz')}={luck.choice(words[1:])}", f"{luck.choice('xyz')}=~a|b", *luck.sample("xyz", count))
        for count in (0, 1, 2, 3)
    ]
    inhibitors, firing = Inhibitors(rules), dict[str, dict[str, str]]()
    for step in range(2_000):
        name = f"n{luck.randrange(12)}"
        labels = {label: luck.choice(words) for label in "xyz"}
        if luck.random() < 0.3:
            firing.pop(name, None)
            inhibitors.put(name, None)
        else:
            firing[name] = labels
            inhibitors.put(name, labels)
        asked = {label: luck.choice(words) for label in "xyz"}
        assert bool(inhibitors.inhibiting(asked)) == any(_mutes(one, firing, asked) for one in rules), step


def _mutes(rule: Inhibition, firing: dict[str, dict[str, str]], target: dict[str, str]) -> bool:
    if not all_hold(rule.targets, target):
        return False
    both = all_hold(rule.sources, target)
    return any(
        all_hold(rule.sources, source)
        and all(source.get(name, "") == target.get(name, "") for name in rule.equal)
        and not (both and all_hold(rule.targets, source))
        for source in firing.values()
    )


def test_rules_are_read_as_they_are_written_and_faults_are_named() -> None:
    rules = [rule('severity=~"critical|page"', 'tool!="a"', "tool")]
    faults = Faults()
    assert rules == [read_inhibition(Form(faults, "rule", each)) for each in written(rules)]
    assert not faults

    wrong: dict[str, Any] = {"source_matchers": ["a"], "target_matchers": "b=c", "equal": ["x", 1], "source": {}}
    read_inhibition(Form(faults, "rule 1", wrong))
    assert {"rule 1, source_matchers", "rule 1, target_matchers", "rule 1, equal", "rule 1, source"} == {
        fault.place for fault in faults
    }


# ---- all together ------------------------------------------------------------------------------------------------


def test_a_silence_names_the_alerts_it_begins_and_ends_to_mute() -> None:
    quiet = Quiet()
    quiet.alert("a", record("a"))
    quiet.alert("b", record("b"))
    quiet.alert("ended", record("ended", "resolved", 2))
    assert {"a"} == quiet.silence("s", silence("tool=a"), 500)
    assert ("s",) == quiet.why(record("a"), 500).silenced_by
    assert () == quiet.why(record("b"), 500).silenced_by
    assert 1_000 == quiet.next_ms(500)
    assert set() == quiet.pass_time(999)
    assert {"a"} == quiet.pass_time(1_000)
    assert () == quiet.why(record("a"), 1_000).silenced_by

    assert set() == quiet.silence("later", silence("alertname=ToolFailing", 2_000, 3_000, "later"), 1_000)
    assert 2_000 == quiet.next_ms(1_000)
    assert {"a", "b"} == quiet.pass_time(2_000)
    assert 1 == quiet.active
    assert {"a", "b"} == quiet.silence("later", None, 2_500)


def test_an_inhibitor_names_the_alerts_that_have_to_be_looked_at_again() -> None:
    quiet = Quiet([rule("severity=critical", "severity=warning", "team")])
    quiet.alert("t", record("t", severity="warning"))
    assert {"t"} == quiet.alert("s", record("s"))
    assert ("s",) == quiet.why(record("t", severity="warning"), 0).inhibited_by
    assert set() == quiet.alert("s", record("s")), "nothing has changed"
    assert {"t"} == quiet.alert("s", record("s", "resolved", 2))
    assert not quiet.why(record("t", severity="warning"), 0).suppressed
    assert set() == quiet.alert("t", None)
    assert set() == quiet.alert("s", record("s", transition=3))


def test_an_acknowledgement_is_of_one_life_and_suppresses_nothing() -> None:
    quiet = Quiet()
    assert {"a"} == quiet.acknowledge("a", taken("a"))
    why = quiet.why(record("a"), 999)
    assert why.acknowledged == taken("a")
    assert not why.suppressed
    assert quiet.why(record("a"), 1_000).acknowledged is None
    assert quiet.why(record("a", incarnation=2), 0).acknowledged is None
    quiet.acknowledge("a", None)
    assert quiet.why(record("a"), 0).acknowledged is None
