"""Which class of error is meant by an HTTP status, or by the name of an exception?  Pure.

Never reads a message: what people and models write there says anything.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from streams.event.model import ErrorType

BY_STATUS: Final[Mapping[int, ErrorType]] = {
    400: "validation",
    401: "auth_failure",
    403: "auth_failure",
    408: "timeout",
    422: "validation",
    429: "rate_limit",
    504: "timeout",
}
# In this order: a ConnectTimeout is a timeout, not a network error.
_NAMES: Final[Mapping[ErrorType, str]] = {
    "timeout": "timeout|deadlineexceeded",
    "rate_limit": "ratelimit|toomanyrequests|throttl|resourceexhausted|quotaexceeded",
    "auth_failure": "authentication|unauthori[sz]ed|permissiondenied|forbidden|invalidapikey",
    "validation": "validation|badrequest|jsondecode|outputparser",
    "network": "connect(?:ion)?error|connection(?:reset|refused|aborted|closed)|gaierror|networkerror",
    "tool_error": "^tool(?:exception|error)$",
}
_BY_NAME: Final = tuple((re.compile(words, re.IGNORECASE), found) for found, words in _NAMES.items())


def error_type_of(names: Iterable[str]) -> ErrorType | None:
    """Classify by the names of an exception's classes, without their modules; None when none tells."""
    known = list(names)
    for pattern, found in _BY_NAME:
        if any(pattern.search(name) for name in known):
            return found
    return None
