"""How did a span end: its status, its class of error, a code that can be a label, and what was said?  Pure.

Never takes a span for failed by its name, and never for well when its result says that it failed.
"""

import re
from typing import Any, Final, NamedTuple

from streams.event.failures import BY_STATUS, error_type_of
from streams.event.model import CallStatus, ErrorType, ToolStatus
from streams.event.otel import words
from streams.event.otel.wire import Span, SpanEvent

_CLASS: Final = re.compile(r"^<class '([^']+)'>$")  # how one instrumentation writes a type
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CANCELLED: Final = frozenset({"CancelledError", "GeneratorExit", "KeyboardInterrupt", "Cancelled", "cancelled"})
_PAUSES: Final = frozenset({"GraphBubbleUp", "GraphInterrupt", "NodeInterrupt"})  # for a human's answer
_INVALID_PARAMS: Final = "-32602"  # JSON-RPC
_TOOL_FAILED: Final = frozenset({"error", "failed", "failure"})
# A result of MCP that says it failed, inside an answer that went well.
_IS_ERROR: Final = re.compile(r'"(?:isError|is_error)"\s*:\s*true')
RESULT_CHARS_MAX: Final = 65_536  # of a result that are searched for it


class Ending(NamedTuple):
    """How a call ended; all but the status are None when nothing went wrong."""

    status: CallStatus = "success"
    error_type: ErrorType | None = None
    code: str | None = None
    message: str | None = None


_WELL: Final = Ending()


def ending_of(span: Span, otherwise: ErrorType = "other") -> Ending:
    """Tell how a span ended; `otherwise` is the class of an error that nothing tells."""
    named = span.attributes.get(words.ERROR_TYPE)
    raised = next((each for each in reversed(span.events) if each.name == words.EXCEPTION), None)
    if not (span.failed or named):
        return _WELL
    names = [name for name in (_class(named), _raised(raised)) if name]
    short = [name.rpartition(".")[2] for name in names]
    if not _CANCELLED.isdisjoint(short) or not _PAUSES.isdisjoint(short):
        return Ending("cancelled")
    status = _http_status(span, names)
    kind = BY_STATUS.get(status) if status is not None else None
    kind = kind or error_type_of(short) or otherwise
    code = str(status) if status is not None else next((name for name in short if _CODE.fullmatch(name)), None)
    message = raised.attributes.get(words.EXCEPTION_MESSAGE) if raised is not None else None
    return Ending("timeout" if kind == "timeout" else "error", kind, code, _text(message) or span.said or None)


def tool_ending_of(span: Span) -> tuple[ToolStatus, Ending]:
    """Tell how a call of a tool ended, also when it says so only in its result."""
    ending = ending_of(span, "tool_error")
    if ending.status == "success":
        failed = str(words.first(span.attributes, words.TOOL_STATUS)) in _TOOL_FAILED or _says_error(span)
        return ("error", Ending("error", "tool_error")) if failed else ("success", ending)
    rpc = str(span.attributes.get(words.RPC_STATUS, ""))
    invalid = ending.error_type == "validation" and (ending.code or "").endswith("ValidationError")
    if ending.status == "error" and (invalid or _INVALID_PARAMS in (rpc, ending.code)):
        return "validation_error", ending._replace(error_type="validation")
    return ending.status, ending


def _says_error(span: Span) -> bool:
    result = words.first(span.attributes, words.RESULT)
    return isinstance(result, str) and _IS_ERROR.search(result[:RESULT_CHARS_MAX]) is not None


def _class(named: Any) -> str:
    """Return what `error.type` says: a class, a status or a word."""
    text = _text(named)
    match = _CLASS.match(text)
    return match[1] if match else text


def _raised(event: SpanEvent | None) -> str:
    return "" if event is None else _text(event.attributes.get(words.EXCEPTION_TYPE))


def _http_status(span: Span, names: list[str]) -> int | None:
    found = [words.first(span.attributes, words.STATUS_CODE), *names]
    for each in found:
        text = str(each)
        if text.isascii() and text.isdecimal() and len(text) == 3 and text[0] in "45":
            return int(text)
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
