"""Which events of a sampled stream are sent?  All of a session or none, and its end and failures always.  Pure.

Never draws lots: the session's id decides, so that every process of a session, and every restart, decides alike.
"""

from hashlib import blake2b
from typing import Final

from streams.event.model import Degraded, Envelope, Error, Guard, Payload, SessionEnd

# What went wrong is sent even of a session that is left out; a cancelled call did not go wrong.
_FAILURES: Final[frozenset[type[Envelope]]] = frozenset({Error, Degraded, Guard})
_FINE: Final = frozenset({"success", "cancelled"})
_DIGEST_BYTES: Final = 8
_SPACE: Final = float(2 ** (8 * _DIGEST_BYTES))


def chosen(key: str, ratio: float) -> bool:
    """Is this key among the given share of all keys?  The same answer everywhere, always."""
    if ratio >= 1:
        return True
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest) < ratio * _SPACE


def failed(event: Envelope) -> bool:
    """Does the event say that something went wrong?"""
    return type(event) in _FAILURES or getattr(event, "status", "success") not in _FINE


def sent(event: Envelope, *, sessions: float, payloads: float) -> bool:
    """Is an event sent, given the shares of sessions and of bodies?  What belongs to no session always is.

    So is the end of a session: failures of one that is left out would keep it open until it is idle for long enough.
    Request and response of one call are both sent or both left out.
    """
    session_id = event.session_id
    if session_id is not None and sessions < 1 and not _always(event) and not chosen(session_id, sessions):
        return False
    return type(event) is not Payload or chosen(event.call_id or event.session_id or event.id, payloads)


def _always(event: Envelope) -> bool:
    return type(event) is SessionEnd or failed(event)
