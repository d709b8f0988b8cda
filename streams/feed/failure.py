"""What does an exception say about the call it ended?  Its status, its class and a code that can be a label.  Pure.

Judges by type, class names and HTTP status, so that it knows the errors of client libraries without importing one.
"""

import asyncio
import re
from typing import Any, Final

from streams.event.failures import BY_STATUS, error_type_of
from streams.event.model import CallStatus, ErrorType, ToolStatus

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# A pause for a human's answer travels as an exception; nothing went wrong.
_PAUSES: Final = frozenset({"GraphBubbleUp", "GraphInterrupt"})
# Nor did it where a guard let nothing happen: a denied call that counted as failed would keep its circuit open.
_DENIAL: Final = "CallDenied"
_NAMES_MAX: Final = 16


def _names(error: BaseException) -> list[str]:
    return [
        kind.__name__ for kind in type(error).__mro__[:_NAMES_MAX] if kind not in (object, BaseException, Exception)
    ]


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  a property may be anybody's code
        return None


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status an exception carries, as the common clients name it."""
    for holder in (error, _attribute(error, "response")):
        for name in ("status_code", "status", "http_status"):
            status = _attribute(holder, name)
            if isinstance(status, int) and 100 <= status <= 599:
                return status
    return None


def error_type(error: BaseException, otherwise: ErrorType = "other") -> ErrorType:
    """Classify an exception; `otherwise` when nothing tells."""
    if isinstance(error, TimeoutError):
        return "timeout"
    status = http_status(error)
    if status is not None and status in BY_STATUS:
        return BY_STATUS[status]
    return error_type_of(_names(error)) or otherwise


def is_pause(error: BaseException) -> bool:
    """Did a graph stop here to wait for a human?"""
    return not _PAUSES.isdisjoint(_names(error))


def call_status(error: BaseException | None) -> CallStatus:
    """Tell how a call ended that raised this, or nothing."""
    if error is None:
        return "success"
    if isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception) or is_pause(error):
        return "cancelled"
    cause = error.__cause__  # frameworks put an error of their own around it
    if _DENIAL in _names(error) or (cause is not None and _DENIAL in _names(cause)):
        return "cancelled"
    return "timeout" if error_type(error) == "timeout" else "error"


def tool_status(error: BaseException | None) -> ToolStatus:
    """Tell how a tool call ended; arguments that did not fit show as an exception named ValidationError."""
    status = call_status(error)
    if status == "error" and error is not None and any(name.endswith("ValidationError") for name in _names(error)):
        return "validation_error"
    return status


def error_code(error: BaseException) -> str:
    """Return what to count a model's errors by: the HTTP status, else the provider's code, else the class."""
    status = http_status(error)
    if status is not None:
        return str(status)
    code = _attribute(error, "code")
    if isinstance(code, str) and _CODE.fullmatch(code):
        return code
    return type(error).__name__


def type_of_end(status: str, error: BaseException | None, otherwise: ErrorType = "other") -> ErrorType | None:
    """Classify how a call ended, with or without an exception; None when nothing went wrong."""
    if status in ("success", "cancelled"):
        return None
    if error is not None:
        return error_type(error, otherwise)
    return "timeout" if status == "timeout" else "validation" if status == "validation_error" else otherwise


def message_of(error: BaseException) -> str:
    """Return an exception's text, or its class when it has none; never raises, whatever its `__str__` does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  somebody else's code
        text = ""
    return text or type(error).__name__
