"""How is a moment written?  RFC 3339 in UTC with milliseconds.  Pure: the moment is an argument."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ms: int) -> str:
    """Write epoch milliseconds as 2026-01-31T23:59:59.123Z."""
    moment = _EPOCH + timedelta(milliseconds=ms)  # integers: no float rounds the last millisecond
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
