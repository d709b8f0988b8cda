"""Does a text match an expression, in time that grows with its length alone?  A set of states walks along the text.

Never backtracks, so no expression and no label can hold anybody up: at most STATES_MAX steps per character.
What needs memory of the text (back references, looking around) is refused; an expression always means the whole text.
"""

import re
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeAlias

STATES_MAX: Final = 512  # after {2,9} is written out; an alternation of 60 tool names has fewer
NODES_MAX: Final = 4 * STATES_MAX  # groups hold no state of their own, but take time to write out
EXPRESSION_CHARS_MAX: Final = 512
_MATCHED: Final = -1
# The standard library has no other parser of expressions, and no other word for a repeat without end.
_PARSER: Final[Any] = import_module("re._parser")
_CONSTANTS: Final[Any] = import_module("re._constants")

Test: TypeAlias = re.Pattern[str]  # of exactly one character: one character cannot be backtracked in


class _State(NamedTuple):
    """With a test: one character that passes it leads to `out`; without: all of `out` are reached for nothing."""

    test: Test | None
    out: tuple[int, ...]


class Linear:
    """One expression; raises ValueError, which says why, when it is none or cannot be held to linear time."""

    def __init__(self, expression: str) -> None:
        if len(expression) > EXPRESSION_CHARS_MAX:
            raise ValueError(f"longer than {EXPRESSION_CHARS_MAX} characters")
        self.expression = expression
        self._states: list[_State] = []
        self._nodes = 0
        try:
            re.compile(expression)
            parsed = _PARSER.parse(expression)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(str(error)) from error
        if parsed.state.flags & ~re.UNICODE:
            raise ValueError("flags such as (?i) are not supported")
        self._begin = self._sequence(parsed, _MATCHED)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linear) and self.expression == other.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def matches(self, text: str) -> bool:
        """Say whether it matches the whole text."""
        at = self._reach([self._begin])
        for character in text:
            at = self._reach(
                [
                    out
                    for number in at
                    if number != _MATCHED
                    and (test := self._states[number].test) is not None
                    and test.fullmatch(character)
                    for out in self._states[number].out
                ]
            )
            if not at:
                return False
        return _MATCHED in at

    def _reach(self, waiting: list[int]) -> set[int]:
        """Return these states and all that they lead to for nothing."""
        found = set[int]()
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            if number != _MATCHED and self._states[number].test is None:
                waiting.extend(self._states[number].out)
        return found

    # ---- building: every method returns the state that an expression begins with, given the one after it -------

    def _add(self, test: Test | None, *out: int) -> int:
        if len(self._states) >= STATES_MAX:
            raise ValueError(f"too large: more than {STATES_MAX} states once its repeats are written out")
        self._states.append(_State(test, out))
        return len(self._states) - 1

    def _sequence(self, nodes: Any, after: int) -> int:
        for node in reversed(list(nodes)):
            after = self._node(str(node[0]), node[1], after)
        return after

    def _node(self, kind: str, value: Any, after: int) -> int:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ValueError(f"too large: more than {NODES_MAX} parts once its repeats are written out")
        match kind:
            case "LITERAL" | "NOT_LITERAL":
                return self._add(_one_of(re.escape(chr(value)), inverted=kind == "NOT_LITERAL"), after)
            case "ANY":
                return self._add(re.compile("."), after)
            case "IN":
                return self._add(_class(value), after)
            case "BRANCH":
                return self._add(None, *(self._sequence(each, after) for each in value[1]))
            case "SUBPATTERN":
                if value[1] or value[2]:
                    raise ValueError("flags such as (?i:…) are not supported")
                return self._sequence(value[3], after)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = value
                return self._repeat(int(least), int(most), body, after)
            case _:
                raise ValueError(f"{kind.lower()} is not supported: it cannot be held to linear time, or is not needed")

    def _repeat(self, least: int, most: int, body: Any, after: int) -> int:
        if most == int(_CONSTANTS.MAXREPEAT):
            loop = self._add(None)
            self._states[loop] = _State(None, (self._sequence(body, loop), after))
            after = loop
        else:
            if most > STATES_MAX:
                raise ValueError(f"a repeat of more than {STATES_MAX}")
            beyond = after
            for _ in range(most - least):
                after = self._add(None, self._sequence(body, after), beyond)
        if least > STATES_MAX:
            raise ValueError(f"a repeat of more than {STATES_MAX}")
        for _ in range(least):
            after = self._sequence(body, after)
        return after


_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _class(items: Any) -> Test:
    inverted, parts = False, []
    for kind, value in items:
        match str(kind):
            case "NEGATE":
                inverted = True
            case "LITERAL":
                parts.append(re.escape(chr(value)))
            case "RANGE":
                parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
            case _:
                parts.append(_CATEGORIES[str(value)])
    return _one_of("".join(parts), inverted=inverted)


def _one_of(parts: str, *, inverted: bool) -> Test:
    return re.compile(f"[{'^' if inverted else ''}{parts}]")
