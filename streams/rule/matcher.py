"""Which alerts does a set of matchers mean?  Alertmanager's: = != =~ !~ on labels, a missing label being empty.

Never backtracks: expressions are `streams.rule.linear`'s, and always mean the whole value.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from streams.rule.linear import Linear

_SHAPE: Final = re.compile(r"\s*([^\s=!~\"',{}]{1,128})\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
_UNESCAPED: Final = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}
_ESCAPED: Final = re.compile(r'\\[\\"n]')
_OPERATORS: Final = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}


class LabelMatcher(Struct, frozen=True):
    """One label, and what it must or (`equal` False) must not be; with `regex` the value is an expression.

    Raises ValueError when the expression is none, or cannot be held to linear time.
    """

    name: str
    value: str
    regex: bool = False
    equal: bool = True
    expression: Linear | None = None

    @classmethod
    def of(cls, name: str, value: str, *, regex: bool = False, equal: bool = True) -> "LabelMatcher":
        """Make one."""
        return cls(name, value, regex, equal, Linear(value) if regex else None)

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether these labels are as they must be."""
        given = labels.get(self.name, "")
        same = given == self.value if self.expression is None else self.expression.matches(given)
        return same == self.equal

    def __str__(self) -> str:
        quoted = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{_OPERATORS[self.regex, self.equal]}"{quoted}"'


def read_matcher(text: str) -> LabelMatcher:
    """Read `tool="search"`, `tool=~web.*`, `tool!=x` or `tool!~x`; ValueError says what is wrong."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError('no matcher, such as tool="search" or tool=~"web_.*"')
    name, operator, value = found.groups()
    if value[:1] == '"':
        if len(value) < 2 or value[-1] != '"':
            raise ValueError("a quote that is not closed")
        value = _ESCAPED.sub(lambda each: _UNESCAPED[each[0]], value[1:-1])
    return LabelMatcher.of(name, value, regex=operator[-1] == "~", equal=operator[0] == "=")


def all_hold(matchers: Iterable[LabelMatcher], labels: Mapping[str, str]) -> bool:
    """Say whether these labels are meant by all of them."""
    return all(matcher.holds(labels) for matcher in matchers)


def mean_everything(matchers: Iterable[LabelMatcher]) -> bool:
    """Say whether an alert without any label is meant: nothing is, that somebody would want to name."""
    return all_hold(matchers, {})
