"""What of a text or an event may leave the process?  Personal and secret parts become `[email]`, `[secret]`, …  Pure.

Never keeps, returns or reports what it removed, only how often each pattern hit.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from streams.event.model import (
    NAME_CHARS_MAX,
    TEXT_CHARS_MAX,
    Degraded,
    Envelope,
    Error,
    ModelEnd,
    Payload,
    SessionEnd,
    ToolEnd,
)
from streams.event.patterns import PATTERNS, SOLID_CHARS, Pattern

# Read beyond a cut, so that a secret on the edge is seen whole: the longest shape but keys and JWTs, which need no end.
EDGE_CHARS: Final = 1024
NOTE_CHARS: Final = 48  # the longest note: two numbers of twelve digits
# Eight digits, with what people write between them: what every number above has at least.
_NUMBER: Final = re.compile(r"\d[ ().A-Z/-]{0,4}(?:\d[ ().A-Z/-]{0,4}){7}")


class Redacted(NamedTuple):
    """A text without what was found in it, and how often each pattern hit."""

    text: str
    counts: Mapping[str, int]


class Redactor:
    """A fixed list of patterns; `text` and `cut` may be called from any thread."""

    __slots__ = ("_anywhere", "_numbers", "_solid", "patterns")

    def __init__(self, patterns: Sequence[Pattern] = PATTERNS) -> None:
        self.patterns = tuple(patterns)
        self._solid = tuple(pattern for pattern in self.patterns if pattern.solid)
        self._anywhere = tuple(pattern for pattern in self.patterns if pattern.needles and not pattern.solid)
        self._numbers = tuple(pattern for pattern in self.patterns if not pattern.needles)

    def text(self, text: str) -> Redacted:
        """Replace everything found; a text without hits comes back as the same object."""
        counts: dict[str, int] = {}
        if words := [word for word in text.split() if len(word) >= SOLID_CHARS]:
            text = _run(self._solid, " ".join(words).lower(), text, counts)
        text = _run(self._anywhere, text.lower(), text, counts)
        if _NUMBER.search(text):
            for pattern in self._numbers:
                text = _replace(pattern, text, counts)
        return Redacted(text, counts)

    def cut(self, text: str, *, chars_max: int) -> tuple[Redacted, int]:
        """Redact, then keep the first `chars_max` characters; also returns how many were cut.

        What lies far beyond the cut is not even read.
        """
        if len(text) <= chars_max:
            return self.text(text), 0
        read = min(len(text), chars_max + EDGE_CHARS)
        clean, counts = self.text(text[:read])
        cut_chars = len(text) - (chars_max if len(clean) > chars_max else read)
        return Redacted(clean[:chars_max], counts), cut_chars

    def shorten(self, text: str, *, chars_max: int) -> Redacted:
        """Redact, and when the text is longer than `chars_max` end it with a note of how much was cut."""
        if len(text) <= chars_max:
            return self.text(text)
        (clean, counts), cut_chars = self.cut(text, chars_max=max(0, chars_max - NOTE_CHARS))
        note = f"… [{cut_chars} of {len(text)} characters cut]" if cut_chars else ""
        return Redacted((clean + note)[:chars_max], counts)


def _run(patterns: tuple[Pattern, ...], lower: str, text: str, counts: dict[str, int]) -> str:
    for pattern in patterns:
        for needle in pattern.needles:
            if needle in lower:
                text = _replace(pattern, text, counts)
                break
    return text


def _replace(pattern: Pattern, text: str, counts: dict[str, int]) -> str:
    parts: list[str] = []
    done = position = 0
    while match := pattern.expression.search(text, position):
        span = pattern.find(match)
        if span is None:
            position = match.start() + 1  # a real one may begin inside what was none
            continue
        start, end = max(span[0], done), span[1]
        parts += (text[done:start], f"[{pattern.name}]")
        done = end
        position = max(end, match.start() + 1)
        counts[pattern.name] = counts.get(pattern.name, 0) + 1
    return text if not parts else "".join((*parts, text[done:]))


REDACTOR: Final = Redactor()
redact: Final = REDACTOR.text

# ---- events ----------------------------------------------------------------------------------------------------

ATTRIBUTE_CHARS_MAX: Final = 512
BODY_CHARS_MAX: Final = 65_536
# Where people's words may stand, and what an exception's text ends up in. Ids stay as they are: a publisher that
# calls its users by their e-mail address has to choose pseudonyms, because `[email]` would make them all one.
FREE_TEXT: Final[Mapping[type[Envelope], Mapping[str, int]]] = {
    Error: {"message": TEXT_CHARS_MAX, "code": NAME_CHARS_MAX},
    ToolEnd: {"error_message": TEXT_CHARS_MAX},
    ModelEnd: {"error_code": NAME_CHARS_MAX},
    SessionEnd: {"reason": NAME_CHARS_MAX},
    Degraded: {"reason": NAME_CHARS_MAX},
    Payload: {"body": BODY_CHARS_MAX},
}
_NONE: Final[Mapping[str, int]] = {}
_E = TypeVar("_E", bound=Envelope)


def redact_event(event: _E, redactor: Redactor = REDACTOR) -> tuple[_E, Mapping[str, int]]:
    """Redact and cut the free text and the attributes of an event; without a change it is the same object.

    Bytes cut off a body are added to `cut_bytes`.
    """
    fields = FREE_TEXT.get(type(event), _NONE)
    if not fields and not event.attributes:
        return event, _NONE
    changes: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name, chars_max in fields.items():
        text = getattr(event, name)
        if isinstance(event, Payload):
            changes |= _redact_body(event, redactor, counts)
        elif text:
            clean, hits = redactor.shorten(text, chars_max=chars_max)
            if clean is not text:
                changes[name] = clean
                _add(counts, hits)
    if event.attributes:
        attributes = _redact_attributes(event.attributes, redactor, counts)
        if attributes is not event.attributes:
            changes["attributes"] = attributes
    return (replace(event, **changes) if changes else event), counts


def _redact_body(event: Payload, redactor: Redactor, counts: dict[str, int]) -> dict[str, Any]:
    body = event.body
    too_long = len(body) > BODY_CHARS_MAX
    (clean, hits), cut_chars = redactor.cut(body, chars_max=BODY_CHARS_MAX - NOTE_CHARS if too_long else BODY_CHARS_MAX)
    _add(counts, hits)
    if clean is body:
        return {}
    if not cut_chars:
        return {"body": clean}
    # The publisher may have cut before us: the note tells all that is missing.
    cut_bytes = event.cut_bytes + len(body[-cut_chars:].encode("utf-8", "replace"))
    return {"body": f"{clean}… [{cut_bytes} bytes cut]", "cut_bytes": cut_bytes}


def _redact_attributes(attributes: dict[str, Any], redactor: Redactor, counts: dict[str, int]) -> dict[str, Any]:
    changes: dict[str, str] = {}
    for key, value in attributes.items():
        if isinstance(value, str):
            clean, hits = redactor.shorten(value, chars_max=ATTRIBUTE_CHARS_MAX)
            if clean is not value:
                changes[key] = clean
                _add(counts, hits)
    return {**attributes, **changes} if changes else attributes


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
