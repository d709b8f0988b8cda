"""Everything that is wrong with a rule file, gathered while reading goes on, then raised at once.

Never raises at the first fault: each one names its place, the value, what was expected and what to do next.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, Final, NamedTuple

from streams.errors import ConfigError
from streams.rule.amount import DURATION_MS_MAX, DURATION_SHAPE, duration_ms, duration_text

VALUE_CHARS_MAX: Final = 80  # of a value repeated in a message
FIELDS_MAX: Final = 32  # added up in one value; each costs a look-up per judgement


class Fault(NamedTuple):
    """One thing that is wrong."""

    place: str
    value: str
    expected: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.place} = {self.value}: expected {self.expected}. Next: {self.next_step}."


class Faults(list[Fault]):
    """All faults of one text, in the order of reading."""

    def note(self, place: str, value: object, expected: str, next_step: str) -> None:
        """Add a fault; long values are cut."""
        self.append(Fault(place, _shown(value), expected, next_step))

    def settle(self, what: str) -> None:
        """Raise ConfigError naming every fault, when there is one."""
        if self:
            head = f"{what}: {len(self)} fault{'s' if len(self) > 1 else ''}; nothing was started."
            raise ConfigError("\n".join([head, *(f"  {number}. {fault}" for number, fault in enumerate(self, 1))]))


# Bounded in depth and length: aliases make a small YAML text as large as one likes when it is written out.
_short: Final = Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 3, VALUE_CHARS_MAX, VALUE_CHARS_MAX


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    try:
        return _short.repr(value)
    except ValueError:  # Python refuses to write numbers of thousands of digits
        return "a number too long to show"


def nearest(word: object, options: Sequence[str], count: int = 1) -> list[str]:
    """Return the options that are spelled most like a word, best first."""
    return get_close_matches(word, options, count, 0.5) if isinstance(word, str) else []


class Form:
    """A mapping being read key by key; every reader notes its own fault and returns something harmless instead."""

    def __init__(self, faults: Faults, place: str, data: Mapping[Any, Any]) -> None:
        self.faults = faults
        self.place = place
        self._data = data

    def has(self, key: str) -> bool:
        """Is there a value other than nothing?"""
        return self._data.get(key) is not None

    def raw(self, key: str) -> Any:
        """Return the value as YAML gave it."""
        return self._data.get(key)

    def fault(self, key: str, expected: str, next_step: str) -> None:
        """Note a fault of one key's value."""
        self.faults.note(f"{self.place}, {key}", self._data.get(key), expected, next_step)

    def only(self, known: Iterable[str], hints: Mapping[str, str] | None = None) -> None:
        """Note every key that is not known, with the nearest one that is."""
        names = list(known)
        for key, value in self._data.items():
            if key in names:
                continue
            near = nearest(key, names)
            hint = (hints or {}).get(key) if isinstance(key, str) else None
            step = hint or (f"write {near[0]}" if near else "remove it")
            self.faults.note(
                f"{self.place}, {_shown(key) if not isinstance(key, str) else key}",
                value,
                f"no such key (known: {', '.join(names)})",
                step,
            )

    def text(self, key: str, default: str | None, *, chars_max: int) -> str:
        """Read a text; without a default it must be there."""
        value = self._data.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and 0 < len(value) <= chars_max:
            return value
        quote = "put it in quotes" if value is not None and not isinstance(value, str) else f"write {key}: …"
        self.fault(key, f"a text of 1 to {chars_max} characters", quote)
        return ""

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self._data.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        self.fault(key, "true or false", f"write {key}: true")
        return default

    def choice(self, key: str, options: Sequence[str], default: str | None) -> str:
        """Read one of several words."""
        value = self._data.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in options:
            return value
        near = nearest(value, options)
        self.fault(key, f"one of {', '.join(options)}", f"write {key}: {near[0] if near else options[0]}")
        return ""

    def duration(self, key: str, default_ms: int, *, least_ms: int = 0) -> int:
        """Read a duration in ms, at least as long as `least_ms`."""
        value = self._data.get(key)
        if value is None:
            return default_ms
        ms = duration_ms(value)
        if ms is not None and ms >= least_ms:
            return ms
        bound = f"{DURATION_SHAPE}, from {duration_text(least_ms)} to {duration_text(DURATION_MS_MAX)}"
        example = f"{value}s" if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**6 else "5m"
        self.fault(key, bound, f"write a unit: {key}: {example}")
        return default_ms

    def whole(self, key: str, default: int, *, least: int, most: int) -> int:
        """Read a whole number within bounds."""
        value = self._data.get(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(key, f"a whole number from {least} to {most}", f"write {key}: {max(default, least)}")
        return default

    def fields(self, key: str, known: Iterable[str]) -> tuple[str, ...]:
        """Read one field name, or a list of them to be added up; returns () on a fault."""
        value = self._data.get(key)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not 0 < len(names) <= FIELDS_MAX:
            self.fault(key, f"a field, or a list of up to {FIELDS_MAX} fields to add up", f"write {key}: [field, …]")
            return ()
        options = sorted(known)
        before = len(self.faults)
        for at, name in enumerate(names):
            if name not in options:
                near = nearest(name, options, 3) or options[:3]
                step = f"write one of {', '.join(near)}" if options else "use another kind of value"
                self.faults.note(f"{self.place}, {key}", name, "a field that these rows have", step)
            elif name in names[:at]:
                self.faults.note(f"{self.place}, {key}", name, "each field once", "remove the second one")
        return () if len(self.faults) > before else tuple(names)
