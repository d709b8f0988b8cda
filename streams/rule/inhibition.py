"""Which alerts are nobody's concern because another one fires?  Alertmanager's inhibition rules.  Pure.

Never ends an alert: it is only not told while its inhibitor fires.
A target is muted while a source fires whose `equal` labels are the same (a missing one is empty).  What matches both
sides of a rule cannot be inhibited by what matches both sides too, itself included.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from streams.rule.faults import Form
from streams.rule.matcher import LabelMatcher, all_hold, read_matcher

RULES_MAX: Final = 64  # each is held against every alert
MATCHERS_MAX: Final = 16
EQUAL_MAX: Final = 16
TEXT_CHARS_MAX: Final = 1_024

Group: TypeAlias = tuple[int, tuple[str, ...]]  # a rule by number, and the values of its equal labels


class Inhibition(Struct, frozen=True):
    """One rule: what fires with the sources mutes what has the targets, where the labels of `equal` are the same."""

    sources: tuple[LabelMatcher, ...]
    targets: tuple[LabelMatcher, ...]
    equal: tuple[str, ...] = ()


def read_inhibition(form: Form) -> Inhibition:
    """Read one rule, as Alertmanager writes it; what is wrong is noted."""
    form.only(("source_matchers", "target_matchers", "equal"))
    return Inhibition(_matchers(form, "source_matchers"), _matchers(form, "target_matchers"), _equal(form))


def _matchers(form: Form, key: str) -> tuple[LabelMatcher, ...]:
    given = form.raw(key)
    if not isinstance(given, list) or not 0 < len(given) <= MATCHERS_MAX:
        form.fault(key, f"a list of 1 to {MATCHERS_MAX} matchers", f"write {key}: ['severity=\"critical\"']")
        return ()
    found: list[LabelMatcher] = []
    for each in given:
        place = f"{form.place}, {key}"
        if not isinstance(each, str) or len(each) > TEXT_CHARS_MAX:
            form.faults.note(place, each, f"a text of up to {TEXT_CHARS_MAX} characters", "put it in quotes")
            continue
        try:
            found.append(read_matcher(each))
        except ValueError as error:
            form.faults.note(place, each, 'a matcher such as tool="search" or tool=~"web_.*"', f"correct it ({error})")
    return tuple(found)


def _equal(form: Form) -> tuple[str, ...]:
    given = form.raw("equal")
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > EQUAL_MAX or not all(isinstance(each, str) for each in given):
        form.fault("equal", f"a list of up to {EQUAL_MAX} labels", "write equal: [tool]")
        return ()
    return tuple(given)


class Inhibitors:
    """The alerts that fire, by the rules they are sources of; `put` each of them, then ask."""

    def __init__(self, rules: Sequence[Inhibition]) -> None:
        self._rules = rules
        self._sources: dict[Group, dict[str, bool]] = {}  # alerts by group; the value: is it a target as well?
        self._of: dict[str, list[Group]] = {}

    def put(self, fingerprint: str, labels: Mapping[str, str] | None) -> set[Group]:
        """Note what fires with which labels, None: nothing any more; return the groups whose sources are others now."""
        before = self._of.pop(fingerprint, [])
        for group in before:
            sources = self._sources[group]
            del sources[fingerprint]
            if not sources:
                del self._sources[group]
        if labels is None:
            return set(before)
        after: list[Group] = []
        for number, rule in enumerate(self._rules):
            if all_hold(rule.sources, labels):
                group = number, _values(rule, labels)
                self._sources.setdefault(group, {})[fingerprint] = all_hold(rule.targets, labels)
                after.append(group)
        if after:
            self._of[fingerprint] = after
        return set(before) ^ set(after)

    def groups(self, labels: Mapping[str, str]) -> list[Group]:
        """Return the groups whose sources can inhibit an alert with these labels."""
        return [
            (number, _values(rule, labels)) for number, rule in enumerate(self._rules) if all_hold(rule.targets, labels)
        ]

    def inhibiting(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the fingerprints of what inhibits an alert with these labels, one for each rule that does."""
        found: dict[str, None] = {}
        for number, values in self.groups(labels):
            sources = self._sources.get((number, values))
            if not sources:
                continue
            both = all_hold(self._rules[number].sources, labels)
            inhibitor = min((name for name, target in sources.items() if not (both and target)), default=None)
            if inhibitor is not None:
                found[inhibitor] = None
        return tuple(found)


def _values(rule: Inhibition, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in rule.equal)


def written(rules: Sequence[Inhibition]) -> list[dict[str, Any]]:
    """Write rules down as the receivers file has them, for whoever shows what inhibits what."""
    return [
        {
            "source_matchers": [str(each) for each in rule.sources],
            "target_matchers": [str(each) for each in rule.targets],
            "equal": list(rule.equal),
        }
        for rule in rules
    ]
