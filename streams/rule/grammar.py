"""What does the text of an expression say?  A tree of terms, in time that grows with the text's length alone.

Never knows fields or units and never runs anything: `streams.rule.formula` checks a tree and makes it a function.

    tool_calls_error[5m]                what a field grew by within the trailing five minutes
    tool_calls_error[55m] offset 5m     the same for the 55 minutes that ended five minutes ago
    queue_depth, tool_calls_started     without a window: a present value, or all that a field has added up to
    p95(tool_duration[5m])              a quantile of a histogram, also quantile(0.95, …); count(…) its observations
    + - * /   < <= > >= == !=   and or not   min(…) max(…) abs(…)   10  0.5  30%  1m30s  5 USD
"""

from typing import Any, Final, NoReturn, TypeAlias

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from msgspec import Struct

EXPRESSION_CHARS_MAX: Final = 1_000  # five lines of a rule file; a longer one is a rule too many
DEPTH_MAX: Final = 32  # far from where Python stops calling functions within functions
TERMS_MAX: Final = 64  # of all kinds; each costs about a tenth of a microsecond per judgement

_GRAMMAR: Final = r"""
?start: condition
?condition: conjunction | condition "or" conjunction -> either
?conjunction: negation | conjunction "and" negation -> both
?negation: comparison | "not" negation -> opposite
?comparison: sum | sum COMPARE sum -> compare
?sum: product | sum SIGN product -> binary
?product: factor | product SCALE factor -> binary
?factor: atom | SIGN factor -> signed
?atom: literal | "(" condition ")"
     | NAME -> present
     | NAME "[" DURATION "]" ["offset" DURATION] -> window
     | NAME "(" condition ("," condition)* ")" -> call
literal: MONEY | PERCENT | DURATION | NUMBER
COMPARE: ">=" | "<=" | "==" | "!=" | ">" | "<"
SIGN: "+" | "-"
SCALE: "*" | "/"
MONEY.4: /[0-9]{1,12}(\.[0-9]{1,9})? ?USD(?![A-Za-z0-9_])/
PERCENT.3: /[0-9]{1,6}(\.[0-9]{1,6})? ?%/
DURATION.2: /([0-9]{1,12}(ms|[wdhms])){1,6}(?![A-Za-z0-9_])/
NUMBER.1: /[0-9][0-9_]{0,18}(\.[0-9]{1,9})?(?![A-Za-z0-9_.])/
NAME: /[A-Za-z_][A-Za-z0-9_]{0,127}/
%ignore /[ \t\r\n]+/
"""
_WORDS: Final = {
    "COMPARE": "a comparison",
    "SIGN": "+ or -",
    "SCALE": "* or /",
    "NAME": "a field",
    "LSQB": "a window in brackets",
    "RSQB": "]",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "DURATION": "a duration such as 5m",
    "NUMBER": "a number",
    "AND": "and",
    "OR": "or",
    "NOT": "not",
    "OFFSET": "offset",
    "$END": "the end",
}


class Literal(Struct, frozen=True):
    """A number as written, and which kind of literal it is: NUMBER, PERCENT, DURATION or MONEY."""

    kind: str
    text: str


class Present(Struct, frozen=True):
    """A name without a window."""

    name: str


class Window(Struct, frozen=True):
    """A name with a window, and how long ago the window ended, as written."""

    name: str
    window: str
    offset: str | None


class Call(Struct, frozen=True):
    """A function and what it is given."""

    name: str
    arguments: tuple["Node", ...]


class Signed(Struct, frozen=True):
    """A plus or a minus before a term."""

    sign: str
    of: "Node"


class Binary(Struct, frozen=True):
    """Two terms and what stands between them."""

    sign: str
    left: "Node"
    right: "Node"


class Compare(Struct, frozen=True):
    """Two terms, compared."""

    sign: str
    left: "Node"
    right: "Node"


class Logic(Struct, frozen=True):
    """`and` or `or` between two conditions."""

    word: str
    left: "Node"
    right: "Node"


class Not(Struct, frozen=True):
    """The opposite of a condition."""

    of: "Node"


Node: TypeAlias = Literal | Present | Window | Call | Signed | Binary | Compare | Logic | Not


class _Build:
    """Makes nodes while the parser goes along; nothing here calls itself, however deep a text is nested."""

    def literal(self, parts: list[Token]) -> Node:
        return Literal(parts[0].type, parts[0].value)

    def present(self, parts: list[Token]) -> Node:
        return Present(parts[0].value)

    def window(self, parts: list[Any]) -> Node:
        offset = parts[2] if len(parts) > 2 else None
        return Window(parts[0].value, parts[1].value, None if offset is None else offset.value)

    def call(self, parts: list[Any]) -> Node:
        return Call(parts[0].value, tuple(parts[1:]))

    def signed(self, parts: list[Any]) -> Node:
        return Signed(parts[0].value, parts[1])

    def binary(self, parts: list[Any]) -> Node:
        return Binary(parts[1].value, parts[0], parts[2])

    def compare(self, parts: list[Any]) -> Node:
        return Compare(parts[1].value, parts[0], parts[2])

    def both(self, parts: list[Any]) -> Node:
        return Logic("and", parts[0], parts[1])

    def either(self, parts: list[Any]) -> Node:
        return Logic("or", parts[0], parts[1])

    def opposite(self, parts: list[Any]) -> Node:
        return Not(parts[0])


_parser: Final = Lark(_GRAMMAR, parser="lalr", transformer=_Build(), maybe_placeholders=False)


def parse_expression(text: str) -> Node:
    """Read an expression; raises ValueError, which says what is wrong and where."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ValueError(f"it is longer than {EXPRESSION_CHARS_MAX} characters")
    try:
        node: Node = _parser.parse(text)  # type: ignore[assignment]  # what the transformer makes, not a tree of lark's
    except UnexpectedInput as error:
        _refuse(text, error)
    _measure(node)
    return node


def _start(token: Token) -> int:
    return 1 + (token.start_pos or 0)


def _refuse(text: str, error: UnexpectedInput) -> NoReturn:
    """Say where reading stopped, and what could have stood there."""
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        found = f"{str(error.token)!r} at character {_start(error.token)} is out of place"
    elif isinstance(error, UnexpectedCharacters):
        at: int = error.pos_in_stream  # type: ignore[assignment]  # declared as None, and filled in
        found = f"{text[at]!r} at character {at + 1} means nothing"
    else:
        found = "it ends too soon"
    expected = error.expected if isinstance(error, UnexpectedToken) else ()
    wanted = sorted({_WORDS[name] for name in expected if name in _WORDS})
    raise ValueError(f"{found}; there could be {', '.join(wanted)}" if wanted else found) from None


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes right below one."""
    match node:
        case Call():
            return node.arguments
        case Signed() | Not():
            return (node.of,)
        case Binary() | Compare() | Logic():
            return node.left, node.right
        case _:
            return ()


def _measure(root: Node) -> None:
    """Hold a tree against its bounds, level by level."""
    level: list[Node] = [root]
    terms = depth = 0
    while level:
        depth += 1
        terms += len(level)
        if depth > DEPTH_MAX:
            raise ValueError(f"it is nested more than {DEPTH_MAX} deep")
        if terms > TERMS_MAX:
            raise ValueError(f"it has more than {TERMS_MAX} terms")
        level = [child for node in level for child in children(node)]
